"""FastAPI in front of RQ and Redis (every write synced)."""

from fastapi import FastAPI
from redis import Redis
from rq import Queue
from rq.job import Job

import common
import job

app = FastAPI()


@app.post("/jobs", status_code=201)
def submit(submission: common.Submission):
    return {"id": app.state.queue.enqueue(job.run, submission.query, submission.command).id}


@app.get("/jobs/{id}")
def status(id: str):
    return {"id": id, "state": Job.fetch(id, connection=app.state.redis).get_status()}


if __name__ == "__main__":
    with common.redis() as url:
        app.state.redis = Redis.from_url(url)
        app.state.queue = Queue(connection=app.state.redis)
        with common.worker("rq", "worker", "--quiet", "--url", url):
            common.serve(app)
