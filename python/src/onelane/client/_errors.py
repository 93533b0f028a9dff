"""Why there is no good answer; each class is something else to do for the caller."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Mapping, Optional, Type

from onelane.client._model import InputError, JobView, read


class OnelaneError(Exception):
    """All errors of this client."""


class NoServer(OnelaneError):
    """No Onelane server answers at the address."""


class JobFailed(OnelaneError):
    """The job that was waited for failed; the text is the server's sentence for people."""

    def __init__(self, job: JobView) -> None:
        self.job = job
        super().__init__(job.failure.message if job.failure else f"job {job.id} {job.state}")


class JobCancelled(JobFailed):
    """The job that was waited for was cancelled."""


class Refused(OnelaneError):
    """The server said no: ``status``, the stable ``code``, ``detail`` for people, and ``errors`` for bad input."""

    def __init__(self, status: int, problem: Mapping[str, Any], retry_after_s: Optional[float] = None) -> None:
        self.status = status
        self.code: str = problem.get("code", "")
        self.detail: str = problem.get("detail") or f"the server answered with status {status}"
        self.errors: List[InputError] = [read(InputError, {"message": "", **item}) for item in problem.get("errors", [])]
        self.retry_after_s = retry_after_s
        super().__init__("\n  ".join([self.detail, *map(str, self.errors)]))


class BadInput(Refused):
    """The input or the request is wrong: ``errors`` says which parameter, record, line and column."""


class Denied(Refused):
    """Not for this caller: no token, another's job, or a host that the server doesn't know."""


class NotFound(Refused):
    """No such job, tool or file; or its files are gone."""


class Conflict(Refused):
    """Not now: the job's state doesn't allow it, or the id fits several jobs."""


class QueueFull(Refused):
    """The queue, or this owner's share of it, is full."""


class Unavailable(Refused):
    """The server can't do it now: stopping, restarting, or its disk is full."""


_OF_STATUS: Dict[int, Type[Refused]] = {
    400: BadInput,
    401: Denied,
    403: Denied,
    404: NotFound,
    409: Conflict,
    410: NotFound,
    413: BadInput,
    415: BadInput,
    422: BadInput,
    429: QueueFull,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
    507: Unavailable,
}


def refusal(status: int, headers: Mapping[str, str], body: bytes) -> Refused:
    """The error for an answer that is none."""
    try:
        problem = json.loads(body)
    except ValueError:
        problem = {}
    if not isinstance(problem, dict):
        problem = {}
    try:
        retry_after_s: Optional[float] = float(headers["retry-after"])
    except (KeyError, ValueError):
        retry_after_s = None
    return _OF_STATUS.get(status, Refused)(status, problem, retry_after_s)


# A traceback shows the name under which people catch it.
for _error in (OnelaneError, NoServer, JobFailed, JobCancelled, Refused, *set(_OF_STATUS.values())):
    _error.__module__ = "onelane"
