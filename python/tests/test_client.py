"""The client against the real server."""

from __future__ import annotations

import asyncio
import doctest
import hashlib
import importlib
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import httpx
import pytest
from serving import Server

import onelane
from onelane import (
    AsyncClient,
    BadInput,
    Client,
    JobCancelled,
    JobFailed,
    JobView,
    NoServer,
    NotFound,
    OnelaneError,
    Refused,
)
from onelane.client import _async, _sync
from onelane.client._effects import Read
from onelane.client._meter import Meter
from onelane.client._model import read

DEADLINE_S = 120


@pytest.mark.parametrize("module", ["onelane._tool", "onelane.client._sync", "onelane.client._async"])
def test_the_examples_in_docstrings_run(server: Server, module: str) -> None:
    with Client(server.url) as client:
        globs: Dict[str, Any] = {"url": server.url, "client": client, "AsyncClient": AsyncClient}
        client.run("count", sequence="MKV")
        loaded = importlib.import_module(module)
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
        for test in doctest.DocTestFinder(exclude_empty=True).find(loaded, extraglobs=globs):
            runner.run(test)
    assert runner.tries > 0 and runner.failures == 0


def test_a_job_comes_back_typed(client: Client) -> None:
    job = client.run("count", sequence=">a\nMKV\n", name="mine", tags=["x"], priority=3, timeout=DEADLINE_S)
    assert (job.state, job.name, job.tags, job.priority, job.exit_code) == ("succeeded", "mine", ["x"], 3, 0)
    assert job.created_at and job.started_at and job.finished_at and job.created_at <= job.finished_at
    assert job.usage is not None and job.usage.memory_peak_bytes > 0
    assert client.result(job) == {"letters": 3}
    assert client.get(job.id) == job


def test_bad_input_says_where(client: Client) -> None:
    with pytest.raises(BadInput) as caught:
        client.submit("count", sequence=">a\nMKV\n>b\nMK!V\n", seconds="soon")
    errors = {error.param: error for error in caught.value.errors}
    assert caught.value.code == "bad_input" and caught.value.status == 422
    assert (errors["sequence"].record, errors["sequence"].line, errors["sequence"].column) == (2, 4, 3)
    assert "sequence, record 2, line 4, column 3" in str(caught.value)
    assert "seconds" in errors


def test_what_is_not_there_is_not_found(client: Client) -> None:
    with pytest.raises(NotFound):
        client.submit("no_such_tool")
    for job in ("ffffffff-ffff-7fff-8fff-ffffffffffff", "a/../b"):
        with pytest.raises((NotFound, BadInput)):
            client.get(job)


def test_files_texts_lists_and_values_arrive(client: Client, tmp_path: Path) -> None:
    odd = tmp_path / 'odd "name" é;.txt'
    odd.write_bytes(b"one\n")
    job = client.run("join", files=[odd, b"two\n"], words="three\n", extra={"a": [1, None]}, loud=True, number=7, timeout=DEADLINE_S)
    (path,) = client.download(job, tmp_path / "out")
    assert path.read_bytes() == b'one\ntwo\nthree\n{"a": [1, null]}'
    assert (job.params["loud"], job.params["number"]) == (True, 7)
    (file,) = client.files(job)
    assert (file.path, file.size_bytes) == ("joined", path.stat().st_size)
    assert not [name for name in (tmp_path / "out").iterdir() if name.name.endswith(".part")]


@pytest.mark.parametrize("extra", [["a", "b"], [], ["only"], [1, "x"], ["x" * (2 << 20)]])
@pytest.mark.parametrize("with_file", [False, True])
def test_a_list_is_the_same_with_a_file_beside_it(client: Client, tmp_path: Path, extra: List[Any], with_file: bool) -> None:
    words: Any = Path(__file__) if with_file else Path(__file__).read_text()
    job = client.run("join", files=["one", "two"], words=words, extra=extra, colours=["green", "red"], timeout=DEADLINE_S)
    (path,) = client.download(job, tmp_path)
    text = path.read_text()
    assert text.startswith("onetwo")
    assert json.loads(text[len("onetwo" + Path(__file__).read_text()) :]) == extra
    assert job.params["colours"] == ["green", "red"]
    # For a list of choices or files an empty one is none, in JSON too.
    job = client.submit("join", files=["one"], words=words, colours=[])
    assert "colours" not in job.params
    with pytest.raises(BadInput, match="files"):
        client.submit("join", files=[], words=words)
    with pytest.raises(NotFound):
        client.submit("no_such_tool", files=["one"], words=words)


