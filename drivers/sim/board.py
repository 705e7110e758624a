"""A simulated GPIO board: gpiozero's mock pins with wires on their outer side. Drivers use it as they use a chip.

Importing this module imports gpiozero (the simulation runs the real drivers), never a hardware library.
"""

from collections.abc import Callable
from typing import Any

from gpiozero.exc import PinFixedPull, PinInvalidPull
from gpiozero.pins.mock import MockFactory, MockPin

from drivers.barrier.wiring import BarrierWiring, InputWire, Pull
from drivers.ports import Line, Relay


class SimPin(MockPin):  # type: ignore[misc] # gpiozero ships no types
    """A pin that feels what hangs on its wire, also when a driver claims it anew."""

    def __init__(self, factory: Any, info: Any) -> None:
        super().__init__(factory, info)
        self.wire: bool | None = None  # level that the wire imposes; None = nothing connected
        self.on_drive: Callable[[bool | None], None] | None = None  # our output level; None = not driven

    def connect(self, level: bool | None) -> None:
        """Impose a level from outside, or cut the wire."""
        self.wire = level
        self._settle()

    def output_with_state(self, state: bool) -> None:
        """Claim and level in one step, as the real pins do."""
        self._function = "output"
        self._change_state(bool(state))
        self._tell(bool(state))

    def _set_function(self, value: str) -> None:
        was_output = self._function == "output"
        super()._set_function(value)
        if was_output and value == "input":
            self._tell(None)

    def _set_state(self, value: bool) -> None:
        super()._set_state(value)
        self._tell(bool(value))

    def _set_pull(self, value: str) -> None:
        if self.function != "input":
            raise PinFixedPull(f"cannot set pull on non-input pin {self!r}")
        if value not in ("floating", "up", "down"):
            raise PinInvalidPull("pull must be floating, up, or down")
        self._pull = value
        self._settle()

    def _settle(self) -> None:
        if self._function != "input":
            return
        if self._pull == "up" if self.wire is None else self.wire:
            self.drive_high()
        else:
            self.drive_low()

    def _tell(self, level: bool | None) -> None:
        if self.on_drive is not None:
            self.on_drive(level)


class Terminals:
    """The terminal block of one barrier on the board."""

    def __init__(self, factory: MockFactory, wiring: BarrierWiring, on_relay: Callable[[Relay, bool], None]) -> None:
        self._inputs: dict[Line, tuple[SimPin, InputWire]] = {
            line: (factory.pin(wire.pin), wire) for line, wire in wiring.lines.items()
        }
        for relay, out in wiring.relays.items():
            factory.pin(out.pin).on_drive = _relay_listener(relay, out.active_high, on_relay)

    @property
    def lines(self) -> frozenset[Line]:
        """Lines that are wired."""
        return frozenset(self._inputs)

    def set(self, line: Line, active: bool | None) -> None:
        """Make a line active or clear, or cut its wire (None). A line that is not wired changes nothing."""
        if line not in self._inputs:
            return
        pin, wire = self._inputs[line]
        if active is None:
            pin.connect(None if wire.pull is not Pull.NONE else not wire.active_high)
        else:
            pin.connect(active == wire.active_high)


class SimBoard:
    """One chip with 28 pins; a `PinSource` for drivers, terminals for the simulated world."""

    def __init__(self, place: str = "gpiochip-sim") -> None:
        self.place = place
        self.factory = MockFactory(revision="c03111", pin_class=SimPin)

    def acquire(self) -> MockFactory:
        """The pin factory; the board outlives its drivers."""
        return self.factory

    def release(self) -> None:
        """Nothing to do: whatever a driver left claimed stays claimed, as on a chip."""

    def terminals(self, wiring: BarrierWiring, on_relay: Callable[[Relay, bool], None]) -> Terminals:
        """Connect a barrier. `on_relay` is called in whatever thread switches the relay."""
        return Terminals(self.factory, wiring, on_relay)


def _relay_listener(
    relay: Relay, active_high: bool, on_relay: Callable[[Relay, bool], None]
) -> Callable[[bool | None], None]:
    energised = False

    def driven(level: bool | None) -> None:
        nonlocal energised
        now = level is not None and level == active_high  # an undriven pin is held released by its resistor
        if now != energised:
            energised = now
            on_relay(relay, now)

    return driven
