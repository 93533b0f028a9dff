"""The client that waits."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Any, Iterable, Iterator, List, Mapping, Optional, Type, TypeVar, Union

import httpx

from onelane.client._core import Core, Filter, SubmitOptions, job_id
from onelane.client._effects import Answer, Effect, Emit, Open, Read, Request, Send, Sleep, Steps
from onelane.client._meter import ProgressOption, meter
from onelane.client._model import JobView, ResultFile, ToolView
from onelane.client._transport import build, http_options, lost

T = TypeVar("T")
JobLike = Union[str, JobView]


class Client:
    """An Onelane server, for code that waits.

    ``url`` is, if not given, ``$ONELANE_URL`` or ``http://127.0.0.1:8000``; ``token`` is ``$ONELANE_TOKEN`` or none.
    Lost connections, full queues and restarts of the server are waited out for ``retry_for`` seconds; only when nobody
    listens at the very first question, `NoServer` is raised at once.

    >>> with Client(url) as client:
    ...     job = client.run("count", sequence="MKVLA")
    ...     print(job.state, client.result(job))
    succeeded {'letters': 5}
    """

    def __init__(self, url: Optional[str] = None, token: Optional[str] = None, *, retry_for: float = 600.0) -> None:
        self._core = Core(url, token, retry_for)
        self._http = httpx.Client(**http_options(self._core))

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections; a ``with`` does so too."""
        self._http.close()

    @property
    def url(self) -> str:
        """The server's address."""
        return self._core.url

    def submit(
        self,
        tool: str,
        params: Optional[Mapping[str, Any]] = None,
        /,
        *,
        name: Optional[str] = None,
        tags: Iterable[str] = (),
        priority: int = 0,
        after: Iterable[JobLike] = (),
        fresh: bool = False,
        key: Optional[str] = None,
        **more_params: Any,
    ) -> JobView:
        """Submits a job and gives it back as it waits.

        Parameters are given by name, or as a mapping. A ``Path`` sends the file, a ``str`` is the text itself (also of a
        sequence); ``None`` is as good as left out. ``key`` is the idempotency key: the same key gives the same job.

        >>> job = client.submit("count", sequence=">a\\nMKV\\n", tags=["example"])
        >>> job.tool, job.tags
        ('count', ['example'])
        """
        options = SubmitOptions(name, tags, priority, after, fresh, key)
        return self._do(self._core.submit(tool, {**(params or {}), **more_params}, options))

    def run(
        self,
        tool: str,
        params: Optional[Mapping[str, Any]] = None,
        /,
        *,
        progress: ProgressOption = False,
        timeout: Optional[float] = None,
        name: Optional[str] = None,
        tags: Iterable[str] = (),
        priority: int = 0,
        after: Iterable[JobLike] = (),
        fresh: bool = False,
        key: Optional[str] = None,
        **more_params: Any,
    ) -> JobView:
        """Submits a job and waits for it. A job that failed is a `JobFailed`, with the server's sentence.

        ``progress=True`` shows a bar (with tqdm, also in notebooks); a function is called with each news of the job.

        >>> client.run("count", sequence="MKV*", timeout=60)
        Traceback (most recent call last):
        ...
        onelane.JobFailed: exit code 3: found a stop in the sequence
        """
        options = SubmitOptions(name, tags, priority, after, fresh, key)
        return self._do(self._core.run(tool, {**(params or {}), **more_params}, options, timeout, meter(progress)))

    def get(self, job: JobLike) -> JobView:
        """A job as it is now, by its id, a unique end of it, or ``"last"``.

        >>> client.get("last").id == client.get(client.get("last")).id
        True
        """
        return self._do(self._core.get(job_id(job)))

    def wait(self, job: JobLike, timeout: Optional[float] = None, *, progress: ProgressOption = False) -> JobView:
        """Waits for the job's end, good or bad; after ``timeout`` seconds it is a ``TimeoutError``.

        >>> client.wait(client.submit("count", sequence="MKV")).ended
        True
        """
        return self._do(self._core.wait(job_id(job), timeout, meter(progress)))

    def list(
        self,
        *,
        state: Filter = None,
        tool: Filter = None,
        tag: Filter = None,
        name: Filter = None,
        owner: Filter = None,
        limit: Optional[int] = None,
    ) -> Iterator[JobView]:
        """Jobs, newest first; further pages are asked for as they are needed.

        >>> [job.state for job in client.list(tool="count", state="succeeded", limit=1)]
        ['succeeded']
        """
        filters = {"state": state, "tool": tool, "tag": tag, "name": name, "owner": owner}
        return self._each(self._core.jobs(filters, limit))

    def cancel(self, job: JobLike) -> JobView:
        """Cancels a job; one that has ended stays as it is.

        >>> client.cancel("last").ended
        True
        """
        return self._do(self._core.cancel(job_id(job)))

    def delete(self, job: JobLike, *, cancel: bool = False) -> None:
        """Deletes an ended job with all its files; with ``cancel`` also one that has not ended, after cancelling it.

        >>> job = client.run("count", sequence="MKV")
        >>> client.delete(job)
        >>> job.id in [other.id for other in client.list()]
        False
        """
        self._do(self._core.delete(job_id(job), cancel))

    def logs(self, job: JobLike, stream: str = "stderr", *, follow: bool = False) -> Iterator[str]:
        """Lines of what the job wrote; with ``follow`` as they come, until it ends.

        A lost connection is taken up where it stopped.

        >>> list(client.logs(client.run("count", sequence="MKV"), "stdout", follow=True))
        ['counting 3 letters\\n']
        """
        return self._each(self._core.logs(job_id(job), stream, follow))

    def files(self, job: JobLike) -> List[ResultFile]:
        """What results an ended job has.

        >>> [file.path for file in client.files(client.run("count", sequence="MKV"))]
        ['letters.txt', 'result.json']
        """
        return self._do(self._core.files(job_id(job)))

    def result(self, job: JobLike) -> Any:
        """What a Python function returned: the value in ``result.json``, or ``None`` if there is none. Of a job that has
        none as it failed it is a `JobFailed`."""
        return self._do(self._core.result(job_id(job)))

    def download(self, job: JobLike, folder: Union[str, Path], paths: Filter = None) -> List[Path]:
        """Fetches the results, or those of these paths, into a folder. A file is there whole or not at all.

        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> for path in client.download(client.run("count", sequence="MKV"), folder, "letters.txt"):
        ...     print(path.read_text())
        MKV
        """
        return self._do(self._core.download(job_id(job), Path(folder), paths))

    def tools(self) -> List[ToolView]:
        """What the server can do.

        >>> {tool.name: sorted(tool.params["properties"]) for tool in client.tools()}["count"]
        ['seconds', 'sequence']
        """
        return self._do(self._core.tools())

    # The driver

    def _do(self, steps: Steps[T]) -> T:
        driver = _Driver(self._http, steps)
        try:
            for _ in driver.drive():
                pass
        finally:
            driver.close()
        return driver.result  # type: ignore[no-any-return]

    def _each(self, steps: Steps[None]) -> Iterator[Any]:
        driver = _Driver(self._http, steps)
        try:
            yield from driver.drive()
        finally:
            driver.close()


