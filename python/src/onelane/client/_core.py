"""Everything that the client knows, without a socket: each operation is a generator of effects.

`Client` and `AsyncClient` perform these effects, and have no logic of their own.
"""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import json
import os
import time
import uuid
from pathlib import Path, PurePosixPath
from typing import Any, Callable, Dict, FrozenSet, Iterable, List, Mapping, Optional, Tuple, TypeVar, Union
from urllib.parse import quote

from onelane import __version__
from onelane.client._effects import Answer, Emit, Lost, Open, Part, Read, Request, Send, Sleep, Steps
from onelane.client._errors import JobCancelled, JobFailed, NoServer, NotFound, OnelaneError, Refused, refusal
from onelane.client._meter import Meter
from onelane.client._model import JobView, ResultFile, ToolView, read

#: Text beyond this goes as a file, which the server streams.
_MAX_TEXT_LETTERS = 1 << 20
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0
#: How long the server holds an answer for a job's end; shorter where somebody watches.
_HOLD_S = 20
_WATCHED_HOLD_S = 1
#: What a server has to answer in, however little time the caller has left.
_LEAST_READ_S = 5.0
_PASSING = frozenset({429, 502, 503, 504, 507})

T = TypeVar("T")
Filter = Union[str, Iterable[str], None]


class Core:
    """One server's address, and how long to be patient with it."""

    def __init__(self, url: Optional[str], token: Optional[str], retry_for_s: float) -> None:
        self.url = (url or os.environ.get("ONELANE_URL") or "http://127.0.0.1:8000").rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"`{self.url}` is not a server's address: it looks like http://127.0.0.1:8000")
        # Read from a file, it most likely ends with the line's end.
        token = (token or os.environ.get("ONELANE_TOKEN") or "").strip()
        self.headers: Dict[str, str] = {"user-agent": f"onelane-python/{__version__}"}
        if token:
            self.headers["authorization"] = f"Bearer {_printable(token, 'the token')}"
        self._retry_for_s = retry_for_s
        self._has_answered = False

    # How to ask

    def _patiently(self, steps: Callable[[], Steps[T]], patience: Optional["_Patience"] = None) -> Steps[T]:
        """Does the steps until they work, something is wrong that waiting can't mend, or patience ends."""
        patience = patience or self._patience()
        while True:
            try:
                answer = yield from steps()
                self._has_answered = True
                return answer
            except Lost as error:
                # Nobody there at the very first word is most likely a wrong address: said at once.
                is_wrong = error.refused and not self._has_answered
                pause_s = None if is_wrong else patience.pause_s(None, error)
                if pause_s is None:
                    raise NoServer(f"no server answers at {self.url}: {error}") from None
            except Refused as error:
                self._has_answered = True
                pause_s = patience.pause_s(error.retry_after_s, error) if error.status in _PASSING else None
                if pause_s is None:
                    raise
            yield Sleep(pause_s)

    def _patience(self, deadline: Optional["_Deadline"] = None) -> "_Patience":
        return _Patience(self._retry_for_s, deadline or _Deadline(None))

    def _ask(self, request: Request, deadline: Optional["_Deadline"] = None) -> Steps[Any]:
        """The JSON of the answer."""
        return self._json((yield from self._patiently(lambda: self._once(request), self._patience(deadline))))

    def _json(self, body: bytes) -> Any:
        try:
            return json.loads(body)
        except ValueError:
            raise NoServer(f"something answers at {self.url}, but it is not Onelane") from None

    def _once(self, request: Request) -> Steps[bytes]:
        answer = yield Send(request)
        return _good(answer).body

    # Jobs

    def submit(
        self,
        tool: str,
        params: Mapping[str, Any],
        options: "SubmitOptions",
        deadline: Optional["_Deadline"] = None,
    ) -> Steps[JobView]:
        """A key always goes with it, so that it can be sent again without making a second job."""
        values = {name: value for name, value in params.items() if value is not None}
        parts: Tuple[Part, ...] = ()
        # As JSON; or as parts, where there are files among the parameters, or long texts.
        if any(map(_is_file, values.values())):
            whole: FrozenSet[str] = frozenset()
            if any(map(_is_texts, values.values())):
                whole = yield from self._json_params(tool, deadline)
            parts = tuple(part for name, value in values.items() for part in _parts(name, value, name in whole))
        request = Request(
            "POST",
            _path("tools", tool, "jobs"),
            query=options.query(),
            headers={"idempotency-key": options.key or uuid.uuid4().hex},
            json=None if parts else values,
            parts=parts,
            read_timeout_s=120.0,
        )
        return read(JobView, (yield from self._ask(request, deadline)))

    def _json_params(self, tool: str, deadline: Optional["_Deadline"]) -> Steps[FrozenSet[str]]:
        """Parameters of the type `json`: in parts, only the tool knows whether a list is one value or many."""
        found = yield from self._ask(Request("GET", _path("tools", tool)), deadline)
        schemas = found["params"]["properties"]
        return frozenset(name for name, schema in schemas.items() if schema.get("x-onelane-type") == "json")

    def run(
        self, tool: str, params: Mapping[str, Any], options: "SubmitOptions", timeout_s: Optional[float], meter: Meter
    ) -> Steps[JobView]:
        """Submits and waits; a bad end is an exception."""
        deadline = _Deadline(timeout_s)
        try:
            job = yield from self.submit(tool, params, options, deadline)
            job = yield from self._wait(job.id, deadline, meter)
        finally:
            meter.close()
        return _succeeded(job)

    def get(self, job: str) -> Steps[JobView]:
        return read(JobView, (yield from self._ask(Request("GET", _path("jobs", job)))))

    def wait(self, job: str, timeout_s: Optional[float], meter: Meter) -> Steps[JobView]:
        try:
            return (yield from self._wait(job, _Deadline(timeout_s), meter))
        finally:
            meter.close()

    def _wait(self, job: str, deadline: "_Deadline", meter: Meter) -> Steps[JobView]:
        hold_s = _WATCHED_HOLD_S if meter.watches else _HOLD_S
        while True:
            asked = time.monotonic()
            view = yield from self._held(job, hold_s, deadline)
            meter.update(view)
            if view.ended:
                return view
            if deadline.left_s() <= 0:
                raise TimeoutError(f"job {view.id} is still {view.state} after {deadline.timeout_s} s")
            # A server that is stopping answers at once: don't hammer it.
            if time.monotonic() - asked < 0.1:
                yield Sleep(_FIRST_PAUSE_S)

    def _held(self, job: str, hold_s: int, deadline: "_Deadline") -> Steps[JobView]:
        def once() -> Steps[bytes]:
            # Measured at each try: while the server was away, time went by.
            left_s = max(0.0, deadline.left_s())
            seconds = hold_s if left_s >= hold_s else round(left_s)
            read_s = seconds + min(30.0, max(_LEAST_READ_S, left_s - seconds))
            query = (("wait", str(seconds)),)
            return self._once(Request("GET", _path("jobs", job), query=query, read_timeout_s=read_s))

        return read(JobView, self._json((yield from self._patiently(once, self._patience(deadline)))))

    def jobs(self, filters: Mapping[str, Filter], limit: Optional[int]) -> Steps[None]:
        """Emits jobs, newest first, page by page."""
        query = [(key, word) for key, words in filters.items() for word in _words(words)]
        cursor: Optional[str] = None
        left = limit
        while left is None or left > 0:
            page_query = [*query, ("limit", str(min(left or 100, 100)))]
            if cursor:
                page_query.append(("cursor", cursor))
            page = yield from self._ask(Request("GET", _path("jobs"), query=tuple(page_query)))
            for job in page["jobs"]:
                yield Emit(read(JobView, job))
            left = None if left is None else left - len(page["jobs"])
            cursor = page.get("next_cursor")
            if cursor is None:
                return

    def cancel(self, job: str) -> Steps[JobView]:
        return read(JobView, (yield from self._ask(Request("POST", _path("jobs", job, "cancel")))))

    def delete(self, job: str, cancel: bool) -> Steps[None]:
        """Asks for the job first: of one that is gone by then an earlier try's answer was lost."""
        found = yield from self.get(job)
        query = (("cancel", "true"),) if cancel else ()
        request = Request("DELETE", _path("jobs", found.id), query, read_timeout_s=90.0)
        with contextlib.suppress(NotFound):
            yield from self._patiently(lambda: self._once(request))

    def tools(self) -> Steps[List[ToolView]]:
        found = yield from self._ask(Request("GET", _path("tools")))
        return [read(ToolView, tool) for tool in found["tools"]]

    # Logs

    def logs(self, job: str, stream: str, follow: bool) -> Steps[None]:
        """Emits lines. A lost connection is taken up where it stopped; another attempt from its beginning."""
        lines, seen, patience = _Lines(), _Seen(), self._patience()
        yield from self._patiently(lambda: self._log_once(job, stream, follow, lines, seen, patience), patience)
        for line in lines.rest():
            yield Emit(line)

    def _log_once(
        self, job: str, stream: str, follow: bool, lines: "_Lines", seen: "_Seen", patience: "_Patience"
    ) -> Steps[None]:
        view = yield from self._view_once(job)
        # A log that is opened before there is an attempt begins with the first.
        attempt = max(view.attempt, 1)
        if seen.is_another(attempt):
            # What the one before had begun to write is no beginning of this one's first line.
            for line in lines.rest():
                yield Emit(line + "\n")
        skip = seen.skip(attempt)
        query = (("follow", "true"),) if follow else ()
        # A long silence is taken for a lost connection: asking again costs little, and finds out.
        timeout_s = 300.0 if follow else 30.0
        request = Request("GET", _path("jobs", view.id, "logs", stream), query=query, read_timeout_s=timeout_s)
        _good((yield Open(request)))
        patience.renew()
        while True:
            chunk = yield Read()
            if chunk is None:
                break
            skipped, chunk = chunk[:skip], chunk[skip:]
            skip -= len(skipped)
            seen.bytes += len(chunk)
            for line in lines.take(chunk):
                yield Emit(line)
        # A server that stops ends its streams in good order.
        if follow and not (yield from self._view_once(view.id)).ended:
            raise Lost("the log ended before the job", refused=False)

    def _view_once(self, job: str) -> Steps[JobView]:
        return read(JobView, self._json((yield from self._once(Request("GET", _path("jobs", job))))))

    # Files

    def files(self, job: str) -> Steps[List[ResultFile]]:
        found = yield from self._ask(Request("GET", _path("jobs", job, "files")))
        return [read(ResultFile, file) for file in found["files"]]

    def result(self, job: str) -> Steps[Any]:
        request = Request("GET", _path("jobs", job, "files", "result.json"), read_timeout_s=120.0)
        try:
            return json.loads((yield from self._patiently(lambda: self._once(request))))
        except NotFound as error:
            if error.code != "unknown_file":
                raise
        except ValueError as error:
            raise OnelaneError(f"the result.json of job {job} is no JSON: {error}") from None
        # There is none: of a job that failed that means something else than of one that returned nothing.
        _succeeded((yield from self.get(job)))
        return None

    def download(self, job: str, folder: Path, paths: Filter) -> Steps[List[Path]]:
        """Each file is written beside its place, checked, and moved there whole."""
        files = yield from self.files(job)
        if paths is not None:
            wanted = set(_words(paths))
            missing = wanted - {file.path for file in files}
            if missing:
                raise OnelaneError(f"the results have no {', '.join(sorted(missing))}")
            files = [file for file in files if file.path in wanted]
        written: List[Path] = []
        for file in files:
            place = folder / _harmless(file.path)
            place.parent.mkdir(parents=True, exist_ok=True)
            written.append((yield from self._patiently(_fetching(job, file, place))))
        return written


