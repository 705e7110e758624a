"""Where a barrier gets its pins from: a gpiozero pin factory, made on first use, shared by all barriers of a chip."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from gpiozero.pins import Factory


class PinSource(Protocol):
    """Lends a pin factory to drivers."""

    @property
    def place(self) -> str:
        """Name of the chip for messages: "gpiochip0"."""

    def acquire(self) -> "Factory":
        """The factory; each successful call is paired with one `release`. Raises DeviceMissing, DeviceRefused."""

    def release(self) -> None:
        """Give it back; the last one closes the chip."""


class SharedPins:
    """Opens the chip for the first driver, closes it after the last. Thread-safe."""

    def __init__(self, make: Callable[[], "Factory"], place: str) -> None:
        self._make, self._place = make, place
        self._lock = threading.Lock()
        self._factory: Factory | None = None
        self._users = 0

    @property
    def place(self) -> str:
        """Name of the chip."""
        return self._place

    def acquire(self) -> "Factory":
        """See PinSource."""
        with self._lock:
            if self._factory is None:
                self._factory = self._make()
            self._users += 1
            return self._factory

    def release(self) -> None:
        """See PinSource."""
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._factory is not None:
                self._factory.close()
                self._factory = None
