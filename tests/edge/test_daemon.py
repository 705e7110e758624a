import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.daemon import notify, setup_logging, watchdog_interval_s


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_one_record_is_one_json_line_with_its_fields(root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]):
    setup_logging("edge")
    setup_logging("edge")  # replaces, never doubles
    logging.getLogger("edge.x").info("体温\nok", extra={"fields": {"lane": "main", "took_ms": 3, "where": Path("/x")}})
    logging.getLogger("edge.x").debug("not shown")
    (line,) = lines(capsys.readouterr().err)
    assert line.pop("time", "")[-6:] == "+00:00"  # type: ignore[index]
    assert line == {
        "level": "info",
        "service": "edge",
        "logger": "edge.x",
        "message": "体温\nok",
        "lane": "main",
        "took_ms": 3,
        "where": "/x",
    }
    assert root_logger.level == logging.INFO


def test_a_field_cannot_hide_the_lines_own_words(root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]):
    setup_logging("edge", "debug")
    root_logger.debug("x", extra={"fields": {"message": "y", "value": float("nan")}})
    (line,) = lines(capsys.readouterr().err)
    assert (line["message"], line["message_"], line["value"]) == ("x", "y", "nan")


@pytest.mark.parametrize(
    "name",
    [
        "pass", "pass_id", "code", "card_code", "token", "joinToken", "name", "resident_name", "phone", "phones",
        "temperature", "body_centi_c", "object_centi_c", "forehead_c", "password", "secret", "person", "PASS",
    ],
)  # fmt: skip
def test_personal_fields_are_redacted_at_any_depth(
    root_logger: logging.Logger, capsys: pytest.CaptureFixture[str], name: str
):
    setup_logging("edge")
    root_logger.info("x", extra={"fields": {name: "zhang-3", "inner": [{"deep": {name: ["zhang-3"]}}]}})
    assert "zhang" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["lane", "exit_code", "reason_code", "device", "error", "encounter", "passage", "host_name"]
)
def test_technical_fields_are_not_redacted(root_logger: logging.Logger, capsys: pytest.CaptureFixture[str], name: str):
    setup_logging("edge")
    root_logger.info("x", extra={"fields": {name: "shown"}})
    assert lines(capsys.readouterr().err)[0][name] == "shown"


def test_a_traceback_stays_in_its_line(root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]):
    setup_logging("edge")
    try:
        [].pop()
    except IndexError:
        root_logger.exception("failed")
    (line,) = lines(capsys.readouterr().err)
    assert "IndexError: pop from" in str(line["exception"])


def test_database_statements_with_their_values_stay_out_of_a_debug_log(
    root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]
):
    setup_logging("edge", "debug")
    logging.getLogger("aiosqlite").debug("executing INSERT 'zhang-3'")
    assert capsys.readouterr().err == ""
    assert root_logger.level == logging.DEBUG


def test_an_unknown_level_names_the_allowed_ones():
    with pytest.raises(ValueError, match="use one of debug, info, warning, error"):
        setup_logging("edge", "loud")


def test_lines_for_the_journal_carry_their_priority():
    program = (
        "import os, sys, logging\nfrom broker.daemon import setup_logging\n"
        "s = os.fstat(2)\nos.environ['JOURNAL_STREAM'] = f'{s.st_dev}:{s.st_ino}' if sys.argv[1] == 'yes' else '1:2'\n"
        "setup_logging('edge', 'debug')\nlog = logging.getLogger('x')\n"
        "log.debug('a'); log.info('b'); log.warning('c'); log.error('d'); log.critical('e')\n"
    )
    for journal, prefixes in (("yes", ["<7>{", "<6>{", "<4>{", "<3>{", "<2>{"]), ("no", ['{"t'] * 5)):
        done = subprocess.run([sys.executable, "-c", program, journal], capture_output=True, text=True, check=True)
        assert [line[: len(p)] for line, p in zip(done.stderr.splitlines(), prefixes, strict=True)] == prefixes


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_hears_the_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool):
    name = f"menwei-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0{name}" if abstract else name)
        systemd.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}" if abstract else name)
        notify("READY=1\nSTATUS=两条车道")
        assert systemd.recv(100).decode() == "READY=1\nSTATUS=两条车道"


def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
    assert not caplog.records


def test_a_deaf_systemd_neither_blocks_nor_breaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    notify("READY=1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as full:
        full.bind(str(tmp_path / "full"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "full"))
        for _ in range(3000):  # far more than a queue of datagrams takes
            notify("WATCHDOG=1")
    assert "did not take a notification" in caplog.text


@pytest.mark.parametrize(
    ("limit_us", "pid", "interval_s"),
    [
        ("10000000", "mine", 5.0),
        ("10000000", None, 5.0),
        ("10000000", "1", None),
        (None, None, None),
        ("0", "mine", None),
        ("soon", "mine", None),
    ],
)
def test_watchdog_interval(
    monkeypatch: pytest.MonkeyPatch, limit_us: str | None, pid: str | None, interval_s: float | None
):
    for key, value in (("WATCHDOG_USEC", limit_us), ("WATCHDOG_PID", str(os.getpid()) if pid == "mine" else pid)):
        monkeypatch.delenv(key, raising=False)
        if value is not None:
            monkeypatch.setenv(key, value)
    assert watchdog_interval_s() == interval_s


_SERVICE = """
import asyncio, sys
from broker.daemon import setup_logging, stop_event
async def main():
    stop = stop_event()
    print("up", flush=True)
    await stop.wait()
    print("stopping", flush=True)
    if sys.argv[1] == "hang":
        await asyncio.Event().wait()
setup_logging("edge")
asyncio.run(main())
print("clean", flush=True)
"""


async def _start(mode: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", _SERVICE, mode, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_asks_for_an_orderly_stop(number: signal.Signals):
    process = await _start("stop")
    assert process.stdout is not None
    assert await process.stdout.readline() == b"up\n"
    process.send_signal(number)
    out, err = await asyncio.wait_for(process.communicate(), 10)
    assert (out, process.returncode) == (b"stopping\nclean\n", 0)
    assert lines(err.decode())[-1]["signal"] == number.name


async def test_a_second_signal_ends_a_stop_that_hangs():
    process = await _start("hang")
    assert process.stdout is not None
    assert await process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGTERM)
    assert await process.stdout.readline() == b"stopping\n"
    process.send_signal(signal.SIGINT)
    _, err = await asyncio.wait_for(process.communicate(), 10)
    assert process.returncode == 128 + signal.SIGINT
    assert b"leaving at once" in err


def test_it_knows_neither_service():
    program = (
        "import sys, broker.daemon\nprint({m.split('.')[0] for m in sys.modules} & {'edge', 'drivers', 'configs'})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
