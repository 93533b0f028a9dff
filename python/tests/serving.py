"""A real server for tests: the binary, a free port, data of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import List, Optional

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
DEADLINE_S = 120

TOOLS = f"""
[tools.count]
title = "Count letters"
command = ["{sys.executable}", "{HERE / 'count.py'}", "{{sequence}}", "{{seconds}}", "{{output}}"]
needs = {{ cpus = 1 }}
exit_codes = {{ 3 = "found a stop in the sequence" }}
params.sequence = {{ type = "fasta", letters = "*" }}
params.seconds = {{ type = "number", default = 0 }}

[tools.join]
command = ["sh", "-c", 'cat "$@" > "$0"', "{{output}}/joined", {{ each = "files", args = ["{{files}}"] }}, "{{words}}", "{{extra}}"]
needs = {{ cpus = 1 }}
params.files = {{ type = "files" }}
params.words = {{ type = "file" }}
params.extra = {{ type = "json", default = {{}} }}
params.loud = {{ type = "flag" }}
params.colours = {{ type = "choices", choices = ["red", "green"], optional = true }}
params.number = {{ type = "integer", default = 1 }}
"""


def binary() -> str:
    """The server's program."""
    named = os.environ.get("ONELANE_BINARY")
    builds = [Path(named)] if named else [ROOT / "target" / kind / "onelane" for kind in ("release", "debug")]
    for build in builds:
        if build.is_file():
            return str(build.resolve())
    raise FileNotFoundError("no server: set ONELANE_BINARY, or run `cargo build --release`")


class Server:
    """A server that can be killed and started again at the same address."""

    def __init__(self, data: Path, config: str = TOOLS, command: Optional[List[str]] = None, cwd: Optional[Path] = None) -> None:
        self.data = data
        data.mkdir(parents=True, exist_ok=True)
        (data / "tools.toml").write_text(config)
        self._command = command or [binary(), "serve", "--config", str(data / "tools.toml"), "--data", str(data / "data")]
        self._cwd = cwd
        self._listen = "127.0.0.1:0"
        self.start()

    def start(self) -> None:
        """Starts, and reads its address."""
        self._log = (self.data / "server.log").open("ab")
        self.process = subprocess.Popen(
            [*self._command, "--listen", self._listen],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=self._cwd or self.data,
            env={**os.environ, "ONELANE_BINARY": binary()},
        )
        assert self.process.stdout is not None
        first = self.process.stdout.readline()
        assert "listening on" in first, f"{first}{(self.data / 'server.log').read_text()}"
        self.url = first.split()[-1]
        self._listen = self.url.removeprefix("http://")
        # Read on, so that it never waits for us.
        self._reader = threading.Thread(target=self.process.stdout.read, daemon=True)
        self._reader.start()

    def pause(self) -> None:
        """It is there, and answers nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        """As by `kill -9`."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Politely."""
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._log.close()
