"""Names in a configuration to drivers. A hardware library is imported only when a driver that needs it is asked for."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from drivers.barrier.pins import PinSource, SharedPins
from drivers.barrier.wiring import BarrierWiring
from drivers.ports import BarrierPort, CodeReader, DisplayPort, Thermometer

if TYPE_CHECKING:
    from gpiozero.pins import Factory

    from drivers.thermometer.smbus import Buses, SharedBus


class UnknownDriver(LookupError):  # noqa: N818 - named by the condition
    """There is no driver of this name; the text lists those there are."""


class Shelf:
    """Makes drivers; buses and chips are shared by all that hang on them. Opens nothing by itself."""

    def __init__(
        self,
        pins: Callable[[int | None], PinSource] | None = None,
        buses: "Callable[[int | str], SharedBus] | None" = None,
    ) -> None:
        """`pins` and `buses` stand in for this machine's own (a simulated board, a simulated bus)."""
        self._pins_of, self._bus_of = pins or _this_machine, buses
        self._pins: dict[int | None, PinSource] = {}
        self._buses: Buses | None = None

    def thermometer(self, driver: str, *, bus: int | str, address: int) -> Thermometer:
        """Raises UnknownDriver."""
        if driver != "mlx90614":
            raise _unknown("thermometer", driver, THERMOMETERS)
        from drivers.thermometer.mlx90614 import Mlx90614  # noqa: PLC0415 - see the module's first line

        return Mlx90614(self._bus(bus), address)

    def reader(self, driver: str, *, url: str, baud: int) -> CodeReader:
        """Raises UnknownDriver."""
        if driver == "rdm6300":
            from drivers.reader.rdm6300 import Rdm6300Reader  # noqa: PLC0415

            return Rdm6300Reader(url, baud)
        if driver not in READERS:
            raise _unknown("reader", driver, READERS)
        from drivers.reader.qr import QrReader  # noqa: PLC0415

        return QrReader(url, baud, configure=driver == "gm65")

    def barrier(
        self,
        driver: str,
        *,
        wiring: BarrierWiring,
        chip: int | None,
        name: str,
        pace: float | Callable[[], float] = 1.0,
    ) -> BarrierPort:
        """Raises UnknownDriver."""
        if driver not in BARRIERS:
            raise _unknown("barrier", driver, BARRIERS)
        from drivers.barrier.gpio import GpioBarrier  # noqa: PLC0415

        if chip not in self._pins:
            self._pins[chip] = self._pins_of(chip)
        return GpioBarrier(wiring, self._pins[chip], pace=pace, name=name)

    def display(self, driver: str, *, name: str) -> DisplayPort:
        """Raises UnknownDriver."""
        from drivers.display.plain import ConsoleDisplay, NoDisplay  # noqa: PLC0415

        if driver == "none":
            return NoDisplay()
        if driver == "console":
            return ConsoleDisplay(name)
        raise _unknown("display", driver, DISPLAYS)

    def _bus(self, bus: int | str) -> "SharedBus":
        if self._bus_of is not None:
            return self._bus_of(bus)
        if self._buses is None:
            from drivers.thermometer.smbus import Buses  # noqa: PLC0415

            self._buses = Buses()
        return self._buses.bus(bus)


THERMOMETERS = ("mlx90614",)
READERS = ("gm65", "serial-text", "rdm6300")
BARRIERS = ("gpio",)
DISPLAYS = ("none", "console")


def _this_machine(chip: int | None) -> PinSource:
    def make() -> "Factory":
        from drivers.barrier.factory import open_factory  # noqa: PLC0415

        return open_factory(chip)

    return SharedPins(make, "gpiochip" if chip is None else f"gpiochip{chip}")


def _unknown(what: str, driver: str, known: tuple[str, ...]) -> UnknownDriver:
    return UnknownDriver(f"there is no {what} driver {driver!r}; there are {', '.join(known)}")
