"""``python -m onelane.worker module:function``: a function that stays up and gets one job after another.

It speaks the protocol of docs/warm-workers.md, and needs nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import enum
import inspect
import json
import os
import queue
import signal
import socket
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Optional, Sequence

from onelane._job import Cancelled, Job
from onelane._load import LoadError, load
from onelane._tool import Tool

PROTOCOL = 1
_MAX_LINE = 16 << 20
#: A larger result goes by way of its file.
_MAX_RESULT_LETTERS = 1 << 20
_MAX_SENTENCE_LETTERS = 4000
#: Breaks into whatever the main thread does. A real-time signal, as programs seldom use these.
_INTERRUPT: int = getattr(signal, "SIGRTMIN", signal.SIGUSR2)

Message = Dict[str, Any]


class Interrupter:
    """Raises `Cancelled` in the main thread, but only where the job's own function runs, and once for a job."""

    def __init__(self) -> None:
        self._armed = False
        self._holds = 0
        self._due = False
        self._main = threading.main_thread().ident
        signal.signal(_INTERRUPT, self._handle)

    def interrupt(self) -> None:
        """From any thread. Without a running function it does nothing."""
        if self._main is not None:
            signal.pthread_kill(self._main, _INTERRUPT)

    def disarm(self) -> None:
        """The function learns by itself that it has to end: it is not told twice."""
        if threading.get_ident() == self._main:
            self._armed = self._due = False

    def call(self, job: Job, function: Callable[[], Any]) -> Any:
        """Calls the function; when it is over, by whatever way, nothing is raised any more."""
        self._due = False
        try:
            self._armed = True
            # Cancelled before there was anything to interrupt.
            if job.cancelled:
                raise Cancelled
            return function()
        finally:
            # An interruption just before this has done the same.
            self._armed = False

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Puts an interruption off, so that no message is cut in half."""
        if threading.get_ident() != self._main:
            yield
            return
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
            if self._due and self._armed and self._holds == 0:
                self._raise()

    def _handle(self, _number: int, _frame: object) -> None:
        if not self._armed:
            return
        if self._holds > 0:
            self._due = True
        else:
            self._raise()

    def _raise(self) -> None:
        self._armed = self._due = False
        raise Cancelled


class Connection:
    """The socket: a thread reads it, everybody may write to it."""

    def __init__(self, path: str, interrupter: Interrupter) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(path)
        self._lock = threading.Lock()
        self._interrupter = interrupter
        self._current: Optional[Job] = None
        #: What the main thread has to do; `None` is the end.
        self.inbox: queue.SimpleQueue[Optional[Message]] = queue.SimpleQueue()
        # It is closed on exec anyway; a child by fork alone must not keep it open either.
        os.register_at_fork(after_in_child=self._leave)

    def send(self, message: Message) -> None:
        """One message, whole."""
        line = json.dumps(message, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace") + b"\n"
        if len(line) > _MAX_LINE:
            raise ValueError(f"a message of {len(line)} bytes is too long")
        with self._interrupter.held(), self._lock:
            self._socket.sendall(line)

    def _leave(self) -> None:
        number = self._socket.detach()
        # In a child's child it has been closed already.
        if number >= 0:
            os.close(number)

    def listen(self) -> None:
        """Begins to read."""
        threading.Thread(target=self._read, name="onelane-reader", daemon=True).start()

    def _read(self) -> None:
        try:
            with contextlib.suppress(OSError), self._socket.makefile("rb") as lines:
                for line in iter(lambda: lines.readline(_MAX_LINE + 1), b""):
                    self._take(json.loads(line))
        finally:
            # Nobody is left to answer to: whatever runs is of no use any more.
            self._cancel()
            self.inbox.put(None)

    def _take(self, message: Message) -> None:
        kind = message.get("type")
        if kind == "run":
            job = self._current = Job.of_message(message, self.send, self._interrupter.disarm)
            self.inbox.put({"type": "run", "job": job})
        elif kind == "cancel":
            self._cancel()
        elif kind == "ping":
            # Answered by the main thread: what is asked is whether it is alive.
            self.inbox.put(message)
        elif kind == "bye":
            self._cancel()
            self.inbox.put(None)

    def _cancel(self) -> None:
        if self._current is not None:
            self._current.cancelled = True
            self._interrupter.interrupt()


class Worker:
    """The main thread's part."""

    def __init__(self, tool: Tool, function: Callable[..., Any], connection: Connection, calls: Interrupter) -> None:
        self._tool = tool
        self._function = function
        self._connection = connection
        self._calls = calls

    def serve(self, name: str) -> None:
        """Works until it is told to end, or nobody is there any more."""
        hello: Message = {"type": "hello", "protocol": PROTOCOL, "name": name}
        if self._tool.options.version:
            hello["version"] = self._tool.options.version
        self._connection.listen()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._connection.send(hello)
            for message in iter(self._connection.inbox.get, None):
                self._answer(message)

    def _answer(self, message: Message) -> None:
        if message["type"] == "ping":
            self._connection.send({"type": "pong", "id": message.get("id")})
            return
        answer = self._run(message["job"])
        message["job"]._end()
        _flush()
        self._connection.send({**answer, "job": message["job"].id})

    def _run(self, job: Job) -> Message:
        try:
            value = self._calls.call(job, lambda: self._call(job))
        except Cancelled:
            return {"type": "cancelled"}
        except SystemExit as error:
            return _fail(_exit_sentence(error))
        except Exception as error:
            _print_traceback(error)
            return _fail(f"{type(error).__name__}: {error}")
        try:
            return self._done(job, value)
        except Exception as error:
            return _fail(f"the function's result can't be kept as JSON: {error}")

    def _call(self, job: Job) -> Any:
        value = self._function(**self._tool.arguments(job.params, job))
        if inspect.iscoroutine(value):
            import asyncio

            value = asyncio.run(value)
        return value

    def _done(self, job: Job, value: Any) -> Message:
        if value is None:
            return {"type": "done"}
        text = json.dumps(value, default=_as_json, allow_nan=False)
        if len(text) <= _MAX_RESULT_LETTERS:
            return {"type": "done", "result": json.loads(text)}
        (job.output_dir / "result.json").write_text(text, encoding="utf-8")
        job.result("result.json")
        return {"type": "done"}


def _as_json(value: Any) -> Any:
    """What JSON has no word for, where there is no doubt how to say it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if callable(getattr(value, "tolist", None)):  # arrays and numbers of NumPy
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _fail(sentence: str) -> Message:
    return {"type": "fail", "message": sentence[:_MAX_SENTENCE_LETTERS]}


def _exit_sentence(error: SystemExit) -> str:
    if error.code is None or isinstance(error.code, int):
        return f"the function called sys.exit({error.code or 0})"
    return str(error.code)


def _print_traceback(error: BaseException) -> None:
    """The traceback, from the function on: the frames of this file are nobody's business."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    with contextlib.suppress(Exception):
        traceback.print_exception(type(error), error, frames)


def _flush() -> None:
    """Everything printed so far belongs to the job that ends now."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    with contextlib.suppress(Exception):
        ctypes.CDLL(None).fflush(None)  # what extension modules printed by way of C


def _prepare_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(line_buffering=True, errors="backslashreplace")


def main(arguments: Sequence[str]) -> int:
    """Connects, loads, and works."""
    if len(arguments) != 1:
        print("usage: python -m onelane.worker module:function", file=sys.stderr)
        return 2
    path = os.environ.pop("ONELANE_WORKER_SOCKET", None)
    if path is None:
        print(
            "onelane.worker is started by an Onelane server, by `worker` in its tools file\n"
            f"hint: to try a function out, run: python -m onelane serve {arguments[0]}",
            file=sys.stderr,
        )
        return 2
    if os.environ.get("ONELANE_WORKER_PROTOCOL", "1") != "1":
        print("the server speaks another protocol: install the same version of onelane on both sides", file=sys.stderr)
        return 2
    _prepare_streams()
    calls = Interrupter()
    connection = Connection(path, calls)
    try:
        tool = Tool(load(arguments[0]))
    except (LoadError, TypeError) as error:
        print(f"{arguments[0]}: {error}", file=sys.stderr)
        return 1
    Worker(tool, tool.instance(), connection, calls).serve(arguments[0])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
