"""What a tools file says of a function."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Callable, Dict, List, Optional, Union

import pytest

import onelane
from onelane import _toml
from onelane._serve import served
from onelane._tool import Tool

if sys.version_info >= (3, 11):
    import tomllib
else:
    pytest.skip("needs tomllib", allow_module_level=True)

HERE = Path(__file__).parent


def describe(spec: str, cwd: Path = HERE) -> Dict[str, Any]:
    command = [sys.executable, "-m", "onelane", "describe", spec]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, cwd=cwd)
    return tomllib.loads(answer.stdout)


def test_annotations_become_parameters() -> None:
    table = describe("sample_tools.py:everything")["tools"]["everything"]
    assert table.pop("params") == {
        "sequence": {"type": "fasta", "alphabet": "protein", "max_records": 1},
        "content": {"type": "fasta", "alphabet": "any"},
        "reads": {"type": "fastq", "alphabet": "nucleotide", "optional": True},
        "text": {"type": "text", "allow_dash": True, "default": "abc", "pattern": "[a-z]+", "help": 'Say "yes"'},
        "steps": {"type": "integer", "min": 1, "max": 9, "default": 3},
        "ratio": {"type": "number", "default": 1.0},
        "fast": {"type": "flag", "default": False},
        "mode": {"type": "choice", "choices": ["fast", "EXACT"], "default": "fast"},
        "chain": {"type": "choice", "choices": ["A", "B"], "default": "A"},
        "chains": {"type": "choices", "choices": ["A", "B"], "optional": True},
        "table": {"type": "file", "optional": True},
        "tables": {"type": "files", "optional": True},
        "extra": {"type": "json", "optional": True},
    }
    assert table == {
        "worker": [sys.executable, "-m", "onelane.worker", f"{HERE / 'sample_tools.py'}:everything"],
        "title": "Take one of each",
        "help": "And say what came.",
        "keep": "5m",
        "max_jobs": 10,
        "needs": {"cpus": 2, "memory": "1G"},
        "limits": {"time": "1h"},
        "results": {"result": {"file": "result.json", "view": "json"}},
    }


def test_a_server_of_functions_has_the_graphics_processors_that_they_need(tmp_path: Path) -> None:
    text = "import onelane\n"
    for name, needs in [("none", {"cpus": 1}), ("one", {"gpus": 1}), ("two", {"gpus": 2})]:
        text += f"@onelane.tool(needs={needs})\ndef {name}(x: int) -> int:\n    return x\n"
    module = tmp_path / "gpu_tools.py"
    module.write_text(text)
    assert tomllib.loads(served(str(module)))["machine"] == {"gpus": [0, 1]}
    assert "machine" not in tomllib.loads(served(f"{module}:none"))


def test_all_that_is_marked_is_described() -> None:
    assert set(describe("sample_tools.py")["tools"]) == {"everything", "model"}


def test_a_module_found_in_this_folder_is_found_by_the_worker_too() -> None:
    table = describe("sample_tools:steps")["tools"]["steps"]
    assert table["worker"][1:] == ["-m", "onelane.worker", "sample_tools:steps"]
    assert table["workdir"] == str(HERE)
    assert "results" not in table


def test_what_can_not_be_a_parameter_is_told_with_its_name() -> None:
    def none(x) -> None: ...  # type: ignore[no-untyped-def]
    def union(x: Union[int, str]) -> None: ...
    def bytes_(x: bytes) -> None: ...
    def star(*x: int) -> None: ...
    def path(x: Path = Path("a")) -> None: ...
    def flag(x: Optional[bool] = None) -> None: ...
    def fasta(x: Annotated[int, onelane.Fasta()]) -> None: ...

    functions: List[Callable[..., Any]] = [none, union, bytes_, star, path, flag, fasta]
    for function in functions:
        with pytest.raises(TypeError, match=rf"{function.__name__}: .*`x`"):
            onelane.tool(function)

    class Empty:
        pass

    with pytest.raises(TypeError, match="neither `run` nor `__call__`"):
        onelane.tool(Empty)


def test_a_marked_function_is_still_the_function() -> None:
    @onelane.tool(name="twice", title="Twice")
    def double(n: int) -> int:
        """Not this."""
        return n * 2

    assert double(2) == 4
    tool = Tool(double)
    assert (tool.name, tool.table()["title"]) == ("twice", "Twice")


def test_toml_says_any_text() -> None:
    hard = {"a b": {"": {"t": 'quote " \\ \n \t \x00 \x7f é 🧬', "list": [1, 2.5, True, "x", {"k": []}]}}, "empty": {}}
    assert tomllib.loads(_toml.document(hard)) == hard


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("")
    for spec, words in [
        ("empty.py", "nothing in empty.py is marked"),
        ("empty.py:f", "empty.py has no `f`"),
        ("no_such_module:f", "No module named 'no_such_module'"),
        ("missing.py:f", "there is no file"),
    ]:
        command = [sys.executable, "-m", "onelane", "describe", spec]
        answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert answer.returncode == 1 and words in answer.stderr and "Traceback" not in answer.stderr
