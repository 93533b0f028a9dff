"""FastAPI in front of procrastinate and PostgreSQL (its defaults: every commit synced)."""

import contextlib
import getpass
import glob
import logging
import os
import shutil
import subprocess
import time

import procrastinate
from fastapi import FastAPI

import common
import job

# It would say each job's beginning and end, and that this file is a program too.
logging.getLogger("procrastinate").setLevel(logging.ERROR)
# The worker is told where by its environment.
tasks = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=os.environ.get("PEER_URL", "")))


@contextlib.asynccontextmanager
async def lifespan(app):
    connector = procrastinate.PsycopgConnector(conninfo=app.state.url, max_size=32)
    with tasks.replace_connector(connector) as app.state.tasks:
        async with app.state.tasks.open_async():
            yield


app = FastAPI(lifespan=lifespan)


@tasks.task(name="work")
def work(query, command):
    job.run(query, command)


@app.post("/jobs", status_code=201)
async def submit(submission: common.Submission):
    return {"id": str(await work.defer_async(**submission.model_dump()))}


@app.get("/jobs/{id}")
async def status(id: int):
    return {"id": str(id), "state": (await tasks.job_manager.get_job_status_async(id)).value}


@contextlib.contextmanager
def postgresql():
    """A PostgreSQL of its own in the current folder; it refuses to run as root."""
    tools = os.path.dirname(sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"))[-1])
    folder, port = os.path.abspath("postgresql"), common.free_port()
    os.mkdir(folder)
    who, user = [], getpass.getuser()
    if user == "root":
        user, who = "postgres", ["runuser", "-u", "postgres", "--"]
        os.chmod(".", 0o755)
        shutil.chown(folder, "postgres")
    quiet = {"stdout": subprocess.DEVNULL, "cwd": folder}
    subprocess.run([*who, f"{tools}/initdb", "-A", "trust", "-D", folder], check=True, **quiet)
    server = subprocess.Popen([*who, f"{tools}/postgres", "-D", folder, "-p", str(port), "-h", "127.0.0.1", "-k", folder],
                              stderr=subprocess.DEVNULL, **quiet)
    try:
        common.until_open(port)
        # It listens before it takes anybody in.
        while subprocess.run([f"{tools}/pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]).returncode == 1:
            time.sleep(0.05)
        yield f"host=127.0.0.1 port={port} user={user} dbname=postgres"
    finally:
        subprocess.run([*who, f"{tools}/pg_ctl", "-D", folder, "-m", "fast", "stop"], **quiet)
        server.wait()


if __name__ == "__main__":
    with postgresql() as app.state.url:
        once = procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=app.state.url))
        with once.open():
            once.schema_manager.apply_schema()
        words = ["--app", "procrastinate_postgresql.tasks", "worker", "--concurrency", "1"]
        with common.worker("procrastinate", *words, PEER_URL=app.state.url):
            common.serve(app)