def _fetching(job: str, file: ResultFile, place: Path) -> Callable[[], Steps[Path]]:
    def fetch() -> Steps[Path]:
        beside = place.with_name(f".{place.name}.{uuid.uuid4().hex[:8]}.part")
        digest, size = hashlib.sha256(), 0
        try:
            _good((yield Open(Request("GET", _path("jobs", job, "files", *file.path.split("/"))))))
            with beside.open("wb") as out:
                while True:
                    chunk = yield Read()
                    if chunk is None:
                        break
                    out.write(chunk)
                    digest.update(chunk)
                    size += len(chunk)
            if size != file.size_bytes or (file.sha256 is not None and digest.hexdigest() != file.sha256):
                raise Lost(f"{file.path} came damaged", refused=False)
            os.replace(beside, place)
        finally:
            beside.unlink(missing_ok=True)
        return place

    return fetch


class SubmitOptions:
    """What goes into the query of a submission, and its key."""

    def __init__(
        self,
        name: Optional[str],
        tags: Iterable[str],
        priority: int,
        after: Iterable[Union[str, JobView]],
        fresh: bool,
        key: Optional[str],
    ) -> None:
        self.key = None if key is None else _printable(key, "the key")
        query: List[Tuple[str, str]] = [("name", name)] if name is not None else []
        query += [("tag", tag) for tag in ([tags] if isinstance(tags, str) else tags)]
        query += [("after", job_id(job)) for job in ([after] if isinstance(after, (str, JobView)) else after)]
        if priority:
            query.append(("priority", str(priority)))
        if fresh:
            query.append(("fresh", "true"))
        self._query = tuple(query)

    def query(self) -> Tuple[Tuple[str, str], ...]:
        return self._query


