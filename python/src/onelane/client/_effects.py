"""What the client's core asks of the world. Two small drivers do it, one that waits and one that awaits."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any, Dict, Generator, Iterator, List, Mapping, Optional, Tuple, TypeVar, Union

T = TypeVar("T")

Content = Union[str, bytes, Path]


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of a multipart body; without a file name it is a field of text."""

    name: str
    content: Content
    file_name: Optional[str] = None


@dataclasses.dataclass(frozen=True)
class Request:
    """A request, which can be sent any number of times."""

    method: str
    path: str
    query: Tuple[Tuple[str, str], ...] = ()
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    json: Any = None
    parts: Tuple[Part, ...] = ()
    read_timeout_s: float = 30.0

    @contextlib.contextmanager
    def body(self) -> Iterator[Dict[str, Any]]:
        """The body in httpx's terms; files are open, to be streamed, as long as the context lasts."""
        if not self.parts:
            yield {} if self.json is None else {"json": self.json}
            return
        with contextlib.ExitStack() as stack:
            files: List[Tuple[str, Tuple[Optional[str], Any]]] = []
            for part in self.parts:
                content: Any = part.content
                if isinstance(content, Path):
                    content = stack.enter_context(content.open("rb"))
                elif isinstance(content, str):
                    content = content.encode("utf-8", "replace")
                files.append((part.name, (part.file_name, content)))
            yield {"files": files}


@dataclasses.dataclass(frozen=True)
class Answer:
    """An answer with its whole body; or, to `Open`, with a body that is still to be read by `Read`."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclasses.dataclass(frozen=True)
class Send:
    """Send and read the whole answer: gives an `Answer`."""

    request: Request


@dataclasses.dataclass(frozen=True)
class Open:
    """Send and read the answer's head: gives an `Answer`. The one opened before is closed."""

    request: Request


@dataclasses.dataclass(frozen=True)
class Read:
    """More of the opened answer: gives bytes, and `None` at its end."""


@dataclasses.dataclass(frozen=True)
class Sleep:
    """Wait."""

    seconds: float


@dataclasses.dataclass(frozen=True)
class Emit:
    """Hand an item to the caller who iterates."""

    item: Any


class Lost(Exception):
    """Thrown in by a driver when there is no answer; `refused` when nobody even listens."""

    def __init__(self, sentence: str, refused: bool) -> None:
        self.refused = refused
        super().__init__(sentence)


Effect = Union[Send, Open, Read, Sleep, Emit]
Steps = Generator[Effect, Any, T]
