"""Which sequence numbers of a stream are stored: a head, and the ranges missing below it. Pure.

One watermark row and a few ranges replace a unique index over the big table: the same answer at a sixth of the cost.
"""

from bisect import bisect_left
from dataclasses import dataclass, field
from enum import Enum

MAX_GAPS = 1000  # per stream; a stream in more pieces than this waits until the node sends the missing events again


class Taken(Enum):
    """What an arriving sequence number is."""

    NEW = "new"
    DUPLICATE = "duplicate"
    DEFERRED = "deferred"  # too many gaps: not stored, no receipt, so the node keeps it and sends it again


@dataclass(frozen=True, slots=True)
class Gap:
    """Sequence numbers `first`..`last` have not arrived; `lost` = the node said that it no longer has them."""

    first: int
    last: int
    opened_ms: int
    lost: bool = False


@dataclass(slots=True)
class Continuity:
    """Stored part of one stream. `gaps` is sorted, disjoint, and lies below `head`."""

    head: int = 0
    gaps: list[Gap] = field(default_factory=list)

    def copy(self) -> "Continuity":
        """An independent copy: a batch works on it and throws it away when its commit fails."""
        return Continuity(self.head, self.gaps.copy())

    def take(self, seq: int, now_ms: int) -> Taken:
        """Account for `seq` >= 1 once; opens, shrinks, splits or closes a gap."""
        if seq == self.head + 1:
            self.head = seq
            return Taken.NEW
        if seq > self.head:
            if len(self.gaps) >= MAX_GAPS:
                return Taken.DEFERRED
            self.gaps.append(Gap(self.head + 1, seq - 1, now_ms))
            self.head = seq
            return Taken.NEW
        return self._fill(seq)

    def upto(self) -> int:
        """Every event up to here is stored (or named as lost): what a receipt may say."""
        for gap in self.gaps:
            if not gap.lost:
                return gap.first - 1
        return self.head

    def missing(self) -> int:
        """How many events below the head are not stored."""
        return sum(gap.last - gap.first + 1 for gap in self.gaps)

    def missing_open(self) -> int:
        """How many of those may still come."""
        return sum(gap.last - gap.first + 1 for gap in self.gaps if not gap.lost)

    def declare_lost_below(self, first_held: int) -> bool:
        """The node holds nothing below `first_held`: what is missing there will not come. True = changed.

        A range that straddles `first_held` is divided: only its lower part is lost.
        """
        gaps: list[Gap] = []
        for gap in self.gaps:
            if gap.lost or gap.first >= first_held:
                gaps.append(gap)
                continue
            cut = min(gap.last, first_held - 1)
            gaps.append(Gap(gap.first, cut, gap.opened_ms, lost=True))
            if cut < gap.last:
                gaps.append(Gap(cut + 1, gap.last, gap.opened_ms))
        changed = gaps != self.gaps
        self.gaps = gaps
        return changed

    def _fill(self, seq: int) -> Taken:
        at = bisect_left(self.gaps, seq, key=lambda g: g.last)
        if at == len(self.gaps) or self.gaps[at].first > seq:
            return Taken.DUPLICATE
        gap = self.gaps[at]
        parts = [
            Gap(first, last, gap.opened_ms, gap.lost)
            for first, last in ((gap.first, seq - 1), (seq + 1, gap.last))
            if first <= last
        ]
        if len(parts) > 1 and len(self.gaps) >= MAX_GAPS:
            return Taken.DEFERRED
        self.gaps[at : at + 1] = parts
        return Taken.NEW