def job_id(job: Union[str, JobView]) -> str:
    """Everywhere a job can be given by its id or as it came."""
    return job if isinstance(job, str) else job.id


class _Deadline:
    """The end of the caller's own time; there may be none."""

    def __init__(self, timeout_s: Optional[float]) -> None:
        self.timeout_s = timeout_s
        self._until = float("inf") if timeout_s is None else time.monotonic() + timeout_s

    def left_s(self) -> float:
        return self._until - time.monotonic()


class _Patience:
    """How long to wait before asking again, from the first failure of a row on."""

    def __init__(self, total_s: float, deadline: _Deadline) -> None:
        self._total_s = total_s
        self._deadline = deadline
        self.renew()

    def renew(self) -> None:
        """All is well again."""
        self._until: Optional[float] = None
        self._pause_s = _FIRST_PAUSE_S

    def pause_s(self, wanted_s: Optional[float], error: Exception) -> Optional[float]:
        """The next pause, at least what the server wants; nothing when patience is over.

        It ends with the caller's time, if not before: then that is the error.
        """
        now, left_s = time.monotonic(), self._deadline.left_s()
        if left_s <= 0:
            raise TimeoutError(f"no good answer after {self._deadline.timeout_s} s: {error}") from error
        if self._until is None:
            self._until = now + self._total_s
        pause_s = min(self._pause_s if wanted_s is None else wanted_s, left_s)
        self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)
        return pause_s if now + pause_s <= self._until else None


