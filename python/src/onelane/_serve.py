"""``python -m onelane describe`` and ``serve``: from functions to a tools file, and to a server that has them."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Any, Dict, List, Mapping, NoReturn, Optional

from onelane import _toml
from onelane._load import LoadError, is_file, load_all, split
from onelane._tool import Tool


def describe(spec: str) -> str:
    """The sections of a tools file for the function, or for all tools of a module."""
    return _toml.document({"tools": _tables(spec)})


def served(spec: str) -> str:
    """The whole tools file of a server that has nothing but these functions.

    Who serves functions that need graphics processors has them: as many as the greediest of the functions needs.
    """
    tools = _tables(spec)
    most = max((table.get("needs", {}).get("gpus", 0) for table in tools.values()), default=0)
    machine = {"machine": {"gpus": list(range(most))}} if most else {}
    return _toml.document({**machine, "tools": tools})


def _tables(spec: str) -> Mapping[str, Any]:
    place, _ = split(spec)
    tables: Dict[str, Any] = {}
    for target in load_all(spec):
        tool = Tool(target)
        if tool.name in tables:
            raise LoadError(f"two tools of {place} have the name {tool.name}")
        tables[tool.name] = {**_worker(place, target), **tool.table()}
    return tables


def _worker(place: str, target: Any) -> Dict[str, Any]:
    # No `resolve`: the `python` of a virtual environment is a link, and what it points to knows nothing of it.
    worker: Dict[str, Any] = {"worker": [sys.executable or "python3", "-m", "onelane.worker"]}
    if is_file(place):
        worker["worker"].append(f"{Path(place).resolve()}:{target.__qualname__}")
        return worker
    worker["worker"].append(f"{place}:{target.__qualname__}")
    source = getattr(sys.modules[place], "__file__", None)
    folder = Path.cwd()
    # A module that Python finds because it lies here must be found by the worker too.
    if source and folder in Path(source).resolve().parents and "site-packages" not in source:
        worker["workdir"] = str(folder)
    return worker


def find_server() -> str:
    """The `onelane` program: beside this Python, where the wheel onelane-server puts it, or on the PATH."""
    named = os.environ.get("ONELANE_BINARY")
    beside = Path(sysconfig.get_path("scripts")) / "onelane"
    found = named or (str(beside) if beside.is_file() else shutil.which("onelane"))
    if found is None:
        raise LoadError('the server is not installed\nhint: pip install "onelane[server]", or put `onelane` on the PATH')
    return found


def serve(spec: str, listen: Optional[str], data: Optional[str]) -> NoReturn:
    """Becomes the server."""
    text = served(spec)
    program = find_server()
    folder = Path(data or "onelane-data").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "python-tools.toml"
    beside = config.with_suffix(".tmp")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, config)
    command: List[str] = [program, "serve", "--config", str(config), "--data", str(folder)]
    if listen:
        command += ["--listen", listen]
    sys.stdout.flush()
    os.execv(program, command)
