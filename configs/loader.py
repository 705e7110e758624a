"""Strict TOML: all mistakes of a file at once, with file, line, path and what is allowed; nothing is half loaded."""

import difflib
import tomllib
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from configs.lines import line_map, line_of

T = TypeVar("T")
Check = Callable[[T], Iterable[tuple[str, str]]]

MAX_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing wrong in a file."""

    path: str  # "lanes[1].barrier.pulse_ms"; empty for the file as a whole
    line: int | None
    message: str  # what is wrong and what is allowed


class ConfigError(Exception):
    """A file that cannot be used; `str()` lists every mistake, one line each: `file:line: path: message`."""

    def __init__(self, file: Path, mistakes: list[Mistake]) -> None:
        self.file, self.mistakes = file, mistakes
        super().__init__("\n".join(_text(file, mistake) for mistake in mistakes))


def load(file: Path, into: type[T], check: Check[T] | None = None) -> T:
    """Read `file` into the msgspec Struct `into`; `check` adds what no single field can tell. Raises ConfigError."""
    text = _read(file)
    try:
        tree = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as e:
        raise ConfigError(file, [_syntax(e)]) from None
    found: list[tuple[str, str]] = []
    _look(tree, into, "", found)
    if not found:
        value = msgspec.convert(tree, into)
        found = [] if check is None else list(check(value))
        if not found:
            return value
    lines = line_map(text)
    raise ConfigError(file, [Mistake(path, line_of(lines, path), message) for path, message in found])


def _read(file: Path) -> str:
    try:
        data = file.read_bytes()
    except OSError as e:
        reason = e.strerror or str(e)
        raise ConfigError(
            file, [Mistake("", None, f"cannot be read: {reason}; check the path and its owner")]
        ) from None
    if len(data) > MAX_BYTES:
        raise ConfigError(file, [Mistake("", None, f"has {len(data)} bytes; a configuration has at most {MAX_BYTES}")])
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as e:
        line = data[: e.start].count(b"\n") + 1
        raise ConfigError(file, [Mistake("", line, "is not UTF-8 here; save the file as UTF-8")]) from None


def _syntax(error: Exception) -> Mistake:
    """The parser says "... (at line 3, column 7)"; the line moves to where lines belong."""
    message = str(error) or "is nested too deeply"
    head, _, tail = message.partition(" (at line ")
    digits = tail.split(",", 1)[0]
    return Mistake(
        "", int(digits) if digits.isdigit() else None, f"is not TOML: {head}" + (f" (line {tail}" if tail else "")
    )


def _look(value: Any, annotation: Any, path: str, found: list[tuple[str, str]]) -> None:
    """Compare a value with its type, all the way down; every mistake goes into `found`."""
    annotation, bare = _unwrapped(annotation, value)
    origin, arguments = get_origin(bare), get_args(bare)
    if isinstance(bare, type) and issubclass(bare, msgspec.Struct):
        if isinstance(value, dict):
            _look_into(value, bare, path, found)
        else:
            found.append((path, f"must be a table, not {_kind(value)}"))
    elif origin is list and isinstance(value, list):
        for index, item in enumerate(value):
            _look(item, arguments[0], f"{path}[{index}]", found)
        _leaf(value, annotation, path, found, only_size=True)
    elif origin is dict and isinstance(value, dict):
        for key, item in value.items():
            _leaf(key, arguments[0], f"{path}.{key}", found)
            _look(item, arguments[1], f"{path}.{key}", found)
    else:
        _leaf(value, annotation, path, found)


def _look_into(table: dict[str, Any], struct: type[msgspec.Struct], path: str, found: list[tuple[str, str]]) -> None:
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    prefix = f"{path}." if path else ""
    for key, value in table.items():
        if key in fields:
            _look(value, fields[key].type, prefix + key, found)
        else:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            found.append((prefix + key, f"is not known here{hint} Allowed: {', '.join(sorted(fields))}"))
    found.extend(
        (prefix + name, f"is missing; it is {_named(field.type)}")
        for name, field in fields.items()
        if field.required and name not in table
    )


def _leaf(value: Any, annotation: Any, path: str, found: list[tuple[str, str]], *, only_size: bool = False) -> None:
    if only_size:
        annotation = _sized(annotation)
        if annotation is None:
            return
    try:
        msgspec.convert(value, annotation, str_keys=True)
    except msgspec.ValidationError as e:
        what = str(e).split(" - at ")[0]
        allowed = _words(annotation)
        found.append((path, f"{what}; allowed: {', '.join(allowed)}" if allowed else what))


def _sized(annotation: Any) -> Any:
    """The size limits of a list without its items, which were looked at one by one; None when there are none."""
    if get_origin(annotation) is not Annotated:
        return None
    return Annotated[(list[Any], *get_args(annotation)[1:])]


def _unwrapped(annotation: Any, value: Any) -> tuple[Any, Any]:
    """The annotation that fits the value out of `X | None`, with and without its limits."""
    if get_origin(annotation) in (Union, types.UnionType):
        others = [argument for argument in get_args(annotation) if argument is not type(None)]
        if value is not None and len(others) == 1:
            return _unwrapped(others[0], value)
    bare = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    return annotation, bare


def _words(annotation: Any) -> list[str]:
    """Every allowed word of an enumeration."""
    bare = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    if get_origin(bare) is Literal:
        return [str(word) for word in get_args(bare)]
    if isinstance(bare, type) and issubclass(bare, Enum):
        return [str(member.value) for member in bare]
    return []


def _named(annotation: Any) -> str:
    _, bare = _unwrapped(annotation, 0)
    words = _words(annotation)
    if words:
        return "one of " + ", ".join(words)
    if isinstance(bare, type) and issubclass(bare, msgspec.Struct):
        return "a table"
    origin = get_origin(bare)
    names = {
        str: "a text",
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        list: "a list",
        dict: "a table",
    }
    return names.get(origin or bare, "a value")


def _kind(value: Any) -> str:
    names = {str: "a text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "a table"}
    return names.get(type(value), "this value")


def _text(file: Path, mistake: Mistake) -> str:
    place = str(file) if mistake.line is None else f"{file}:{mistake.line}"
    return f"{place}: {mistake.path}: {mistake.message}" if mistake.path else f"{place}: {mistake.message}"
