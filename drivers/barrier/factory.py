"""gpiozero's lgpio pins, made fit for a barrier: the right chip or none, outputs claimed at their level in one step.

Importing this module imports gpiozero and lgpio; only `catalog` and tests with a stand-in for lgpio do.
"""

import errno
import importlib
import os
import re
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from drivers.errors import DeviceMissing, DeviceRefused

LABEL_PREFIX = "pinctrl-"  # pinctrl-bcm2835, -bcm2711, -rp1: the 40-pin header; other chips are expanders and firmware
_REVISION_OF_LABEL = {"pinctrl-rp1": 0xC04170}  # Pi 5; anything older has the header of a Pi 4
_REVISION_DEFAULT = 0xC03111


def import_lgpio(work_dir: Path | None = None) -> Any:
    """Import lgpio so that its notification FIFO lies in a writable directory and our own directory stays.

    lgpio makes `.lgd-nfy0` at import in $LG_WD or the working directory, fails on a read-only root, and with LG_WD
    set changes the process's working directory. Raises DeviceRefused.
    """
    if "lgpio" in sys.modules:
        return sys.modules["lgpio"]
    before = Path.cwd()
    os.environ.setdefault("LG_WD", str(work_dir or os.environ.get("RUNTIME_DIRECTORY") or tempfile.gettempdir()))
    place = os.environ["LG_WD"]
    if not os.access(place, os.W_OK | os.X_OK):
        raise DeviceRefused(f"lgpio needs a writable directory, {place} is none: set LG_WD or RuntimeDirectory=")
    try:
        return importlib.import_module("lgpio")
    except ImportError as e:
        raise DeviceRefused(f"the pin library lgpio cannot be loaded ({e}): install menwei[edge]") from e
    except OSError as e:
        raise DeviceRefused(f"lgpio could not start its notifications in {place} ({e}): set LG_WD") from e
    finally:
        os.chdir(before)


lgpio = import_lgpio()
# lgpio has to be imported in its own way before gpiozero does it.
from gpiozero.exc import PinUnknownPi  # noqa: E402
from gpiozero.pins.lgpio import LGPIOFactory, LGPIOPin  # noqa: E402
from gpiozero.pins.local import LocalPiPin, get_pi_revision  # noqa: E402


@contextmanager
def translated(place: str) -> Iterator[None]:
    """Errors of lgpio become ours, told apart by what to do next."""
    try:
        yield
    except lgpio.error as e:
        text = str(e.value)
        if "busy" in text.lower():
            raise DeviceRefused(f"{place} is busy: stop the other program that holds it") from e
        if "permission" in text.lower():
            raise DeviceRefused(f"{place}: no permission; add the service user to group gpio") from e
        raise DeviceMissing(f"{place}: {text}; is the chip there (gpioinfo)?") from e


