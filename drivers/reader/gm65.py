"""GM65 / GM861 / GM805 QR modules (Hangzhou Grow): commands, replies, and the two ways they send a scan.

Command `7E 00 | type | len | zone(2) | data | crc(2)`; reply `02 00 | 00 = ok | len | data | crc(2)`, to a heartbeat
with `03 00` in front; framed scan `03 00 | len | data`; text scan: the characters and a terminator. All share one line.
CRC-16/XMODEM over everything behind the two header bytes. Source: GM65, GM65-S and GM861 manuals.
"""

import re
from binascii import crc_hqx
from enum import IntEnum

from drivers.ports import BadScan, Medium, ScanProblem
from drivers.reader.framing import CommandReply, Framer, Token, judged

COMMAND_HEADER = b"\x7e\x00"
REPLY_HEADER = b"\x02\x00"
NO_CHECK = b"\xab\xcd"  # taken by the module in place of a CRC
FRAME_PATIENCE_S = 0.25  # bytes of a frame follow each other within 1 ms at 9600 Bd, adapters hold them some 16 ms

_SCAN_BYTES_AROUND = 3
_REPLY_BYTES_AROUND = 6
_HEADER_BYTE = re.compile(rb"[\x02\x03]")
_REPLY_START = re.compile(rb"\x02(?:\x00|\Z)|\x03(?:\x00(?:\x00|\Z)|\Z)")  # or what may become one with the next byte


class Kind(IntEnum):
    """Types of command."""

    READ = 0x07
    WRITE = 0x08
    SAVE = 0x09
    HEARTBEAT = 0x0A


class Zone(IntEnum):
    """Settings bytes that a gate depends on."""

    MODE = 0x0000
    OUTPUT = 0x0003
    INTERFACE = 0x000D
    TAIL = 0x0060


class ScanMode(IntEnum):
    """When the module looks for a code (zone 0000 with light and sound on)."""

    MANUAL = 0xD4
    COMMAND = 0xD5
    CONTINUOUS = 0xD6
    INDUCTION = 0xD7


OUTPUT_ENABLED = 0x01
INTERFACE_SERIAL = 0xA0
TAIL_CR = 0x01
TAIL_FRAMED = 0x81


def command(kind: Kind, zone: int, data: bytes) -> bytes:
    """A command frame."""
    body = bytes([kind, len(data)]) + zone.to_bytes(2, "big") + data
    return COMMAND_HEADER + body + crc16(body)


def write_zone(zone: int, value: int) -> bytes:
    """Set one settings byte (lost at power-off unless saved)."""
    return command(Kind.WRITE, zone, bytes([value]))


def read_zone(zone: int, count: int = 1) -> bytes:
    """Ask for `count` settings bytes."""
    return command(Kind.READ, zone, bytes([count]))


def reply(data: bytes, *, ok: bool = True, heartbeat: bool = False) -> bytes:
    """A reply frame, as the module sends it."""
    body = bytes([0 if ok else 1, len(data)]) + data
    return (b"\x03\x00" if heartbeat else REPLY_HEADER) + body + crc16(body)


def framed_scan(code: bytes) -> bytes:
    """A scan in framed mode, as the module sends it. Raises ValueError beyond 255 bytes."""
    return b"\x03\x00" + bytes([len(code)]) + code


def crc16(body: bytes) -> bytes:
    """CRC-16/XMODEM (polynomial 1021, start 0000), high byte first."""
    return crc_hqx(body, 0).to_bytes(2, "big")


SAVE = command(Kind.SAVE, 0x0000, b"\x00")
HEARTBEAT = command(Kind.HEARTBEAT, 0x0000, b"\x00")
TRIGGER = write_zone(0x0002, 0x01)


def settings(mode: ScanMode, *, framed: bool) -> tuple[tuple[Zone, int], ...]:
    """What a gate writes at every start (a printed setup code may have changed any of it)."""
    return (
        (Zone.MODE, mode),
        (Zone.OUTPUT, OUTPUT_ENABLED),
        (Zone.INTERFACE, INTERFACE_SERIAL),
        (Zone.TAIL, TAIL_FRAMED if framed else TAIL_CR),
    )


