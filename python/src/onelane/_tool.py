"""A function's annotations, read as the parameters of a tool."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import types
import typing
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, TypeVar, Union

from onelane._job import Job

T = TypeVar("T")

_ANNOTATED: Any = type(typing.Annotated[int, 0])
_UNIONS: Tuple[Any, ...] = (Union, getattr(types, "UnionType", Union))


@dataclasses.dataclass(frozen=True)
class Param:
    """What a parameter of any type can say of itself, inside ``Annotated``.

    >>> from typing import Annotated
    >>> Sequence = Annotated[str, Param(help="One letter a residue", example="MKV")]
    """

    title: Optional[str] = None
    help: Optional[str] = None
    example: Any = None
    advanced: bool = False


@dataclasses.dataclass(frozen=True)
class Text(Param):
    """Rules for a ``str``: its length in characters, and a regular expression for the whole of it."""

    min_length: Optional[int] = None
    max_length: Optional[int] = None
    pattern: Optional[str] = None


@dataclasses.dataclass(frozen=True)
class Number(Param):
    """Bounds for an ``int`` or a ``float``."""

    min: Optional[float] = None
    max: Optional[float] = None


@dataclasses.dataclass(frozen=True)
class File(Param):
    """Rules for a ``Path`` or a ``list[Path]``."""

    extension: Sequence[str] = ()
    max_size: Optional[str] = None
    magic: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Fasta(Param):
    """Sequences, checked before the function sees them: a ``Path`` to their file, or a ``str`` with its content.

    ``alphabet`` is ``protein``, ``dna``, ``rna``, ``nucleotide`` or ``any``; ``letters`` are signs besides, such as
    ``":"`` between chains.
    """

    alphabet: str = "any"
    letters: Optional[str] = None
    max_records: Optional[int] = None
    max_residues: Optional[int] = None
    max_header: Optional[int] = None
    duplicates: Optional[str] = None
    allow_nucleotides: bool = False


@dataclasses.dataclass(frozen=True)
class Fastq(Param):
    """Reads with qualities, checked before the function sees them: a ``Path`` or a ``str``."""

    alphabet: str = "nucleotide"
    max_records: Optional[int] = None
    max_residues: Optional[int] = None
    max_header: Optional[int] = None


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One parameter: its table in the tools file, and the way from what the server sends to what the function gets."""

    table: Dict[str, Any]
    convert: Callable[[Any], Any]


@dataclasses.dataclass(frozen=True)
class Options:
    """What ``@onelane.tool`` says besides the function itself."""

    name: Optional[str] = None
    title: Optional[str] = None
    help: Optional[str] = None
    version: Optional[str] = None
    keep: Optional[str] = None
    max_jobs: Optional[int] = None
    needs: Optional[Mapping[str, Any]] = None
    limits: Optional[Mapping[str, Any]] = None
    results: Optional[Mapping[str, Mapping[str, Any]]] = None


_OPTIONS = "__onelane_options__"


@typing.overload
def tool(target: T, /) -> T: ...


@typing.overload
def tool(
    *,
    name: Optional[str] = ...,
    title: Optional[str] = ...,
    help: Optional[str] = ...,
    version: Optional[str] = ...,
    keep: Optional[str] = ...,
    max_jobs: Optional[int] = ...,
    needs: Optional[Mapping[str, Any]] = ...,
    limits: Optional[Mapping[str, Any]] = ...,
    results: Optional[Mapping[str, Mapping[str, Any]]] = ...,
) -> Callable[[T], T]: ...


def tool(target: Any = None, /, **options: Any) -> Any:
    """Makes a function, or a class with ``run`` (or ``__call__``) and perhaps ``setup``, a tool.

    The function stays what it was and can be called as before. Its annotations become the tool's parameters, its
    docstring the title and help. The options are keys of the tools file: ``needs={"cpus": 4, "memory": "16G"}``,
    ``limits={"time": "1h"}``, ``keep="10m"``, ``max_jobs``, ``results={"model": {"file": "model.pdb"}}``.

    >>> @tool(needs={"cpus": 1})
    ... def count(sequence: str, repeat: int = 1) -> int:
    ...     '''Count letters.'''
    ...     return len(sequence) * repeat
    >>> count("MKV")
    3
    """

    def mark(target: Any) -> Any:
        setattr(target, _OPTIONS, Options(**options))
        Tool(target)  # an annotation that can't be a parameter is told here, not when the first job comes
        return target

    return mark if target is None else mark(target)


def is_tool(value: object) -> bool:
    """Whether this very thing was made a tool."""
    return _OPTIONS in getattr(value, "__dict__", {})


