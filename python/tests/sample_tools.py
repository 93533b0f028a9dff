"""Functions for the tests of the worker."""

from __future__ import annotations

import dataclasses
import enum
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Annotated, Any, Dict, List, Literal, Optional

import onelane


class Mode(enum.Enum):
    FAST = "fast"
    EXACT = 2


@dataclasses.dataclass
class Point:
    x: int
    place: Path


@onelane.tool(needs={"cpus": 2, "memory": "1G"}, limits={"time": "1h"}, keep="5m", max_jobs=10, version="1.2.0")
def everything(
    sequence: Annotated[Path, onelane.Fasta(alphabet="protein", max_records=1)],
    content: Annotated[str, onelane.Fasta()],
    reads: Annotated[Optional[Path], onelane.Fastq()] = None,
    text: Annotated[str, onelane.Text(pattern="[a-z]+", help='Say "yes"')] = "abc",
    steps: Annotated[int, onelane.Number(min=1, max=9)] = 3,
    ratio: float = 1,
    fast: bool = False,
    mode: Mode = Mode.FAST,
    chain: Literal["A", "B"] = "A",
    chains: Optional[List[Literal["A", "B"]]] = None,
    table: Optional[Path] = None,
    tables: Optional[List[Path]] = None,
    extra: Any = None,
    *,
    job: onelane.Job,
) -> Dict[str, Any]:
    """Take one of each.

    And say what came.
    """
    job.work_dir.joinpath("scratch").write_text("x")
    given = {name: value for name, value in locals().items() if name != "job"}
    return {name: [type(value).__name__, str(value)] for name, value in given.items()}


@onelane.tool
class Model:
    """A model that is loaded once."""

    def setup(self) -> None:
        print("loading")
        self.loads = 1
        self.calls = 0

    def run(self, n: int) -> List[int]:
        self.calls += 1
        return [self.loads, self.calls, n, os.getpid()]


class Callable:
    def __call__(self, n: int) -> int:
        return n + 1


def steps(n: int, job: onelane.Job) -> None:
    print("begin")
    for i in range(n):
        job.progress(i / n, f"step {i}")
    job.log("a line")
    (job.output_dir / "model.pdb").write_text("ATOM")
    job.result("model.pdb")
    print("end", file=sys.stderr)


def many(n: int, job: onelane.Job) -> None:
    for i in range(n):
        job.progress((i + 1) / n, f"step {i + 1}")


def fails() -> None:
    print("before")
    raise ValueError("no such chain: B")


def leaves(code: Any) -> None:
    sys.exit(code)


def returns(kind: str) -> Any:
    if kind == "point":
        return {"points": [Point(1, Path("/a"))], "mode": Mode.EXACT, "set": {2, 1}}
    if kind == "large":
        return "x" * (20 << 20)
    if kind == "nan":
        return float("nan")
    if kind == "object":
        return object()
    if kind == "surrogate":
        return "\udc80"
    return None


def sleeps(how: str, job: onelane.Job) -> str:
    try:
        job.log("ready")
        if how == "sleep":
            time.sleep(600)
        elif how == "loop":
            while True:
                pass
        elif how == "progress":
            number = 0
            while True:
                number += 1
                job.progress(number % 1000 / 1000, "x" * 1000)
        elif how == "child":
            subprocess.run(["sleep", "600"], check=True)
        elif how == "swallow":
            try:
                job.log("within")
                time.sleep(600)
            except BaseException:  # noqa: BLE001
                return "finished all the same"
        elif how == "except":
            while True:
                try:
                    time.sleep(600)
                except Exception:  # noqa: BLE001
                    pass
    finally:
        print("cleaned up")
    return "not reached"


def threads(n: int) -> int:
    def say(i: int) -> None:
        for k in range(200):
            sys.stdout.write(f"thread {i} line {k}\n")  # `print` writes the line's end by itself

    running = [threading.Thread(target=say, args=(i,)) for i in range(n)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return n


def descriptors(fork: bool) -> List[str]:
    """What sockets a child has."""
    script = "import os; print(*[os.readlink(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{fd}')])"
    if not fork:
        found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, close_fds=False)
        return [name for name in found.stdout.split() if name.startswith("socket:")]
    read, write = os.pipe()
    if os.fork() == 0:
        links = []
        for fd in os.listdir("/proc/self/fd"):
            try:
                links.append(os.readlink(f"/proc/self/fd/{fd}"))
            except OSError:
                pass
        os.write(write, " ".join(link for link in links if link.startswith("socket:")).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        names = answer.read().split()
    os.wait()
    return names


def nested(depth: int) -> List[List[str]]:
    """What sockets a child has, its child, and so on."""
    read, write = os.pipe()
    if os.fork() == 0:
        deeper = nested(depth - 1) if depth > 1 else []
        links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
        names = [os.readlink(link) for link in links if os.path.lexists(link)]
        os.write(write, json.dumps([[name for name in names if name.startswith("socket:")], *deeper]).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        found: List[List[str]] = json.load(answer)
    os.wait()
    return found


def own_descriptors() -> int:
    links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    return sum(os.readlink(link).startswith("socket:") for link in links if os.path.lexists(link))


async def later(n: int) -> int:
    import asyncio

    await asyncio.sleep(0)
    return n * 2


def crashes() -> None:
    os._exit(7)