def test_a_large_file_and_a_long_text_are_streamed(client: Client, tmp_path: Path) -> None:
    content = b"0123456789abcdef" * (1 << 20)
    (tmp_path / "large").write_bytes(content)
    text = "x" * (5 << 20)
    job = client.run("join", files=[tmp_path / "large"], words=text, timeout=DEADLINE_S)
    (path,) = client.download(job, tmp_path / "out")
    assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(content + text.encode() + b"{}").digest()


def test_failure_and_cancellation_are_exceptions_of_run(client: Client) -> None:
    with pytest.raises(JobFailed, match="found a stop") as failed:
        client.run("count", sequence="MKV*", timeout=DEADLINE_S)
    assert failed.value.job.failure and failed.value.job.failure.code == 3

    def cancel(job: JobView) -> None:
        if job.state == "running":
            client.cancel(job)

    with pytest.raises(JobCancelled):
        client.run("count", sequence="MKV", seconds=600, timeout=DEADLINE_S, progress=cancel)


def test_waiting_can_end_before_the_job(client: Client) -> None:
    job = client.submit("count", sequence="MKV", seconds=600)
    with pytest.raises(TimeoutError):
        client.wait(job, timeout=0.1)
    client.cancel(job)
    assert client.wait(job, timeout=DEADLINE_S).state == "cancelled"


def test_a_job_that_has_not_ended_is_deleted_only_if_it_may_be_cancelled(client: Client) -> None:
    job = client.submit("count", sequence="MKV", seconds=600)
    with pytest.raises(Refused, match="has not ended"):
        client.delete(job)
    client.delete(job, cancel=True)
    with pytest.raises(NotFound):
        client.delete(job)


@pytest.mark.parametrize("trouble", ["kill", "pause"])
def test_a_timeout_holds_while_the_server_is_away(tmp_path: Path, trouble: str) -> None:
    server = Server(tmp_path)
    try:
        with Client(server.url, retry_for=10 * DEADLINE_S) as client:
            job = client.submit("count", sequence="MKV", seconds=600)
            getattr(server, trouble)()
            # Waited out, these would take longer than the test may.
            with pytest.raises(TimeoutError, match="after 0.5 s"):
                client.wait(job, timeout=0.5)
            if trouble == "kill":
                with pytest.raises(TimeoutError, match="after 0.5 s"):
                    client.run("count", sequence="MKV", timeout=0.5)
                with Client(server.url) as other, pytest.raises(NoServer):
                    other.wait(job, timeout=DEADLINE_S)
    finally:
        server.kill()
        server.start()
        with Client(server.url) as client:
            client.cancel("last")
            client.wait("last", DEADLINE_S)
        server.stop()


