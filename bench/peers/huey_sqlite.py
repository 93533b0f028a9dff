"""FastAPI in front of Huey in an SQLite file (every write synced)."""

import subprocess

from fastapi import FastAPI
from huey import SqliteHuey

import common

huey = SqliteHuey("peer", filename="huey.db", fsync=True)
app = FastAPI()


@huey.task()
def work(query):
    subprocess.run(["true"], check=True)


@app.post("/jobs", status_code=201)
def submit(submission: common.Submission):
    return {"id": work(submission.query).id}


@app.get("/jobs/{id}")
def status(id: str):
    return {"id": id, "state": "pending" if huey.result(id, preserve=True) is None else "done"}


if __name__ == "__main__":
    common.serve(app)
