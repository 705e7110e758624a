"""Effects to drivers. Nothing here decides and nothing here waits: motion goes first, then records, then the rest."""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from drivers.errors import DeviceError
from drivers.ports import BarrierPort, Relay
from edge.core.effects import Effect, Measure, Pulse, Record, Show
from edge.core.facts import Motion, Prompt
from edge.core.inputs import DeviceIs, GateInput
from edge.core.model import ClockTrust, Now
from edge.sense import fault_word

log = logging.getLogger(__name__)


class Measurer(Protocol):
    """Takes measuring cycles."""

    def measure(self, attempt: int, rest_ms: int) -> None:
        """Ask for one cycle."""


class Keeper(Protocol):
    """Writes facts down."""

    def record(self, record: Record, now: Now, trust: ClockTrust) -> None:
        """Queue a fact."""


@dataclass(frozen=True, slots=True)
class LaneHands:
    """What a lane can do."""

    barrier: BarrierPort
    screening: Measurer
    show: Callable[[Prompt], None]


class Act:
    """Carries out the effects of a step, in the order that safety asks for."""

    def __init__(self, hands: Mapping[str, LaneHands], recorder: Keeper, offer: Callable[[GateInput], None]) -> None:
        self._hands, self._recorder, self._offer = hands, recorder, offer
        self._barrier_failed: set[str] = set()

    def do(self, effects: Iterable[Effect], now: Now, trust: ClockTrust) -> None:
        """Carry out one step's effects. A driver that fails becomes an input, never an exception."""
        later: list[Effect] = []
        for effect in effects:
            if isinstance(effect, Pulse):
                self._pulse(effect)
            else:
                later.append(effect)
        for effect in later:
            match effect:
                case Record():
                    self._recorder.record(effect, now, trust)
                case Measure(lane=lane, attempt=attempt, rest_ms=rest_ms):
                    self._hands[lane].screening.measure(attempt, rest_ms)
                case Show(lane=lane, prompt=prompt):
                    self._hands[lane].show(prompt)
                case Pulse():
                    pass

    def release_all(self) -> None:
        """Let go of every OPEN and CLOSE relay: the end of a process moves nothing."""
        for lane, hands in self._hands.items():
            try:
                hands.barrier.release()
            except DeviceError as e:
                log.error("relays of lane could not be released", extra={"fields": {"lane": lane, "error": str(e)}})

    def _pulse(self, pulse: Pulse) -> None:
        barrier, device = self._hands[pulse.lane].barrier, f"relays-{pulse.lane}"
        try:
            if pulse.motion is Motion.STOP:
                barrier.release()
            barrier.pulse(_RELAY[pulse.motion], pulse.duration_ms)
        except DeviceError as e:
            self._barrier_failed.add(device)
            log.error(
                "relay did not obey", extra={"fields": {"lane": pulse.lane, "motion": pulse.motion, "error": str(e)}}
            )
            self._offer(DeviceIs(device, pulse.lane, works=False, fault=fault_word(e), advice=str(e)))
        else:
            if device in self._barrier_failed:
                self._barrier_failed.discard(device)
                self._offer(DeviceIs(device, pulse.lane, works=True, fault="none", advice=""))


_RELAY: dict[Motion, Relay] = {Motion.OPEN: Relay.OPEN, Motion.CLOSE: Relay.CLOSE, Motion.STOP: Relay.STOP}
