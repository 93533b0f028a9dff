"""Python functions in the real server."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import httpx
import pytest
from serving import ROOT, Server, binary

from onelane import BadInput, Client, JobCancelled, JobFailed, JobView

HERE = Path(__file__).parent
DEADLINE_S = 120
Serve = Callable[[str], Client]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts `python -m onelane serve`, and gives a client of it."""
    servers: List[Server] = []
    clients: List[Client] = []

    def start(spec: str) -> Client:
        command = [sys.executable, "-m", "onelane", "serve", spec, "--data", str(tmp_path / str(len(servers)))]
        servers.append(Server(tmp_path, command=command, cwd=HERE))
        clients.append(Client(servers[-1].url))
        clients[-1].server = servers[-1]  # type: ignore[attr-defined]
        return clients[-1]

    yield start
    for client, server in zip(clients, servers):
        client.close()
        server.stop()


def test_the_tools_file_is_what_the_server_wants(tmp_path: Path) -> None:
    described = subprocess.run(
        [sys.executable, "-m", "onelane", "describe", "sample_tools.py"], capture_output=True, text=True, check=True, cwd=HERE
    )
    (tmp_path / "onelane.toml").write_text(described.stdout)
    checked = subprocess.run([binary(), "config", "check", str(tmp_path / "onelane.toml")], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr + checked.stdout


def test_every_kind_of_parameter_arrives(serve: Serve, tmp_path: Path) -> None:
    client = serve("sample_tools.py")
    (tmp_path / "t.txt").write_text("x")
    fasta = ">a\nMKVLAAGG\n"
    given = client.result(client.run("everything", sequence=fasta, content=fasta, timeout=DEADLINE_S))
    assert given["content"] == ["str", fasta]
    assert given["mode"] == ["Mode", "Mode.FAST"] and given["chain"] == ["str", "A"]
    assert given["reads"] == given["table"] == given["chains"] == given["extra"] == ["NoneType", "None"]
    assert (given["steps"], given["ratio"], given["fast"]) == (["int", "3"], ["float", "1.0"], ["bool", "False"])
    params: Dict[str, Any] = {
        "sequence": fasta,
        "content": fasta,
        "reads": "@r\nACGT\n+\nIIII\n",
        "text": "xyz",
        "steps": 9,
        "ratio": 0.5,
        "fast": True,
        "mode": "EXACT",
        "chain": "B",
        "chains": ["B", "A"],
        "table": tmp_path / "t.txt",
        "tables": [tmp_path / "t.txt", b"y"],
        "extra": {"deep": [1, None, "x"]},
    }
    given = client.result(client.run("everything", params, timeout=DEADLINE_S))
    assert given["mode"] == ["Mode", "Mode.EXACT"] and given["chains"] == ["list", "['B', 'A']"]
    assert given["extra"] == ["dict", "{'deep': [1, None, 'x']}"]
    assert Path(given["sequence"][1]).name.startswith("sequence") and given["fast"] == ["bool", "True"]
    with pytest.raises(BadInput) as caught:
        client.submit("everything", sequence=fasta, content=fasta, steps=10, text="ABC", chain="C")
    assert {error.param for error in caught.value.errors} == {"steps", "text", "chain"}


def test_a_model_is_loaded_once_and_each_job_has_its_own_log(serve: Serve) -> None:
    client = serve("sample_tools.py:Model")
    jobs = [client.submit("model", n=n) for n in range(20)]
    results = [client.result(client.wait(job, DEADLINE_S)) for job in jobs]
    assert [result[:3] for result in results] == [[1, n + 1, n] for n in range(20)]
    assert len({result[3] for result in results}) == 1


def test_a_text_may_be_longer_than_an_argument_of_a_command(serve: Serve, tmp_path: Path) -> None:
    tool = tmp_path / "gc.py"
    tool.write_text(
        "import onelane\n"
        "@onelane.tool\n"
        "def gc_content(sequence: str) -> float:\n"
        "    return sum(letter in 'GC' for letter in sequence) / len(sequence)\n"
    )
    client = serve(str(tool))
    for sequence in ["GA" * 10_000, "G" * 100_000]:
        job = client.run("gc_content", sequence=sequence, timeout=DEADLINE_S)
        assert client.result(job) == sequence.count("G") / len(sequence)
    with pytest.raises(BadInput, match="at most 100000"):
        client.run("gc_content", sequence="G" * 100_001)


def test_logs_and_files_of_a_function(serve: Serve) -> None:
    client = serve("sample_tools.py:steps")
    job = client.run("steps", n=4, timeout=DEADLINE_S)
    assert list(client.logs(job, "stdout")) == ["begin\n"]
    assert sorted(client.logs(job)) == ["a line\n", "end\n"]
    assert [file.path for file in client.files(job)] == ["model.pdb"]
    assert client.result(job) is None


def test_a_function_that_fails_says_why(serve: Serve) -> None:
    client = serve("sample_tools.py:fails")
    for _ in range(2):
        with pytest.raises(JobFailed, match="ValueError: no such chain: B") as caught:
            client.run("fails", timeout=DEADLINE_S)
    with pytest.raises(JobFailed, match="no such chain: B"):
        client.result(caught.value.job)
    log = "".join(client.logs(caught.value.job))
    assert log.count("Traceback") == 1 and 'raise ValueError("no such chain: B")' in log


@pytest.mark.parametrize("how", ["sleep", "loop", "child", "progress"])
def test_a_cancelled_function_leaves_the_process_usable(serve: Serve, how: str) -> None:
    client = serve("sample_tools.py:sleeps")
    client.run("sleeps", how="none", timeout=DEADLINE_S)

    def cancel(job: JobView) -> None:
        has_begun = job.progress is not None if how == "progress" else "ready\n" in client.logs(job)
        if job.state == "running" and has_begun:
            client.cancel(job)

    with pytest.raises(JobCancelled) as caught:
        client.run("sleeps", how=how, timeout=DEADLINE_S, progress=cancel)
    assert "".join(client.logs(caught.value.job, "stdout")) == "cleaned up\n"
    # The same process, which would have been ended after its grace time of ten seconds.
    assert client.run("sleeps", how="none", timeout=DEADLINE_S).state == "succeeded"


def test_a_function_outlives_its_server(serve: Serve, tmp_path: Path) -> None:
    tool = tmp_path / "slow.py"
    tool.write_text(
        "import os, time, pathlib, onelane\n"
        "@onelane.tool\n"
        "def slow(go: str) -> int:\n"
        "    print('ready')\n"
        "    while not pathlib.Path(go).exists():\n"
        "        time.sleep(0.05)\n"
        "    return os.getpid()\n"
    )
    client = serve(str(tool))
    go = tmp_path / "go"
    job = client.submit("slow", go=str(go))
    assert next(client.logs(job, "stdout", follow=True)) == "ready\n"
    server: Server = client.server  # type: ignore[attr-defined]
    server.kill()
    go.touch()
    server.start()
    job = client.wait(job, DEADLINE_S)
    assert (job.state, job.attempt) == ("succeeded", 1)
    # And is there for the next one.
    again = client.run("slow", go=str(go), timeout=DEADLINE_S)
    assert client.result(again) == client.result(job)


def test_a_crash_costs_one_job_and_the_next_one_runs(serve: Serve) -> None:
    client = serve("sample_tools.py:crashes")
    for _ in range(2):
        with pytest.raises(JobFailed) as caught:
            client.run("crashes", timeout=DEADLINE_S)
        assert caught.value.job.exit_code == 7


def test_what_can_not_be_imported_is_in_the_log_of_the_job(serve: Serve, tmp_path: Path) -> None:
    tool = tmp_path / "late.py"
    tool.write_text("import onelane\n@onelane.tool\ndef late() -> None: ...\n")
    client = serve(str(tool))
    tool.write_text("import no_such_module\n")
    with pytest.raises(JobFailed) as caught:
        client.run("late", timeout=DEADLINE_S)
    failure = caught.value.job.failure
    assert failure is not None and failure.kind == "start_failed"
    assert "No module named 'no_such_module'" in "".join(client.logs(caught.value.job))


def test_the_query_of_the_fastapi_example_is_a_function(serve: Serve, tmp_path: Path) -> None:
    client = serve(str(ROOT / "examples/python-function/query.py"))
    found = importlib.util.spec_from_file_location("fastapi_query", ROOT / "examples/fastapi/query.py")
    assert found is not None and found.loader is not None
    original = importlib.util.module_from_spec(found)
    found.loader.exec_module(original)
    original.run("mine", "MKVL", str(tmp_path))
    # By the interface that its clients know,
    answer = httpx.post(client.url, data={"query_name": "mine", "query_sequence": "MKVL"}).json()
    job = client.wait(answer["Query ID"], DEADLINE_S)
    (old,) = client.download(job, tmp_path / "old")
    # and as its README shows it.
    job = client.run("query", query_name="mine", query_sequence="MKVL", progress=True, timeout=DEADLINE_S)
    (new,) = client.download(job, tmp_path / "new")
    assert old.read_text() == new.read_text() == (tmp_path / "answer.txt").read_text()
