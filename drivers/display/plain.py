"""Displays without hardware: one that shows nothing, one that writes to the log of the service."""

import logging

from drivers.ports import DeviceInfo

log = logging.getLogger(__name__)


class NoDisplay:
    """A lane without a public display."""

    async def open(self) -> DeviceInfo:
        """Nothing to find."""
        return DeviceInfo(model="none", place="none", integrity="none")

    async def show(self, lines: tuple[str, ...]) -> None:
        """Nothing to show on."""

    async def close(self) -> None:
        """Nothing to close."""


class ConsoleDisplay:
    """Writes each text once into the log: a bench, a training room."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._shown: tuple[str, ...] = ()

    async def open(self) -> DeviceInfo:
        """Ready at once."""
        return DeviceInfo(model="console", place=self._name, integrity="none")

    async def show(self, lines: tuple[str, ...]) -> None:
        """Log the text if it changed."""
        if lines != self._shown:
            self._shown = lines
            log.info("display", extra={"fields": {"lane": self._name, "text": " / ".join(lines)}})

    async def close(self) -> None:
        """Blank."""
        self._shown = ()
