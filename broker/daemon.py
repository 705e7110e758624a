"""What a service owes its supervisor: JSON log lines on stderr, systemd notification and watchdog, an orderly stop.

Both services use it; it knows neither of them. Signals and environment are read when called, never at import.
"""

import asyncio
import json
import logging
import math
import os
import re
import signal
import socket
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TextIO

logger = logging.getLogger(__name__)

REDACTED = "***"

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_PRIVATE_WORD = re.compile(
    r"body|cards?|codes?|forehead|keys?|names?|object|pass(es|word)?|payload|persons?|phones?|plates?|pseudonyms?|secrets?"
    r"|temperatures?|tokens?"
)
_PUBLIC_FIELDS = frozenset(
    {"exit_code", "file_name", "host_name", "pass_status", "public_key", "reason_code", "return_code", "status_code"}
)
_OWN_FIELDS = ("time", "level", "service", "logger", "message", "exception")
_WORD_BORDER = re.compile(r"[^a-z0-9]+")
_CAMEL_BORDER = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def setup_logging(service: str, level: str = "info") -> None:
    """Send every log record as one JSON line to stderr; calling again replaces the earlier set-up. Raises ValueError.

    `extra={"fields": {...}}` is merged into the line. Fields whose names speak of people, passes or temperatures are
    redacted at any depth. When stderr is the journal each line carries its priority.
    """
    if level not in _LEVELS:
        raise ValueError(f"log level {level!r}: use one of {', '.join(_LEVELS)}")
    handler = _JsonHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter(service, with_priority=_stderr_is_journal()))
    root = logging.getLogger()
    for old in [h for h in root.handlers if isinstance(h, _JsonHandler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(_LEVELS[level])
    logging.getLogger("aiosqlite").setLevel(logging.INFO)  # its debug lines carry the values of every statement


def notify(message: str) -> None:
    """Tell systemd, e.g. `READY=1`, `WATCHDOG=1`, `STOPPING=1`; nothing happens without NOTIFY_SOCKET. Never blocks."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # abstract namespace
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as s:
            s.setblocking(False)  # the control loop feeds the watchdog from here: losing one message beats stalling
            s.sendto(message.encode(), address)
    except OSError as e:
        logger.warning("systemd did not take a notification", extra={"fields": {"error": str(e)}})


def watchdog_interval_s() -> float | None:
    """Seconds between two `WATCHDOG=1`: half of what systemd allows; None when it watches nobody or another process."""
    limit_us, pid = os.environ.get("WATCHDOG_USEC"), os.environ.get("WATCHDOG_PID")
    if limit_us is None or (pid is not None and pid != str(os.getpid())):
        return None
    if not limit_us.isdecimal() or int(limit_us) == 0:
        logger.warning("WATCHDOG_USEC is no positive number: watchdog stays off")
        return None
    return int(limit_us) / 2 / 1_000_000


def stop_event() -> asyncio.Event:
    """Event that SIGTERM or SIGINT sets; a second signal ends the process at once. Call it inside the loop."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    asked = False

    def on_signal(number: signal.Signals) -> None:
        nonlocal asked
        if asked:
            logger.error("second signal: leaving at once", extra={"fields": {"signal": number.name}})
            os._exit(128 + number)
        asked = True
        logger.info("stopping", extra={"fields": {"signal": number.name}})
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    return stop


class _JsonHandler(logging.StreamHandler[TextIO]):
    """Marks the handler as ours, so that a second set-up finds it."""


class _JsonFormatter(logging.Formatter):
    """One record, one line."""

    def __init__(self, service: str, *, with_priority: bool) -> None:
        super().__init__()
        self._service, self._with_priority = service, with_priority

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, Mapping):
            line |= {f"{k}_" if k in _OWN_FIELDS else str(k): _clean(str(k), v) for k, v in fields.items()}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        text = json.dumps(line, ensure_ascii=False, separators=(",", ":"), default=str)
        return f"<{_priority(record.levelno)}>{text}" if self._with_priority else text


def _clean(name: str, value: object) -> object:
    if _is_private(name):
        return REDACTED
    if isinstance(value, Mapping):
        return {str(k): _clean(str(k), v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(name, v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no word for it
    return value


def _is_private(name: str) -> bool:
    snake = _CAMEL_BORDER.sub("_", name).lower()
    return snake not in _PUBLIC_FIELDS and any(_PRIVATE_WORD.fullmatch(word) for word in _WORD_BORDER.split(snake))


def _priority(level: int) -> int:
    """Syslog priority of a Python level (sd-daemon(3))."""
    if level >= logging.CRITICAL:
        return 2
    if level >= logging.ERROR:
        return 3
    if level >= logging.WARNING:
        return 4
    return 6 if level >= logging.INFO else 7


def _stderr_is_journal() -> bool:
    """JOURNAL_STREAM is inherited even when stderr went elsewhere since, so it is compared with the stream itself."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
