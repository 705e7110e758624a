"""The seams of the house: what a gate asks of each device, and the small values that pass through.

Every Protocol here has at least one real driver and is exercised by simulated hardware beneath that driver. All methods
are called from one asyncio loop; a driver that must block does so in a thread of its own. `close` is idempotent.
Errors are those of `drivers.errors`, nothing else.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """What stands behind a port: for the self-description, the doctor and the log."""

    model: str
    place: str  # "i2c-1@5a", "/dev/menwei-reader-1", "gpiochip0"
    integrity: str  # how a transfer is proved: "pec", "kernel-pec", "none", "checksum", "signature-only"


@dataclass(frozen=True, slots=True)
class ThermometerSample:
    """One sound measurement, in hundredths of a degree Celsius (the sensor's own grid; never a float)."""

    object_centi_c: int
    ambient_centi_c: int


class Thermometer(Protocol):
    """An infrared thermometer that measures a surface in front of it."""

    async def open(self) -> DeviceInfo:
        """Find the device and say what it is. Raises DeviceMissing, DeviceRefused."""

    async def sample(self) -> ThermometerSample:
        """One measurement, retried within the driver as its datasheet allows.

        Raises TransferFailed, ValueRefused, DeviceMissing.
        """

    async def close(self) -> None:
        """Let go of the bus."""


class Medium(StrEnum):
    """What carried a code to the gate."""

    QR = "qr"
    EM4100 = "em4100"


class ScanProblem(StrEnum):
    """Why what came over the line is no code."""

    OVERSIZE = "oversize"
    CHECKSUM = "checksum"
    CONTROL_CHARACTERS = "control-characters"
    FRAME = "frame"


@dataclass(frozen=True, slots=True)
class Scan:
    """One complete code, terminator removed and nothing else (a base45 token may end in a space)."""

    payload: bytes
    medium: Medium


@dataclass(frozen=True, slots=True)
class BadScan:
    """Something was presented that cannot be a code. `size` counts the bytes seen; the bytes themselves are dropped."""

    problem: ScanProblem
    size: int
    medium: Medium


class CodeReader(Protocol):
    """A reader of printed codes or cards."""

    async def open(self) -> DeviceInfo:
        """Open the line and, where the make allows it, put the reader into a known mode.

        Raises DeviceMissing, DeviceRefused.
        """

    async def read(self) -> Scan | BadScan:
        """Wait for the next presented code. Cancelling loses nothing.

        Raises DeviceMissing when the line is gone (then reopen).
        """

    async def close(self) -> None:
        """Close the line."""


class Relay(StrEnum):
    """Outputs of a barrier: dry contacts to the operator's OPEN, CLOSE and STOP inputs."""

    OPEN = "open"
    CLOSE = "close"
    STOP = "stop"


class Line(StrEnum):
    """Inputs of a barrier and its surroundings."""

    LIMIT_OPEN = "limit_open"
    LIMIT_CLOSED = "limit_closed"
    LOOP = "loop"  # presence under the arm, fail-safe: cut wire = occupied
    APPROACH = "approach"  # presence in front of the arm (loop or motion detector): somebody wants something
    PHOTOCELL = "photocell"  # fail-safe: cut wire = interrupted
    FIRE = "fire"  # normally closed: cut wire = fire
    KEY = "key"  # the guard's key switch
    STOP = "stop"  # local stop button


@dataclass(frozen=True, slots=True)
class LineChange:
    """An edge seen at an input: `active` in the line's own meaning (limit reached, obstructed, fire, key turned)."""

    line: Line
    active: bool
    mono_ns: int  # CLOCK_MONOTONIC at the edge, taken in the callback


class BarrierPort(Protocol):
    """The wires of one barrier: three relays out, the lines of `Line` in. It knows nothing of positions or rules."""

    async def open(self, on_change: Callable[[LineChange], None]) -> DeviceInfo:
        """Claim every line, outputs at their released level in the claiming step itself (no start-up pulse).

        `on_change` is called from any thread, must not block, and gets safety inputs on their first active edge
        (only the release is debounced). Raises DeviceMissing, DeviceRefused.
        """

    def levels(self) -> Mapping[Line, bool]:
        """Present level of each wired line, read from the hardware now. Raises DeviceMissing.

        FIRE counts as active once it has been so for 200 ms, as with the edges.
        """

    def pulse(self, relay: Relay, duration_ms: int) -> None:
        """Energise a relay for `duration_ms`, then release it even if the caller stalls; returns at once.

        Last-line interlock: energising OPEN or CLOSE while the other is energised, or less than 300 ms after it was
        released, raises DeviceRefused and moves nothing; at most 30 ms too early it waits for the rest of the 300 ms
        instead (the caller cannot see when the release really came), unless `release` comes first. STOP also releases
        OPEN and CLOSE, and is no more than that where no STOP relay is wired.
        Raises DeviceMissing when the chip is gone.
        """

    def release(self) -> None:
        """Release OPEN and CLOSE now (used before STOP and at every end of a process)."""

    async def close(self) -> None:
        """Release all relays, then let go of the lines."""


class DisplayPort(Protocol):
    """A roadside display of a few short lines."""

    async def open(self) -> DeviceInfo:
        """Find the display. Raises DeviceMissing, DeviceRefused."""

    async def show(self, lines: tuple[str, ...]) -> None:
        """Replace what is shown. Raises DeviceMissing, TransferFailed."""

    async def close(self) -> None:
        """Blank and let go."""
