import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.ports import BadScan, Medium, Scan, ScanProblem
from drivers.reader.rdm6300 import Rdm6300Framer, frame_of

TAG, OTHER = b"100086F444", b"13005D1DA5"
FRAME = bytes.fromhex("02 31 30 30 30 38 36 46 34 34 34 32 36 03")
OTHER_FRAME = bytes.fromhex("02 31 33 30 30 35 44 31 44 41 35 46 36 03")
tags = st.binary(min_size=5, max_size=5).map(lambda raw: raw.hex().upper().encode())


def card(tag: bytes) -> Scan:
    return Scan(tag, Medium.EM4100)


def bad(problem: ScanProblem, size: int) -> BadScan:
    return BadScan(problem, size, Medium.EM4100)


@pytest.mark.parametrize(("tag", "frame"), [(TAG, FRAME), (OTHER, OTHER_FRAME)])
def test_printed_frames(tag: bytes, frame: bytes):
    assert frame_of(tag) == frame
    assert Rdm6300Framer().feed(frame) == [card(tag)]
    single = Rdm6300Framer()
    assert [t for i in range(len(frame)) for t in single.feed(frame[i : i + 1])] == [card(tag)]


@pytest.mark.parametrize("tag", [b"", b"100086F44", b"100086F4444", b"100086F44G", b"100086F44\xb2"])
def test_what_is_no_tag_has_no_frame(tag: bytes):
    with pytest.raises(ValueError, match="no EM4100 tag"):
        frame_of(tag)


def test_a_held_tag_is_one_scan_until_it_was_away():
    framer = Rdm6300Framer()
    assert framer.feed(FRAME * 20) == [card(TAG)]
    assert framer.feed(FRAME) == []
    assert framer.patience_s == 1.0
    assert framer.silence() == []
    assert framer.patience_s is None
    assert framer.feed(FRAME) == [card(TAG)]


def test_another_tag_is_read_at_once():
    assert Rdm6300Framer().feed(FRAME * 2 + OTHER_FRAME * 2) == [card(TAG), card(OTHER)]


def test_a_wrong_checksum_is_named_once_and_the_good_repeat_is_read():
    wrong = FRAME[:12] + b"7" + FRAME[13:]
    framer = Rdm6300Framer()
    assert framer.feed(wrong * 5) == [bad(ScanProblem.CHECKSUM, 14)]
    assert framer.feed(FRAME) == [card(TAG)]
    assert framer.feed(wrong) == []
    framer.silence()
    assert framer.feed(wrong) == [bad(ScanProblem.CHECKSUM, 14)]


@pytest.mark.parametrize("lost", range(14))
def test_a_lost_byte_costs_one_frame_only(lost: int):
    broken = FRAME[:lost] + FRAME[lost + 1 :]
    assert Rdm6300Framer().feed(broken + FRAME)[-1] == card(TAG)


def test_a_frame_that_breaks_off_is_given_up():
    framer = Rdm6300Framer()
    assert framer.feed(FRAME[:7]) == []
    assert framer.silence() == [bad(ScanProblem.FRAME, 7)]
    assert framer.feed(FRAME) == [card(TAG)]


def test_noise_outside_frames_counts_for_nothing():
    assert Rdm6300Framer().feed(b"\xff\x00123\x03" + FRAME) == [card(TAG)]


@given(st.lists(st.binary(max_size=300) | st.sampled_from([b"\x02", FRAME[:13], FRAME[1:]]), max_size=8), tags)
def test_any_bytes_never_raise_and_the_next_tag_is_read(chunks: list[bytes], tag: bytes):
    framer = Rdm6300Framer()
    for chunk in chunks:
        for token in framer.feed(chunk):
            assert isinstance(token, BadScan) or len(token.payload) == 10
        assert len(framer._line) < 14
    framer.silence()
    assert framer.feed(frame_of(tag)) == [card(tag)]
