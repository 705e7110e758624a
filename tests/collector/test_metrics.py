import shutil
import subprocess
from pathlib import Path

import pytest

from broker.collector import metrics
from broker.collector.fleet import Fleet
from broker.collector.tally import MAX_SERIES, OTHER, settle
from tests.collector.helpers import Msg, at, event, fever, meta, open_store, passage, state, verdict

MESSAGES = [
    state(),
    meta(),
    verdict(1, "refuse", ("curfew", "invented"), direction="sideways"),
    verdict(2),
    passage(3),
    passage(6),
    passage(3),
    event("weather", b"{}", 7),
    fever(1),
    Msg("rubbish", b"?"),
]

EXPECTED = """
menwei_passages_total{direction="in",gate="gate-1",lane="main",outcome="crossed",site="garden"} 2.0
menwei_verdicts_total{direction="other",gate="gate-1",lane="main",site="garden",verdict="refuse"} 1.0
menwei_verdicts_total{direction="in",gate="gate-1",lane="main",site="garden",verdict="admit"} 1.0
menwei_refusals_total{gate="gate-1",reason="curfew",site="garden"} 1.0
menwei_refusals_total{gate="gate-1",reason="other",site="garden"} 1.0
menwei_fever_alarms_total{gate="gate-1",site="garden"} 1.0
menwei_events_stored_total{kind="passage"} 2.0
menwei_events_stored_total{kind="other"} 1.0
menwei_events_duplicate_total 1.0
menwei_events_quarantined_total 1.0
menwei_gate_up{gate="gate-1",site="garden"} 1.0
menwei_gate_last_seen_timestamp_seconds{gate="gate-1",site="garden"} 1.600000001e+09
menwei_gate_info{gate="gate-1",policy="kunshan-2020-17@1",site="garden",version="0.1.0"} 1.0
menwei_gate_waiting_events{gate="gate-1",site="garden"} 3.0
menwei_open_alarms{cause="fever"} 1.0
menwei_open_alarms{cause="gate_silent"} 0.0
menwei_stream_gaps 1.0
menwei_missing_events 2.0
menwei_ingest_batch_messages_bucket{le="10.0"} 1.0
menwei_ingest_batch_messages_count 1.0
menwei_build_info{version="9.9"} 1.0
""".strip().splitlines()


def filled(tmp_path: Path) -> Fleet:
    store = open_store(tmp_path)
    fleet = Fleet.of(store)
    fleet.absorb(store.commit(MESSAGES, at(1)))
    store.close()
    return fleet


def test_what_a_scrape_says(tmp_path: Path) -> None:
    text = metrics.render(metrics.registry(filled(tmp_path), "9.9")).decode()
    lines = set(text.splitlines())
    assert [line for line in EXPECTED if line not in lines] == []


def test_recorded_facts_survive_a_restart(tmp_path: Path) -> None:
    filled(tmp_path)
    store = open_store(tmp_path, 5)
    text = metrics.render(metrics.registry(Fleet.of(store), "9.9")).decode()
    store.close()
    process_only = ("menwei_ingest_batch",)
    lines = set(text.splitlines())
    assert [line for line in EXPECTED if line not in lines and not line.startswith(process_only)] == []


def test_promtool_has_nothing_to_say(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.fail("promtool is missing: apt install prometheus")
    for fleet in (Fleet(), filled(tmp_path)):
        text = metrics.render(metrics.registry(fleet, "9.9"))
        done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, check=False, timeout=30)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_series_are_bounded() -> None:
    totals = {("passages", "s", f"g{n}", "l", "in", "crossed"): 1 for n in range(3)}
    more = {("passages", "s", f"g{n}", "l", "in", "crossed"): 1 for n in range(1, 9)}
    settled = settle(totals, {"passages": MAX_SERIES - 1}, more)
    assert settled.pop(("passages", OTHER, OTHER, OTHER, OTHER, OTHER)) == 5
    assert set(settled) == {("passages", "s", f"g{n}", "l", "in", "crossed") for n in (1, 2, 3)}
