"""Onelane for Python: functions as tools of a job server (`tool`), and a client for it (`Client`, `AsyncClient`).

The worker half needs nothing but the standard library; the client's names are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from onelane._job import Cancelled, Job
from onelane._tool import Fasta, Fastq, File, Number, Param, Text, tool

if TYPE_CHECKING:
    from onelane.client import (
        AsyncClient,
        BadInput,
        Client,
        Conflict,
        Denied,
        JobCancelled,
        JobFailed,
        JobView,
        NoServer,
        NotFound,
        OnelaneError,
        QueueFull,
        Refused,
        Unavailable,
    )

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "BadInput",
    "Cancelled",
    "Client",
    "Conflict",
    "Denied",
    "Fasta",
    "Fastq",
    "File",
    "Job",
    "JobCancelled",
    "JobFailed",
    "JobView",
    "NoServer",
    "NotFound",
    "Number",
    "OnelaneError",
    "Param",
    "QueueFull",
    "Refused",
    "Text",
    "Unavailable",
    "tool",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("onelane.client"), name)
    raise AttributeError(f"module 'onelane' has no attribute {name!r}")
