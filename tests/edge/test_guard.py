import asyncio
import json
import stat
from pathlib import Path

import pytest

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
from edge.guard import LINE_MAX_BYTES, GuardDesk, GuardSocket


@pytest.mark.parametrize(
    ("line", "given"),
    [
        ('{"do":"mask","lane":"main","worn":false}', MaskAttested("main", worn=False)),
        ('{"do":"occupants","lane":"main","count":3}', OccupantsDeclared("main", 3)),
        (
            '{"do":"exception","lane":"main","kind":"ambulance","approver":"guard-7"}',
            ExceptionGranted("main", ExceptionKind.AMBULANCE, "guard-7"),
        ),
        ('{"do":"fever_release","lane":"main","handover":"case-1"}', FeverReleased("main", "case-1")),
        ('{"do":"fire_reset"}', FireReset()),
        ('{"do":"barrier_close","lane":"main"}', CloseAsked("main")),
        ('{"do":"barrier_reset","lane":"main"}', BarrierReset("main")),
    ],
)
def test_verbs_become_inputs(line: str, given: GateInput) -> None:
    offered: list[GateInput] = []
    guard = GuardDesk(frozenset({"main"}), offered.append, lambda: b"{}")
    assert json.loads(guard.answer(line.encode())) == {"ok": True}
    assert offered == [given]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"", "truncated"),
        (b"\xff\xfe", "malformed"),
        (b'{"do":"open"}', "open"),
        (b'{"do":"mask","lane":"main"}', "worn"),
        (b'{"do":"mask","lane":"side","worn":true}', "lanes are main"),
        (b'{"do":"occupants","lane":"main","count":0}', ">= 1"),
        (b'{"do":"exception","lane":"main","kind":"vip","approver":"g"}', "vip"),
        (b'{"do":"exception","lane":"main","kind":"police","approver":"g","force":true}', "force"),
    ],
)
def test_a_wrong_line_is_answered_with_what_is_wrong_and_does_nothing(line: bytes, says: str) -> None:
    offered: list[GateInput] = []
    guard = GuardDesk(frozenset({"main"}), offered.append, lambda: b"{}")
    answer = json.loads(guard.answer(line))
    assert answer["ok"] is False
    assert says in answer["error"]
    assert offered == []


async def test_the_socket_is_the_guards_alone_and_survives_a_flood(tmp_path: Path) -> None:
    path = tmp_path / "guard.sock"
    path.write_text("left by a killed process")
    desk = GuardDesk(frozenset({"main"}), lambda _given: None, lambda: b'{"ok":true,"node":"g"}')
    guard = GuardSocket(path, desk)
    await guard.start()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b'{"do":"status"}\n')
    assert json.loads(await reader.readline())["node"] == "g"
    writer.write(b"x" * (LINE_MAX_BYTES * 4) + b"\n")
    assert json.loads(await reader.readline())["ok"] is False
    assert await reader.read() == b""
    writer.close()
    again, writer = await asyncio.open_unix_connection(path)
    writer.write(b'{"do":"status"}\n')
    assert json.loads(await again.readline())["node"] == "g"
    writer.close()
    await guard.close()
    assert not path.exists()
