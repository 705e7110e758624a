"""Curfew from time alone: half-open local windows, their next edge. Restarts and clock steps change no answer."""

from datetime import UTC, datetime, timedelta, tzinfo

from edge.core.rules import CurfewWindow

MINUTES_PER_DAY = 1440


def parse_minute(text: str) -> int:
    """Minute of the day of "HH:MM"; "24:00" is 1440. Raises ValueError naming what is allowed."""
    hour, colon, minute = text.partition(":")
    ok = bool(colon) and len(hour) == len(minute) == 2 and (hour + minute).isascii() and (hour + minute).isdigit()  # noqa: PLR2004 - HH and MM
    value = int(hour) * 60 + int(minute) if ok else -1
    if not ok or int(minute) > 59 or value > MINUTES_PER_DAY:  # noqa: PLR2004 - minutes of an hour
        raise ValueError(f"{text!r} is not a time of day: write 00:00 to 24:00")
    return value


def in_curfew(wall_ms: int, windows: tuple[CurfewWindow, ...], tz: tzinfo) -> bool:
    """Whether the local time of `wall_ms` lies in a window: the first millisecond is in, the last edge is out."""
    local = _local(wall_ms, tz)
    minute = local.hour * 60 + local.minute
    return any(_contains(window, minute) for window in windows)


def next_edge_ms(wall_ms: int, windows: tuple[CurfewWindow, ...], tz: tzinfo) -> int | None:
    """First instant after `wall_ms` at which a window begins or ends, Unix ms; None without windows."""
    midnight = _local(wall_ms, tz).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    edges = {minute % MINUTES_PER_DAY for window in windows for minute in (window.start_min, window.end_min)}
    candidates = (
        _unix_ms((midnight + timedelta(days=day, minutes=minute)).replace(tzinfo=tz))
        for day in (0, 1, 2)
        for minute in edges
    )
    return min((edge for edge in candidates if edge > wall_ms), default=None)


def ms_until_curfew(wall_ms: int, windows: tuple[CurfewWindow, ...], tz: tzinfo) -> int | None:
    """Milliseconds until the next window begins; 0 inside one; None when no edge begins one."""
    if in_curfew(wall_ms, windows, tz):
        return 0
    edge = next_edge_ms(wall_ms, windows, tz)
    return None if edge is None else edge - wall_ms


def _contains(window: CurfewWindow, minute: int) -> bool:
    start, end = window.start_min % MINUTES_PER_DAY, window.end_min % MINUTES_PER_DAY
    if window.start_min == window.end_min:
        return False
    if start == end:  # 00:00 to 24:00: the whole day
        return True
    return start <= minute < end if start < end else minute >= start or minute < end


def _local(wall_ms: int, tz: tzinfo) -> datetime:
    return datetime.fromtimestamp(wall_ms // 1000, UTC).astimezone(tz)


def _unix_ms(moment: datetime) -> int:
    return int(moment.timestamp()) * 1000
