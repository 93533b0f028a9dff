"""The workflow of examples/snakemake, with and without a server that is killed in the middle."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable

import pytest
from serving import ROOT, Server, binary

from onelane import Client

DEADLINE_S = 600


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_workflow_of_twenty_rules_runs_to_its_end(tmp_path: Path, is_killed: bool) -> None:
    snakemake = Path(sys.executable).parent / "snakemake"
    if not snakemake.exists():
        assert not os.environ.get("CI"), "Snakemake is not installed"
        pytest.skip("Snakemake is not installed: pip install snakemake")
    program = tmp_path / "bin" / "onelane"
    program.parent.mkdir()
    program.symlink_to(binary())
    workflow = tmp_path / "workflow"
    shutil.copytree(ROOT / "examples/snakemake", workflow)
    server = Server(tmp_path / "server", command=[binary(), "serve", "--data", str(tmp_path / "data")])
    command = [str(snakemake), "--cores", "20", "--config", f"library={ROOT / 'data/swissprot-sample.fasta'}"]
    env = {
        **os.environ,
        "ONELANE_URL": server.url,
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PATH": f"{program.parent}:{snakemake.parent}:{os.environ['PATH']}",
    }
    log = tmp_path / "snakemake.log"
    try:
        with Client(server.url) as client, log.open("wb") as output:
            if is_killed:
                server.kill()
            run = subprocess.Popen(command, cwd=workflow, env=env, stdout=output, stderr=subprocess.STDOUT)
            try:
                if is_killed:
                    # Rules that find nobody at their first word wait.
                    until(lambda: "no server answers" in log.read_text())
                    server.start()
                for enough in [3, 9] if is_killed else []:
                    until(lambda: len(list(client.list(state="succeeded"))) >= enough)
                    server.kill()
                    assert not (workflow / "best-hits.tsv").exists()
                    server.start()
                assert run.wait(DEADLINE_S) == 0, log.read_text()
            finally:
                run.kill()
                run.wait()
            jobs = list(client.list())
    finally:
        server.stop()
    # Each rule made one job, and no job ran twice.
    assert sorted(job.name or "" for job in jobs) == sorted(f"search {n}" for n in range(1, 21))
    assert {(job.state, job.attempt) for job in jobs} == {("succeeded", 1)}
    hits = (workflow / "best-hits.tsv").read_text().splitlines()
    assert len(hits) == 20
    for hit in hits:
        # The library has the query itself, which is its own best hit.
        query, subject = hit.split("\t")[:2]
        assert query == subject, hit


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)
