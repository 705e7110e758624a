"""PURE: one line's raw levels in, its confirmed changes out. Danger is believed at once, its end only when it lasts."""

from dataclasses import dataclass

from drivers.ports import Line

NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Confirm:
    """How long a raw level must last before it counts (hardware reference §4.5)."""

    active_ms: int
    clear_ms: int


CONFIRM: dict[Line, Confirm] = {
    Line.LOOP: Confirm(0, 50),
    Line.PHOTOCELL: Confirm(0, 50),
    Line.STOP: Confirm(0, 50),
    Line.FIRE: Confirm(200, 30),  # opens every lane: a spike on a long cable must not
    Line.LIMIT_OPEN: Confirm(30, 30),  # switches bounce 2 to 6 ms, single types far longer
    Line.LIMIT_CLOSED: Confirm(30, 30),
    Line.APPROACH: Confirm(30, 30),
    Line.KEY: Confirm(30, 30),
}


class LineFilter:
    """Debounces one line from raw edges and polled levels. Not thread-safe; its owner holds a lock."""

    def __init__(self, line: Line, active: bool) -> None:
        self._confirm = CONFIRM[line]
        self.active = active  # what counts
        self.raw = active  # what was last seen
        self._since_ns = 0

    def feed(self, active: bool, mono_ns: int, pace: float) -> bool | None:
        """Take in a raw level; the new confirmed level if this changed it, else None."""
        if active != self.raw:
            self.raw, self._since_ns = active, mono_ns
        return self.settle(mono_ns, pace)

    def settle(self, mono_ns: int, pace: float) -> bool | None:
        """Let time pass; the new confirmed level if it has now lasted long enough, else None."""
        due_ns = self.due_ns(pace)
        if due_ns is None or mono_ns < due_ns:
            return None
        self.active = self.raw
        return self.active

    def due_ns(self, pace: float) -> int | None:
        """When the raw level will count if it stays; None when there is nothing to wait for."""
        if self.raw == self.active:
            return None
        wait_ms = self._confirm.active_ms if self.raw else self._confirm.clear_ms
        return self._since_ns + round(wait_ms * pace * NS_PER_MS)
