"""Both wheels, built and installed into a fresh virtual environment; the README's lines are run in it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from typing import Dict, List, Tuple

import pytest
from serving import ROOT

import onelane
from onelane.client._core import Core

if sys.version_info >= (3, 11):
    import tomllib
else:
    pytest.skip("needs tomllib", allow_module_level=True)

PYTHON = ROOT / "python"
PURE = f"onelane-{onelane.__version__}-py3-none-any.whl"
#: Of RHEL 8.
OLDEST_GLIBC = (2, 28)


@pytest.fixture(scope="module")
def server_wheel() -> Path:
    """What maturin has built: `cargo xtask python` does."""
    named = os.environ.get("ONELANE_SERVER_WHEEL")
    if named is None:
        assert not os.environ.get("CI"), "ONELANE_SERVER_WHEEL is not set"
        pytest.skip("SKIPPED, as there is no wheel of the server: set ONELANE_SERVER_WHEEL, or run `cargo xtask python`")
    return Path(named)


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pure wheel, and with what it depends on. The wheel is kept beside the server's too."""
    folder = tmp_path_factory.mktemp("dist")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(folder)]
    subprocess.run([*pip, "--no-build-isolation", str(PYTHON)], check=True)
    if "ONELANE_SERVER_WHEEL" in os.environ:
        shutil.copy(folder / PURE, Path(os.environ["ONELANE_SERVER_WHEEL"]).parent)
    return folder


def test_the_package_is_pure_and_typed(dist: Path) -> None:
    names = zipfile.ZipFile(dist / PURE).namelist()
    assert "onelane/py.typed" in names and "onelane/worker.py" in names
    assert not [name for name in names if not name.startswith("onelane")]


def test_all_versions_are_one() -> None:
    versions = {onelane.__version__, Core(None, None, 0.0).headers["user-agent"].removeprefix("onelane-python/")}
    for path, keys in [
        ("Cargo.toml", ("workspace", "package", "version")),
        ("python/pyproject.toml", ("project", "version")),
        ("python/server/pyproject.toml", ("project", "version")),
    ]:
        table = tomllib.loads((ROOT / path).read_text())
        for key in keys:
            table = table[key]
        versions.add(str(table))
    server = tomllib.loads((PYTHON / "pyproject.toml").read_text())["project"]["optional-dependencies"]["server"]
    assert server == [f"onelane-server=={onelane.__version__}"] and len(versions) == 1


def test_the_server_wheel_needs_no_newer_c_library_than_rhel_8_has(server_wheel: Path, tmp_path: Path) -> None:
    assert "manylinux_2_28" in server_wheel.name and "-py3-none-" in server_wheel.name
    with zipfile.ZipFile(server_wheel) as wheel:
        (name,) = [name for name in wheel.namelist() if name.endswith("/scripts/onelane")]
        program = Path(wheel.extract(name, tmp_path))
    symbols = subprocess.run(["objdump", "-T", str(program)], capture_output=True, text=True, check=True).stdout
    versions = {tuple(map(int, version.split("."))) for version in re.findall(r"GLIBC_([0-9.]+)", symbols)}
    assert versions and max(versions) <= OLDEST_GLIBC, sorted(versions)
    needed = subprocess.run(["objdump", "-p", str(program)], capture_output=True, text=True, check=True).stdout
    libraries = set(re.findall(r"NEEDED\s+(\S+)", needed))
    # Nothing but the C library's own parts.
    assert libraries <= {"libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "libgcc_s.so.1"} | {
        name for name in libraries if name.startswith("ld-linux")
    }


def test_the_readme_goes_from_pip_install_to_a_function_with_a_queue(
    dist: Path, server_wheel: Path, tmp_path: Path
) -> None:
    install, function, serve, client = first_lines()
    (dist / server_wheel.name).write_bytes(server_wheel.read_bytes())
    venv.create(tmp_path / "venv", with_pip=True)
    (tmp_path / "gc.py").write_text(function)
    env: Dict[str, str] = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("ONELANE", "PYTHON"))},
        "PATH": f"{tmp_path / 'venv/bin'}:/usr/bin:/bin",
        # These wheels, and nothing else of these names.
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(dist),
        "ONELANE_LISTEN": "127.0.0.1:0",
    }
    subprocess.run(["bash", "-c", install], check=True, env=env, cwd=tmp_path, stdout=subprocess.DEVNULL)
    with (tmp_path / "server.log").open("wb") as log:
        server = subprocess.Popen(
            ["bash", "-c", f"exec {serve}"], env=env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=log, text=True
        )
    try:
        assert server.stdout is not None
        first = server.stdout.readline()
        assert "listening on" in first, first + (tmp_path / "server.log").read_text()
        env["ONELANE_URL"] = first.split()[-1]
        answer = subprocess.run(["python", "-c", client], env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (answer.returncode, answer.stdout) == (0, f"{2 / 7}\n"), answer.stderr
    finally:
        server.terminate()
        server.communicate()


def first_lines() -> Tuple[str, str, str, str]:
    """The README's first four blocks: fewer than ten lines together. The project's README has the same."""
    blocks = blocks_of(PYTHON / "README.md")[:4]
    lines = [line for block in blocks for line in block.splitlines() if line.strip()]
    assert len(lines) == 9, "the README says nine"
    among = blocks_of(ROOT / "README.md")
    assert blocks[0] in among, "README.md does not begin as python/README.md does"
    begin = among.index(blocks[0])
    assert among[begin : begin + 4] == blocks
    install, function, serve, client = blocks
    return install, function, serve, client


def blocks_of(readme: Path) -> List[str]:
    """What is to be typed, or to be put into a file."""
    return re.findall(r"^```(?:sh|python)\n(.*?)^```$", readme.read_text(), re.S | re.M)


def test_both_readmes_show_the_same_lines() -> None:
    assert len(first_lines()) == 4


def test_both_wheels_are_where_the_readme_installs_them_from(dist: Path, server_wheel: Path, tmp_path: Path) -> None:
    (line,) = re.findall(r"`(python -m pip install target/\S+)`", (ROOT / "README.md").read_text())
    (tmp_path / "target").symlink_to(server_wheel.parents[1])
    venv.create(tmp_path / "venv", with_pip=True)
    env = {**os.environ, "PATH": f"{tmp_path / 'venv/bin'}:/usr/bin:/bin", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(dist)}
    subprocess.run(["bash", "-c", line], check=True, env=env, cwd=tmp_path, stdout=subprocess.DEVNULL)
    for command in ("python -c 'import onelane; onelane.Client'", "onelane --version"):
        subprocess.run(["bash", "-c", command], check=True, env=env, cwd=tmp_path, stdout=subprocess.DEVNULL)


def test_types_are_strictly_right() -> None:
    checked = subprocess.run([sys.executable, "-m", "mypy"], cwd=PYTHON, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
