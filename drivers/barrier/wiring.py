"""Which wire goes where: the pins of one barrier, and what each level means."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from drivers.ports import Line, Relay

PIN_MAX = 27  # BCM numbers of the 40-pin header


class Pull(StrEnum):
    """Resistor inside the chip that holds an open input."""

    UP = "up"
    DOWN = "down"
    NONE = "none"  # an external resistor does it


@dataclass(frozen=True, slots=True)
class RelayWire:
    """A relay output. Active-high boards with an external pull-down are the safe choice (README, wiring)."""

    pin: int
    active_high: bool = True


@dataclass(frozen=True, slots=True)
class InputWire:
    """A line in: the level that means `active` in the line's own sense, and what holds the pin when a wire is cut."""

    pin: int
    active_high: bool
    pull: Pull = Pull.UP

    @property
    def cut_means_active(self) -> bool:
        """What a cut wire reads as; no safety line may answer False."""
        return self.active_high if self.pull is Pull.UP else not self.active_high


def contact_to_ground(pin: int, *, closed_is_active: bool) -> InputWire:
    """A dry contact between pin and ground. Fail-safe lines have `closed_is_active=False`: cut wire = active."""
    return InputWire(pin, active_high=not closed_is_active, pull=Pull.UP)


FAIL_SAFE_LINES = frozenset({Line.LOOP, Line.PHOTOCELL, Line.FIRE, Line.STOP})


@dataclass(frozen=True)
class BarrierWiring:
    """All wires of one barrier. Raises ValueError for wiring that cannot be safe."""

    relays: Mapping[Relay, RelayWire]
    lines: Mapping[Line, InputWire] = field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = [relay.value for relay in (Relay.OPEN, Relay.CLOSE) if relay not in self.relays]
        if missing:
            raise ValueError(f"relay {' and '.join(missing)} is not wired: a barrier needs OPEN and CLOSE")
        used: dict[int, str] = {}
        wires: list[tuple[str, RelayWire | InputWire]] = [*self.relays.items(), *self.lines.items()]
        for name, wire in wires:
            if not 0 <= wire.pin <= PIN_MAX:
                raise ValueError(f"{name}: there is no pin {wire.pin}; use 0 to {PIN_MAX} (BCM numbers)")
            if wire.pin in used:
                raise ValueError(f"{name}: pin {wire.pin} is already used by {used[wire.pin]}")
            used[wire.pin] = name
        for line in FAIL_SAFE_LINES & self.lines.keys():
            if not self.lines[line].cut_means_active or self.lines[line].pull is Pull.NONE:
                raise ValueError(
                    f"{line}: a cut wire would read as clear; wire a contact that is closed while clear, with a pull"
                )
