"""The barrier driver over gpiozero's mock pins: relays, interlock, lines, cut wires, chatter."""

import asyncio
import threading
import time
from collections.abc import Callable

import pytest
from gpiozero.pins.mock import MockFactory, MockPin

from drivers.barrier.gpio import GpioBarrier
from drivers.barrier.pins import SharedPins
from drivers.barrier.wiring import BarrierWiring, InputWire, Pull, RelayWire, contact_to_ground
from drivers.errors import DeviceMissing, DeviceRefused
from drivers.ports import Line, LineChange, Relay

OPEN_PIN, CLOSE_PIN, STOP_PIN = 17, 18, 19
LOOP_PIN, PHOTOCELL_PIN, FIRE_PIN, LIMIT_OPEN_PIN, LIMIT_CLOSED_PIN = 20, 21, 22, 23, 24
RELAYS = {Relay.OPEN: RelayWire(OPEN_PIN), Relay.CLOSE: RelayWire(CLOSE_PIN), Relay.STOP: RelayWire(STOP_PIN)}
LINES = {
    Line.LOOP: contact_to_ground(LOOP_PIN, closed_is_active=False),
    Line.PHOTOCELL: contact_to_ground(PHOTOCELL_PIN, closed_is_active=False),
    Line.FIRE: contact_to_ground(FIRE_PIN, closed_is_active=False),
    Line.LIMIT_OPEN: contact_to_ground(LIMIT_OPEN_PIN, closed_is_active=True),
    Line.LIMIT_CLOSED: contact_to_ground(LIMIT_CLOSED_PIN, closed_is_active=True),
}
WIRING = BarrierWiring(RELAYS, LINES)


class Bench:
    """A barrier on mock pins. Contacts are closed by pulling their pin to ground, as on the terminal block."""

    def __init__(self, wiring: BarrierWiring = WIRING, pace: float = 1.0) -> None:
        self.factory = MockFactory()
        self.barrier = GpioBarrier(wiring, SharedPins(lambda: self.factory, "gpiochip-mock"), pace=pace)
        self.seen: list[LineChange] = []
        self.heard = threading.Condition()

    async def open(self) -> None:
        await self.barrier.open(self._on_change)

    def pin(self, number: int) -> MockPin:
        return self.factory.pin(number)

    def close_contact(self, number: int) -> None:
        self.pin(number).drive_low()

    def open_contact(self, number: int) -> None:
        self.pin(number).drive_high()

    def on(self, number: int) -> bool:
        return bool(self.pin(number).state)

    async def until(self, condition: Callable[[], bool], deadline_s: float = 5.0) -> float:
        began = time.monotonic()
        while not condition():
            assert time.monotonic() - began < deadline_s, f"waited in vain; seen {self.seen}"
            await asyncio.sleep(0.001)
        return time.monotonic() - began

    def of(self, line: Line) -> list[bool]:
        return [change.active for change in self.seen if change.line is line]

    def _on_change(self, change: LineChange) -> None:
        self.seen.append(change)


@pytest.fixture
async def bench():
    bench = Bench()
    await bench.open()
    for number in (LOOP_PIN, PHOTOCELL_PIN, FIRE_PIN):
        bench.close_contact(number)
    await bench.until(lambda: not any(bench.barrier.levels().values()))
    await bench.until(lambda: bench.of(Line.FIRE) == [False] and bench.of(Line.LOOP) == [False])
    bench.seen.clear()
    yield bench
    await bench.barrier.close()


async def test_relays_stay_released_while_opening() -> None:
    bench = Bench()
    states = [bench.pin(number) for number in (OPEN_PIN, CLOSE_PIN, STOP_PIN)]
    await bench.open()
    assert [[s.state for s in pin.states] for pin in states] == [[False]] * 3
    await bench.barrier.close()


