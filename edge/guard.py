"""The guard's door into the gate: JSON lines over a Unix socket, mode 0600. It offers inputs; the core keeps its veto.

Verbs: mask, occupants, exception, fever_release, fire_reset, barrier_close, barrier_reset, status. Each line is
answered by one: {"ok": true, ...} or {"ok": false, "error": "what is wrong and what is allowed"}.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from edge.core.inputs import (
    BarrierReset,
    CloseAsked,
    ExceptionGranted,
    FeverReleased,
    FireReset,
    GateInput,
    MaskAttested,
    OccupantsDeclared,
)
from edge.core.model import ExceptionKind

log = logging.getLogger(__name__)

LINE_MAX_BYTES = 4096
CONNECTIONS_MAX = 8
Id = Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,40}$")]


class MaskVerb(Struct, frozen=True, tag="mask", tag_field="do", forbid_unknown_fields=True):
    """The mask of whoever stands there."""

    lane: Id
    worn: bool


class OccupantsVerb(Struct, frozen=True, tag="occupants", tag_field="do", forbid_unknown_fields=True):
    """How many there are."""

    lane: Id
    count: Annotated[int, Meta(ge=1, le=60)]


class ExceptionVerb(Struct, frozen=True, tag="exception", tag_field="do", forbid_unknown_fields=True):
    """A reasoned exception."""

    lane: Id
    kind: ExceptionKind
    approver: Id


class FeverVerb(Struct, frozen=True, tag="fever_release", tag_field="do", forbid_unknown_fields=True):
    """A fever was handed over."""

    lane: Id
    handover: Id


class FireResetVerb(Struct, frozen=True, tag="fire_reset", tag_field="do", forbid_unknown_fields=True):
    """The fire is over."""


class CloseVerb(Struct, frozen=True, tag="barrier_close", tag_field="do", forbid_unknown_fields=True):
    """Close an open barrier once it is clear."""

    lane: Id


class ResetVerb(Struct, frozen=True, tag="barrier_reset", tag_field="do", forbid_unknown_fields=True):
    """A barrier fault was looked at."""

    lane: Id


class StatusVerb(Struct, frozen=True, tag="status", tag_field="do", forbid_unknown_fields=True):
    """Ask what the gate says."""


Verb = MaskVerb | OccupantsVerb | ExceptionVerb | FeverVerb | FireResetVerb | CloseVerb | ResetVerb | StatusVerb
_decoder: msgspec.json.Decoder[Verb] = msgspec.json.Decoder(Verb)
_encoder = msgspec.json.Encoder()


class UnknownLane(ValueError):  # noqa: N818 - named by the condition
    """A lane that this gate does not have."""


def to_input(verb: Verb, lanes: frozenset[str]) -> GateInput | None:
    """The input of a verb; None for status. Raises UnknownLane."""
    lane = getattr(verb, "lane", None)
    if lane is not None and lane not in lanes:
        raise UnknownLane(f"there is no lane {lane!r} here; lanes are {', '.join(sorted(lanes))}")
    match verb:
        case MaskVerb():
            return MaskAttested(verb.lane, verb.worn)
        case OccupantsVerb():
            return OccupantsDeclared(verb.lane, verb.count)
        case ExceptionVerb():
            return ExceptionGranted(verb.lane, verb.kind, verb.approver)
        case FeverVerb():
            return FeverReleased(verb.lane, verb.handover)
        case FireResetVerb():
            return FireReset()
        case CloseVerb():
            return CloseAsked(verb.lane)
        case ResetVerb():
            return BarrierReset(verb.lane)
        case StatusVerb():
            return None


class GuardDesk:
    """Understands the verbs; whoever speaks them, over the socket or in the simulated world, is answered alike."""

    def __init__(self, lanes: frozenset[str], offer: Callable[[GateInput], None], status: Callable[[], bytes]) -> None:
        self._lanes, self._offer, self._status = lanes, offer, status

    def answer(self, line: bytes) -> bytes:
        """One line in, one line out."""
        try:
            verb = _decoder.decode(line)
            given = to_input(verb, self._lanes)
        except (msgspec.DecodeError, UnicodeDecodeError, UnknownLane) as e:
            return _encoder.encode({"ok": False, "error": str(e)}) + b"\n"
        if given is None:
            return self._status() + b"\n"
        self._offer(given)
        return b'{"ok":true}\n'


class GuardSocket:
    """Serves the desk to the guard's console, this user alone."""

    def __init__(self, path: Path, desk: GuardDesk) -> None:
        self._path, self._desk = path, desk
        self._server: asyncio.Server | None = None
        self._open = 0

    async def start(self) -> None:
        """Listen; a socket file left by a killed process is replaced."""
        self._path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, self._path, limit=LINE_MAX_BYTES)
        finally:
            os.umask(before)

    async def close(self) -> None:
        """Stop listening and remove the socket."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            while self._open <= CONNECTIONS_MAX and (line := await reader.readline()):
                writer.write(self._desk.answer(line))
                await writer.drain()
        except ValueError:  # a line longer than the limit
            writer.write(_encoder.encode({"ok": False, "error": f"a line has at most {LINE_MAX_BYTES} bytes"}) + b"\n")
        except ConnectionError:
            log.debug("guard console went away")
        finally:
            self._open -= 1
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
