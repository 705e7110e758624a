"""What the demo's day came to: counted from the collector's own rows, compared with the heads of the gates' streams."""

import json
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
from rich.table import Table

from broker.wire import codec, messages


class Summary(msgspec.Struct, kw_only=True):
    """Keys of `--json`. `recorded`: events the gates wrote; `stored`: distinct events the collector has of them."""

    recorded: int
    stored: int
    missing: int
    duplicates_dropped: int
    verdicts: dict[str, int]
    refusals: dict[str, int]
    curfew_refusals: int
    fever_alarms: int
    openings: int
    admissions: int
    lockouts: int
    wall_s: float


def summarize(database: Path, heads: dict[tuple[str, str], int], duplicates_dropped: int, wall_s: float) -> Summary:
    """Count. `heads`: last sequence number of each (node, stream) as the gate itself has it."""
    stored: dict[tuple[str, str], set[int]] = {key: set() for key in heads}
    verdicts: Counter[str] = Counter()
    refusals: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    connection = sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)
    try:
        for node, stream, seq, body in connection.execute("SELECT node, stream, seq, body FROM recorded"):
            stored.setdefault((node, stream), set()).add(seq)
            _count(body, verdicts, refusals, counts)
    finally:
        connection.close()
    recorded = sum(heads.values())
    kept = sum(len(seqs & set(range(1, heads.get(key, 0) + 1))) for key, seqs in stored.items())
    return Summary(
        recorded=recorded,
        stored=sum(len(seqs) for seqs in stored.values()),
        missing=recorded - kept,
        duplicates_dropped=duplicates_dropped,
        verdicts=dict(verdicts.most_common()),
        refusals=dict(refusals.most_common()),
        curfew_refusals=refusals["curfew"] + refusals["curfew_imminent"],
        fever_alarms=counts["fever"],
        openings=counts["opening"],
        admissions=verdicts["admit"],
        lockouts=counts["lockout"],
        wall_s=round(wall_s, 1),
    )


def _count(body: bytes, verdicts: Counter[str], refusals: Counter[str], counts: Counter[str]) -> None:
    match codec.decode_data(codec.decode_envelope(body)):
        case messages.Verdict(verdict=verdict, reasons=reasons):
            verdicts[verdict] += 1
            if verdict == "refuse":
                refusals.update(reason.code for reason in reasons)
        case messages.Fever(phase="raised"):
            counts["fever"] += 1
        case messages.Lockout(phase="started"):
            counts["lockout"] += 1
        case messages.Actuation(motion="open", cause="admission" | "exception"):
            counts["opening"] += 1
        case _:
            pass


def heads_of(node: str, status: dict[str, Any]) -> dict[tuple[str, str], int]:
    """Stream heads out of a gate's status."""
    return {(node, stream): int(seq) for stream, seq in status["heads"].items()}


def write(summary: Summary, file: Path) -> None:
    """Write the summary as JSON."""
    file.write_text(json.dumps(msgspec.to_builtins(summary), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def table(summary: Summary) -> Table:
    """The summary for the terminal."""
    shown = Table(title="门卫 menwei: the day in figures", show_header=False, title_justify="left")
    for name, value in msgspec.to_builtins(summary).items():
        text = ", ".join(f"{key} {count}" for key, count in value.items()) if isinstance(value, dict) else str(value)
        bad = (name == "missing" and value) or (name == "stored" and value != summary.recorded)
        shown.add_row(name, f"[bold red]{text}[/bold red]" if bad else text)
    return shown
