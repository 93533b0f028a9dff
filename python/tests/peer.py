"""The server's side of docs/warm-workers.md, as far as a test needs it: a real socket, a real worker process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Dict, List, Optional, Type

DEADLINE_S = 60

Message = Dict[str, Any]


class Peer:
    """One worker, and the other end of its socket."""

    def __init__(self, folder: Path, spec: str, env: Optional[Dict[str, str]] = None) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        address = folder / "s"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(address))
        self._listener.listen(1)
        self._listener.settimeout(DEADLINE_S)
        self.stdout, self.stderr = folder / "stdout", folder / "stderr"
        with self.stdout.open("wb") as out, self.stderr.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "onelane.worker", spec],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={
                    **os.environ,
                    "ONELANE_WORKER_SOCKET": str(address),
                    "ONELANE_WORKER_PROTOCOL": "1",
                    "ONELANE_WORKER_ID": "w",
                    **(env or {}),
                },
            )
        self._jobs = 0
        self.socket: Optional[socket.socket] = None

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._listener.close()
        if self.socket is not None:
            self._lines.close()
            self.socket.close()

    def hello(self) -> Message:
        self._listener.settimeout(1)
        for _ in range(DEADLINE_S):
            try:
                self.socket, _address = self._listener.accept()
                break
            except socket.timeout:  # until 3.9 no TimeoutError
                assert self.process.poll() is None, f"the worker ended: {self.stderr.read_text()}"
        assert self.socket is not None, "the worker did not connect"
        self.socket.settimeout(DEADLINE_S)
        self._lines = self.socket.makefile("rb")
        return self.receive()

    def receive(self) -> Message:
        line = self._lines.readline()
        assert line.endswith(b"\n"), f"the worker closed its socket: {self.stderr.read_text()}"
        message: Message = json.loads(line)
        return message

    def send(self, message: Message) -> None:
        assert self.socket is not None
        self.socket.sendall(json.dumps(message).encode() + b"\n")

    def start(self, **params: Any) -> Path:
        """Sends a job, and gives its folder."""
        self._jobs += 1
        job = self.folder / f"job-{self._jobs}"
        for name in ("input", "output", "work"):
            (job / name).mkdir(parents=True)
        self.send(
            {
                "type": "run",
                "job": f"job-{self._jobs}",
                "attempt": 1,
                "tool": "t",
                "name": None,
                "params": params,
                "input": str(job / "input"),
                "output": str(job / "output"),
                "work": str(job / "work"),
                "progress": str(job / "progress"),
                "cpus": 1,
                "memory_bytes": 1 << 30,
                "a_later_field": {},
            }
        )
        return job

    def until_end(self) -> List[Message]:
        """All messages up to the one that ends the job; each says which job it is about, which is left out here."""
        messages = [self.receive()]
        while messages[-1]["type"] not in ("done", "fail", "cancelled"):
            messages.append(self.receive())
        assert {message.pop("job") for message in messages} == {f"job-{self._jobs}"}
        return messages

    def run(self, **params: Any) -> Message:
        self.start(**params)
        return self.until_end()[-1]

    def ping(self) -> None:
        self.send({"type": "ping", "id": 7})
        assert self.receive() == {"type": "pong", "id": 7}

    def end(self) -> int:
        self.send({"type": "bye"})
        return self.process.wait(DEADLINE_S)
