"""Strict TOML: all mistakes of a file at once, each with file, line, path and what is allowed. Placeholder for its contract."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing wrong in a file."""

    path: str  # "lanes[1].barrier.pulse_ms"
    line: int | None
    message: str  # what is wrong and what is allowed


class ConfigError(Exception):
    """A file that cannot be used; `str()` lists every mistake, one line each: `file:line: path: message`."""

    def __init__(self, file: Path, mistakes: list[Mistake]) -> None:
        self.file, self.mistakes = file, mistakes
        super().__init__("\n".join(f"{file}{f':{m.line}' if m.line else ''}: {m.path}: {m.message}" for m in mistakes))


def load(file: Path, into: type[T]) -> T:
    """Read `file` into the msgspec Struct `into`. Raises ConfigError with every mistake; nothing is half loaded."""
    raise NotImplementedError
