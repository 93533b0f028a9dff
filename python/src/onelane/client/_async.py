"""The client that awaits."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import TracebackType
from typing import Any, AsyncIterator, Iterable, List, Mapping, Optional, Type, TypeVar, Union

import httpx

from onelane.client._core import Core, Filter, SubmitOptions, job_id
from onelane.client._effects import Answer, Effect, Emit, Open, Read, Request, Send, Sleep, Steps
from onelane.client._meter import ProgressOption, meter
from onelane.client._model import JobView, ResultFile, ToolView
from onelane.client._transport import build, http_options, lost

T = TypeVar("T")
JobLike = Union[str, JobView]


class AsyncClient:
    """As `Client`, for code that awaits: the same methods, where ``list`` and ``logs`` are for ``async for``.

    >>> import asyncio
    >>> async def main():
    ...     async with AsyncClient(url) as client:
    ...         jobs = [client.run("count", sequence="MKV" * n) for n in range(1, 4)]
    ...         return [await client.result(job) for job in await asyncio.gather(*jobs)]
    >>> asyncio.run(main())
    [{'letters': 3}, {'letters': 6}, {'letters': 9}]
    """

    def __init__(self, url: Optional[str] = None, token: Optional[str] = None, *, retry_for: float = 600.0) -> None:
        self._core = Core(url, token, retry_for)
        self._http = httpx.AsyncClient(**http_options(self._core))

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections; a ``with`` does so too."""
        await self._http.aclose()

    @property
    def url(self) -> str:
        """The server's address."""
        return self._core.url

    async def submit(
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
        """As `Client.submit`."""
        options = SubmitOptions(name, tags, priority, after, fresh, key)
        return await self._do(self._core.submit(tool, {**(params or {}), **more_params}, options))

    async def run(
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
        """As `Client.run`."""
        options = SubmitOptions(name, tags, priority, after, fresh, key)
        return await self._do(self._core.run(tool, {**(params or {}), **more_params}, options, timeout, meter(progress)))

    async def get(self, job: JobLike) -> JobView:
        """As `Client.get`."""
        return await self._do(self._core.get(job_id(job)))

    async def wait(self, job: JobLike, timeout: Optional[float] = None, *, progress: ProgressOption = False) -> JobView:
        """As `Client.wait`."""
        return await self._do(self._core.wait(job_id(job), timeout, meter(progress)))

    def list(
        self,
        *,
        state: Filter = None,
        tool: Filter = None,
        tag: Filter = None,
        name: Filter = None,
        owner: Filter = None,
        limit: Optional[int] = None,
    ) -> AsyncIterator[JobView]:
        """As `Client.list`."""
        filters = {"state": state, "tool": tool, "tag": tag, "name": name, "owner": owner}
        return self._each(self._core.jobs(filters, limit))

    async def cancel(self, job: JobLike) -> JobView:
        """As `Client.cancel`."""
        return await self._do(self._core.cancel(job_id(job)))

    async def delete(self, job: JobLike, *, cancel: bool = False) -> None:
        """As `Client.delete`."""
        await self._do(self._core.delete(job_id(job), cancel))

    def logs(self, job: JobLike, stream: str = "stderr", *, follow: bool = False) -> AsyncIterator[str]:
        """As `Client.logs`."""
        return self._each(self._core.logs(job_id(job), stream, follow))

    async def files(self, job: JobLike) -> List[ResultFile]:
        """As `Client.files`."""
        return await self._do(self._core.files(job_id(job)))

    async def result(self, job: JobLike) -> Any:
        """As `Client.result`."""
        return await self._do(self._core.result(job_id(job)))

    async def download(self, job: JobLike, folder: Union[str, Path], paths: Filter = None) -> List[Path]:
        """As `Client.download`."""
        return await self._do(self._core.download(job_id(job), Path(folder), paths))

    async def tools(self) -> List[ToolView]:
        """As `Client.tools`."""
        return await self._do(self._core.tools())

    # The driver

    async def _do(self, steps: Steps[T]) -> T:
        driver = _Driver(self._http, steps)
        try:
            async for _ in driver.drive():
                pass
        finally:
            await driver.close()
        return driver.result  # type: ignore[no-any-return]

    async def _each(self, steps: Steps[None]) -> AsyncIterator[Any]:
        driver = _Driver(self._http, steps)
        try:
            async for item in driver.drive():
                yield item
        finally:
            await driver.close()


class _Driver:
    def __init__(self, http: httpx.AsyncClient, steps: Steps[Any]) -> None:
        self._http = http
        self._steps = steps
        self._opened: Optional[httpx.Response] = None
        self._chunks: Optional[AsyncIterator[bytes]] = None
        self.result: Any = None

    async def drive(self) -> AsyncIterator[Any]:
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
                    answer = await self._perform(effect)
                except httpx.TransportError as error:
                    effect = steps.throw(lost(error))
                else:
                    effect = steps.send(answer)
        except StopIteration as end:
            self.result = end.value

    async def close(self) -> None:
        """However it ended: what the steps have begun is cleaned up now, not when somebody collects garbage."""
        try:
            self._steps.close()
        finally:
            await self._hang_up()

    async def _hang_up(self) -> None:
        if self._opened is not None:
            await self._opened.aclose()
            self._opened = None

    async def _perform(self, effect: Effect) -> Any:
        if isinstance(effect, Sleep):
            return await asyncio.sleep(effect.seconds)
        if isinstance(effect, Read):
            assert self._chunks is not None
            return await _next(self._chunks)
        assert isinstance(effect, (Send, Open))
        return await self._send(effect.request, is_stream=isinstance(effect, Open))

    async def _send(self, request: Request, is_stream: bool) -> Answer:
        await self._hang_up()
        with request.body() as body:
            answer = await self._http.send(build(self._http, request, body), stream=True)
        self._opened = answer
        if is_stream and answer.is_success:
            self._chunks = answer.aiter_bytes()
            return Answer(answer.status_code, answer.headers, b"")
        await answer.aread()
        await self._hang_up()
        return Answer(answer.status_code, answer.headers, answer.content)


async def _next(chunks: AsyncIterator[bytes]) -> Optional[bytes]:
    try:
        return await chunks.__anext__()
    except StopAsyncIteration:
        return None
