"""The same server with the job handed to Onelane: answers stay quick, and a restart forgets nothing."""

import os

import httpx
from fastapi import FastAPI, Form

app = FastAPI()
onelane = httpx.AsyncClient(base_url=os.environ.get("ONELANE_URL", "http://127.0.0.1:8000"))


@app.post("/")
async def create(query_name: str = Form(), query_sequence: str = Form()):
    answer = await onelane.post("/", data={"query_name": query_name, "query_sequence": query_sequence})
    answer.raise_for_status()
    return answer.json()


@app.get("/backlog")
async def show_backlog():
    return (await onelane.get("/backlog")).json()
