"""A FastAPI server with a background task: one query blocks the answers to all others."""

import tempfile
import uuid

from fastapi import BackgroundTasks, FastAPI, Form

import query  # the script beside this file

app = FastAPI()
backlog = []


async def work(experiment):
    query.run(experiment["query_name"], experiment["query_sequence"], experiment["experiment_dir"])
    backlog.remove(experiment)


@app.post("/")
async def create(tasks: BackgroundTasks, query_name: str = Form(), query_sequence: str = Form()):
    experiment = {
        "query_name": query_name,
        "query_sequence": query_sequence,
        "experiment_id": str(uuid.uuid4()),
        "status": "pending",
        "experiment_dir": tempfile.mkdtemp(),
    }
    backlog.append(experiment)
    tasks.add_task(work, experiment)
    return {"Query created": experiment, "Query ID": experiment["experiment_id"], "Backlog Length": len(backlog)}


@app.get("/backlog")
async def show_backlog():
    return [f"Currently {len(backlog)} jobs in the backlog."]
