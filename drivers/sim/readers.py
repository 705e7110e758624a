"""Simulated pass readers on a real pty: GM65 modules with their settings, and an RDM6300 with its repeating frames."""

import asyncio
from enum import StrEnum
from pathlib import Path

from drivers.reader import gm65
from drivers.reader.rdm6300 import frame_of
from drivers.sim.serial_line import Manner, SimSerialLine

REPEAT_S = 0.060  # of an RDM6300 while the tag is near
HOLD_S = 0.3  # how long a tag is held to the reader

# Zones 00 to 61 of a module as shipped: codes are read, but the serial output is not yet enabled.
ZONES_AS_SHIPPED = bytes.fromhex(
    "D600200000 0A32012C00873C01A11C32030080 0006 000000000000000000000000 02803C00000006000039010564"
    "0D0D0D010D0104800904800504800104800108048008048008048008048008018000000004800101 000000000480000003000100"
)


class Make(StrEnum):
    """What stands at the other end of the line."""

    GM65_TEXT = "gm65-text"
    GM65_FRAMED = "gm65-framed"
    RDM6300 = "rdm6300"


class SimGm65:
    """The module's inside: settings, commands in, replies and scans out. Knows no line."""

    def __init__(self, terminator: bytes = b"\r") -> None:
        self.zones = bytearray(ZONES_AS_SHIPPED)
        self.terminator = terminator
        self.ignored_zones: set[int] = set()  # settings this model does not know: it says ok and keeps its value
        self._line = b""

    def set_up(self, *, framed: bool) -> None:
        """The state a technician leaves behind."""
        for zone, value in gm65.settings(gm65.ScanMode.CONTINUOUS, framed=framed):
            self.zones[zone] = value

    def scan(self, code: bytes) -> bytes:
        """What the module sends for a code; nothing while its serial output is off."""
        serial_on = self.zones[gm65.Zone.OUTPUT] & 1 and self.zones[gm65.Zone.INTERFACE] & 3 == 0
        if not serial_on:
            return b""
        if not self.zones[gm65.Zone.TAIL] & 0x80:
            return code + self.terminator
        return gm65.framed_scan(code) if len(code) <= 0xFF else b""  # noqa: PLR2004 - one length byte

    def feed(self, data: bytes) -> bytes:
        """Take bytes of commands; the replies they earn."""
        line = self._line + data
        replies = b""
        while (start := line.find(gm65.COMMAND_HEADER)) >= 0:
            line = line[start:]
            size = 8 + line[3] if len(line) > 3 else 4  # noqa: PLR2004 - header, type, length, zone, data, CRC
            if len(line) < size:
                break
            body, crc = line[2 : size - 2], line[size - 2 : size]
            if crc in (gm65.crc16(body), gm65.NO_CHECK):
                replies += self._obey(body)
                line = line[size:]
            else:
                line = line[1:]
        self._line = line if start >= 0 else line[-1:]
        return replies

    def _obey(self, body: bytes) -> bytes:
        kind, zone, data = body[0], int.from_bytes(body[2:4], "big"), body[4:]
        match kind:
            case gm65.Kind.READ if len(data) == 1:
                return gm65.reply(bytes(self.zones[zone : zone + data[0]]))
            case gm65.Kind.WRITE:
                if zone + len(data) <= len(self.zones) and zone not in self.ignored_zones:
                    self.zones[zone : zone + len(data)] = data
                return gm65.reply(b"\x00")
            case gm65.Kind.SAVE:
                return gm65.reply(b"\x00")
            case gm65.Kind.HEARTBEAT:
                return gm65.reply(b"\x00", heartbeat=True)
        return b""


class SimSerialReader:
    """A reader in somebody's hands: show it codes, pull its plug. Make it inside a running loop; `close` at the end."""

    def __init__(
        self,
        make: Make | str,
        *,
        directory: Path | None = None,
        name: str = "reader",
        terminator: bytes = b"\r",
        manner: Manner = Manner.PERFECT,
        seed: int = 1,
        as_shipped: bool = False,
    ) -> None:
        self.make = Make(make)
        self.module = SimGm65(terminator)
        if not as_shipped:
            self.module.set_up(framed=self.make is Make.GM65_FRAMED)
        self.line = SimSerialLine(self._heard, directory=directory, name=name, manner=manner, seed=seed)
        self.mute = False  # powered off behind a UART: the line stays, nothing answers
        self._loop = asyncio.get_running_loop()
        self._repeat: asyncio.TimerHandle | None = None

    @property
    def url(self) -> str:
        """What the driver opens."""
        return self.line.url

    @property
    def dropped(self) -> int:
        """Bytes that nobody took."""
        return self.line.dropped

    def present(self, code: bytes, hold_s: float = HOLD_S) -> None:
        """Show a code, or hold a tag (ten hexadecimal digits) for `hold_s`. Raises ValueError for an impossible tag."""
        if self.make is Make.RDM6300:
            frame = frame_of(code)
            self.withdraw()
            self._push(frame, self._loop.time() + hold_s)
        elif not self.mute:
            self.line.send(self.module.scan(code))

    def withdraw(self) -> None:
        """Take the tag away."""
        if self._repeat is not None:
            self._repeat.cancel()
            self._repeat = None

    def unplug(self) -> None:
        """Pull the plug."""
        self.withdraw()
        self.line.unplug()

    def replug(self) -> None:
        """Plug in again; with a directory, under the same path."""
        self.line.replug()

    def close(self) -> None:
        """Put it away."""
        self.unplug()

    def _push(self, frame: bytes, until_s: float) -> None:
        if not self.mute:
            self.line.send(frame)
        left_s = until_s - self._loop.time()
        self._repeat = self._loop.call_later(REPEAT_S, self._push, frame, until_s) if left_s > 0 else None

    def _heard(self, data: bytes) -> None:
        if self.make is Make.RDM6300 or self.mute:
            return
        answer = self.module.feed(data)
        if answer:
            self.line.send(answer)