class Tool:
    """A function or class, seen as a tool."""

    def __init__(self, target: Any) -> None:
        self.target = target
        self.options: Options = getattr(target, "__dict__", {}).get(_OPTIONS, Options())
        self.name: str = self.options.name or target.__name__.lower()
        signature = _signature(_entry(target))
        if isinstance(target, type):
            signature = signature.replace(parameters=list(signature.parameters.values())[1:])
        self.returns = signature.return_annotation not in (None, type(None))
        self.job_argument: Optional[str] = None
        self.params: Dict[str, Parameter] = {}
        for name, argument in signature.parameters.items():
            self._add(name, argument)

    def _add(self, name: str, argument: inspect.Parameter) -> None:
        if argument.kind not in (argument.POSITIONAL_OR_KEYWORD, argument.KEYWORD_ONLY):
            raise TypeError(f"{self.name}: `{name}` can't be a parameter: each needs a name of its own")
        if argument.annotation is Job or (name == "job" and argument.annotation is argument.empty):
            self.job_argument = name
            return
        try:
            self.params[name] = _parameter(argument.annotation, argument.default)
        except TypeError as error:
            raise TypeError(f"{self.name}: parameter `{name}`: {error}") from None

    def instance(self) -> Callable[..., Any]:
        """What is called for each job: the function, or a new object after its ``setup()``."""
        if not isinstance(self.target, type):
            return typing.cast("Callable[..., Any]", self.target)
        thing = self.target()
        if hasattr(thing, "setup"):
            thing.setup()
        return typing.cast("Callable[..., Any]", thing.run if hasattr(thing, "run") else thing)

    def arguments(self, params: Mapping[str, Any], job: Job) -> Dict[str, Any]:
        """The function's arguments for one job. What was not given is left to the function's own defaults."""
        given = {
            name: parameter.convert(params[name])
            for name, parameter in self.params.items()
            if params.get(name) is not None
        }
        for name, parameter in self.params.items():
            if name not in given and "optional" in parameter.table:
                given[name] = None
        if self.job_argument is not None:
            given[self.job_argument] = job
        return given

    def table(self) -> Dict[str, Any]:
        """The tool's table of the tools file, without its ``worker``."""
        title, help_ = _docstring(self.target)
        options = self.options
        table: Dict[str, Any] = {"title": options.title or title, "help": options.help or help_}
        for key in ("keep", "max_jobs", "needs", "limits"):
            table[key] = getattr(options, key)
        table["params"] = {name: parameter.table for name, parameter in self.params.items()}
        results = dict(options.results or {})
        if self.returns and not any(result.get("file") == "result.json" for result in results.values()):
            results["result"] = {"file": "result.json", "view": "json"}
        table["results"] = results
        return {key: value for key, value in table.items() if value not in (None, {}, "")}


def _entry(target: Any) -> Callable[..., Any]:
    if not isinstance(target, type):
        if not callable(target):
            raise TypeError(f"{target!r} is neither a function nor a class")
        return typing.cast("Callable[..., Any]", target)
    # `__call__` is looked up in the class itself: every class, being a `type`, has one.
    called = (vars(base).get("__call__") for base in target.__mro__)
    entry = getattr(target, "run", None) or next(filter(None, called), None)
    if entry is None:
        raise TypeError(f"class {target.__name__} has neither `run` nor `__call__`")
    return typing.cast("Callable[..., Any]", entry)


def _signature(entry: Callable[..., Any]) -> inspect.Signature:
    signature = inspect.signature(entry)
    hints = typing.get_type_hints(entry, include_extras=True)
    parameters = [
        argument.replace(annotation=hints.get(name, argument.annotation))
        for name, argument in signature.parameters.items()
    ]
    returns = hints.get("return", signature.return_annotation)
    return signature.replace(parameters=parameters, return_annotation=returns)


def _docstring(target: Any) -> Tuple[Optional[str], Optional[str]]:
    title, _, help_ = (inspect.getdoc(target) or "").partition("\n")
    return title.rstrip(".") or None, help_.strip() or None


def _parameter(annotation: Any, default: Any) -> Parameter:
    annotation, marker, is_optional = _unwrap(annotation)
    if annotation is inspect.Parameter.empty:
        raise TypeError("it has no annotation")
    parameter = _of_type(annotation, marker)
    table = {**parameter.table, **(_rules(marker) if marker else {})}
    if default is None or (default is inspect.Parameter.empty and is_optional):
        if table["type"] == "flag":
            raise TypeError("a flag is true or false: give it one of these as default, not None")
        table["optional"] = True
    elif default is not inspect.Parameter.empty:
        table["default"] = _default(table, default)
    return Parameter(table, parameter.convert)