class Gm65TextFramer:
    """Takes replies out of a text line (text never has 00 as second byte) and leaves the rest to a text framer."""

    def __init__(self, text: Framer) -> None:
        self._text = text
        self._held = b""  # what may still become a reply, at most one

    @property
    def patience_s(self) -> float | None:
        """Silence that gives up a reply, else that of the text."""
        return FRAME_PATIENCE_S if self._held else self._text.patience_s

    def feed(self, data: bytes) -> list[Token]:
        """Codes and replies that `data` completes."""
        line, self._held = self._held + data, b""
        tokens: list[Token] = []
        while start := _REPLY_START.search(line):
            tokens += self._text.feed(line[: start.start()])
            line = line[start.start() :]
            answer, used = _reply_at(line)
            if not used:
                self._held = line
                return tokens
            tokens += [answer] if answer else self._text.feed(line[:used])
            line = line[used:]
        return tokens + self._text.feed(line)

    def silence(self) -> list[Token]:
        """What was held was no reply."""
        tokens: list[Token] = []
        while self._held:
            held, self._held = self._held, b""
            tokens += self._text.feed(held[:1]) + self.feed(held[1:])  # a real reply may lie inside a false one
        return tokens + self._text.silence()


class Gm65FramedFramer:
    """Scans and replies as length-prefixed frames; hunts for the next header after anything else."""

    def __init__(self) -> None:
        self._line = b""  # begins with a header byte; at most one frame
        self._skipped = 0  # bytes since the last frame that belong to none

    @property
    def patience_s(self) -> float | None:
        """Silence that gives up a frame under way."""
        return FRAME_PATIENCE_S if self._line or self._skipped else None

    def feed(self, data: bytes) -> list[Token]:
        """Codes and replies that `data` completes."""
        line = self._line + data
        tokens: list[Token] = []
        while line:
            token, used = _frame_at(line)
            if token is None and not used:
                break
            if token is None:
                self._skipped += used
            else:
                tokens += [*self._noise(), token]
            line = line[used:]
        self._line = line
        return tokens

    def silence(self) -> list[Token]:
        """The frame under way will not come."""
        tokens: list[Token] = []
        while self._line:
            self._skipped += 1
            self._line = self._line[1:]
            tokens += self.feed(b"")  # a real frame may lie inside a false one
        return tokens + self._noise()

    def _noise(self) -> list[Token]:
        skipped, self._skipped = self._skipped, 0
        return [BadScan(ScanProblem.FRAME, skipped, Medium.QR)] if skipped else []


def _frame_at(line: bytes) -> tuple[Token | None, int]:
    """Token at the start of the line and the bytes it used; (None, n) skips n bytes, (None, 0) waits for more."""
    if line[0] not in REPLY_HEADER[:1] + b"\x03":
        header = _HEADER_BYTE.search(line)
        return None, header.start() if header else len(line)
    if len(line) < _SCAN_BYTES_AROUND:
        return None, 1 if line[1:2] not in (b"", b"\x00") else 0
    if line[1] != 0:
        return None, 1
    if line[0] == REPLY_HEADER[0] or line[2] == 0:  # a scan of no bytes does not exist: this answers a heartbeat
        return _reply_at(line)
    used = _SCAN_BYTES_AROUND + line[2]
    if len(line) < used:
        return None, 0
    code = line[_SCAN_BYTES_AROUND:used]
    lost = (code + line[used : used + 1]).find(b"\x03\x00")
    if lost >= 0:  # a byte got lost and this frame swallowed the head of the next
        return None, _SCAN_BYTES_AROUND + lost
    return judged(code, Medium.QR), used


def _reply_at(line: bytes) -> tuple[CommandReply | None, int]:
    """Reply at the start of the line and the bytes it used; (None, 1) when it is none, (None, 0) to wait for more."""
    if len(line) < 4 or len(line) < (used := _REPLY_BYTES_AROUND + line[3]):  # noqa: PLR2004 - up to the length byte
        return None, 0
    body, crc = line[2 : used - 2], line[used - 2 : used]
    if crc != crc16(body):
        return None, 1
    return CommandReply(ok=body[0] == 0, data=body[2:], heartbeat=line[:1] == b"\x03"), used
