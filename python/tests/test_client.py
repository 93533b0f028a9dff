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

import pytest
from serving import Server

import onelane
from onelane import AsyncClient, BadInput, Client, JobCancelled, JobFailed, JobView, NoServer, NotFound
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
    job = client.submit("count", sequence="MKV", seconds=1)
    lines = client.logs(job, "stdout", follow=True)
    assert next(lines) == "counting 3 letters\n"
    assert not client.get(job).ended
    rest = list(lines)
    assert rest == [f"step {n + 1}\n" for n in range(len(rest))] and rest
    assert list(client.logs(job, "stdout")) == ["counting 3 letters\n", *rest]


def test_progress_is_shown(client: Client, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    client.run("count", sequence="MKV", seconds=0.2, progress=True, timeout=DEADLINE_S)
    assert "100% |" in capsys.readouterr().err
    monkeypatch.setitem(__import__("sys").modules, "tqdm.auto", None)
    client.run("count", sequence="MKV", seconds=0.2, progress=True, timeout=DEADLINE_S)
    assert capsys.readouterr().err.endswith("count succeeded\n")


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


def test_unknown_fields_are_kept_and_missing_ones_have_defaults() -> None:
    job = read(JobView, {"id": "j", "eta": {"p50": "2026-01-31T12:00:00.000Z"}, "new": 1, "failure": None})
    assert job.raw["new"] == 1 and job.failure is None and job.eta is not None and job.eta.p50 is not None
    assert job.eta.p50.isoformat() == "2026-01-31T12:00:00+00:00"


def test_a_server_can_not_write_outside_of_the_folder() -> None:
    from onelane.client._core import _harmless

    for path in ("../x", "/etc/x", "a/../../x"):
        with pytest.raises(onelane.OnelaneError):
            _harmless(path)
