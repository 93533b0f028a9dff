"""A client for an Onelane server: `Client` waits, `AsyncClient` awaits."""

from onelane.client._async import AsyncClient
from onelane.client._errors import (
    BadInput,
    Conflict,
    Denied,
    JobCancelled,
    JobFailed,
    NoServer,
    NotFound,
    OnelaneError,
    QueueFull,
    Refused,
    Unavailable,
)
from onelane.client._model import (
    DeclaredResult,
    Eta,
    Failure,
    InputError,
    JobView,
    Progress,
    ResultFile,
    ToolView,
    Usage,
)
from onelane.client._sync import Client

__all__ = [
    "AsyncClient",
    "BadInput",
    "Client",
    "Conflict",
    "DeclaredResult",
    "Denied",
    "Eta",
    "Failure",
    "InputError",
    "JobCancelled",
    "JobFailed",
    "JobView",
    "NoServer",
    "NotFound",
    "OnelaneError",
    "Progress",
    "QueueFull",
    "Refused",
    "ResultFile",
    "ToolView",
    "Unavailable",
    "Usage",
]
