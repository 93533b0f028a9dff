"""What the server says, as data classes. Fields that a later server adds are kept in ``raw`` only."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Any, Callable, Dict, List, Mapping, Optional, Type, TypeVar

T = TypeVar("T")

FINAL_STATES = frozenset({"succeeded", "failed", "cancelled"})


def _read_with(convert: Callable[[Any], Any], **options: Any) -> Any:
    return dataclasses.field(metadata={"convert": convert}, **options)


def read(kind: Type[T], data: Mapping[str, Any]) -> T:
    """An object of this kind. Unknown fields are passed over; missing and null ones have their defaults."""
    values: Dict[str, Any] = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        value = data.get(field.name)
        if value is not None:
            convert = field.metadata.get("convert")
            values[field.name] = convert(value) if convert else value
        elif field.name == "raw":
            values["raw"] = data
    return kind(**values)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _when() -> Any:
    return _read_with(_time, default=None)


def _one(kind: Type[Any]) -> Any:
    return _read_with(lambda data: read(kind, data), default=None)


def _many(kind: Type[Any]) -> Any:
    return _read_with(lambda items: [read(kind, item) for item in items], default_factory=list)


def _raw() -> Any:
    return dataclasses.field(default_factory=dict, repr=False, compare=False)


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a tool says it is."""

    fraction: float
    message: str = ""


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why a job failed: ``kind`` for programs, ``message`` for people."""

    kind: str
    message: str
    code: Optional[int] = None
    signal: Optional[int] = None


@dataclasses.dataclass(frozen=True)
class Usage:
    """What the newest attempt used."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    memory_peak_bytes: int = 0


@dataclasses.dataclass(frozen=True)
class Eta:
    """When the job is expected to start: half of such jobs by ``p50``, nine in ten by ``p90``."""

    p50: Optional[datetime] = _when()
    p90: Optional[datetime] = _when()


@dataclasses.dataclass(frozen=True)
class JobView:
    """A job as the server shows it."""

    id: str
    seq: int = 0
    tool: str = ""
    name: Optional[str] = None
    owner: str = ""
    state: str = ""
    stuck: bool = False
    priority: int = 0
    created_at: Optional[datetime] = _when()
    started_at: Optional[datetime] = _when()
    finished_at: Optional[datetime] = _when()
    attempt: int = 0
    position: Optional[int] = None
    eta: Optional[Eta] = _one(Eta)
    why: Optional[str] = None
    progress: Optional[Progress] = _one(Progress)
    params: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    exit_code: Optional[int] = None
    failure: Optional[Failure] = _one(Failure)
    usage: Optional[Usage] = _one(Usage)
    result_of: Optional[str] = None
    tags: List[str] = dataclasses.field(default_factory=list)
    notes: List[str] = dataclasses.field(default_factory=list)
    raw: Mapping[str, Any] = _raw()

    @property
    def ended(self) -> bool:
        """True for ``succeeded``, ``failed`` and ``cancelled``."""
        return self.state in FINAL_STATES


@dataclasses.dataclass(frozen=True)
class ResultFile:
    """One file among a job's results."""

    path: str
    size_bytes: int = 0
    modified_at: Optional[datetime] = _when()
    #: ``None`` as long as the server computes it.
    sha256: Optional[str] = None
    media_type: str = ""
    result: Optional[str] = None
    title: Optional[str] = None
    view: Optional[str] = None
    raw: Mapping[str, Any] = _raw()


@dataclasses.dataclass(frozen=True)
class DeclaredResult:
    """A result file that a tool declares."""

    name: str
    file: str = ""
    title: Optional[str] = None
    view: Optional[str] = None
    columns: List[str] = dataclasses.field(default_factory=list)
    required: bool = False


@dataclasses.dataclass(frozen=True)
class ToolView:
    """A tool; ``params`` is the JSON Schema of its parameters."""

    name: str
    title: Optional[str] = None
    help: Optional[str] = None
    params: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    results: List[DeclaredResult] = _many(DeclaredResult)
    example: Optional[Mapping[str, Any]] = None
    raw: Mapping[str, Any] = _raw()


@dataclasses.dataclass(frozen=True)
class InputError:
    """One thing that is wrong with the input, and where; records, lines and columns are counted from 1."""

    message: str
    param: Optional[str] = None
    record: Optional[int] = None
    id: Optional[str] = None
    line: Optional[int] = None
    column: Optional[int] = None
    character: Optional[str] = None

    def __str__(self) -> str:
        place = [self.param] if self.param else []
        for word in ("record", "line", "column"):
            value = getattr(self, word)
            place += [f"{word} {value}"] if value is not None else []
        return f"{', '.join(place)}: {self.message}" if place else self.message
