"""Bytes of a line into codes, bounded whatever comes: the seam of all framers, and the framer of plain text lines.

Framers hold no clock and no port: bytes come in, finished codes go out, and the line tells them when it fell silent.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from drivers.ports import BadScan, Medium, Scan, ScanProblem

CODE_BYTES_MAX = 512  # a signed pass has about 200
IDLE_END_S = 0.050  # a code without terminator is over when the line is silent this long
STALE_S = 1.0  # a code whose terminator got lost must not spoil the next one


@dataclass(frozen=True, slots=True)
class CommandReply:
    """A reader's answer to a command; it shares the line with the scans."""

    ok: bool
    data: bytes
    heartbeat: bool = False


Token = Scan | BadScan | CommandReply


class Framer(Protocol):
    """Turns the bytes of one make into tokens. Never raises, whatever the bytes."""

    @property
    def patience_s(self) -> float | None:
        """After how much silence `silence` must be called; None while nothing is pending."""

    def feed(self, data: bytes) -> list[Token]:
        """What `data` completes."""

    def silence(self) -> list[Token]:
        """What ends, or is given up, because the line fell silent."""


class LineEnd(StrEnum):
    """What ends a code. CR, LF and CRLF are one: an empty line is no code. They end a code in every mode."""

    NEWLINE = "newline"
    TAB = "tab"
    SILENCE = "silence"


_ENDS = {
    LineEnd.NEWLINE: re.compile(rb"[\r\n]"),
    LineEnd.TAB: re.compile(rb"[\t\r\n]"),
    LineEnd.SILENCE: re.compile(rb"[\r\n]"),
}
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


class TextFramer:
    """Codes as characters, ended by `line_end`; nothing but the end is removed (a base45 token may end in a space)."""

    def __init__(
        self, line_end: LineEnd = LineEnd.NEWLINE, medium: Medium = Medium.QR, idle_end_s: float = IDLE_END_S
    ) -> None:
        self._line_end = line_end
        self._medium = medium
        self._idle_end_s = idle_end_s
        self._code = bytearray()  # kept up to the limit, dropped beyond
        self._size = 0  # of the code so far, kept or not

    @property
    def patience_s(self) -> float | None:
        """Silence that ends or spoils the code under way."""
        if not self._size:
            return None
        return self._idle_end_s if self._line_end is LineEnd.SILENCE else STALE_S

    def feed(self, data: bytes) -> list[Token]:
        """Codes that `data` completes."""
        tokens: list[Token] = []
        *ended, rest = _ENDS[self._line_end].split(data)
        for part in ended:
            self._take(part)
            tokens += self._finish(complete=True)
        self._take(rest)
        return tokens

    def silence(self) -> list[Token]:
        """The code under way: complete where silence is the end, else given up."""
        return self._finish(complete=self._line_end is LineEnd.SILENCE)

    def _take(self, part: bytes) -> None:
        self._size += len(part)
        if self._size <= CODE_BYTES_MAX:
            self._code += part

    def _finish(self, *, complete: bool) -> list[Token]:
        code, size = bytes(self._code), self._size
        self._code.clear()
        self._size = 0
        if not size:
            return []
        if size > CODE_BYTES_MAX:
            return [BadScan(ScanProblem.OVERSIZE, size, self._medium)]
        if not complete:
            return [BadScan(ScanProblem.FRAME, size, self._medium)]
        return [judged(code, self._medium)]


def judged(code: bytes, medium: Medium) -> Scan | BadScan:
    """A complete code, refused when it holds control characters."""
    if _CONTROL.search(code):
        return BadScan(ScanProblem.CONTROL_CHARACTERS, len(code), medium)
    return Scan(code, medium)
