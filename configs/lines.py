"""Where in a TOML text each key path stands, for messages only: best effort on sound TOML, never an exception."""

import re

_KEY = re.compile(
    r"""\s*((?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*'))*)\s*="""
)
_PART = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*'""")
_HEADER = re.compile(r"\s*(\[\[?)([^\[\]]+)\]\]?")


def line_map(text: str) -> dict[str, int]:
    """Path to line (from 1), paths as in "lanes[1].barrier.pulse_ms"."""
    lines: dict[str, int] = {}
    counts: dict[str, int] = {}
    table, open_value = "", ""
    for number, line in enumerate(text.splitlines(), start=1):
        if open_value:
            open_value = _still_open(open_value + "\n" + line)
            continue
        header = _HEADER.match(line)
        if header:
            table = _table(header[2], counts, repeated=header[1] == "[[")
            lines.setdefault(table, number)
            continue
        key = _KEY.match(line)
        if key:
            path = ".".join([part for part in (table, *_parts(key[1])) if part])
            lines.setdefault(path, number)
            value = line[key.end() :]
            for inner in _inline(value):
                lines.setdefault(f"{path}.{inner}", number)
            open_value = _still_open(value)
    return lines


def line_of(lines: dict[str, int], path: str) -> int | None:
    """Line of a path, or of the nearest table above it."""
    while path:
        if path in lines:
            return lines[path]
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return None


def _table(name: str, counts: dict[str, int], *, repeated: bool) -> str:
    """Full path of a header, with the index of every repeated table in it."""
    path, parts = "", _parts(name)
    for index, part in enumerate(parts):
        path = f"{path}.{part}" if path else part
        if repeated and index == len(parts) - 1:
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path = f"{path}[{counts[path]}]"
    return path


def _parts(key: str) -> list[str]:
    return [part.strip("\"'") for part in _PART.findall(key)]


def _inline(value: str) -> list[str]:
    """Keys of an inline table that stands whole on its line."""
    return [".".join(_parts(match[1])) for match in re.finditer(r"[{,]" + _KEY.pattern, value)] if "{" in value else []


def _still_open(value: str) -> str:
    """The value so far if it goes on in the next line, else empty."""
    for quotes in ('"""', "'''"):
        if value.count(quotes) % 2:
            return value
    bare = re.sub(r'"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|#[^\n]*', "", value)
    return value if bare.count("[") + bare.count("{") > bare.count("]") + bare.count("}") else ""
