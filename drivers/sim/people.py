"""PURE: the people and the weather of a simulated world."""

import itertools
import math
from dataclasses import dataclass

BODY_NORMAL_CENTI_C = 36_60
BODY_FEVER_CENTI_C = 38_40

# Skin of a forehead lies this far below the body at these ambients; between them it changes evenly. The house's own
# model of people (hardware reference §1 and §2: raw infrared reads 2 to 4 degrees below the body, more in the cold).
SKIN_OFFSETS_CENTI_C = ((1600, 340), (2000, 300), (2600, 260), (3200, 220))

DAY_MS = 86_400_000


def skin_centi_c(body_centi_c: int, ambient_centi_c: int) -> int:
    """Skin temperature of a forehead for a body temperature: skin = body - offset(ambient)."""
    return body_centi_c - offset_centi_c(ambient_centi_c)


def offset_centi_c(ambient_centi_c: int) -> int:
    """How far skin lies below the body at this ambient."""
    lowest, highest = SKIN_OFFSETS_CENTI_C[0], SKIN_OFFSETS_CENTI_C[-1]
    if ambient_centi_c <= lowest[0]:
        return lowest[1]
    for (from_c, from_offset), (to_c, to_offset) in itertools.pairwise(SKIN_OFFSETS_CENTI_C):
        if ambient_centi_c <= to_c:
            return round(from_offset + (to_offset - from_offset) * (ambient_centi_c - from_c) / (to_c - from_c))
    return highest[1]


@dataclass(frozen=True, slots=True)
class Weather:
    """Ambient temperature at the sensor: a daily wave, coldest at 05:00 local time, warmest at 17:00."""

    mean_centi_c: int = 21_00
    swing_centi_c: int = 100
    local_offset_ms: int = 8 * 3_600_000

    def ambient_centi_c(self, wall_ms: int) -> int:
        """Ambient at this moment."""
        of_day = ((wall_ms + self.local_offset_ms) % DAY_MS) / DAY_MS
        return round(self.mean_centi_c - self.swing_centi_c * math.cos((of_day - 5 / 24) * math.tau))


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody: what they hold against the reader (None: nothing), how warm they are, whether they wear a mask."""

    code: bytes | None
    body_centi_c: int = BODY_NORMAL_CENTI_C
    mask: bool = True


@dataclass(frozen=True, slots=True)
class Visitor:
    """A party that comes to a lane. `insists` presents its pass even where the display says no."""

    people: tuple[Person, ...]
    patience_s: float = 25.0
    insists: bool = False
    exception: str | None = None  # the kind of exception that the guard grants
    crosses: bool = True  # False: admitted, and then stays where they are