class _Lines:
    """Bytes to lines of text; a letter may be cut in two by the way it came."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._begun = ""

    def take(self, chunk: bytes) -> List[str]:
        *lines, self._begun = (self._begun + self._decoder.decode(chunk)).split("\n")
        return [line + "\n" for line in lines]

    def rest(self) -> List[str]:
        """The line that has no end; what comes then is a new one."""
        begun = self._begun + self._decoder.decode(b"", final=True)
        self._decoder.reset()
        self._begun = ""
        return [begun] if begun else []


class _Seen:
    """How much of which attempt's log has been handed on."""

    def __init__(self) -> None:
        self._attempt = -1
        self.bytes = 0

    def is_another(self, attempt: int) -> bool:
        return attempt != self._attempt

    def skip(self, attempt: int) -> int:
        if self.is_another(attempt):
            self._attempt, self.bytes = attempt, 0
        return self.bytes


def _succeeded(job: JobView) -> JobView:
    """An ended job, unless its end was a bad one."""
    if job.state == "cancelled":
        raise JobCancelled(job)
    if job.state != "succeeded":
        raise JobFailed(job)
    return job


def _good(answer: Answer) -> Answer:
    if answer.status >= 300:
        raise refusal(answer.status, answer.headers, answer.body)
    return answer


def _path(*segments: str) -> str:
    # Encoded one by one, so that no id or file name can climb out of its place.
    if any(segment in ("", ".", "..") for segment in segments):
        raise ValueError(f"{'/'.join(segments)} names nothing")
    return "/api/v1/" + "/".join(quote(segment, safe="") for segment in segments)


def _harmless(path: str) -> PurePosixPath:
    relative = PurePosixPath(path)
    if relative.is_absolute() or ".." in relative.parts:
        raise OnelaneError(f"the server names a file outside of the results: {path}")
    return relative


def _words(words: Filter) -> List[str]:
    if words is None:
        return []
    return [words] if isinstance(words, str) else list(words)


def _printable(text: str, what: str) -> str:
    """What a header can say. The error does not repeat it: a token is a secret."""
    for place, letter in enumerate(text, 1):
        if not " " <= letter <= "~":
            raise ValueError(f"{what} must be of printable ASCII characters: the one at {place} is not")
    return text


def _is_texts(value: Any) -> bool:
    """A list which, in parts, could be one value or many."""
    return isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)


def _is_file(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_is_file, value))
    return isinstance(value, (Path, bytes)) or (isinstance(value, str) and len(value) > _MAX_TEXT_LETTERS)


def _parts(name: str, value: Any, is_json: bool) -> List[Part]:
    """One part; of a list of texts and files one for each, unless the parameter is JSON."""
    if isinstance(value, Path):
        return [Part(name, value, value.name)]
    if isinstance(value, bytes):
        return [Part(name, value, name)]
    if isinstance(value, (list, tuple)) and all(isinstance(item, (str, Path, bytes)) for item in value):
        if not (is_json and _is_texts(value)):
            return [part for item in value for part in _parts(name, item, is_json)]
    text = value if isinstance(value, str) else json.dumps(value)
    return [Part(name, text, name if len(text) > _MAX_TEXT_LETTERS else None)]
