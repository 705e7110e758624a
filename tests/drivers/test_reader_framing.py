from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.ports import BadScan, Medium, Scan, ScanProblem
from drivers.reader import gm65
from drivers.reader.framing import CODE_BYTES_MAX, CommandReply, Framer, LineEnd, TextFramer, Token
from drivers.sim.readers import ZONES_AS_SHIPPED, SimGm65

PASS = b"6BF+70790T9WJWG.FKY*4GO0.O1CV2 O5 N2FBBRW1*70HS8WY04AC*WIFN0AHCD8KD97TK0F90KECTHGWJC0FDC:5AIA%G7X+A "


def qr(payload: bytes) -> Scan:
    return Scan(payload, Medium.QR)


def bad(problem: ScanProblem, size: int) -> BadScan:
    return BadScan(problem, size, Medium.QR)


def crc(frame: str) -> tuple[bytes, bytes]:
    raw = bytes.fromhex(frame)
    return gm65.crc16(raw[2:-2]), raw[-2:]


COMMANDS = [
    (gm65.TRIGGER, "7E 00 08 01 00 02 01 02 DA"),
    (gm65.write_zone(gm65.Zone.MODE, gm65.ScanMode.MANUAL), "7E 00 08 01 00 00 D4 FF 60"),
    (gm65.write_zone(gm65.Zone.MODE, gm65.ScanMode.COMMAND), "7E 00 08 01 00 00 D5 EF 41"),
    (gm65.write_zone(gm65.Zone.MODE, gm65.ScanMode.CONTINUOUS), "7E 00 08 01 00 00 D6 DF 22"),
    (gm65.write_zone(gm65.Zone.MODE, gm65.ScanMode.INDUCTION), "7E 00 08 01 00 00 D7 CF 03"),
    (gm65.read_zone(gm65.Zone.MODE), "7E 00 07 01 00 00 01 01 41"),
    (gm65.read_zone(0x002A, 2), "7E 00 07 01 00 2A 02 D8 0F"),
    (gm65.command(gm65.Kind.WRITE, 0x002A, bytes.fromhex("3901")), "7E 00 08 02 00 2A 39 01 A7 EA"),
    (gm65.command(gm65.Kind.WRITE, 0x002A, bytes.fromhex("1A00")), "7E 00 08 02 00 2A 1A 00 E4 7E"),
    (gm65.SAVE, "7E 00 09 01 00 00 00 DE C8"),
    (gm65.HEARTBEAT, "7E 00 0A 01 00 00 00 30 1A"),
    (gm65.write_zone(0x00D9, 0x50), "7E 00 08 01 00 D9 50 81 D3"),
    (gm65.write_zone(0x00D9, 0xA5), "7E 00 08 01 00 D9 A5 3E 69"),
    (gm65.write_zone(0x00D9, 0x00), "7E 00 08 01 00 D9 00 DB 26"),
]
REPLIES = [
    ("02 00 00 01 00 33 31", CommandReply(ok=True, data=b"\x00")),
    ("02 00 00 01 D6 98 8A", CommandReply(ok=True, data=b"\xd6")),
    ("02 00 00 02 39 01 C1 4C", CommandReply(ok=True, data=b"\x39\x01")),
    ("03 00 00 01 00 33 31", CommandReply(ok=True, data=b"\x00", heartbeat=True)),
    ("02 00 00 62" + ZONES_AS_SHIPPED.hex() + "30 FE", CommandReply(ok=True, data=ZONES_AS_SHIPPED)),
]

FRAMERS: dict[str, Callable[[], Framer]] = {
    "newline": TextFramer,
    "tab": lambda: TextFramer(LineEnd.TAB),
    "silence": lambda: TextFramer(LineEnd.SILENCE),
    "gm65-text": lambda: gm65.Gm65TextFramer(TextFramer()),
    "gm65-silence": lambda: gm65.Gm65TextFramer(TextFramer(LineEnd.SILENCE)),
    "gm65-framed": gm65.Gm65FramedFramer,
}


def sent(framer: str, code: bytes) -> bytes:
    end = {"tab": b"\t", "silence": b"", "gm65-silence": b""}.get(framer, b"\r")
    return gm65.framed_scan(code) if framer == "gm65-framed" else code + end


def read_all(framer: Framer, *chunks: bytes) -> list[Token]:
    tokens = [token for chunk in chunks for token in framer.feed(chunk)]
    return tokens + framer.silence()


@pytest.mark.parametrize(("built", "printed"), COMMANDS)
def test_commands_are_the_printed_bytes(built: bytes, printed: str):
    assert built == bytes.fromhex(printed)


