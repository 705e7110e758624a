"""The collector's page, its live stream, and the endpoints for machines. Nothing here writes."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from litestar import Litestar, MediaType, Request, Response, get
from litestar.datastructures import MutableScopeHeaders
from litestar.response import ServerSentEvent
from litestar.response.sse import ServerSentEventMessage
from litestar.static_files import create_static_files_router
from litestar.types import Message, Scope
from prometheus_client import CONTENT_TYPE_LATEST

from broker.collector import metrics
from broker.collector.fleet import Fleet
from broker.collector.read import PassageLine, Reader
from broker.collector.web import view
from broker.collector.web.words import HTML_LANG, choose, say

SHOWN_PASSAGES = 20
COALESCE_S = 0.5  # at most two fragments per second and visitor
REFRESH_S = 5.0  # "12 s ago" moves on even when nothing happens
_HERE = Path(__file__).parent

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Pages:
    """Renders the page; one rendering per version and language serves all visitors."""

    def __init__(self, fleet: Fleet, reader: Reader, now_ms: Callable[[], int] | None = None) -> None:
        self._fleet, self._reader = fleet, reader
        self._now_ms = now_ms or (lambda: time.time_ns() // 1_000_000)
        self._templates = Environment(
            loader=FileSystemLoader(_HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
        )
        self._passages: list[PassageLine] = []
        self._passages_of = -1
        self._reading = asyncio.Lock()
        self._fragments: dict[str, tuple[int, int, str]] = {}

    async def whole(self, language: str) -> str:
        """The page."""
        return self._render("page.html", language, live=await self.fragment(language))

    async def fragment(self, language: str) -> str:
        """The moving part of the page."""
        version, second = self._fleet.version, self._now_ms() // 1000
        cached = self._fragments.get(language)
        if cached is not None and cached[:2] == (version, second):
            return cached[2]
        page = view.build(self._fleet, await self._last_passages(), language, self._now_ms())
        html = self._render("live.html", language, page=page)
        self._fragments[language] = (version, second, html)
        return html

    async def _last_passages(self) -> list[PassageLine]:
        async with self._reading:
            stored = self._fleet.stored
            if stored != self._passages_of:
                loop = asyncio.get_running_loop()
                reader = self._reader
                self._passages = await loop.run_in_executor(reader.executor, reader.last_passages, SHOWN_PASSAGES)
                self._passages_of = stored
            return self._passages

    def _render(self, name: str, language: str, **values: object) -> str:
        def word(key: str) -> str:
            return say(language, "ui", key)

        other = "en" if language == "zh" else "zh"
        template = self._templates.get_template(name)
        return template.render(word=word, language=language, html_lang=HTML_LANG[language], other=other, **values)


def create_app(fleet: Fleet, reader: Reader, stop: asyncio.Event, version: str, live_clients: int) -> Litestar:
    """The application; `stop` ends the live streams so that the server can close."""
    pages = Pages(fleet, reader)
    registry = metrics.registry(fleet, version)
    visitors = 0

    @get("/", media_type=MediaType.HTML)
    async def page(request: Request[None, None, Any]) -> Response[str]:
        language = _language(request)
        headers = {"Vary": "Accept-Language", "Cache-Control": "no-store"}
        return Response(await pages.whole(language), media_type="text/html; charset=utf-8", headers=headers)

    @get("/live")
    async def live(request: Request[None, None, Any]) -> Response[Any]:
        if visitors >= live_clients:
            return Response("too many live pages are open; reload later", status_code=503, media_type=MediaType.TEXT)
        return ServerSentEvent(stream(_language(request)), headers={"Cache-Control": "no-store"})

    async def stream(language: str) -> AsyncIterator[ServerSentEventMessage]:
        nonlocal visitors
        visitors += 1
        try:
            seen, sent_s = -1, 0.0
            while not stop.is_set():
                if fleet.version != seen or time.monotonic() - sent_s >= REFRESH_S:
                    seen, sent_s = fleet.version, time.monotonic()
                    yield ServerSentEventMessage(data=await pages.fragment(language))
                try:
                    await asyncio.wait_for(stop.wait(), COALESCE_S)
                except TimeoutError:
                    continue
        finally:
            visitors -= 1

    @get("/metrics")
    async def scrape() -> Response[bytes]:
        return Response(metrics.render(registry), media_type=CONTENT_TYPE_LATEST)

    @get("/-/healthy", media_type=MediaType.TEXT)
    async def healthy() -> str:
        return "alive\n"

    @get("/-/ready", media_type=MediaType.TEXT)
    async def ready() -> Response[str]:
        complaints = fleet.health.complaints()
        text = "\n".join(complaints) if complaints else "ready"
        return Response(f"{text}\n", status_code=503 if complaints else 200, media_type=MediaType.TEXT)

    return Litestar(
        route_handlers=[
            page,
            live,
            scrape,
            healthy,
            ready,
            create_static_files_router(path="/static", directories=[_HERE / "static"]),
        ],
        before_send=[_add_headers],
        openapi_config=None,
        logging_config=None,
    )


async def _add_headers(message: Message, _scope: Scope) -> None:
    """Files and errors too: whatever leaves carries the policy."""
    if message["type"] == "http.response.start":
        MutableScopeHeaders.from_message(message).update(HEADERS)


def _language(request: Request[None, None, Any]) -> str:
    return choose(request.query_params.get("lang"), request.headers.get("accept-language", ""))
