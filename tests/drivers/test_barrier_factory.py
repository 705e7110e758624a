"""Claims on the wire: a stand-in for lgpio records every call, so that no start-up pulse can hide."""

import asyncio
import importlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from drivers.barrier.gpio import GpioBarrier
from drivers.barrier.pins import SharedPins
from drivers.barrier.wiring import BarrierWiring, RelayWire, contact_to_ground
from drivers.errors import DeviceMissing, DeviceRefused
from drivers.ports import Line, LineChange, Relay

HANDLE = 7
OUT, ALERT = 1 << 1, 1 << 10


class LgpioError(Exception):
    def __init__(self, value: str) -> None:
        super().__init__(value)
        self.value = value


class RecordingLgpio(ModuleType):
    """The part of lgpio that gpiozero speaks, with kernel-like lines and a list of every call."""

    error = LgpioError
    SET_PULL_NONE, SET_PULL_UP, SET_PULL_DOWN = 128, 32, 64
    BOTH_EDGES, RISING_EDGE, FALLING_EDGE = 3, 1, 2

    def __init__(self, labels: dict[int, str]) -> None:
        super().__init__("lgpio")
        self.labels, self.calls = labels, list[tuple[Any, ...]]()
        self.modes, self.levels, self.callbacks = dict[int, int](), dict[int, int](), dict[int, Callable[..., None]]()
        self.busy: set[int] = set()
        self.gone = False

    def gpiochip_open(self, chip: int) -> int:
        if chip not in self.labels:
            raise LgpioError("can not open gpiochip")
        return HANDLE + chip

    def gpiochip_close(self, handle: int) -> None:
        self.calls.append(("close", handle - HANDLE))

    def gpio_get_chip_info(self, handle: int) -> list[object]:
        return [0, 54, f"gpiochip{handle - HANDLE}", self.labels[handle - HANDLE]]

    def gpio_claim_output(self, _handle: int, line: int, level: int = 0, _flags: int = 0) -> None:
        self._check(line)
        self.calls.append(("output", line, level))
        self.modes[line], self.levels[line] = OUT, level

    def gpio_claim_input(self, _handle: int, line: int, flags: int = 0) -> None:
        self._check(line)
        self.calls.append(("input", line, flags))
        self.modes[line] = flags
        self.levels[line] = 1 if flags & self.SET_PULL_UP else 0

    def gpio_claim_alert(self, _handle: int, line: int, _edges: int, flags: int = 0) -> None:
        self.calls.append(("alert", line, flags))
        self.modes[line] = flags | ALERT

    def gpio_free(self, _handle: int, line: int) -> None:
        self.calls.append(("free", line))

    def gpio_get_mode(self, _handle: int, line: int) -> int:
        return self.modes.get(line, 0)

    def gpio_read(self, _handle: int, line: int) -> int:
        self._check(line)
        return self.levels[line]

    def gpio_write(self, _handle: int, line: int, level: int) -> None:
        self._check(line)
        self.calls.append(("write", line, level))
        self.levels[line] = level

    def callback(self, _handle: int, line: int, _edges: int, func: Callable[..., None]) -> "RecordingLgpio":
        self.callbacks[line] = func
        return self

    def cancel(self) -> None:
        pass

    def edge(self, line: int, level: int) -> None:
        """What lgpio's thread does; it has no try/except."""
        self.levels[line] = level
        self.callbacks[line](0, line, level, 123_456_789)

    def of(self, line: int) -> list[tuple[Any, ...]]:
        return [call for call in self.calls if call[0] != "close" and call[1] == line]

    def _check(self, line: int) -> None:
        if self.gone:
            raise LgpioError("bad GPIO write")
        if line in self.busy:
            raise LgpioError("GPIO busy")


SPOILED = ("lgpio", "gpiozero.pins.lgpio", "drivers.barrier.factory")


@pytest.fixture
def lgpio(monkeypatch: pytest.MonkeyPatch) -> Iterator[RecordingLgpio]:
    fake = RecordingLgpio({0: "pinctrl-bcm2711", 1: "raspberrypi-exp-gpio"})
    kept = {name: sys.modules.pop(name) for name in SPOILED if name in sys.modules}
    monkeypatch.setitem(sys.modules, "lgpio", fake)
    yield fake
    for name in SPOILED[1:]:
        sys.modules.pop(name, None)
    sys.modules.update(kept)


@pytest.fixture
def dev(tmp_path: Path) -> Path:
    for name in ("gpiochip0", "gpiochip1"):
        (tmp_path / name).touch()
    return tmp_path


def factory_module() -> Any:
    return importlib.import_module("drivers.barrier.factory")


def barrier(dev: Path, *, active_high: bool = True) -> GpioBarrier:
    wiring = BarrierWiring(
        {Relay.OPEN: RelayWire(17, active_high), Relay.CLOSE: RelayWire(18, active_high)},
        {Line.LOOP: contact_to_ground(20, closed_is_active=False)},
    )
    return GpioBarrier(wiring, SharedPins(lambda: factory_module().open_factory(dev=dev), "gpiochip0"))


