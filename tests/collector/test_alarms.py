import pytest

from broker.collector.alarms import (
    LOST,
    SILENT,
    Book,
    Cause,
    Cleared,
    Fact,
    Gone,
    Heard,
    Limits,
    Missing,
    Now,
    Place,
    Raised,
    Told,
    step,
    tick,
)

GATE = Place("garden", "gate-1")
LANE = Place("garden", "gate-1", "main")
OTHER = Place("garden", "gate-1", "side")
STREAM = Place("garden", "gate-1", "r-1")
LIMITS = Limits(silence_s=45, gap_s=30)
Line = tuple[float, Fact | None, list[tuple[str, Cause, str]]]


def told(cause: Cause, up: bool, place: Place = LANE, seq: int = 0) -> Told:
    return Told(place, cause, up, stream="a-1" if seq else "", seq=seq)


F, G, S, D, C, R = Cause.FEVER, Cause.GAP, Cause.GATE_SILENT, Cause.DEVICE_FAULT, Cause.CLOCK_UNTRUSTED, Cause.FIRE

TABLE: dict[str, list[Line]] = {
    "a condition raises once and clears once": [
        (0, told(F, True), [("+", F, "gate-1/main")]),
        (1, told(F, True), []),
        (2, told(F, False), [("-", F, "gate-1/main")]),
        (3, told(F, False), []),
    ],
    "causes and origins are apart": [
        (0, told(F, True), [("+", F, "gate-1/main")]),
        (0, told(D, True), [("+", D, "gate-1/main")]),
        (0, told(F, True, OTHER), [("+", F, "gate-1/side")]),
        (1, told(F, False), [("-", F, "gate-1/main")]),
        (1, told(R, True, GATE), [("+", R, "gate-1")]),
        (1, told(C, True, GATE), [("+", C, "gate-1")]),
        (2, told(C, False, GATE), [("-", C, "gate-1")]),
    ],
    "a late event of the same stream does not overrule a newer one": [
        (0, told(F, False, seq=6), []),
        (1, told(F, True, seq=5), []),
        (2, told(F, True, seq=7), [("+", F, "gate-1/main")]),
        (3, told(F, False, seq=5), []),
    ],
    "silence is raised after the limit and cleared by any sign of life": [
        (0, Heard(GATE), []),
        (45, None, []),
        (45.1, None, [("+", S, "gate-1")]),
        (60, None, []),
        (61, Heard(GATE), [("-", S, "gate-1")]),
        (106, None, []),
        (106.5, None, [("+", S, "gate-1")]),
    ],
    "lost at once; events from the broker's queue do not bring it back, its own word does": [
        (0, Heard(GATE), []),
        (1, Gone(GATE), [("+", S, "gate-1")]),
        (2, Gone(GATE), []),
        (3, Heard(GATE), []),
        (99, None, []),
        (100, Heard(GATE, connected=True), [("-", S, "gate-1")]),
    ],
    "a gap that fills in time is no alarm": [
        (0, Missing(STREAM, 2), []),
        (20, Missing(STREAM, 0), []),
        (60, None, []),
    ],
    "a gap that stays open is one alarm, cleared when filled; its age counts from its opening": [
        (0, Missing(STREAM, 2), []),
        (29, Missing(STREAM, 1), []),
        (30, None, []),
        (30.1, None, [("+", G, "gate-1/r-1")]),
        (40, Missing(STREAM, 5), []),
        (41, None, []),
        (50, Missing(STREAM, 0), [("-", G, "gate-1/r-1")]),
        (90, None, []),
    ],
}


@pytest.mark.parametrize("lines", TABLE.values(), ids=TABLE.keys())
def test_table(lines: list[Line]) -> None:
    book = Book()
    for seconds, fact, expected in lines:
        now = Now(seconds, round(seconds * 1000))
        changes = tick(book, LIMITS, now) if fact is None else step(book, [fact], now)
        marks = [("+" if isinstance(c, Raised) else "-", c.alarm.cause, c.alarm.place.origin) for c in changes]
        assert marks == expected, f"at {seconds}"


def test_details_say_how_a_gate_fell_silent() -> None:
    book = Book()
    assert [c.alarm.detail for c in step(book, [Gone(GATE)], Now(0, 0))] == [LOST]
    book = Book()
    step(book, [Heard(GATE)], Now(0, 0))
    assert [c.alarm.detail for c in tick(book, LIMITS, Now(50, 0))] == [SILENT]


def test_a_copy_keeps_nothing_of_a_batch_that_failed() -> None:
    book = Book()
    trial = book.copy()
    step(trial, [told(F, True, seq=1), Heard(GATE), Missing(STREAM, 1)], Now(0, 0))
    assert book == Book()


def test_the_event_that_ended_an_alarm_is_named() -> None:
    book = Book()
    changes = step(book, [told(F, True, seq=1), told(F, False, seq=2)], Now(0, 5))
    assert isinstance(changes[1], Cleared)
    assert (changes[0].alarm.seq, changes[1].seq, changes[1].cleared_ms) == (1, 2, 5)
