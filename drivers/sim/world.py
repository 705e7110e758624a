"""The simulated world of one gate: who comes to which lane, what they do when asked, and what the guard does.

It touches devices only through `Stage` and the gate only as people do: it sees the display and the arm, and it speaks
to the guard's console through a callback. Belongs to one event loop; its time is `SimTime`.
"""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Protocol

from drivers.ports import Line
from drivers.sim.people import Person, Visitor, Weather, skin_centi_c
from drivers.sim.time import NS_PER_S, SimTime, Timer

log = logging.getLogger(__name__)

Guard = Callable[..., None]  # guard(action, **fields)

RESTING = frozenset({"idle", "curfew", "closed", "fire"})  # what a lane shows when nobody is being screened
ASKS_FOREHEAD = frozenset({"measure", "look_here", "retest"})
TURNS_AWAY = frozenset({"refused", "curfew", "closed", "guard", "fever_wait", "fire"})

REACTION_S = 0.4  # to read the display and move a hand
READS_DISPLAY_S = 1.5
GAP_S = 1.5  # between two parties of a lane
REPEAT_S = 4.0  # holding the pass there again when nothing happened
OPENS_WITHIN_S = 20.0
LANE_FREE_WITHIN_S = 60.0
NOISE_CENTI_C = 6  # of the sensor, one sigma
QUEUE_MAX = 20


class Stage(Protocol):
    """What the world can touch in one lane."""

    @property
    def vehicle(self) -> bool:
        """A lane for vehicles, not for people on foot."""

    def set_line(self, line: Line, active: bool) -> None:
        """Somebody stands on, in or at something."""

    def present(self, code: bytes) -> None:
        """Hold a code against the reader."""

    def face(self, skin_centi_c: int | None, ambient_centi_c: int) -> None:
        """What the thermometer looks at: a forehead, or nobody."""

    def arm_open(self) -> bool:
        """Whether the arm is up, as a driver sees it."""


class Outcome(StrEnum):
    """How a visit ended, seen from outside."""

    CROSSED = "crossed"
    REFUSED = "refused"
    GAVE_UP = "gave_up"
    STAYED = "stayed"  # let in, but did not go
    SHUT_OUT = "shut_out"  # told to go, and the arm did not open