@pytest.mark.parametrize("active_high", [True, False])
async def test_a_relay_is_claimed_once_at_its_released_level(
    lgpio: RecordingLgpio, dev: Path, active_high: bool
) -> None:
    released = 0 if active_high else 1
    device = barrier(dev, active_high=active_high)
    await device.open(lambda _: None)
    assert lgpio.of(17) == [("output", 17, released)]  # nothing before it, nothing after it
    assert lgpio.of(18) == [("output", 18, released)]
    device.pulse(Relay.OPEN, 20)
    deadline = time.monotonic() + 5
    while len(lgpio.of(17)) < 3 and time.monotonic() < deadline:
        await asyncio.sleep(0.002)
    assert lgpio.of(17)[1:] == [("write", 17, 1 - released), ("write", 17, released)]
    await device.close()
    # Released before it is freed, and never turned into a floating input: the kernel keeps the released level.
    assert lgpio.of(17)[3:] == [("write", 17, released), ("free", 17)]
    assert lgpio.calls[-1] == ("close", 0)


async def test_edges_reach_the_listener_and_pulls_are_kept(lgpio: RecordingLgpio, dev: Path) -> None:
    seen: list[LineChange] = []
    device = barrier(dev)
    await device.open(seen.append)
    assert lgpio.of(20)[-1] == ("alert", 20, lgpio.SET_PULL_UP)
    assert device.levels() == {Line.LOOP: True}  # nothing connected
    lgpio.edge(20, 0)
    deadline = time.monotonic() + 5
    while not seen and time.monotonic() < deadline:
        await asyncio.sleep(0.002)
    assert [(change.line, change.active) for change in seen] == [(Line.LOOP, False)]
    await device.close()


async def test_a_busy_line_is_refused_and_nothing_stays_claimed(lgpio: RecordingLgpio, dev: Path) -> None:
    lgpio.busy.add(18)
    device = barrier(dev)
    with pytest.raises(DeviceRefused, match="pin 18 is busy: stop the other program"):
        await device.open(lambda _: None)
    assert lgpio.of(17)[-1] == ("free", 17)
    assert lgpio.calls[-1] == ("close", 0)
    lgpio.busy.clear()
    await device.open(lambda _: None)
    await device.close()


async def test_a_chip_that_goes_away_is_missing(lgpio: RecordingLgpio, dev: Path) -> None:
    device = barrier(dev)
    await device.open(lambda _: None)
    lgpio.gone = True
    with pytest.raises(DeviceMissing, match="bad GPIO write"):
        device.pulse(Relay.OPEN, 100)
    with pytest.raises(DeviceMissing):
        device.levels()
    await device.close()


def test_the_header_is_found_by_its_label_not_by_its_number(lgpio: RecordingLgpio, dev: Path) -> None:
    lgpio.labels = {0: "raspberrypi-exp-gpio", 1: "pinctrl-rp1"}
    assert factory_module().open_factory(dev=dev).place == "gpiochip1"
    assert factory_module().open_factory(0, dev=dev).place == "gpiochip0"  # unless the configuration says so


def test_no_header_is_missing_and_names_what_was_seen(lgpio: RecordingLgpio, dev: Path) -> None:
    lgpio.labels = {0: "gpio-mockup-A", 1: "ftdi"}
    with pytest.raises(DeviceMissing, match=r"gpiochip0 \(gpio-mockup-A\), gpiochip1 \(ftdi\)"):
        factory_module().open_factory(dev=dev)


@pytest.mark.usefixtures("lgpio")
def test_a_configured_chip_that_is_absent_is_missing(dev: Path) -> None:
    with pytest.raises(DeviceMissing, match="gpiochip9 does not exist"):
        factory_module().open_factory(9, dev=dev)


@pytest.mark.usefixtures("lgpio")
def test_outputs_without_a_level_are_refused(dev: Path) -> None:
    pin = factory_module().open_factory(dev=dev).pin(17)
    with pytest.raises(DeviceRefused, match="claimed with their level"):
        pin.function = "output"


def test_without_lgpio_no_other_library_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {name: sys.modules.pop(name) for name in SPOILED if name in sys.modules}
    monkeypatch.setitem(sys.modules, "lgpio", None)  # Python's way of saying "cannot be imported"
    monkeypatch.delitem(sys.modules, "lgpio")
    monkeypatch.setattr(importlib, "import_module", _refuse_lgpio(importlib.import_module))
    with pytest.raises(DeviceRefused, match=r"install menwei\[edge\]"):
        factory_module()
    sys.modules.update(kept)


def test_lgpio_keeps_the_working_directory_and_needs_a_writable_one(tmp_path: Path) -> None:
    """The real lgpio, in a process of its own: the FIFO goes to LG_WD and the process stays where it was."""
    place, run = tmp_path / "run", tmp_path / "home"
    place.mkdir()
    run.mkdir()
    script = (
        "import os; import drivers.barrier.factory; print(os.getcwd());"
        "from gpiozero import Device; print(Device.pin_factory)"
    )
    done = _python(script, run, {"LG_WD": str(place)})
    assert done == [str(run), "None"], "working directory kept, and no process-wide pin factory made"
    assert [path.name for path in place.iterdir()] == [".lgd-nfy0"]
    assert list(run.iterdir()) == []
    refused = _python(
        "from drivers.errors import DeviceRefused\n"
        "try:\n import drivers.barrier.factory\n"
        "except DeviceRefused as e:\n print(e)",
        run,
        {"LG_WD": str(tmp_path / "nowhere")},
    )
    assert "is none: set LG_WD" in refused[0]


def _refuse_lgpio(real: Callable[..., ModuleType]) -> Callable[..., ModuleType]:
    def import_module(name: str, package: str | None = None) -> ModuleType:
        if name == "lgpio":
            raise ImportError("No module named 'lgpio'")
        return real(name, package)

    return import_module


def _python(script: str, cwd: Path, environment: dict[str, str]) -> list[str]:

    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(root), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.splitlines()
