"""FastAPI in front of Celery and Redis (every write synced)."""

import os

from celery import Celery
from fastapi import FastAPI

import common
import job

tasks = Celery("peer", broker=os.environ.get("PEER_URL"), backend=os.environ.get("PEER_URL"))
app = FastAPI()


@tasks.task(name="work")
def work(query, command):
    job.run(query, command)


@app.post("/jobs", status_code=201)
def submit(submission: common.Submission):
    return {"id": work.delay(submission.query, submission.command).id}


@app.get("/jobs/{id}")
def status(id: str):
    return {"id": id, "state": tasks.AsyncResult(id).state}


if __name__ == "__main__":
    with common.redis() as url:
        tasks.conf.update(broker_url=url, result_backend=url)
        words = ["--app", "celery_redis:tasks", "--quiet", "worker", "--concurrency", "1", "--loglevel", "ERROR"]
        with common.worker("celery", *words, PEER_URL=url):
            common.serve(app)
