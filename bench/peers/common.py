"""What the peers' servers share: a free port, a durable Redis, one worker, and uvicorn in one process."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

import uvicorn
from pydantic import BaseModel

HERE = os.path.dirname(os.path.abspath(__file__))


class Submission(BaseModel):
    query: str
    command: list[str] = ["true"]


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextlib.contextmanager
def redis():
    """A Redis of its own in the current folder that syncs every write before it answers; gives its URL."""
    port = free_port()
    server = subprocess.Popen(["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "",
                               "--appendonly", "yes", "--appendfsync", "always"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until_open(port)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait()


def until_open(port):
    for _ in range(600):
        with contextlib.suppress(OSError):
            return socket.create_connection(("127.0.0.1", port)).close()
        time.sleep(0.05)
    raise TimeoutError(f"nothing listens on port {port}")


@contextlib.contextmanager
def worker(program, *words, **settings):
    """The peer's own worker, one job at a time, if `--worker` asks for it. What it says goes to `worker.log`."""
    if "--worker" not in sys.argv:
        yield
        return
    environment = {**os.environ, **settings, "PYTHONPATH": HERE, "PYTHONWARNINGS": "ignore"}
    words = [os.path.join(os.path.dirname(sys.executable), program), *words]
    with open("worker.log", "w") as log:
        process = subprocess.Popen(words, env=environment, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def serve(app):
    """Says where it listens, and serves until it is told to stop."""
    # uvicorn ends gracefully and then raises the signal again: what is around this must be ended too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listener])
