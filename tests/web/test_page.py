import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from litestar import Litestar

from broker.collector.alarms import Cause
from broker.collector.fleet import Fleet
from broker.collector.read import Reader
from broker.collector.store import Store
from broker.collector.tally import REASONS
from broker.collector.web.app import create_app
from broker.collector.web.words import LANGUAGES, TABLES, choose, say
from broker.wire.messages import DeviceState
from tests.collector.helpers import Msg, at, event, fever, open_store, passage, state, verdict


class Centre:
    """A store, its picture and its page, without a broker."""

    def __init__(self, path: Path) -> None:
        self.store: Store = open_store(path)
        self.fleet = Fleet.of(self.store)
        self.fleet.health.connected = True
        self.reader = Reader(path / "c.db")
        self.stop = asyncio.Event()

    def app(self, live_clients: int = 5) -> Litestar:
        return create_app(self.fleet, self.reader, self.stop, "9.9", live_clients)

    def take(self, *messages: Msg) -> None:
        self.fleet.absorb(self.store.commit(messages, at(1)))


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[Centre]:
    made = Centre(tmp_path)
    yield made
    made.reader.close()
    made.store.close()


@pytest.fixture
async def http(centre: Centre) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=centre.app())  # type: ignore[arg-type]  # the two libraries name ASGI differently
    async with httpx.AsyncClient(transport=transport, base_url="http://centre") as client:
        yield client


async def test_the_page_shows_gates_passages_and_alarms_in_words(centre: Centre, http: httpx.AsyncClient) -> None:
    centre.take(
        state(),
        verdict(1, encounter="e1"),
        passage(2, encounter="e1"),
        verdict(3, "refuse", ("pass_expired", "reason_of_tomorrow"), encounter="e2", thermal="fever"),
        fever(1),
    )
    text = (await http.get("/")).text
    for word in ("小区 garden", "gate-1", "夜间封闭", "正常", "体温异常", "通行证已过期", "reason_of_tomorrow", "发热"):
        assert word in text, word
    assert text.count('<td class="time">') == 2, "verdict and crossing of one encounter are one line"
    assert text.index("发热") < text.index("已通过"), "newest first"
    assert 'lang="zh-CN"' in text
    english = (await http.get("/?lang=en")).text
    for word in ("Open alarms", "Fever", "curfew", "pass expired", "refused", "crossed"):
        assert word in english, word


async def test_a_lost_gate_and_troubles_of_the_centre_are_said(centre: Centre, http: httpx.AsyncClient) -> None:
    centre.take(state(), state("lost"))
    centre.fleet.health.connected = False
    centre.fleet.health.store_error = "disk full"
    text = (await http.get("/?lang=en")).text
    assert '<span class="sign bad">lost</span>' in text
    assert "Connection to the broker lost" in text
    assert "The database takes no records" in text


@pytest.mark.parametrize(
    ("asked", "header", "language"),
    [(None, "", "zh"), ("en", "zh", "en"), (None, "en-GB,zh;q=0.5", "en"), (None, "fr, zh-TW", "zh"), ("xx", "", "zh")],
)
def test_language(asked: str | None, header: str, language: str) -> None:
    assert choose(asked, header) == language


HOSTILE = '<script>alert("x")</script>&\'"'[:64]


async def test_hostile_text_is_escaped_everywhere(centre: Centre, http: httpx.AsyncClient) -> None:
    evil = state(clock=HOSTILE)
    payload = (
        evil.payload.replace(b'"vehicle"', _json(HOSTILE))
        .replace(b'"closed"', _json(HOSTILE))
        .replace(b'"curfew"', _json(HOSTILE))
        .replace(b'"phase":"ready"', b'"phase":' + _json(HOSTILE))
        .replace(b'"phase":"idle"', b'"phase":' + _json(HOSTILE))
        .replace(b'"releases":[]', b'"releases":[' + _json(HOSTILE) + b"]")
    )
    fault = DeviceState(device="reader-1", lane=None, phase="fault", fault=HOSTILE, advice="x")
    bad = verdict(1, HOSTILE, (HOSTILE,), thermal=HOSTILE, direction=HOSTILE)
    out = passage(2, encounter="e2")
    out = Msg(out.topic, out.payload.replace(b'"crossed"', _json(HOSTILE)))
    centre.take(Msg(evil.topic, payload), event("device", fault, 1, stream="a-1"), bad, out)
    assert len(centre.fleet.alarms) == 1
    for path in ("/", "/?lang=en", '/?lang="><script>alert("x")</script>'):
        text = (await http.get(path)).text
        assert "alert(" in text
        assert "<script>" not in text
        assert text.count("&lt;script&gt;alert(") >= 9


def _json(text: str) -> bytes:
    return b'"' + text.replace('"', '\\"').encode() + b'"'


async def test_nothing_inline_and_nothing_from_outside(centre: Centre, http: httpx.AsyncClient) -> None:
    centre.take(state(), fever(1), verdict(1))
    answer = await http.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"https?://|//[a-z]|<style|style=|\son[a-z]+=", answer.text)
    assert re.findall(r"<script[^>]*>", answer.text) == ['<script src="/static/live.js" defer>']
    assert '<noscript><meta http-equiv="refresh"' in answer.text
    for asset in re.findall(r'(?:src|href)="(/static/[^"]+)"', answer.text):
        got = await http.get(asset)
        assert got.status_code == 200
        assert got.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static//etc/passwd", "/none"])
async def test_other_files_are_not_served(http: httpx.AsyncClient, path: str) -> None:
    assert (await http.get(path)).status_code == 404


async def test_endpoints_for_machines(centre: Centre, http: httpx.AsyncClient) -> None:
    assert (await http.get("/-/healthy")).status_code == 200
    assert (await http.get("/-/ready")).status_code == 200
    scrape = await http.get("/metrics")
    assert "menwei_open_alarms" in scrape.text
    assert scrape.headers["content-type"].startswith("text/plain")
    centre.fleet.health.connected = False
    centre.fleet.health.store_error = "disk full"
    centre.fleet.health.backlog = centre.fleet.health.backlog_limit
    answer = await http.get("/-/ready")
    assert answer.status_code == 503
    assert len(answer.text.splitlines()) == 3
    assert (await http.get("/-/healthy")).status_code == 200


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_word_in_use_has_words_for_people(language: str) -> None:
    for cause in Cause:
        assert say(language, "cause", cause) != cause
    assert TABLES["reason"].keys() >= REASONS
    for table in TABLES.values():
        assert all(all(pair) for pair in table.values())