class GatePin(LGPIOPin):  # type: ignore[misc] # gpiozero ships no types
    """A pin that stays untouched until it is claimed, and is then claimed once, in its final state."""

    def __init__(self, factory: Any, info: Any) -> None:
        # Not LGPIOPin.__init__: it claims every pin as a floating input first, which is half of the start-up pulse.
        LocalPiPin.__init__(self, factory, info)
        self._pwm = None
        self._bounce = None
        self._callback: Any = None
        self._edges = lgpio.BOTH_EDGES
        self._claimed = False
        self._place = f"{factory.place} pin {self._number}"

    def output_with_state(self, state: bool) -> None:
        """Claim as output at this level, in one request to the kernel."""
        with translated(self._place):
            lgpio.gpio_claim_output(self.factory._handle, self._number, int(state))  # noqa: SLF001 - gpiozero's way
        self._claimed = True

    def close(self) -> None:
        """Give the line back as it is: the kernel keeps a released relay released, a floating input would not."""
        if not self._claimed or self.factory._handle is None:  # noqa: SLF001
            return
        if self._callback is not None:
            self._callback.cancel()
            self._callback = None
        self._claimed = False
        with translated(self._place):
            lgpio.gpio_free(self.factory._handle, self._number)  # noqa: SLF001

    def _set_function(self, value: str) -> None:
        if value != "input":
            raise DeviceRefused(f"{self._place}: outputs are claimed with their level, never without")
        if not self._claimed:
            with translated(self._place):
                lgpio.gpio_claim_input(self.factory._handle, self._number, lgpio.SET_PULL_NONE)  # noqa: SLF001
            self._claimed = True

    def _get_state(self) -> bool:
        with translated(self._place):
            return bool(super()._get_state())

    def _set_state(self, value: bool) -> None:
        with translated(self._place):
            lgpio.gpio_write(self.factory._handle, self._number, int(value))  # noqa: SLF001

    def _set_pull(self, value: str) -> None:
        with translated(self._place):
            super()._set_pull(value)

    def _enable_event_detect(self) -> None:
        with translated(self._place):
            super()._enable_event_detect()

    def _disable_event_detect(self) -> None:
        # Upstream claims the line anew as a plain input here; nothing of ours needs that, closing frees it.
        if self._callback is not None:
            self._callback.cancel()
            self._callback = None


class GateFactory(LGPIOFactory):  # type: ignore[misc]
    """Pins of one named chip. Made explicitly; never a process-wide default, never another library instead."""

    def __init__(self, chip: int, label: str) -> None:
        self.place, self.label = f"gpiochip{chip}", label
        with translated(self.place):
            super().__init__(chip=chip)
        self.pin_class = GatePin
        # Upstream shares these between all factories of the process, whatever their chip.
        self.pins: dict[Any, Any] = {}
        self._reservations: Any = defaultdict(list)
        self._res_lock = threading.Lock()

    def _get_revision(self) -> int:
        try:
            return int(get_pi_revision())
        except (PinUnknownPi, OSError):
            # Only the header's layout hangs on it, and the kernel's own name of the chip says which header it is.
            return _REVISION_OF_LABEL.get(self.label, _REVISION_DEFAULT)


def open_factory(chip: int | None = None, dev: Path = Path("/dev")) -> GateFactory:
    """Pins of `chip`, or of the one chip labelled as a Raspberry Pi's header. Raises DeviceMissing, DeviceRefused."""
    if chip is not None:
        return GateFactory(chip, _label(chip, dev))
    labels = {number: _label(number, dev) for number in _chips(dev)}
    headers = [number for number, label in labels.items() if label.startswith(LABEL_PREFIX)]
    if not headers:
        seen = ", ".join(f"gpiochip{number} ({label})" for number, label in labels.items()) or "none"
        raise DeviceMissing(
            f"no GPIO chip named {LABEL_PREFIX}… in {dev} (seen: {seen}): is this a Raspberry Pi? else set `chip`"
        )
    return GateFactory(headers[0], labels[headers[0]])


def _chips(dev: Path) -> list[int]:
    found = (re.fullmatch(r"gpiochip(\d+)", path.name) for path in dev.glob("gpiochip*"))
    # Older kernels of the Pi 5 link gpiochip4 to the header's chip: the lowest number of the same label wins.
    return sorted(int(match[1]) for match in found if match)


def _label(chip: int, dev: Path) -> str:
    place, path = f"gpiochip{chip}", dev / f"gpiochip{chip}"
    if not path.exists():
        raise DeviceMissing(f"{path} does not exist: {os.strerror(errno.ENOENT)}; is the chip's driver loaded?")
    if not os.access(path, os.R_OK | os.W_OK):
        raise DeviceRefused(f"{path}: no permission; add the service user to group gpio")
    with translated(place):
        handle = lgpio.gpiochip_open(chip)
    try:
        with translated(place):
            _status, _lines, _name, label = lgpio.gpio_get_chip_info(handle)
    finally:
        lgpio.gpiochip_close(handle)
    return label.decode() if isinstance(label, bytes) else str(label)
