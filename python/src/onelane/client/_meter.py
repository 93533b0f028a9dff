"""Shows how far a job is: by tqdm where it is installed, which knows terminals and notebooks; else in plain lines."""

from __future__ import annotations

import importlib
import sys
from typing import Any, Callable, Optional, Union

from onelane.client._model import JobView

#: `True` shows a bar; a function is called with the job each time there is news.
ProgressOption = Union[bool, Callable[[JobView], object]]


class Meter:
    """Watches nothing and shows nothing."""

    watches = False

    def update(self, job: JobView) -> None:
        """There is news of the job."""

    def close(self) -> None:
        """There won't be any more."""


class _Callback(Meter):
    watches = True

    def __init__(self, function: Callable[[JobView], object]) -> None:
        self._function = function

    def update(self, job: JobView) -> None:
        self._function(job)


class _Bar(Meter):
    watches = True

    def __init__(self, tqdm: Any) -> None:
        self._bar = tqdm(total=1.0, bar_format="{desc} {percentage:3.0f}% |{bar}| {elapsed}", leave=True)

    def update(self, job: JobView) -> None:
        self._bar.n = 1.0 if job.state == "succeeded" else (job.progress.fraction if job.progress else 0.0)
        self._bar.set_description_str(_words(job), refresh=True)

    def close(self) -> None:
        self._bar.close()


class _Plain(Meter):
    watches = True

    def __init__(self) -> None:
        self._said = ""

    def update(self, job: JobView) -> None:
        done = f" {job.progress.fraction:.0%}" if job.progress and not job.ended else ""
        words = _words(job) + done
        if words != self._said:
            self._said = words
            print(words, file=sys.stderr, flush=True)


def _words(job: JobView) -> str:
    detail: Optional[str] = job.why if job.state == "queued" else None
    if job.state == "running" and job.progress and job.progress.message:
        detail = job.progress.message
    return f"{job.tool} {job.state}" + (f": {detail}" if detail else "")


def meter(progress: ProgressOption) -> Meter:
    """What was asked for."""
    if progress is False:
        return Meter()
    if callable(progress):
        return _Callback(progress)
    try:
        return _Bar(importlib.import_module("tqdm.auto").tqdm)
    except ImportError:
        return _Plain()