async def test_a_pulse_energises_for_its_time_and_ends_by_itself(bench: Bench) -> None:
    began = time.monotonic()
    bench.barrier.pulse(Relay.OPEN, 80)
    assert bench.on(OPEN_PIN)
    await bench.until(lambda: not bench.on(OPEN_PIN))
    assert 0.075 <= time.monotonic() - began < 0.5


async def test_a_pulse_ends_even_while_the_loop_of_its_caller_stalls(bench: Bench) -> None:
    bench.barrier.pulse(Relay.OPEN, 30)
    released = threading.Event()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and not released.is_set():  # no await: this loop is stalled
        if not bench.on(OPEN_PIN):
            released.set()
        time.sleep(0.002)  # noqa: ASYNC251 - the stall is the point
    assert released.is_set()


async def test_opposite_relays_are_never_energised_together(bench: Bench) -> None:
    bench.barrier.pulse(Relay.OPEN, 400)
    with pytest.raises(DeviceRefused, match="while open is energised"):
        bench.barrier.pulse(Relay.CLOSE, 400)
    assert bench.on(OPEN_PIN)
    assert not bench.on(CLOSE_PIN)


async def test_opposite_pulses_keep_their_distance(bench: Bench) -> None:
    bench.barrier.pulse(Relay.OPEN, 20)
    await bench.until(lambda: not bench.on(OPEN_PIN))
    released = time.monotonic()
    with pytest.raises(DeviceRefused, match="300 ms apart"):
        bench.barrier.pulse(Relay.CLOSE, 20)
    assert [s.state for s in bench.pin(CLOSE_PIN).states] == [False]
    while True:  # a caller whose own 300 ms end a little early is served, never early
        try:
            bench.barrier.pulse(Relay.CLOSE, 50)
        except DeviceRefused:
            await asyncio.sleep(0.002)
        else:
            break
    await bench.until(lambda: bench.on(CLOSE_PIN))
    assert time.monotonic() - released >= 0.299


async def test_release_drops_a_pulse_that_still_waits(bench: Bench) -> None:
    bench.barrier.pulse(Relay.OPEN, 20)
    await bench.until(lambda: not bench.on(OPEN_PIN))
    while True:
        try:
            bench.barrier.pulse(Relay.CLOSE, 500)
        except DeviceRefused:
            await asyncio.sleep(0.002)
        else:
            break
    bench.barrier.release()
    bench.barrier.release()
    await asyncio.sleep(0.06)
    assert not bench.on(CLOSE_PIN)


async def test_stop_releases_the_motion_relays_and_pulses(bench: Bench) -> None:
    bench.barrier.pulse(Relay.CLOSE, 2000)
    bench.barrier.pulse(Relay.STOP, 40)
    assert not bench.on(CLOSE_PIN)
    assert bench.on(STOP_PIN)
    await bench.until(lambda: not bench.on(STOP_PIN))


async def test_without_a_stop_input_stop_lets_go() -> None:
    bench = Bench(BarrierWiring({k: v for k, v in RELAYS.items() if k is not Relay.STOP}, LINES))
    await bench.open()
    bench.barrier.pulse(Relay.OPEN, 2000)
    bench.barrier.pulse(Relay.STOP, 40)
    assert not bench.on(OPEN_PIN)
    await bench.barrier.close()


@pytest.mark.parametrize("duration_ms", [0, -5, 5001])
async def test_a_pulse_out_of_bounds_is_refused(bench: Bench, duration_ms: int) -> None:
    with pytest.raises(DeviceRefused, match="allowed are"):
        bench.barrier.pulse(Relay.OPEN, duration_ms)
    assert not bench.on(OPEN_PIN)


async def test_close_releases_and_is_idempotent(bench: Bench) -> None:
    pin = bench.pin(OPEN_PIN)
    bench.barrier.pulse(Relay.OPEN, 3000)
    await bench.barrier.close()
    await bench.barrier.close()
    assert [s.state for s in pin.states] == [False, True, False]
    with pytest.raises(DeviceMissing):
        bench.barrier.pulse(Relay.OPEN, 100)
    with pytest.raises(DeviceMissing):
        bench.barrier.levels()
    await bench.open()  # and it can be opened again
    assert bench.barrier.levels()[Line.LOOP]


