"""FastAPI in front of Huey in an SQLite file (every write synced)."""

from fastapi import FastAPI
from huey import SqliteHuey

import common
import job

huey = SqliteHuey("peer", filename="huey.db", fsync=True)
app = FastAPI()


@huey.task()
def work(query, command):
    job.run(query, command)


@app.post("/jobs", status_code=201)
def submit(submission: common.Submission):
    return {"id": work(submission.query, submission.command).id}


@app.get("/jobs/{id}")
def status(id: str):
    return {"id": id, "state": "pending" if huey.result(id, preserve=True) is None else "done"}


if __name__ == "__main__":
    import huey_sqlite  # the worker knows the task by its module's name

    with common.worker("huey_consumer", "huey_sqlite.huey", "--workers", "1", "--quiet"):
        common.serve(huey_sqlite.app)
