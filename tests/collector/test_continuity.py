from hypothesis import given
from hypothesis import strategies as st

from broker.collector.continuity import MAX_GAPS, Continuity, Gap, Taken


@given(st.lists(st.integers(1, 60), max_size=120))
def test_each_number_counts_once_and_the_rest_is_named(arrivals: list[int]) -> None:
    held, model = Continuity(), set[int]()
    for seq in arrivals:
        assert held.take(seq, 0) is (Taken.DUPLICATE if seq in model else Taken.NEW)
        model.add(seq)
        missing = set(range(1, max(model))) - model
        assert {n for g in held.gaps for n in range(g.first, g.last + 1)} == missing
        assert held.missing() == held.missing_open() == len(missing)
        assert held.upto() == min(missing, default=max(model) + 1) - 1
        assert held.gaps == sorted(held.gaps, key=lambda g: g.first)
        assert all(a.last + 1 < b.first for a, b in zip(held.gaps, held.gaps[1:], strict=False))


def test_a_late_event_fills_its_gap_and_the_receipt_moves_on() -> None:
    held = Continuity()
    for seq in (1, 2, 5):
        held.take(seq, 7)
    assert (held.upto(), held.gaps) == (2, [Gap(3, 4, 7)])
    assert held.take(4, 9) is Taken.NEW
    assert (held.upto(), held.gaps) == (2, [Gap(3, 3, 7)])
    assert held.take(3, 9) is Taken.NEW
    assert (held.upto(), held.gaps) == (5, [])


def test_what_the_node_no_longer_holds_is_named_as_lost_and_receipts_pass_it() -> None:
    held = Continuity()
    for seq in (1, 10, 20):
        held.take(seq, 0)
    assert held.declare_lost_below(15)
    assert held.gaps == [Gap(2, 9, 0, lost=True), Gap(11, 14, 0, lost=True), Gap(15, 19, 0)]
    assert held.upto() == 14
    assert (held.missing(), held.missing_open()) == (17, 5)
    assert not held.declare_lost_below(15)
    assert held.take(3, 1) is Taken.NEW, "even a lost one is welcome when it comes"


def test_a_stream_in_too_many_pieces_waits_without_losing_count() -> None:
    held = Continuity()
    for n in range(MAX_GAPS):
        assert held.take(2 * n + 2, 0) is Taken.NEW
    head = held.head
    assert held.take(head + 2, 0) is Taken.DEFERRED
    assert held.head == head
    assert held.take(head + 1, 0) is Taken.NEW
    assert held.take(1, 0) is Taken.NEW
    assert held.take(head + 3, 0) is Taken.NEW
