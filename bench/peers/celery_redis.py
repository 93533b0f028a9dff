"""FastAPI in front of Celery and Redis (every write synced)."""

import subprocess

from celery import Celery
from fastapi import FastAPI

import common

tasks = Celery("peer")
app = FastAPI()


@tasks.task(name="work")
def work(query):
    subprocess.run(["true"], check=True)


@app.post("/jobs", status_code=201)
def submit(submission: common.Submission):
    return {"id": work.delay(submission.query).id}


@app.get("/jobs/{id}")
def status(id: str):
    return {"id": id, "state": tasks.AsyncResult(id).state}


if __name__ == "__main__":
    with common.redis() as url:
        tasks.conf.update(broker_url=url, result_backend=url)
        common.serve(app)