async def test_an_open_barrier_is_not_opened_twice(bench: Bench) -> None:
    with pytest.raises(DeviceRefused, match="already open"):
        await bench.open()
    bench.barrier.pulse(Relay.OPEN, 20)  # and the first opening still works


async def test_danger_is_told_at_its_first_edge(bench: Bench) -> None:
    began = time.monotonic_ns()
    bench.open_contact(PHOTOCELL_PIN)
    edge_seen = time.monotonic_ns()
    await bench.until(lambda: bench.of(Line.PHOTOCELL) == [True])
    assert began <= bench.seen[0].mono_ns <= edge_seen  # stamped in the callback, not when it was handed on


async def test_danger_ends_only_when_it_lasts_clear(bench: Bench) -> None:
    bench.open_contact(LOOP_PIN)
    await bench.until(lambda: bench.of(Line.LOOP) == [True])
    for _ in range(20):  # chatter
        bench.close_contact(LOOP_PIN)
        bench.open_contact(LOOP_PIN)
    bench.close_contact(LOOP_PIN)
    cleared = time.monotonic()
    await bench.until(lambda: bench.of(Line.LOOP) == [True, False])
    assert time.monotonic() - cleared >= 0.049


async def test_a_spike_on_the_fire_line_is_no_fire_but_a_level_is(bench: Bench) -> None:
    bench.open_contact(FIRE_PIN)
    assert not bench.barrier.levels()[Line.FIRE]
    await asyncio.sleep(0.05)
    bench.close_contact(FIRE_PIN)
    await asyncio.sleep(0.25)
    assert bench.of(Line.FIRE) == []
    bench.open_contact(FIRE_PIN)
    took_s = await bench.until(lambda: bench.of(Line.FIRE) == [True])
    assert took_s >= 0.19
    assert bench.barrier.levels()[Line.FIRE]


async def test_limit_bounce_is_one_change(bench: Bench) -> None:
    for _ in range(10):
        bench.close_contact(LIMIT_OPEN_PIN)
        bench.open_contact(LIMIT_OPEN_PIN)
    bench.close_contact(LIMIT_OPEN_PIN)
    await bench.until(lambda: bench.of(Line.LIMIT_OPEN) == [True])
    await asyncio.sleep(0.05)
    assert bench.of(Line.LIMIT_OPEN) == [True]


async def test_cut_wires_mean_danger_and_never_a_limit() -> None:
    bench = Bench()
    await bench.open()  # nothing is connected: every input floats up to its pull
    assert bench.barrier.levels() == {
        Line.LOOP: True,
        Line.PHOTOCELL: True,
        Line.FIRE: True,
        Line.LIMIT_OPEN: False,
        Line.LIMIT_CLOSED: False,
    }
    await bench.barrier.close()


async def test_a_lost_edge_is_found_by_the_poll(bench: Bench) -> None:
    pin = bench.pin(LOOP_PIN)
    pin._change_state(True)  # the level changes, the callback is lost
    assert bench.barrier.levels()[Line.LOOP]
    await bench.until(lambda: bench.of(Line.LOOP) == [True])


async def test_a_lost_edge_never_ends_a_danger(bench: Bench) -> None:
    bench.open_contact(LOOP_PIN)
    bench.close_contact(LOOP_PIN)
    bench.pin(LOOP_PIN)._change_state(True)  # back to danger, unseen
    await bench.until(lambda: bench.of(Line.LOOP) == [True])
    await asyncio.sleep(0.08)
    assert bench.of(Line.LOOP) == [True]


async def test_a_failing_listener_takes_nothing_with_it() -> None:
    bench = Bench()

    def listener(_change: LineChange) -> None:
        raise RuntimeError("listener")

    await bench.barrier.open(listener)
    bench.close_contact(LOOP_PIN)
    bench.open_contact(LOOP_PIN)
    bench.barrier.pulse(Relay.OPEN, 30)
    await bench.until(lambda: not bench.on(OPEN_PIN))
    await bench.barrier.close()