class _Driver:
    def __init__(self, http: httpx.Client, steps: Steps[Any]) -> None:
        self._http = http
        self._steps = steps
        self._opened: Optional[httpx.Response] = None
        self._chunks: Iterator[bytes] = iter(())
        self.result: Any = None

    def drive(self) -> Iterator[Any]:
        """Performs the effects, and gives what is emitted."""
        steps = self._steps
        try:
            effect = next(steps)
            while True:
                if isinstance(effect, Emit):
                    yield effect.item
                    effect = next(steps)
                    continue
                try:
                    answer = self._perform(effect)
                except httpx.TransportError as error:
                    effect = steps.throw(lost(error))
                else:
                    effect = steps.send(answer)
        except StopIteration as end:
            self.result = end.value

    def close(self) -> None:
        """However it ended: what the steps have begun is cleaned up now, not when somebody collects garbage."""
        try:
            self._steps.close()
        finally:
            self._hang_up()

    def _hang_up(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _perform(self, effect: Effect) -> Any:
        if isinstance(effect, Sleep):
            return time.sleep(effect.seconds)
        if isinstance(effect, Read):
            return next(self._chunks, None)
        assert isinstance(effect, (Send, Open))
        return self._send(effect.request, is_stream=isinstance(effect, Open))

    def _send(self, request: Request, is_stream: bool) -> Answer:
        self._hang_up()
        with request.body() as body:
            answer = self._http.send(build(self._http, request, body), stream=True)
        self._opened = answer
        if is_stream and answer.is_success:
            self._chunks = answer.iter_bytes()
            return Answer(answer.status_code, answer.headers, b"")
        answer.read()
        self._hang_up()
        return Answer(answer.status_code, answer.headers, answer.content)
