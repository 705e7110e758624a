"""The public display of a lane: the latest sentence only, in both languages, as soon as the device can."""

import asyncio

from drivers.errors import DeviceError
from drivers.ports import DisplayPort
from edge.core.facts import Prompt
from edge.sense import Supervisor
from edge.sentences import sentence


class PublicDisplay:
    """Supervises one display. A display that fails holds up nothing."""

    def __init__(self, display: DisplayPort, supervisor: Supervisor) -> None:
        self._display, self._supervisor = display, supervisor
        self._prompt = Prompt.IDLE
        self._changed = asyncio.Event()

    def show(self, prompt: Prompt) -> None:
        """Show this next; never waits."""
        self._prompt = prompt
        self._changed.set()

    async def run(self) -> None:
        """Show, for ever."""
        while True:
            await self._supervisor.opened(self._display.open)
            try:
                while True:
                    await self._changed.wait()
                    self._changed.clear()
                    await self._display.show((sentence(self._prompt, "zh"), sentence(self._prompt, "en")))
            except DeviceError as e:
                self._supervisor.lost(e)
                self._changed.set()
                await self._display.close()
