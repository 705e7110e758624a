"""One reader's line: chunks of a port through a framer, with silence told to the framer at the right moment."""

import asyncio
from collections import deque

from drivers.reader.framing import Framer, Token
from drivers.reader.serial_port import SerialPort


class ScanLine:
    """Tokens of an open port. Silence counts between bytes, not between calls: cancelling loses nothing."""

    def __init__(self, port: SerialPort, framer: Framer) -> None:
        self._port = port
        self._framer = framer
        self._tokens: deque[Token] = deque()
        self.heard_s = asyncio.get_running_loop().time()  # when the last bytes came

    async def next(self, until_s: float | None = None) -> Token | None:
        """The next token; None when the loop's clock reaches `until_s`. Raises DeviceMissing when the line is gone."""
        clock = asyncio.get_running_loop().time
        while not self._tokens:
            patience_s = self._framer.patience_s
            silent_at_s = None if patience_s is None else self.heard_s + patience_s
            asked_s = clock()
            chunk = await self._port.read(min((t for t in (silent_at_s, until_s) if t is not None), default=None))
            at_s = clock() if chunk is None else chunk.at_s
            # What arrives while we wait broke no silence that we saw: a late stamp only says that the loop was stalled.
            if silent_at_s is not None and at_s >= silent_at_s and (chunk is None or at_s < asked_s):
                self._tokens += self._framer.silence()
            if chunk is not None:
                self.heard_s = chunk.at_s
                self._tokens += self._framer.feed(chunk.data)
            elif until_s is not None and at_s >= until_s:
                break
        return self._tokens.popleft() if self._tokens else None