def test_what_no_header_can_say_is_refused_without_repeating_it(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for token in ("sec\nret", "sécret", "sec\x7fret"):
        with pytest.raises(ValueError, match="the token must be of printable ASCII") as caught:
            Client(server.url, token)
        assert token not in str(caught.value) and "ret" not in str(caught.value)
    monkeypatch.setenv("ONELANE_TOKEN", "secret\n")
    with Client(server.url) as client:
        assert client.submit("count", sequence="M").tool == "count"
        for key in ("a\nb", "é"):
            with pytest.raises(ValueError, match="the key must be of printable ASCII"):
                client.submit("count", sequence="M", key=key)
        # And what else is wrong with a request is no lost connection.
        client._core.headers["authorization"] = client._http.headers["authorization"] = "Bearer a\nb"
        with pytest.raises(httpx.LocalProtocolError):
            client.tools()


def test_lists_go_over_pages(client: Client) -> None:
    ids = [client.submit("count", sequence="M", tags=["pages"]).id for _ in range(105)]
    assert [job.id for job in client.list(tag="pages")] == ids[::-1]
    assert [job.id for job in client.list(tag="pages", limit=3)] == ids[:-4:-1]
    for job in ids:
        client.wait(job, DEADLINE_S)
    assert len(list(client.list(tag="pages", state=["succeeded", "failed"]))) == 105


def test_the_same_key_is_the_same_job(client: Client) -> None:
    jobs = {client.submit("count", sequence="M", key="once").id for _ in range(3)}
    assert len(jobs) == 1


def test_a_log_is_followed_while_it_grows(client: Client) -> None:
    job = client.submit("count", sequence="MKV", seconds=600)
    lines = client.logs(job, "stdout", follow=True)
    assert next(lines) == "counting 3 letters\n"
    rest = [next(lines)]
    assert not client.get(job).ended
    client.cancel(job)
    rest += lines
    assert rest == [f"step {n + 1}\n" for n in range(len(rest))] and rest
    assert list(client.logs(job, "stdout")) == ["counting 3 letters\n", *rest]


def test_progress_is_shown(client: Client, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    client.run("count", sequence="MKV", seconds=0.2, progress=True, timeout=DEADLINE_S)
    assert "100% |" in capsys.readouterr().err
    monkeypatch.setitem(__import__("sys").modules, "tqdm.auto", None)
    client.run("count", sequence="MKV", seconds=0.2, progress=True, timeout=DEADLINE_S)
    assert capsys.readouterr().err.endswith("count succeeded\n")


def test_what_was_begun_is_cleaned_up_at_once(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "large").write_bytes(b"0123456789abcdef" * (1 << 20))
    job = client.run("join", files=[tmp_path / "large"], words="x", timeout=DEADLINE_S)
    begun: List[Path] = []
    performed, awaited = _sync._Driver._perform, _async._Driver._perform

    def interrupted(driver: Any, effect: Any) -> Any:
        if isinstance(effect, Read):
            begun.extend((tmp_path / "out").glob(".*.part"))
            raise KeyboardInterrupt
        return performed(driver, effect)

    async def endless(driver: Any, effect: Any) -> Any:
        if isinstance(effect, Read):
            begun.extend((tmp_path / "out").glob(".*.part"))
            await asyncio.Event().wait()
        return await awaited(driver, effect)

    async def cancelled() -> None:
        async with AsyncClient(client.url) as other:
            download = asyncio.ensure_future(other.download(job, tmp_path / "out"))
            while not begun:
                await asyncio.sleep(0.01)
            download.cancel()
            with pytest.raises(asyncio.CancelledError) as kept:
                await download
            assert not begun[0].exists() and kept.tb

    monkeypatch.setattr(_sync._Driver, "_perform", interrupted)
    monkeypatch.setattr(_async._Driver, "_perform", endless)
    # Who keeps the traceback keeps its frames, and all that they hold.
    with pytest.raises(KeyboardInterrupt) as kept:
        client.download(job, tmp_path / "out")
    assert len(begun) == 1 and not begun[0].exists() and kept.tb
    begun.clear()
    asyncio.run(cancelled())
    assert not list((tmp_path / "out").iterdir())


def test_a_bar_ends_with_what_it_shows(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: List[Meter] = []
    monkeypatch.setattr(Meter, "close", lambda meter: closed.append(meter))
    with pytest.raises(BadInput):
        client.run("count")
    assert closed
    job = client.run("count", sequence="M", timeout=DEADLINE_S)
    closed.clear()

    def interrupted(driver: Any, effect: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(_sync._Driver, "_perform", interrupted)
    with pytest.raises(KeyboardInterrupt) as kept:
        client.wait(job)
    assert closed and kept.tb


def test_async_does_the_same(server: Server, tmp_path: Path) -> None:
    async def main() -> Tuple[List[int], List[str], List[str], List[Path]]:
        async with AsyncClient(server.url) as client:
            jobs = await asyncio.gather(
                *(client.run("count", sequence="M" * n, tags=["async"], timeout=DEADLINE_S) for n in range(1, 6))
            )
            counts = [(await client.result(job))["letters"] for job in jobs]
            listed = [job.id async for job in client.list(tag="async")]
            lines = [line async for line in client.logs(jobs[0], "stdout", follow=True)]
            with pytest.raises(BadInput):
                await client.submit("count")
            with pytest.raises(JobFailed):
                await client.run("count", sequence="*MKV")
            job = await client.submit("join", files=[Path(__file__)], words="x")
            assert (await client.wait(job, DEADLINE_S)).state == "succeeded"
            assert "count" in [tool.name for tool in await client.tools()]
            assert (await client.cancel(job)).state == "succeeded"
            assert len(await client.files(job)) == 1 and (await client.get(job)).ended
            return counts, listed, lines, await client.download(jobs[0], tmp_path)

    counts, listed, lines, paths = asyncio.run(main())
    assert counts == [1, 2, 3, 4, 5] and len(listed) == 5
    assert lines == ["counting 1 letters\n"]
    assert sorted(path.name for path in paths) == ["letters.txt", "result.json"]


def test_a_wrong_address_is_said_at_once() -> None:
    with Client("http://127.0.0.1:1") as client, pytest.raises(NoServer, match="127.0.0.1:1"):
        client.get("last")
    with pytest.raises(ValueError, match="not a server's address"):
        Client("localhost:8000")


def test_a_killed_server_is_waited_for(tmp_path: Path) -> None:
    server = Server(tmp_path)
    try:
        with Client(server.url) as client:
            job = client.submit("count", sequence="MKV", seconds=3)
            lines = client.logs(job, "stdout", follow=True)
            seen = [next(lines)]
            server.kill()
            again = threading.Timer(1.0, server.start)
            again.start()
            # Goes on where it stopped: the job outlived its server.
            seen += list(lines)
            again.join()
            assert seen == ["counting 3 letters\n"] + [f"step {n + 1}\n" for n in range(len(seen) - 1)]
            ended = client.wait(job, DEADLINE_S)
            assert (ended.state, ended.attempt) == ("succeeded", 1)
            server.kill()
            again = threading.Timer(1.0, server.start)
            again.start()
            assert client.run("count", sequence="MK", timeout=DEADLINE_S).state == "succeeded"
            again.join()
    finally:
        server.stop()


class Moody(BaseHTTPRequestHandler):
    """A server in trouble: it answers as `moods` says, one by one."""

    moods: List[Tuple[int, Dict[str, str], bytes]] = []
    keys: List[str] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.keys.append(self.headers["idempotency-key"])
        self.do_GET()

    def do_GET(self) -> None:
        status, headers, body = self.moods.pop(0)
        if status == 0:
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def moody() -> Iterator[str]:
    httpd = HTTPServer(("127.0.0.1", 0), Moody)
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    Moody.keys.clear()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def test_a_submission_is_sent_again_with_the_same_key(moody: str) -> None:
    full = json.dumps({"code": "queue_full", "detail": "the queue is full", "status": 429}).encode()
    Moody.moods = [
        (429, {"retry-after": "0"}, full),
        (0, {}, b""),
        (502, {}, b"<html>bad gateway</html>"),
        (503, {"retry-after": "0"}, b"{}"),
        (201, {}, json.dumps({"id": "j", "state": "queued", "a_later_field": {"x": 1}}).encode()),
    ]
    with Client(moody) as client:
        assert client.submit("count").id == "j"
        assert len(Moody.keys) == 5 and len(set(Moody.keys)) == 1
        Moody.moods = [(429, {"retry-after": "60"}, full)]
        with Client(moody, retry_for=0.5) as hasty, pytest.raises(onelane.QueueFull, match="the queue is full") as caught:
            hasty.submit("count")
        assert caught.value.retry_after_s == 60.0
        Moody.moods = [(500, {}, b"oops")]
        with pytest.raises(onelane.Refused, match="status 500"):
            client.submit("count")
        Moody.moods = [(200, {}, b"<html>hello</html>")]
        with pytest.raises(NoServer, match="not Onelane"):
            client.submit("count")


def test_another_attempt_begins_another_line(moody: str) -> None:
    def view(attempt: int, state: str) -> Tuple[int, Dict[str, str], bytes]:
        return (200, {}, json.dumps({"id": "j", "attempt": attempt, "state": state}).encode())

    Moody.moods = [
        view(1, "running"),
        (200, {}, b"one\nhal"),
        view(1, "running"),
        view(1, "running"),
        (200, {}, "one\nhalf \N{DNA DOUBLE HELIX}".encode()[:-1]),
        view(2, "running"),
        view(2, "running"),
        (200, {}, b"two\nthr"),
        view(2, "running"),
        view(2, "running"),
        (200, {}, b"two\nthree\nend"),
        view(2, "succeeded"),
    ]
    with Client(moody) as client:
        assert list(client.logs("j", follow=True)) == ["one\n", "half \N{REPLACEMENT CHARACTER}\n", "two\n", "three\n", "end"]
    assert not Moody.moods


def test_a_result_that_is_no_json_is_no_missing_server(moody: str) -> None:
    with Client(moody) as client:
        for body in (b"{oops", b'"\xff"'):
            Moody.moods = [(200, {}, body)]
            with pytest.raises(OnelaneError, match="result.json of job j is no JSON") as caught:
                client.result("j")
            assert not isinstance(caught.value, NoServer)


def test_unknown_fields_are_kept_and_missing_ones_have_defaults() -> None:
    job = read(JobView, {"id": "j", "eta": {"p50": "2026-01-31T12:00:00.000Z"}, "new": 1, "failure": None})
    assert job.raw["new"] == 1 and job.failure is None and job.eta is not None and job.eta.p50 is not None
    assert job.eta.p50.isoformat() == "2026-01-31T12:00:00+00:00"


def test_a_server_can_not_write_outside_of_the_folder() -> None:
    from onelane.client._core import _harmless

    for path in ("../x", "/etc/x", "a/../../x"):
        with pytest.raises(onelane.OnelaneError):
            _harmless(path)
