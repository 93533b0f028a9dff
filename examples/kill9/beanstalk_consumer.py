"""The usual consumer: reserve, run, delete."""

import json
import os
import subprocess

import greenstalk

with greenstalk.Client(("127.0.0.1", int(os.environ["KILL9_PORT"]))) as client:
    while True:
        job = client.reserve()
        done = subprocess.run(json.loads(job.body), capture_output=True, text=True)
        with open(f"{os.environ['KILL9_FOLDER']}/output-{job.id}", "w") as file:
            file.write(done.stdout)
        client.delete(job)