async def test_a_wire_that_is_gone_is_missing_until_reopened(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_self: MockPin) -> bool:
        raise OSError(19, "No such device")

    with monkeypatch.context() as patch:
        patch.setattr(MockPin, "_get_state", gone)
        with pytest.raises(DeviceMissing, match="is the chip there"):
            bench.barrier.levels()
    assert not bench.barrier.levels()[Line.LOOP]


async def test_both_relays_are_tried_when_one_cannot_be_released(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    write = MockPin._set_state

    def one_fails(pin: MockPin, value: bool) -> None:
        if pin is bench.pin(OPEN_PIN) and not value:
            raise OSError(5, "Input/output error")
        write(pin, value)

    bench.barrier.pulse(Relay.OPEN, 2000)
    bench.barrier.pulse(Relay.STOP, 30)
    bench.barrier.pulse(Relay.OPEN, 2000)
    bench.barrier._energise(Relay.CLOSE, time.monotonic_ns() + 10**10)  # past the interlock, to see both tried
    with monkeypatch.context() as patch:
        patch.setattr(MockPin, "_set_state", one_fails)
        with pytest.raises(DeviceMissing):
            bench.barrier.release()
        assert not bench.on(CLOSE_PIN)
        with pytest.raises(DeviceMissing):
            bench.barrier.levels()
        await bench.barrier.close()
    await bench.open()
    assert Line.LOOP in bench.barrier.levels()


async def test_pace_shortens_the_drivers_own_times() -> None:
    bench = Bench(pace=0.01)
    await bench.open()
    began = time.monotonic()
    bench.barrier.pulse(Relay.OPEN, 5000)
    await bench.until(lambda: not bench.on(OPEN_PIN))
    bench.barrier.pulse(Relay.CLOSE, 5000)
    await bench.until(lambda: bench.on(CLOSE_PIN))
    assert time.monotonic() - began < 2
    await bench.barrier.close()


async def test_one_chip_serves_two_barriers_and_is_closed_after_the_last() -> None:
    closed: list[bool] = []

    class Chip(MockFactory):
        def close(self) -> None:
            super().close()
            closed.append(True)

    pins = SharedPins(Chip, "gpiochip0")
    two = {Relay.OPEN: RelayWire(5), Relay.CLOSE: RelayWire(6)}
    first, second = GpioBarrier(WIRING, pins), GpioBarrier(BarrierWiring(two), pins)
    clash = GpioBarrier(BarrierWiring({Relay.OPEN: RelayWire(5), Relay.CLOSE: RelayWire(7)}), pins)
    await first.open(lambda _: None)
    await second.open(lambda _: None)
    with pytest.raises(DeviceRefused, match="already in use"):
        await clash.open(lambda _: None)
    await first.close()
    assert closed == []
    await second.close()
    assert closed == [True]


@pytest.mark.parametrize(
    ("relays", "lines", "words"),
    [
        ({Relay.OPEN: RelayWire(17)}, {}, "relay close is not wired"),
        (RELAYS, {Line.KEY: contact_to_ground(17, closed_is_active=True)}, "already used by open"),
        (RELAYS, {Line.KEY: contact_to_ground(28, closed_is_active=True)}, "no pin 28"),
        (RELAYS, {Line.LOOP: contact_to_ground(5, closed_is_active=True)}, "cut wire would read as clear"),
        (RELAYS, {Line.PHOTOCELL: InputWire(5, active_high=True, pull=Pull.DOWN)}, "cut wire would read as clear"),
        (RELAYS, {Line.FIRE: InputWire(5, active_high=True, pull=Pull.NONE)}, "cut wire would read as clear"),
    ],
)
def test_wiring_that_cannot_be_safe_is_refused(
    relays: dict[Relay, RelayWire], lines: dict[Line, InputWire], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        BarrierWiring(relays, lines)
