"""From `module:function` to the function."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, List, Tuple

from onelane._tool import is_tool


class LoadError(Exception):
    """What was named can't be found."""


def split(spec: str) -> Tuple[str, str]:
    """`module:function` or `path/to/file.py:function` in its two parts; the second may be empty."""
    place, colon, name = spec.rpartition(":")
    return (place, name) if colon else (spec, "")


def is_file(place: str) -> bool:
    """Whether this is the path of a file rather than a module's name."""
    return place.endswith(".py") or "/" in place


def load(spec: str) -> Any:
    """The function or class that is named; if only its module is, the only tool in it."""
    found = load_all(spec)
    if len(found) != 1:
        place, _ = split(spec)
        names = ", ".join(thing.__name__ for thing in found)
        raise LoadError(f"{place} has several tools ({names}): name one, as in {place}:{found[0].__name__}")
    return found[0]


def load_all(spec: str) -> List[Any]:
    """The function that is named, or all tools of the module."""
    place, name = split(spec)
    module = _module(place)
    if not name:
        tools = [value for value in vars(module).values() if is_tool(value) and value.__module__ == module.__name__]
        if not tools:
            raise LoadError(f"nothing in {place} is marked with @onelane.tool; name a function, as in {place}:function")
        return tools
    thing: Any = module
    for part in name.split("."):
        thing = getattr(thing, part, None)
    if thing is None:
        raise LoadError(f"{place} has no `{name}`")
    return [thing]


def _module(place: str) -> ModuleType:
    if not is_file(place):
        return importlib.import_module(place)
    path = Path(place).resolve()
    if not path.is_file():
        raise LoadError(f"there is no file {path}")
    is_taken = _is_taken(path)
    name = f"onelane_file_{path.stem}" if is_taken else path.stem
    # As when Python runs the file: what lies beside it can be imported. A `random.py` must not come before Python's own.
    sys.path.insert(len(sys.path) if is_taken else 0, str(path.parent))
    found = importlib.util.spec_from_file_location(name, path)
    if found is None or found.loader is None:
        raise LoadError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    found.loader.exec_module(module)
    return module


def _is_taken(path: Path) -> bool:
    """Whether the file has the name of a module that others mean when they say it: `gc.py` is not Python's `gc`."""
    name = path.stem
    if name in sys.modules or name in sys.builtin_module_names:
        return True
    if sys.version_info >= (3, 10):
        return name in sys.stdlib_module_names
    found = importlib.util.find_spec(name) if name.isidentifier() else None
    return found is not None and (found.origin is None or Path(found.origin).resolve() != path)
