"""The worker against the other side of its protocol: a real process, a real socket."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Callable, Iterator, List

import pytest
from peer import DEADLINE_S, Peer

from onelane._job import Cancelled, Job
from onelane.worker import _INTERRUPT, Interrupter

HERE = Path(__file__).parent
Start = Callable[..., Peer]


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Start]:
    peers: List[Peer] = []

    def start(function: str, file: Path = HERE / "sample_tools.py") -> Peer:
        peer = Peer(tmp_path / str(len(peers)), f"{file}:{function}")
        peers.append(peer)
        return peer

    yield start
    for peer in peers:
        peer.__exit__(None, None, None)


def test_it_says_hello_and_ends_with_bye(worker: Start) -> None:
    peer = worker("everything")
    hello = peer.hello()
    assert (hello["type"], hello["protocol"], hello["version"]) == ("hello", 1, "1.2.0")
    peer.ping()
    assert peer.end() == 0


def test_it_ends_when_nobody_is_there_any_more(worker: Start) -> None:
    idle, busy = worker("steps"), worker("sleeps")
    for peer in (idle, busy):
        peer.hello()
    busy.start(how="sleep")
    assert busy.receive()["text"] == "ready\n"
    for peer in (idle, busy):
        assert peer.socket is not None
        peer.socket.shutdown(2)
        assert peer.process.wait(DEADLINE_S) == 0
    assert busy.stdout.read_text() == "cleaned up\n"


def test_parameters_come_as_what_the_annotations_say(worker: Start, tmp_path: Path) -> None:
    (tmp_path / "q.fasta").write_text(">a\nMKV\n")
    peer = worker("everything")
    peer.hello()
    answer = peer.run(
        sequence=str(tmp_path / "q.fasta"),
        content=str(tmp_path / "q.fasta"),
        text="xyz",
        steps=5,
        ratio=2,
        fast=True,
        mode="EXACT",
        chain="B",
        chains=["A", "B"],
        tables=["/a", "/b"],
        extra={"a": [1]},
    )
    assert answer["type"] == "done", answer
    result = answer["result"]
    assert result["sequence"][1] == str(tmp_path / "q.fasta") and "Path" in result["sequence"][0]
    assert result["content"] == ["str", ">a\nMKV\n"]
    assert result["mode"] == ["Mode", "Mode.EXACT"]
    assert result["ratio"] == ["float", "2.0"]
    assert (result["fast"], result["steps"]) == (["bool", "True"], ["int", "5"])
    assert result["chains"] == ["list", "['A', 'B']"]
    assert result["reads"] == result["table"] == ["NoneType", "None"]
    assert result["extra"] == ["dict", "{'a': [1]}"]
    assert (peer.folder / "job-1/work/scratch").exists()


def test_a_class_is_loaded_once_for_all_jobs(worker: Start) -> None:
    peer = worker("Model")
    peer.hello()
    answers = [peer.run(n=n)["result"] for n in range(200)]
    assert answers == [[1, n + 1, n, peer.process.pid] for n in range(200)]
    assert peer.stdout.read_text() == "loading\n"


def test_a_class_may_be_called_and_a_function_may_be_async(worker: Start) -> None:
    for name in ("Callable", "later"):
        peer = worker(name)
        peer.hello()
        assert peer.run(n=1) == {"type": "done", "result": 2}


def test_progress_logs_and_results_are_told_and_printing_is_flushed(worker: Start) -> None:
    peer = worker("steps")
    peer.hello()
    peer.start(n=4)
    messages = peer.until_end()
    told = [(m["fraction"], m["message"]) for m in messages if m["type"] == "progress"]
    assert told == [(0.0, "step 0"), (0.25, "step 1"), (0.5, "step 2"), (0.75, "step 3")]
    assert {"type": "log", "stream": "stderr", "text": "a line\n"} in messages
    assert {"type": "result", "file": "model.pdb"} in messages
    assert messages[-1] == {"type": "done"}
    # Read after `done`, at once.
    assert (peer.stdout.read_text(), peer.stderr.read_text()) == ("begin\n", "end\n")


def test_a_tight_loop_does_not_flood_the_server_and_the_last_step_is_told(worker: Start) -> None:
    peer = worker("many")
    peer.hello()
    peer.start(n=200_000)
    *steps, end = peer.until_end()
    assert end == {"type": "done"} and steps[0]["message"] == "step 1"
    assert steps[-1] == {"type": "progress", "fraction": 1.0, "message": "step 200000"}
    assert len(steps) < 2000


def test_an_exception_is_the_failure_and_its_traceback_is_printed(worker: Start) -> None:
    peer = worker("fails")
    peer.hello()
    for _ in range(2):
        assert peer.run() == {"type": "fail", "message": "ValueError: no such chain: B"}
    trace = peer.stderr.read_text()
    assert trace.count("Traceback") == 2 and 'raise ValueError("no such chain: B")' in trace
    assert "worker.py" not in trace
    assert peer.stdout.read_text() == "before\n" * 2


def test_sys_exit_fails_the_job_and_not_the_worker(worker: Start) -> None:
    peer = worker("leaves")
    peer.hello()
    assert peer.run(code=3)["message"] == "the function called sys.exit(3)"
    assert peer.run()["type"] == "fail"
    assert peer.run(code="no licence found") == {"type": "fail", "message": "no licence found"}
    peer.ping()


def test_results_become_json_or_a_clear_failure(worker: Start) -> None:
    peer = worker("returns")
    peer.hello()
    assert peer.run(kind="none") == {"type": "done"}
    assert peer.run(kind="point")["result"] == {"points": [{"x": 1, "place": "/a"}], "mode": 2, "set": [1, 2]}
    for kind in ("nan", "object"):
        answer = peer.run(kind=kind)
        assert answer["type"] == "fail" and answer["message"].startswith("the function's result can't be kept as JSON")
    assert peer.run(kind="surrogate")["type"] in ("done", "fail")
    job = peer.start(kind="large")
    assert peer.until_end() == [{"type": "result", "file": "result.json"}, {"type": "done"}]
    assert len(json.loads((job / "output/result.json").read_text())) == 20 << 20


@pytest.mark.parametrize("how", ["sleep", "loop", "progress", "child", "except"])
def test_cancel_breaks_into_the_function_and_the_worker_stays_usable(worker: Start, how: str) -> None:
    peer = worker("sleeps")
    peer.hello()
    for _ in range(3):
        peer.start(how=how)
        assert peer.receive()["text"] == "ready\n"
        peer.send({"type": "cancel", "reason": "cancel", "grace_ms": 10000})
        assert peer.until_end()[-1] == {"type": "cancelled"}
        peer.ping()
    assert peer.stdout.read_text() == "cleaned up\n" * 3
    assert peer.run(how="none")["type"] == "done"


def test_who_learns_of_a_cancel_by_progress_is_not_interrupted_too() -> None:
    before = signal.getsignal(_INTERRUPT)
    calls = Interrupter()
    here, done = Path(), []
    job = Job("j", 1, "t", None, {}, here, here, here, 1, 1, _disarm=calls.disarm)

    def function() -> None:
        job.cancelled = True
        try:
            job.progress(0.5)
        finally:
            calls.interrupt()
            done.append("cleaned up")

    try:
        with pytest.raises(Cancelled):
            calls.call(job, function)
    finally:
        signal.signal(_INTERRUPT, before)
    assert done == ["cleaned up"]


def test_a_cancel_that_comes_with_the_job_or_without_one_is_answered_or_ignored(worker: Start) -> None:
    peer = worker("sleeps")
    peer.hello()
    peer.send({"type": "cancel", "reason": "cancel", "grace_ms": 1000})
    peer.ping()
    for _ in range(50):
        peer.start(how="sleep")
        peer.send({"type": "cancel", "reason": "cancel", "grace_ms": 1000})
        assert peer.until_end()[-1] == {"type": "cancelled"}
        peer.send({"type": "cancel", "reason": "cancel", "grace_ms": 1000})
        peer.ping()


def test_a_job_that_ends_well_in_spite_of_a_cancel_is_done(worker: Start) -> None:
    peer = worker("sleeps")
    peer.hello()
    peer.start(how="swallow")
    assert [peer.receive()["text"] for _ in range(2)] == ["ready\n", "within\n"]
    peer.send({"type": "cancel", "reason": "cancel", "grace_ms": 10000})
    assert peer.until_end()[-1] == {"type": "done", "result": "finished all the same"}


def test_threads_may_print(worker: Start) -> None:
    peer = worker("threads")
    peer.hello()
    assert peer.run(n=8) == {"type": "done", "result": 8}
    assert sorted(peer.stdout.read_text().splitlines()) == sorted(
        f"thread {i} line {k}" for i in range(8) for k in range(200)
    )


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_no_child_has_the_socket(worker: Start) -> None:
    own = worker("own_descriptors")
    own.hello()
    assert own.run()["result"] == 1
    peer = worker("descriptors")
    peer.hello()
    for fork in (False, True):
        assert peer.run(fork=fork) == {"type": "done", "result": []}
    peer.ping()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_child_of_a_child_is_silent_and_has_no_socket_either(worker: Start) -> None:
    peer = worker("nested")
    peer.hello()
    assert peer.run(depth=3) == {"type": "done", "result": [[], [], []]}
    peer.ping()
    assert peer.end() == 0 and peer.stderr.read_text() == ""


@pytest.mark.parametrize("name", ["gc", "random", "onelane", "mine"])
def test_a_file_may_have_the_name_of_a_module(worker: Start, tmp_path: Path, name: str) -> None:
    file = tmp_path / "tools" / f"{name}.py"
    file.parent.mkdir()
    (file.parent / "beside.py").write_text("value = 7\n")
    file.write_text(
        "import gc, random, weakref, beside, onelane\n"
        "class Thing: ...\n"
        "thing = Thing()\n"
        "weakref.finalize(thing, print, 'finalized')\n"
        "@onelane.tool\n"
        "def f() -> list:\n"
        "    gc.collect()\n"
        "    return [beside.value, random.randint(1, 1), __name__]\n"
    )
    peer = worker("f", file)
    peer.hello()
    assert peer.run()["result"] == [7, 1, name if name == "mine" else f"onelane_file_{name}"]
    assert peer.end() == 0
    assert (peer.stdout.read_text(), peer.stderr.read_text()) == ("finalized\n", "")
    described = [sys.executable, "-m", "onelane", "describe", f"tools/{name}.py"]
    answer = subprocess.run(described, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (answer.returncode, answer.stderr) == (0, "") and "[tools.f]" in answer.stdout


def test_what_can_not_be_loaded_is_told_before_hello(worker: Start, tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("import no_such_module\n")
    for peer, words in [
        (worker("nothing"), "has no `nothing`"),
        (worker("f", broken), "no_such_module"),
        (worker("f", tmp_path / "missing.py"), "there is no file"),
    ]:
        assert peer.process.wait(DEADLINE_S) == 1
        assert words in peer.stderr.read_text()


def test_a_process_that_ends_itself_ends(worker: Start) -> None:
    peer = worker("crashes")
    peer.hello()
    peer.start()
    assert peer.process.wait(DEADLINE_S) == 7


@pytest.mark.skipif(sys.version_info < (3, 10), reason="Python does not know its own modules' names")
def test_it_needs_the_standard_library_only(tmp_path: Path) -> None:
    script = "import sys; sys.path.insert(0, sys.argv[1]); import onelane, onelane.worker; print(sorted({m.split('.')[0] for m in sys.modules} - set(sys.stdlib_module_names)))"
    source = HERE.parent / "src"
    answer = subprocess.run([sys.executable, "-I", "-S", "-c", script, str(source)], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "['__main__', 'onelane']" or answer.stdout.strip() == "['onelane']", answer.stdout


def test_without_a_server_it_says_how_it_is_started() -> None:
    answer = subprocess.run([sys.executable, "-m", "onelane.worker", "a:b"], capture_output=True, text=True, check=False)
    assert answer.returncode == 2 and "python -m onelane serve a:b" in answer.stderr
