"""Builds the collector from its configuration and runs it until it is told to stop."""

import asyncio
import contextlib
import gc
import logging
import socket
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import uvicorn

from broker.client import Client, Settings
from broker.collector.alarms import Limits, Now
from broker.collector.config import CollectorConfig
from broker.collector.fleet import Fleet
from broker.collector.ingest import SUBSCRIPTIONS, Ingest
from broker.collector.read import Reader
from broker.collector.schema import StoreError
from broker.collector.store import Store
from broker.collector.web.app import create_app
from broker.daemon import notify, setup_logging, stop_event
from broker.embedded import Engine, EngineError, engine
from configs.loader import ConfigError, load

logger = logging.getLogger(__name__)

OK, CONFIG_WRONG, CANNOT_START = 0, 2, 3
_SWITCH_INTERVAL_S = 0.0005  # the writer's thread asks for the interpreter often; the default of 5 ms makes it queue
_GC_THRESHOLDS = (20_000, 20, 100)  # thousands of waiting messages are no cycles: looking at them cost 8 % of the time
_HTTP_CLOSE_S = 2
_BROKER_LOOK_S = 0.5


class CannotStart(Exception):  # noqa: N818 - named by the condition
    """Something outside the configuration's spelling is in the way; the message says what to do."""


def main(config_path: Path) -> int:
    """Load the configuration and run. Exit code: 0 stopped in order, 2 configuration wrong, 3 cannot start."""
    try:
        config = load(config_path, CollectorConfig)
    except ConfigError as e:
        print(e, file=sys.stderr)  # noqa: T201 - for the person who typed it
        return CONFIG_WRONG
    setup_logging("collector", config.log_level)
    return asyncio.run(run(config, config_path.resolve().parent))


async def run(config: CollectorConfig, base: Path) -> int:
    """Run until SIGTERM or SIGINT. Relative paths in `config` are relative to `base`."""
    stop = stop_event()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    try:
        await _serve(config, base, stop)
    except (CannotStart, StoreError) as e:
        logger.error("cannot start: %s", e)
        return CANNOT_START
    logger.info("stopped")
    return OK


async def _serve(config: CollectorConfig, base: Path, stop: asyncio.Event) -> None:
    limits = Limits(config.alarms.silence_s, config.alarms.gap_s)
    database = base / config.store.database
    async with contextlib.AsyncExitStack() as resources:
        listener = _listen(config)
        resources.callback(listener.close)
        own_broker = await _start_broker(config, base)
        if own_broker is not None:
            resources.push_async_callback(own_broker.stop)
        now = Now(time.monotonic(), time.time_ns() // 1_000_000)
        store = Store(database, limits, config.store.quarantine_rows, now)
        fleet = Fleet.of(store)
        ingest = Ingest(store, fleet, batch=config.ingest.batch, pending=config.ingest.pending)
        resources.callback(ingest.close)
        reader = Reader(database)
        resources.callback(reader.close)
        client = Client(
            _settings(config, base),
            subscriptions=SUBSCRIPTIONS,
            will=lambda: None,
            on_message=ingest.on_message,
            on_connected=ingest.on_connected,
            on_disconnected=ingest.on_disconnected,
            manual_ack=True,
        )
        ingest.attach(client)
        app = create_app(fleet, reader, stop, version("menwei"), config.http.live_clients)
        server = _Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                log_level="warning",
                lifespan="on",
                timeout_graceful_shutdown=_HTTP_CLOSE_S,
            )
        )
        await _run_until(stop, server, listener, ingest, client, own_broker)


async def _run_until(
    stop: asyncio.Event,
    server: "_Server",
    listener: socket.socket,
    ingest: Ingest,
    client: Client,
    own_broker: Engine | None,
) -> None:
    """Everything runs until `stop`; a part that ends or fails by itself takes the service down, for a fresh start."""
    web = asyncio.create_task(server.serve(sockets=[listener]), name="web")
    writer = asyncio.create_task(ingest.run(), name="ingest")
    bus = asyncio.create_task(client.run(), name="bus")
    asked = asyncio.create_task(stop.wait(), name="stop")
    watch = asyncio.create_task(_announce(server, listener), name="announce")
    parts: set[asyncio.Task[None]] = {web, writer, bus}
    if own_broker is not None:
        parts.add(asyncio.create_task(_watch_broker(own_broker), name="broker"))
    try:
        await asyncio.wait((*parts, asked), return_when=asyncio.FIRST_COMPLETED)
        notify("STOPPING=1")
        failed = [task for task in parts if task.done()]
        if not failed:
            ingest.finish()
            await writer
            await client.close()
        stop.set()
        server.should_exit = True
        if not web.done():
            await web
        for task in failed:
            task.result()
            raise CannotStart(f"{task.get_name()} ended by itself")
    finally:
        rest: list[asyncio.Task[Any]] = [task for task in (*parts, asked, watch) if not task.done()]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)


async def _announce(server: "_Server", listener: socket.socket) -> None:
    """Tell systemd when the page answers; the database is open by then."""
    while not server.started:
        await asyncio.sleep(0.02)
    host, port = listener.getsockname()[:2]
    logger.info("ready", extra={"fields": {"url": f"http://{host}:{port}/"}})
    notify("READY=1")


async def _watch_broker(own_broker: Engine) -> None:
    """Return when the broker that we started is gone: whoever restarts us restarts it."""
    while own_broker.pid:
        await asyncio.sleep(_BROKER_LOOK_S)


async def _start_broker(config: CollectorConfig, base: Path) -> Engine | None:
    if config.broker.engine == "external":
        return None
    own_broker = engine(config.broker.engine, base / config.broker.state_dir, config.broker.port)
    try:
        await own_broker.start()
    except EngineError as e:
        raise CannotStart(str(e)) from e
    return own_broker


def _listen(config: CollectorConfig) -> socket.socket:
    try:
        return socket.create_server((config.http.host, config.http.port), backlog=128)
    except OSError as e:
        raise CannotStart(
            f"cannot listen on {config.http.host}:{config.http.port}: {e}; change [http] or stop what listens there"
        ) from e


def _settings(config: CollectorConfig, base: Path) -> Settings:
    broker = config.broker
    word = None
    if broker.password_file is not None:
        try:
            word = (base / broker.password_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as e:
            raise CannotStart(f"cannot read broker.password_file: {e}; check its path and owner") from e
    host = broker.host if broker.engine == "external" else "127.0.0.1"
    return Settings(host=host, port=broker.port, client_id=broker.client_id, username=broker.username, password=word)


class _Server(uvicorn.Server):
    """Uvicorn that leaves the signals to the service."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take none: `stop_event` has them."""
        yield