class _View:
    """What can be seen in a lane: the display, and that something moved."""

    def __init__(self, time: SimTime) -> None:
        self._time = time
        self.prompt = "idle"
        self.serial = 0  # counts what the display has shown
        self.queue = asyncio.Lock()
        self.waiting = 0
        self._watchers: set[asyncio.Future[None]] = set()

    def show(self, message: str) -> None:
        """The display changed."""
        self.prompt = message
        self.serial += 1
        self.stir()

    def stir(self) -> None:
        """Something can be seen that could not before."""
        for watcher in self._watchers:
            if not watcher.done():
                watcher.set_result(None)

    async def until(self, seen: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until something is seen; False when the time is over."""
        deadline_ns = self._time.mono_ns() + round(timeout_s * NS_PER_S)
        while not seen():
            if self._time.mono_ns() >= deadline_ns:
                return False
            watcher: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._watchers.add(watcher)
            timer: Timer = self._time.call_at(deadline_ns, self.stir)
            try:
                await watcher
            finally:
                self._time.cancel(timer)
                self._watchers.discard(watcher)
        return True


class World:
    """Plays visits. `passes` maps names to the bytes that a reader reads; what is in them the world does not know."""

    def __init__(
        self,
        time: SimTime,
        stages: Mapping[str, Stage],
        guard: Guard,
        passes: Mapping[str, bytes],
        *,
        seed: int = 1,
        weather: Weather | None = None,
    ) -> None:
        self.time, self.stages, self.guard, self.passes = time, stages, guard, passes
        self.weather = weather or Weather()
        self.random = random.Random(seed)  # noqa: S311 - a repeatable world, not a secret
        self.outcomes: Counter[Outcome] = Counter()
        self._views = {lane: _View(time) for lane in stages}
        self._residents = [name for name in passes if name.startswith("resident")]
        self._turn = 0
        for stage in stages.values():
            stage.face(None, self.ambient_centi_c())

    def on_prompt(self, lane: str, message: str) -> None:
        """The public display of a lane shows this key."""
        self._views[lane].show(message)

    def on_moved(self, lane: str) -> None:
        """The arm of a lane moved, or stopped."""
        self._views[lane].stir()

    def ambient_centi_c(self) -> int:
        """Temperature of the air at the gate now."""
        return self.weather.ambient_centi_c(self.time.wall_ms())

    def residents(self, count: int) -> list[bytes]:
        """Passes of the next residents, each person in turn. Raises LookupError when there are fewer."""
        self.require_residents(count)
        names = [self._residents[(self._turn + i) % len(self._residents)] for i in range(count)]
        self._turn += count
        return [self.passes[name] for name in names]

    def require_residents(self, count: int) -> None:
        """Raises LookupError when fewer residents have passes."""
        if count > len(self._residents):
            raise LookupError(
                f"{count} passes of residents are needed, {len(self._residents)} are there: name them resident-1, …"
            )

    async def until_seen(self, lane: str, seen: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until something can be seen in a lane; False when the time is over."""
        return await self._views[lane].until(seen, timeout_s)

    async def visit(self, lane: str, visitor: Visitor) -> Outcome:
        """One party comes, is screened, crosses or leaves; parties queue. Raises LookupError when too many do."""
        view, stage = self._views[lane], self.stages[lane]
        if view.waiting >= QUEUE_MAX:
            raise LookupError(f"{QUEUE_MAX} parties wait at {lane} already; let them pass first")
        view.waiting += 1
        try:
            async with view.queue:
                try:
                    outcome = await self._come(view, stage, lane, visitor)
                finally:
                    stage.face(None, self.ambient_centi_c())
                    for line in (Line.APPROACH, Line.LOOP, Line.PHOTOCELL):
                        stage.set_line(line, active=False)
                self.outcomes[outcome] += 1
                await self.time.sleep(GAP_S)
                return outcome
        finally:
            view.waiting -= 1

    async def _come(self, view: _View, stage: Stage, lane: str, visitor: Visitor) -> Outcome:
        if not await view.until(lambda: view.prompt in RESTING, LANE_FREE_WITHIN_S):
            return Outcome.GAVE_UP
        before = view.serial
        stage.set_line(Line.APPROACH, active=True)
        await view.until(lambda: view.serial != before, READS_DISPLAY_S)
        if visitor.exception is not None:
            await self.time.sleep(READS_DISPLAY_S)  # the guard walks up and sees who it is
            self.guard("exception", lane=lane, kind=visitor.exception, approver="guard-1", reason=visitor.exception)
        if not await _Screening(self, view, stage, lane, visitor).run():
            await self.time.sleep(READS_DISPLAY_S)
            return Outcome.REFUSED if view.prompt in TURNS_AWAY else Outcome.GAVE_UP
        stage.face(None, self.ambient_centi_c())
        if not await view.until(stage.arm_open, OPENS_WITHIN_S):
            return Outcome.SHUT_OUT
        if not visitor.crosses:
            await self.time.sleep(visitor.patience_s)
            return Outcome.STAYED
        await self._cross(stage)
        return Outcome.CROSSED

    async def _cross(self, stage: Stage) -> None:
        """Through the light beam, over the loop, out again; the beam and the loop overlap."""
        step_s = 0.5 if stage.vehicle else 0.3
        for line, active in (
            (Line.PHOTOCELL, True),
            (Line.LOOP, True),
            (Line.APPROACH, False),
            (Line.PHOTOCELL, False),
            (Line.LOOP, False),
        ):
            await self.time.sleep(step_s)
            stage.set_line(line, active)


class _Screening:
    """What a party does at the reader and the thermometer: it does what the display says."""

    def __init__(self, world: World, view: _View, stage: Stage, lane: str, visitor: Visitor) -> None:
        self._world, self._view, self._stage, self._lane, self._visitor = world, view, stage, lane, visitor
        self._presented = 0  # people whose pass was held there
        self._insisted = False

    async def run(self) -> bool:
        """True when the display says go, False when the party turns away."""
        idle_s = 0.0
        while True:
            seen, prompt = self._view.serial, self._view.prompt
            if prompt == "go":
                return True
            if prompt in TURNS_AWAY and not (self._visitor.insists and not self._insisted):
                return False
            await self._world.time.sleep(REACTION_S)
            if self._view.serial != seen:
                continue  # the display has moved on while a hand was on its way
            await self._do(prompt)
            if await self._view.until(lambda seen=seen: self._view.serial != seen, REPEAT_S):  # type: ignore[misc]
                idle_s = 0.0
                continue
            idle_s += REPEAT_S
            if idle_s >= self._visitor.patience_s or self._insisted:
                return False

    async def _do(self, prompt: str) -> None:
        people = self._visitor.people
        if prompt in ASKS_FOREHEAD:
            if prompt == "retest":
                self._stage.face(None, self._world.ambient_centi_c())
                await self._world.time.sleep(1.0)
            self._lean_in(people[max(self._presented - 1, 0)])
            return
        if prompt != "wait":
            self._stage.face(None, self._world.ambient_centi_c())
        match prompt:
            case "idle":
                if self._presented == 0:  # no detector here, or it saw nobody: the pass announces them
                    self._present_next()
            case "show_pass":
                self._present_next()
            case "mask":
                worn = people[max(self._presented - 1, 0)].mask
                self._world.guard("mask", lane=self._lane, worn=worn)
            case "occupants":
                self._world.guard("occupants", lane=self._lane, count=len(people))
            case _ if prompt in TURNS_AWAY:
                self._insisted = True
                self._present_next()

    def _present_next(self) -> None:
        """The next pass, or the last once more when the reader made nothing of it."""
        person = self._visitor.people[min(self._presented, len(self._visitor.people) - 1)]
        if person.code is not None:
            self._presented = min(self._presented + 1, len(self._visitor.people))
            self._stage.present(person.code)

    def _lean_in(self, person: Person) -> None:
        ambient = self._world.ambient_centi_c()
        noise = round(self._world.random.gauss(0, NOISE_CENTI_C))
        self._stage.face(skin_centi_c(person.body_centi_c, ambient) + noise, ambient)