def _unwrap(annotation: Any) -> Tuple[Any, Optional[Param], bool]:
    """Takes off ``Annotated`` and ``Optional``, in whatever order; before 3.11 Python adds an ``Optional`` of its own."""
    markers: List[Param] = []
    is_optional = False
    while True:
        if isinstance(annotation, _ANNOTATED):
            markers += [item for item in annotation.__metadata__ if isinstance(item, Param)]
            annotation = typing.get_args(annotation)[0]
        elif typing.get_origin(annotation) in _UNIONS:
            annotation, is_optional = _unwrap_optional(annotation), True
        else:
            break
    if len(markers) > 1:
        raise TypeError("one of Param, Text, Number, File, Fasta and Fastq is enough")
    return annotation, markers[0] if markers else None, is_optional


def _unwrap_optional(annotation: Any) -> Any:
    members = [member for member in typing.get_args(annotation) if member is not type(None)]
    if len(members) != 1:
        raise TypeError("a Union of several types is not supported")
    return members[0]


def _of_type(annotation: Any, marker: Optional[Param]) -> Parameter:
    if isinstance(marker, (Fasta, Fastq)):
        return Parameter({"type": type(marker).__name__.lower()}, _file_as(annotation, "Fasta and Fastq"))
    if isinstance(marker, File) and annotation is str:
        return Parameter({"type": "file"}, _file_as(str, "File"))
    simple: Dict[Any, Tuple[Dict[str, Any], Callable[[Any], Any]]] = {
        # A worker's text never meets a command line, so a dash at its beginning harms nobody.
        str: ({"type": "text", "allow_dash": True}, str),
        bool: ({"type": "flag"}, bool),
        int: ({"type": "integer"}, int),
        float: ({"type": "number"}, float),
        Path: ({"type": "file"}, Path),
    }
    found = simple.get(annotation) if isinstance(annotation, type) else None
    if found:
        table, convert = found
        return Parameter(dict(table), convert)
    choices = _choices(annotation)
    if choices is not None:
        return Parameter({"type": "choice", "choices": list(choices)}, choices.__getitem__)
    return _collection(annotation)


def _collection(annotation: Any) -> Parameter:
    origin = typing.get_origin(annotation) or annotation
    members = typing.get_args(annotation)
    if origin in (list, List) and len(members) == 1:
        if members[0] is Path:
            return Parameter({"type": "files"}, lambda paths: [Path(path) for path in paths])
        choices = _choices(members[0])
        if choices is not None:
            known = choices
            return Parameter({"type": "choices", "choices": list(known)}, lambda keys: [known[key] for key in keys])
    if annotation is Any or origin in (list, dict):
        return Parameter({"type": "json"}, lambda value: value)
    raise TypeError(
        f"{annotation!r} is not supported; it can be str, int, float, bool, Path, Literal, an Enum, list[Path], "
        "list[Literal], list, dict or Any, and Annotated with onelane.Fasta and the like"
    )


def _choices(annotation: Any) -> Optional[Dict[str, Any]]:
    """Keys as clients see them, and what the function gets."""
    if typing.get_origin(annotation) is typing.Literal:
        return {str(value): value for value in typing.get_args(annotation)}
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return {_enum_key(member): member for member in annotation}
    return None


def _enum_key(member: enum.Enum) -> str:
    return member.value if isinstance(member.value, str) else member.name


def _file_as(annotation: Any, marker: str) -> Callable[[Any], Any]:
    if annotation is Path:
        return Path
    if annotation is str:
        return lambda path: Path(path).read_text(encoding="utf-8")
    raise TypeError(f"{marker} go with Path (the file) or str (its content)")


def _rules(marker: Param) -> Dict[str, Any]:
    rules = {field.name: getattr(marker, field.name) for field in dataclasses.fields(marker)}
    if isinstance(marker, Fasta) and not marker.allow_nucleotides:
        del rules["allow_nucleotides"]
    if not marker.advanced:
        del rules["advanced"]
    return {key: _plain(value) for key, value in rules.items() if value is not None and value != ()}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _default(table: Mapping[str, Any], default: Any) -> Any:
    if table["type"] in ("fasta", "fastq", "file", "files"):
        raise TypeError("a file has no default but None")
    if isinstance(default, enum.Enum):
        return _enum_key(default)
    if table["type"] == "choice":
        return str(default)
    if table["type"] == "choices":
        return [_enum_key(item) if isinstance(item, enum.Enum) else str(item) for item in default]
    if table["type"] == "number":
        return float(default)
    return default

