"""The usual way to run a program from Celery."""

import os
import subprocess

from celery import Celery
from systems import command

url = f"redis://127.0.0.1:{os.environ['KILL9_PORT']}/0"
app = Celery("kill9", broker=url, backend=url)
app.conf.update(task_track_started=True, worker_prefetch_multiplier=1)
if os.environ.get("KILL9_LATE"):
    app.conf.update(task_acks_late=True, task_reject_on_worker_lost=True,
                    broker_transport_options={"visibility_timeout": 20})


@app.task(name="work")
def work(name, rounds):
    words = command(os.environ["KILL9_FOLDER"], name, rounds)
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout
