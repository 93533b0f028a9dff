"""What a function learns of the job that it works on, and what it can say."""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional, Union

Send = Callable[[Dict[str, Any]], None]

# A message has 16 MiB at most, and a letter of a log up to 12 bytes in JSON.
_LOG_LETTERS = 1 << 20


class Cancelled(BaseException):
    """The job was cancelled, or its time is over.

    It is raised in the middle of the function, like ``KeyboardInterrupt``; not an ``Exception``, so that
    ``except Exception`` does not swallow it. Clean up in ``finally`` or a ``with``, and let it pass.
    """


class Steps:
    """Lets a burst of steps pass, then ten a second: nobody sees more."""

    _BURST = 50.0
    _EACH_SECOND = 10.0

    def __init__(self) -> None:
        self._left = self._BURST
        self._at = time.monotonic()
        self._held: Optional[Dict[str, Any]] = None

    def say(self, step: Dict[str, Any], send: Send) -> None:
        """Sends the step, or keeps it."""
        now = time.monotonic()
        self._left = min(self._BURST, self._left + (now - self._at) * self._EACH_SECOND)
        self._at = now
        if self._left < 1:
            self._held = step
            return
        self._left -= 1
        self._held = None
        send(step)

    def end(self, send: Send) -> None:
        """Sends the last step, if it was kept."""
        if self._held is not None:
            send(self._held)


@dataclasses.dataclass
class Job:
    """The running job, for a function that has an argument ``job: onelane.Job``."""

    id: str
    attempt: int
    tool: str
    name: Optional[str]
    params: Mapping[str, Any]
    #: Where the parameters' files are.
    input_dir: Path
    #: What is left here when the function returns is the job's result.
    output_dir: Path
    #: A folder of the job's own for all else.
    work_dir: Path
    cpus: int
    memory_bytes: int
    #: True once somebody wants the job to end.
    cancelled: bool = False
    _send: Send = dataclasses.field(default=lambda message: None, repr=False)
    _disarm: Callable[[], None] = dataclasses.field(default=lambda: None, repr=False)
    _steps: Steps = dataclasses.field(default_factory=lambda: Steps(), repr=False)

    @classmethod
    def of_message(cls, message: Mapping[str, Any], send: Send, disarm: Callable[[], None] = lambda: None) -> Job:
        """The job of a ``run`` message."""
        job_id = message["job"]

        def send_of_job(said: Dict[str, Any]) -> None:
            # What comes late, from a thread that goes on, must not be taken for a word about the next job.
            send({**said, "job": job_id})

        return cls(
            id=job_id,
            attempt=message["attempt"],
            tool=message["tool"],
            name=message.get("name"),
            params=message["params"],
            input_dir=Path(message["input"]),
            output_dir=Path(message["output"]),
            work_dir=Path(message["work"]),
            cpus=message["cpus"],
            memory_bytes=message["memory_bytes"],
            _send=send_of_job,
            _disarm=disarm,
        )

    def progress(self, fraction: float, message: str = "") -> None:
        """Tells how far the job is, from 0 to 1, and what it does. Cheap enough for a tight loop, which is not told
        step by step: ten a second are, and the last one.

        Raises `Cancelled` when the job was cancelled, so that a loop which swallowed it once ends all the same.
        """
        if self.cancelled:
            # Else the interruption that is on its way would break into the clean-up.
            self._disarm()
            raise Cancelled
        if not math.isfinite(fraction):
            raise ValueError(f"a job's progress is between 0 and 1, not {fraction}")
        self._steps.say({"type": "progress", "fraction": min(max(fraction, 0.0), 1.0), "message": message}, self._send)

    def _end(self) -> None:
        self._steps.end(self._send)

    def log(self, text: str, stream: str = "stderr") -> None:
        """Adds a line to the job's log, ``stdout`` or ``stderr``; `print` does so too."""
        if stream not in ("stdout", "stderr"):
            raise ValueError(f"a job's logs are stdout and stderr, not {stream}")
        text = text if text.endswith("\n") else text + "\n"
        for begin in range(0, len(text), _LOG_LETTERS):
            part = text[begin : begin + _LOG_LETTERS]
            self._send({"type": "log", "stream": stream, "text": part})

    def result(self, file: Union[str, Path]) -> None:
        """Declares a file in `output_dir` a result: a job that ends without it has failed."""
        relative = self.output_dir.joinpath(file).relative_to(self.output_dir)
        self._send({"type": "result", "file": relative.as_posix()})
