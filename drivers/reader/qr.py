"""A reader of printed codes: a GM65 module that is put into a known mode at open, or any make that sends text."""

import asyncio
from collections import deque

from drivers.errors import DeviceError, DeviceMissing, DeviceRefused
from drivers.ports import BadScan, DeviceInfo, Scan
from drivers.reader import gm65
from drivers.reader.framing import IDLE_END_S, CommandReply, Framer, LineEnd, TextFramer
from drivers.reader.line import ScanLine
from drivers.reader.serial_port import SerialPort

TRIES = 3
REPLY_S = 0.5
HEARTBEAT_S = 10.0  # the module's own rule: every 10 s, three missed = dead
MISSED_MAX = 3
_KEPT_SCANS = 16  # codes shown while the module is being set up


class QrReader:
    """A `CodeReader`. With `configure` the module is a GM65: set up, verified, and asked for a sign of life.

    Without it nothing is ever sent: any make that sends a code as text (or in GM65 frames) will do.
    """

    def __init__(
        self,
        url: str,
        baud: int = 9600,
        *,
        framed: bool = False,
        line_end: LineEnd = LineEnd.NEWLINE,
        configure: bool = True,
        mode: gm65.ScanMode = gm65.ScanMode.CONTINUOUS,
        idle_end_s: float = IDLE_END_S,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self._url = url
        self._port = SerialPort(url, baud)
        self._framed = framed
        self._line_end = line_end
        self._idle_end_s = idle_end_s
        self._configure = configure
        self._mode = mode
        self._heartbeat_s = heartbeat_s
        self._line: ScanLine | None = None
        self._scans: deque[Scan | BadScan] = deque(maxlen=_KEPT_SCANS)
        self._beat_due_s = 0.0
        self._beat_sent_s = 0.0
        self._missed = 0

    async def open(self) -> DeviceInfo:
        """Open the line, set the module up. Raises DeviceMissing when it is silent, DeviceRefused when it won't."""
        await self._port.open()
        self._scans.clear()
        line = ScanLine(self._port, self._framer())
        if self._configure:
            try:
                for zone, value in gm65.settings(self._mode, framed=self._framed):
                    await self._set(line, zone, value)
            except DeviceError:
                await self._port.close()
                raise
        self._line = line
        self._missed = 0
        self._beat_due_s = asyncio.get_running_loop().time() + self._heartbeat_s
        return DeviceInfo(model="GM65" if self._configure else "QR reader", place=self._url, integrity="signature-only")

    async def read(self) -> Scan | BadScan:
        """The next code shown."""
        if self._line is None:
            raise DeviceMissing(f"{self._url}: the reader is not open; open it first")
        while not self._scans:
            token = await self._line.next(self._beat_due_s if self._configure else None)
            if isinstance(token, Scan | BadScan):
                return token
            if self._configure:
                self._watch(self._line)
        return self._scans.popleft()

    async def close(self) -> None:
        """Close the line."""
        self._line = None
        await self._port.close()

    def _framer(self) -> Framer:
        if self._framed:
            return gm65.Gm65FramedFramer()
        text = TextFramer(self._line_end, idle_end_s=self._idle_end_s)
        return gm65.Gm65TextFramer(text) if self._configure else text

    def _watch(self, line: ScanLine) -> None:
        """A bare UART does not show a pulled plug: ask for a sign of life when the line is quiet."""
        now_s = asyncio.get_running_loop().time()
        if line.heard_s > self._beat_sent_s:
            self._missed = 0
        if now_s < self._beat_due_s:
            return
        if self._missed >= MISSED_MAX:
            raise DeviceMissing(f"{self._url}: the reader no longer answers; check its plug, cable and supply")
        self._port.write(gm65.HEARTBEAT)
        self._missed += 1
        self._beat_sent_s = now_s
        self._beat_due_s = now_s + self._heartbeat_s

    async def _set(self, line: ScanLine, zone: gm65.Zone, value: int) -> None:
        answer = b""
        for _ in range(TRIES):
            written = await self._ask(line, gm65.write_zone(zone, value))
            answer = (await self._ask(line, gm65.read_zone(zone))).data
            if written.ok and answer == bytes([value]):
                return
        raise DeviceRefused(
            f"{self._url}: setting {zone:04X} reads back {answer.hex() or 'nothing'} instead of {value:02x}; "
            "this model does not know it: choose the plain driver and set the reader up with its setup codes"
        )

    async def _ask(self, line: ScanLine, command: bytes) -> CommandReply:
        """Send until answered. Scans that come in between are kept for `read`."""
        clock = asyncio.get_running_loop().time
        for _ in range(TRIES):
            self._port.write(command)
            until_s = clock() + REPLY_S
            while clock() < until_s:
                token = await line.next(until_s)
                if isinstance(token, CommandReply) and not token.heartbeat:
                    return token
                if isinstance(token, Scan | BadScan):
                    self._scans.append(token)
        raise DeviceMissing(
            f"{self._url}: nothing answers like a GM65; check cable, supply and baud, or choose the plain driver"
        )