@pytest.mark.parametrize("framer", ["gm65-text", "gm65-silence", "gm65-framed"])
@pytest.mark.parametrize(("printed", "reply"), REPLIES)
def test_printed_replies_are_read_whole_and_by_single_bytes(framer: str, printed: str, reply: CommandReply):
    raw = bytes.fromhex(printed)
    assert FRAMERS[framer]().feed(raw) == [reply]
    assert read_all(FRAMERS[framer](), *(raw[i : i + 1] for i in range(len(raw)))) == [reply]


@pytest.mark.parametrize("framer", ["gm65-text", "gm65-framed"])
def test_replies_between_scans_are_told_apart(framer: str):
    line = b"".join([sent(framer, b"A1"), gm65.reply(b"\xd6"), sent(framer, PASS), gm65.reply(b"", heartbeat=True)])
    expected = [
        qr(b"A1"),
        CommandReply(ok=True, data=b"\xd6"),
        qr(PASS),
        CommandReply(ok=True, data=b"", heartbeat=True),
    ]
    assert FRAMERS[framer]().feed(line) == expected
    assert read_all(FRAMERS[framer](), *(line[i : i + 1] for i in range(len(line)))) == expected


def test_a_refusing_reply_is_read_as_such():
    assert gm65.Gm65FramedFramer().feed(gm65.reply(b"", ok=False)) == [CommandReply(ok=False, data=b"")]


def test_the_printed_framed_scan():
    raw = bytes.fromhex("03 00 0A 30 33 32 31 35 36 33 38 34 30")
    assert gm65.Gm65FramedFramer().feed(raw) == [qr(b"0321563840")]


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n"])
@pytest.mark.parametrize("framer", ["newline", "gm65-text"])
def test_newlines_end_a_code_and_nothing_else_is_removed(framer: str, end: bytes):
    assert FRAMERS[framer]().feed(b" AB " + end + PASS + end) == [qr(b" AB "), qr(PASS)]


def test_tab_ends_a_code_only_where_asked():
    assert TextFramer(LineEnd.TAB).feed(b"AB\tCD\r\n") == [qr(b"AB"), qr(b"CD")]
    assert TextFramer().feed(b"AB\tCD\r") == [bad(ScanProblem.CONTROL_CHARACTERS, 5)]


def test_silence_ends_a_code_where_there_is_no_terminator():
    framer = TextFramer(LineEnd.SILENCE)
    assert framer.patience_s is None
    assert framer.feed(PASS[:9]) + framer.feed(PASS[9:]) == []
    assert framer.patience_s == 0.05
    assert framer.silence() == [qr(PASS)]
    assert framer.patience_s is None


def test_a_code_that_lost_its_end_does_not_spoil_the_next():
    framer = TextFramer()
    assert framer.feed(b"HALF A COD") == []
    assert framer.patience_s == 1.0
    assert framer.silence() == [bad(ScanProblem.FRAME, 10)]
    assert framer.feed(PASS + b"\r") == [qr(PASS)]


@pytest.mark.parametrize("framer", ["newline", "tab", "silence", "gm65-text"])
def test_ten_kilobytes_are_one_complaint_and_little_memory(framer: str):
    under_test = FRAMERS[framer]()
    tokens = [t for _ in range(100) for t in under_test.feed(b"x" * 100)]
    assert tokens == []
    end = b"" if framer == "silence" else b"\r"
    assert under_test.feed(end) + under_test.silence() == [bad(ScanProblem.OVERSIZE, 10_000)]
    assert read_all(under_test, sent(framer, PASS)) == [qr(PASS)]


def test_the_limit_itself_is_a_code():
    assert TextFramer().feed(b"x" * CODE_BYTES_MAX + b"\r") == [qr(b"x" * CODE_BYTES_MAX)]
    assert TextFramer().feed(b"x" * (CODE_BYTES_MAX + 1) + b"\r") == [bad(ScanProblem.OVERSIZE, CODE_BYTES_MAX + 1)]


