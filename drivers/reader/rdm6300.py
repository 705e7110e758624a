"""RDM6300 reader of EM4100 tags (125 kHz): pure framing, and the driver.

Frame `02 | 10 ASCII hex (version, 4 id bytes) | 2 ASCII hex checksum (xor of the 5 bytes) | 03`, pushed every 50
to 65 ms while a tag is near. EM4100 is unauthenticated and easily copied: never the only factor.
"""

from functools import reduce
from operator import xor

from drivers.errors import DeviceMissing
from drivers.ports import BadScan, DeviceInfo, Medium, Scan, ScanProblem
from drivers.reader.framing import Token
from drivers.reader.line import ScanLine
from drivers.reader.serial_port import SerialPort

STX, ETX = 0x02, 0x03
FRAME_BYTES = 14
TAG_HEX = 10
GONE_S = 1.0  # a tag silent this long has left; until then its repeats are one scan

_HEX = frozenset(b"0123456789ABCDEFabcdef")


def frame_of(tag: bytes) -> bytes:
    """The frame of a tag (10 ASCII hex bytes), as the reader pushes it. Raises ValueError."""
    if len(tag) != TAG_HEX or not _HEX.issuperset(tag):
        raise ValueError(f"{tag!r} is no EM4100 tag: ten hexadecimal digits belong here")
    return bytes([STX]) + tag + f"{_checksum(tag):02X}".encode() + bytes([ETX])


class Rdm6300Framer:
    """One scan per presence of a tag, and at most one complaint per presence of something unreadable."""

    def __init__(self) -> None:
        self._line = b""  # begins with STX; less than one frame
        self._tag: bytes | None = None
        self._complained = False

    @property
    def patience_s(self) -> float | None:
        """Silence after which a tag has left."""
        return GONE_S if self._line or self._tag or self._complained else None

    def feed(self, data: bytes) -> list[Token]:
        """Tags that `data` completes. Bytes outside frames are line noise and count for nothing."""
        tokens: list[Token] = []
        line = self._line + data
        while (start := line.find(STX)) >= 0 and len(line) - start >= FRAME_BYTES:
            frame, line = line[start : start + FRAME_BYTES], line[start:]
            problem = _problem(frame)
            if problem is None:
                tokens += self._seen(frame[1 : 1 + TAG_HEX].upper())
                line = line[FRAME_BYTES:]
            else:
                tokens += self._unreadable(problem, FRAME_BYTES)
                line = line[1:]  # the next frame may have begun inside this one
        self._line = line[start:] if start >= 0 else b""
        return tokens

    def silence(self) -> list[Token]:
        """The tag has left."""
        tokens = self._unreadable(ScanProblem.FRAME, len(self._line)) if self._line else []
        self._line, self._tag, self._complained = b"", None, False
        return tokens

    def _seen(self, tag: bytes) -> list[Token]:
        if tag == self._tag:
            return []
        self._tag = tag
        return [Scan(tag, Medium.EM4100)]

    def _unreadable(self, problem: ScanProblem, size: int) -> list[Token]:
        if self._tag or self._complained:  # a disturbed repeat of a tag already read is worth nothing
            return []
        self._complained = True
        return [BadScan(problem, size, Medium.EM4100)]


class Rdm6300Reader:
    """A `CodeReader` for cards: it only listens."""

    def __init__(self, url: str, baud: int = 9600) -> None:
        self._url = url
        self._port = SerialPort(url, baud)
        self._line: ScanLine | None = None

    async def open(self) -> DeviceInfo:
        """Open the line."""
        await self._port.open()
        self._line = ScanLine(self._port, Rdm6300Framer())
        return DeviceInfo(model="RDM6300", place=self._url, integrity="checksum")

    async def read(self) -> Scan | BadScan:
        """The next tag that is held to the reader."""
        if self._line is None:
            raise DeviceMissing(f"{self._url}: the reader is not open; open it first")
        while True:
            token = await self._line.next()
            if isinstance(token, Scan | BadScan):
                return token

    async def close(self) -> None:
        """Close the line."""
        self._line = None
        await self._port.close()


def _problem(frame: bytes) -> ScanProblem | None:
    if frame[-1] != ETX or not _HEX.issuperset(frame[1:-1]):
        return ScanProblem.FRAME
    if _checksum(frame[1 : 1 + TAG_HEX]) != int(frame[-3:-1], 16):
        return ScanProblem.CHECKSUM
    return None


def _checksum(tag: bytes) -> int:
    return reduce(xor, bytes.fromhex(tag.decode("ascii")))
