"""A warm worker for the tests: speaks docs/warm-workers.md, and does what each job asks, good or bad."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

if os.environ.get("LOAD") == "crash":
    sys.exit("no model: the file is not there")
if os.environ.get("LOAD") == "hang":
    time.sleep(3600)
time.sleep(float(os.environ.get("LOAD_SECONDS", "0")))

WHO = {"pid": os.getpid(), "worker": os.environ["ONELANE_WORKER_ID"]}
conn = socket.socket(socket.AF_UNIX)
conn.connect(os.environ["ONELANE_WORKER_SOCKET"])
lines = conn.makefile("r", encoding="utf-8")


def send(kind, **fields):
    conn.sendall((json.dumps({"type": kind, **fields}) + "\n").encode())


def wait_for_cancel():
    for line in lines:
        if json.loads(line)["type"] == "cancel":
            return
    sys.exit(1)


def run(job):
    params = job["params"]
    do = params.get("do", "echo")
    print(f"job {job['job']} in {os.getpid()}", flush=True)
    if do == "echo":
        send("done", result={**WHO, **job})
    elif do == "files":
        with open(os.path.join(job["output"], "hits.tsv"), "w") as out:
            out.write(open(params["query"]).read().upper())
        send("progress", fraction=0.5, message="half way")
        send("log", stream="stderr", text="a line for the log\n")
        send("result", file="hits.tsv")
        send("done")
    elif do == "lie":
        send("result", file="hits.tsv")
        send("done")
    elif do == "fail":
        send("fail", message="no such chain: B")
    elif do == "exit":
        os._exit(int(params["code"]))
    elif do == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif do == "close":
        conn.shutdown(socket.SHUT_RDWR)
        time.sleep(3600)
    elif do == "garbage":
        conn.sendall(b"Traceback (most recent call last):\n")
        time.sleep(3600)
    elif do == "garbage and die":
        conn.sendall(b"Traceback (most recent call last):\n")
        os._exit(1)
    elif do == "another protocol":
        # And then it ends as it is asked to, which says less.
        send("hello", protocol=9)
        time.sleep(3600)
    elif do == "late":
        send("fail", message="too early", job=job["job"])
        # By now the next job is there, which this is not about.
        time.sleep(0.5)
        send("done", job=job["job"])
    elif do == "hang":
        # Ignores the cancel, and leaves a child that ignores everything in a session of its own.
        subprocess.Popen(["sleep", "3600"], start_new_session=True)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(1)
    elif do == "wait":
        wait_for_cancel()
        send("cancelled")
    elif do == "eat":
        hog = []
        while True:
            hog.append(bytearray(os.urandom(1 << 20) * 16))
    elif do == "flood":
        for step in range(200_000):
            send("progress", fraction=step / 200_000, message="x" * 100)
        send("progress", fraction=1, message="the last")
        send("done", result=WHO)
    elif do == "sleep":
        time.sleep(float(params["seconds"]))
        send("done", result=WHO)
    else:
        send("fail", message=f"what is {do}?")


send("hello", protocol=1, name="test", version="7.1")
for line in lines:
    message = json.loads(line)
    if message["type"] == "run":
        run(message)
    elif message["type"] == "ping":
        send("pong", id=message["id"])
    elif message["type"] == "bye":
        break