@pytest.mark.parametrize("framer", FRAMERS)
@pytest.mark.parametrize(
    "pattern", [b"x", b"\x00", b"\x02", b"\x02\x00", b"\x03\x00\x00", b"\x02\x00\x00\xff", b"\x03"]
)
def test_an_endless_stream_is_held_in_bounded_memory(framer: str, pattern: bytes):
    under_test = FRAMERS[framer]()
    for _ in range(50):
        under_test.feed(pattern * (4096 // len(pattern)))
        assert kept_bytes(under_test) <= CODE_BYTES_MAX + 300
    under_test.silence()
    assert read_all(under_test, sent(framer, PASS)) == [qr(PASS)]


@pytest.mark.parametrize("framer", FRAMERS)
@pytest.mark.parametrize("control", [b"\x00", b"\x1b[2J", b"\x07", b"\x7f"])
def test_control_characters_are_refused(framer: str, control: bytes):
    code = b"AB" + control + b"CD"
    assert read_all(FRAMERS[framer](), sent(framer, code)) == [bad(ScanProblem.CONTROL_CHARACTERS, len(code))]


def test_noise_before_a_framed_scan_is_named_and_the_scan_is_read():
    framer = gm65.Gm65FramedFramer()
    assert framer.feed(b"\xff\x80\x03" + gm65.framed_scan(PASS)) == [bad(ScanProblem.FRAME, 3), qr(PASS)]


def test_a_framed_scan_that_lost_a_byte_does_not_swallow_the_next():
    framer = gm65.Gm65FramedFramer()
    broken = gm65.framed_scan(b"ABCDEF")[:-1]
    assert framer.feed(broken + gm65.framed_scan(PASS)) == [bad(ScanProblem.FRAME, 8), qr(PASS)]


def test_a_frame_inside_a_false_one_is_read_when_the_line_falls_silent():
    framed = gm65.Gm65FramedFramer()
    assert framed.feed(b"\2\0\0\xff" + gm65.framed_scan(PASS)) == []
    assert framed.silence() == [bad(ScanProblem.FRAME, 4), qr(PASS)]
    text = gm65.Gm65TextFramer(TextFramer())
    assert text.feed(b"\2\0\0\xff" + gm65.reply(b"\xd6") + PASS + b"\r") == []
    assert text.silence() == [CommandReply(ok=True, data=b"\xd6"), bad(ScanProblem.CONTROL_CHARACTERS, 4 + len(PASS))]


@pytest.mark.parametrize("framer", FRAMERS)
@given(chunks=st.lists(st.binary(max_size=700), max_size=6))
def test_any_bytes_never_raise_and_the_next_good_code_is_read(framer: str, chunks: list[bytes]):
    under_test = FRAMERS[framer]()
    for chunk in chunks:
        for token in under_test.feed(chunk):
            if isinstance(token, Scan):
                assert 0 < len(token.payload) <= CODE_BYTES_MAX
                assert min(token.payload) >= 0x20
        assert kept_bytes(under_test) <= CODE_BYTES_MAX + 300
    under_test.silence()
    assert under_test.patience_s is None
    assert read_all(under_test, sent(framer, PASS)) == [qr(PASS)]


HEADERS = [
    b"\x02\x00",
    b"\x03\x00",
    b"\x02",
    b"\x03",
    b"\x00",
    b"\r",
    b"\x03\x00\x05ABCDE",
    gm65.reply(b"\x01"),
    b"\x7e\x00",
]


@pytest.mark.parametrize("framer", FRAMERS)
@given(parts=st.lists(st.sampled_from(HEADERS) | st.binary(max_size=3), max_size=40), cut=st.integers(1, 7))
def test_chunking_never_changes_what_is_read(framer: str, parts: list[bytes], cut: int):
    line = b"".join(parts)
    whole = read_all(FRAMERS[framer](), line)
    pieces = read_all(FRAMERS[framer](), *(line[i : i + cut] for i in range(0, len(line), cut)))
    if framer == "gm65-framed":  # a frame that ends in 03 is judged by the byte behind it, if that is there already
        assert [t for t in pieces if isinstance(t, CommandReply)] == [t for t in whole if isinstance(t, CommandReply)]
    else:
        assert pieces == whole


@given(st.binary(max_size=400), st.integers(1, 9))
def test_the_simulated_module_survives_any_bytes_and_still_obeys(noise: bytes, cut: int):
    module = SimGm65()
    for i in range(0, len(noise), cut):
        module.feed(noise[i : i + cut])
    module.feed(b"\x00" * 300)  # whatever length the noise announced is over
    assert module.feed(gm65.read_zone(gm65.Zone.TAIL)).endswith(gm65.reply(module.zones[0x60:0x61])[-3:])


def test_the_simulated_module_answers_with_the_printed_bytes():
    module = SimGm65()
    assert module.feed(gm65.read_zone(0, 98)) == bytes.fromhex(REPLIES[4][0])
    assert module.feed(gm65.HEARTBEAT) == bytes.fromhex("03 00 00 01 00 33 31")
    assert module.feed(bytes.fromhex("7E 00 08 01 00 00 D7 AB CD")) == bytes.fromhex("02 00 00 01 00 33 31")
    assert module.zones[0] == 0xD7
    assert module.feed(bytes.fromhex("7E 00 08 01 00 00 D6 00 00")) == b""
    assert module.zones[0] == 0xD7
    assert module.feed(gm65.SAVE) == bytes.fromhex("02 00 00 01 00 33 31")


def kept_bytes(framer: Framer) -> int:
    kept = 0
    for value in vars(framer).values():
        if isinstance(value, bytes | bytearray):
            kept += len(value)
        elif isinstance(value, TextFramer):
            kept += kept_bytes(value)
    return kept
