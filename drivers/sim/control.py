"""The simulated gate's own door: JSON lines over a Unix socket, mode 0600. It plays scenes, moves time, breaks devices.

Verbs: scene, rate, skip_to, skip, step_wall, fault, status. Each line is answered by one: {"ok": true, ...} or
{"ok": false, "error": "what is wrong and what is allowed"}.
"""

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from drivers.sim.gate import SimGate
from drivers.sim.time import RATE_MAX

LINE_MAX_BYTES = 4096
CONNECTIONS_MAX = 8
WORD = Annotated[str, Meta(min_length=1, max_length=80)]


class SceneVerb(Struct, frozen=True, tag="scene", tag_field="do", forbid_unknown_fields=True):
    """Begin a scene."""

    name: WORD
    lane: WORD | None = None


class RateVerb(Struct, frozen=True, tag="rate", tag_field="do", forbid_unknown_fields=True):
    """Let time run at another rate."""

    rate: Annotated[float, Meta(gt=0, le=RATE_MAX)]


class SkipToVerb(Struct, frozen=True, tag="skip_to", tag_field="do", forbid_unknown_fields=True):
    """Let time have passed until this wall time."""

    wall_ms: Annotated[int, Meta(ge=0, le=4_102_444_800_000)]  # until the year 2100


class SkipVerb(Struct, frozen=True, tag="skip", tag_field="do", forbid_unknown_fields=True):
    """Let so much time have passed."""

    seconds: Annotated[float, Meta(ge=0, le=366 * 86_400)]


class StepWallVerb(Struct, frozen=True, tag="step_wall", tag_field="do", forbid_unknown_fields=True):
    """Set the wall clock ahead or back."""

    seconds: Annotated[float, Meta(ge=-366 * 86_400, le=366 * 86_400)]


class FaultVerb(Struct, frozen=True, tag="fault", tag_field="do", forbid_unknown_fields=True):
    """Break a device, or mend it with "none"."""

    device: WORD
    fault: WORD


class StatusVerb(Struct, frozen=True, tag="status", tag_field="do", forbid_unknown_fields=True):
    """Ask what can be seen."""


Verb = SceneVerb | RateVerb | SkipToVerb | SkipVerb | StepWallVerb | FaultVerb | StatusVerb
_decoder: msgspec.json.Decoder[Verb] = msgspec.json.Decoder(Verb)
_encoder = msgspec.json.Encoder()


class ControlSocket:
    """Serves one simulated gate."""

    def __init__(self, path: Path, gate: SimGate) -> None:
        self._path, self._gate = path, gate
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen; a socket file left by a killed process is replaced. Raises OSError."""
        self._path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, self._path, limit=LINE_MAX_BYTES)
        finally:
            os.umask(before)

    async def close(self) -> None:
        """Stop listening, hang up, remove the socket."""
        if self._server is None:
            return
        self._server.close()
        for writer in tuple(self._writers):
            writer.close()
        await self._server.wait_closed()
        self._server = None
        self._path.unlink(missing_ok=True)

    def answer(self, line: bytes) -> bytes:
        """One line in, one line out; never raises."""
        try:
            told = self._do(_decoder.decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError, LookupError, ValueError) as e:
            text = str(e.args[0]) if isinstance(e, LookupError) and e.args else str(e)
            return _encoder.encode({"ok": False, "error": text}) + b"\n"
        return _encoder.encode({"ok": True, **told}) + b"\n"

    def _do(self, verb: Verb) -> dict[str, Any]:
        gate, time = self._gate, self._gate.time
        match verb:
            case SceneVerb(name=name, lane=lane):
                gate.scenes.play(name, lane)
                return {}
            case RateVerb(rate=rate):
                time.rate = rate
            case SkipToVerb(wall_ms=wall_ms):
                time.skip_to(wall_ms)
            case SkipVerb(seconds=seconds):
                time.skip(seconds)
            case StepWallVerb(seconds=seconds):
                time.step_wall(seconds)
            case FaultVerb(device=device, fault=fault):
                gate.fault(device, fault)
                return {}
            case StatusVerb():
                return gate.status()
        return {"wall_ms": time.wall_ms(), "rate": time.rate}

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._writers) >= CONNECTIONS_MAX:
            writer.write(_encoder.encode({"ok": False, "error": f"{CONNECTIONS_MAX} connections are open"}) + b"\n")
            writer.close()
            return
        self._writers.add(writer)
        try:
            while line := await reader.readline():
                writer.write(self.answer(line))
                await writer.drain()
        except ValueError:  # a line longer than the limit
            writer.write(_encoder.encode({"ok": False, "error": f"a line has at most {LINE_MAX_BYTES} bytes"}) + b"\n")
        except ConnectionError:
            pass  # the other end hung up
        finally:
            self._writers.discard(writer)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
