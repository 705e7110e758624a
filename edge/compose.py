"""Configuration to a running gate: the only file that knows all the others.

Exit codes: 0 ended in order, 2 configuration, 3 could not start or a part of it died (systemd starts it again).
"""

import asyncio
import contextlib
import importlib.metadata
import logging
import random
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from prometheus_client import CollectorRegistry

from broker import daemon
from broker.client import Client, Incoming, Settings, Tls
from broker.wire import messages
from broker.wire.topics import DELIVERY, TopicKind, node_topic
from configs.loader import ConfigError
from edge import check, encode
from edge.act import Act, LaneHands
from edge.clock import Clock, Floor, SystemClock, TrustState, TrustWatch, boot_id
from edge.config import BrokerConfig, EdgeConfig
from edge.controller import Controller
from edge.core import gate
from edge.core.facts import Prompt
from edge.core.inputs import ClockIs, Stopping
from edge.core.model import ClockTrust
from edge.core.rules import Rules
from edge.guard import GuardDesk, GuardSocket
from edge.hardware import Hardware, LaneDevices, real, state_path
from edge.metrics import MetricsServer, NodeCollector, NodeStats
from edge.outbox import Outbox, OutboxError
from edge.passes import load_keys
from edge.policy import rules_of
from edge.presence import Presence, Snapshot
from edge.pump import Pump
from edge.recorder import Recorder
from edge.sense import Place, Screening, Supervisor, watch_barrier, watch_reader
from edge.show import PublicDisplay
from edge.status import Status

log = logging.getLogger(__name__)

TRUST_EVERY_NS = 10_000_000_000
BUILD_WALL_MS = 1_580_572_800_000  # 2020-02-02: no clock of this product is right before its first notice
OK, BAD_CONFIGURATION, FAILED = 0, 2, 3


def main(config_path: Path) -> int:
    """Run the gate of this configuration until SIGTERM."""
    try:
        config, policy = check.load(config_path)
    except ConfigError as e:
        check.complain(e)
        return BAD_CONFIGURATION
    daemon.setup_logging("edge", config.log_level)
    try:
        Path(config.state_dir).mkdir(parents=True, exist_ok=True)
        asyncio.run(run(config, rules_of(config, policy)))
    except (OutboxError, OSError) as e:
        log.error("the gate could not start: %s", e)
        return FAILED
    except ExceptionGroup:
        log.exception("a part of the gate died; the relays were released")
        return FAILED
    return OK


async def run(config: EdgeConfig, rules: Rules) -> None:
    """Run until SIGTERM or SIGINT. Raises OSError, OutboxError, or the ExceptionGroup of a task that died."""
    stop = daemon.stop_event()
    async with _hardware(config) as hardware:
        outbox = await Outbox.open(state_path(config, "outbox.db"))
        try:
            await Node(config, rules, hardware, outbox).run(stop)
        finally:
            await outbox.close()


@contextlib.asynccontextmanager
async def _hardware(config: EdgeConfig) -> AsyncIterator[Hardware]:
    if config.simulation is None:
        hardware = real(config)
    else:
        from edge.simulation import simulated  # noqa: PLC0415 - a real gate never loads the simulator

        hardware = await simulated(config, config.simulation)
    try:
        yield hardware
    finally:
        await hardware.close()


class Node:
    """One gate, composed."""

    def __init__(self, config: EdgeConfig, rules: Rules, hardware: Hardware, outbox: Outbox) -> None:
        self._config, self._rules, self._hardware, self._outbox = config, rules, hardware, outbox
        self._clock: Clock = hardware.clock
        self._rng = random.Random(secrets.randbits(64))  # noqa: S311 - jitter, no secret
        version = importlib.metadata.version("menwei")
        self._origin = encode.Origin(
            config.node, config.site, secrets.token_hex(8), version, rules.policy.label, rules.tz
        )
        self._stats = NodeStats(version, config.node)
        self._floor = Floor(state_path(config, "floor.json"), boot_id())
        simulated = config.simulation is not None
        self._trust = TrustWatch(
            self._clock, self._floor, build_wall_ms=BUILD_WALL_MS, assume_set=simulated or config.clock == "assume-set"
        )
        self._supervisors: list[Supervisor] = []

    async def run(self, stop: asyncio.Event) -> None:
        """Run every part in one task group; the end of any part is the end of all."""
        trust = await self._trust.judge()
        controller = Controller(self._rules, self._clock, trust.trust, self._after_step, self._feed_watchdog)
        self._controller = controller
        self._status = Status(self._origin, controller, self._outbox)
        self._presence = Presence(self._origin, self._rules, self._snapshot)
        self._client = self._make_client()
        self._pump = Pump(self._outbox, self._client.publish, self._config.node, clock=SystemClock())
        recorder = Recorder(self._outbox, self._origin, self._clock, controller.offer, self._pump.wake)
        screenings = {lane: self._screening(lane, devices) for lane, devices in self._hardware.lanes.items()}
        displays = {
            lane: PublicDisplay(devices.display, self._supervisor("display", lane))
            for lane, devices in self._hardware.lanes.items()
        }
        hands = {
            lane: LaneHands(devices.barrier, screenings[lane], self._shower(lane, displays[lane]))
            for lane, devices in self._hardware.lanes.items()
        }
        act = Act(hands, recorder, controller.offer)
        guard = self._guard(controller)
        registry = CollectorRegistry()
        registry.register(NodeCollector(self._stats, self._clock.wall_ms))
        metrics = MetricsServer(registry)
        await metrics.start("127.0.0.1", self._config.metrics.port)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(controller.run(act), name="controller"),
                    group.create_task(recorder.run(), name="recorder"),
                    group.create_task(self._pump.run(), name="pump"),
                    group.create_task(self._client.run(), name="broker"),
                    group.create_task(self._presence.run(self._client), name="presence"),
                    group.create_task(self._watch_clock(), name="clock"),
                ]
                tasks += self._device_tasks(group, screenings)
                tasks += [group.create_task(d.run(), name=f"display {lane}") for lane, d in displays.items()]
                if guard is not None:
                    await guard.start()
                log.info("gate ready", extra={"fields": {"node": self._config.node, "policy": self._origin.policy}})
                daemon.notify("READY=1")
                await stop.wait()
                daemon.notify("STOPPING=1")
                act.release_all()
                controller.step(Stopping())
                for task in tasks:
                    if task.get_name() != "broker":
                        task.cancel()
                await recorder.drain()
                await self._client.close(self._presence.last_words())
                tasks[3].cancel()
        finally:
            act.release_all()
            if guard is not None:
                await guard.close()
            await metrics.close()
            for devices in self._hardware.lanes.values():
                await devices.barrier.close()
                await devices.reader.close()
                await devices.thermometer.close()
                await devices.display.close()

    def _device_tasks(self, group: asyncio.TaskGroup, screenings: dict[str, Screening]) -> list[asyncio.Task[None]]:
        keys = load_keys(self._config.pass_keys)
        offer = self._controller.offer
        tasks = []
        for lane, devices in self._hardware.lanes.items():
            reader, barrier = self._supervisor("reader", lane), self._supervisor("lines", lane)
            tasks += [
                group.create_task(watch_reader(devices.reader, reader, keys, offer), name=f"reader {lane}"),
                group.create_task(watch_barrier(devices.barrier, barrier, self._clock, offer), name=f"lines {lane}"),
                group.create_task(screenings[lane].run(), name=f"thermometer {lane}"),
            ]
        return tasks

    def _screening(self, lane: str, devices: LaneDevices) -> Screening:
        supervisor = self._supervisor("thermometer", lane)
        thermal = self._rules.policy.thermal
        return Screening(devices.thermometer, supervisor, self._clock, thermal, self._controller.offer)

    def _supervisor(self, kind: str, lane: str) -> Supervisor:
        place = Place(f"{kind}-{lane}", lane)
        supervisor = Supervisor(place, self._clock, self._controller.offer, self._rng)
        self._supervisors.append(supervisor)
        return supervisor

    def _shower(self, lane: str, display: PublicDisplay) -> Callable[[Prompt], None]:
        def show(prompt: Prompt) -> None:
            self._hardware.prompted(lane, prompt)
            display.show(prompt)

        return show

    def _guard(self, controller: Controller) -> GuardSocket | None:
        desk = GuardDesk(frozenset(lane.lane for lane in self._rules.lanes), controller.offer, self._status.answer)
        self._hardware.meet_guard(desk.answer)
        return None if self._config.guard_socket is None else GuardSocket(Path(self._config.guard_socket), desk)

    def _make_client(self) -> Client:
        receipts = node_topic(self._config.node, TopicKind.RECEIPT)
        return Client(
            _settings(self._config.broker, self._config.node),
            subscriptions=[(receipts, DELIVERY[TopicKind.RECEIPT].qos)],
            will=self._presence.will,
            on_message=self._on_message,
            on_connected=self._on_connected,
            on_disconnected=self._on_disconnected,
        )

    def _on_message(self, message: Incoming) -> None:
        self._pump.on_receipt(message.payload)

    def _on_connected(self) -> None:
        self._stats.connected = self._status.connected = True
        self._presence.connected(self._client, self._description())
        self._pump.connected()

    def _on_disconnected(self, reason: str) -> None:
        self._stats.connected = self._status.connected = False
        log.debug("broker connection ended: %s", reason)
        self._pump.disconnected()

    def _description(self) -> messages.Description:
        devices = [
            messages.DeviceMeta(
                device=supervisor.place.device,
                model=supervisor.info.model,
                place=supervisor.info.place,
                integrity=supervisor.info.integrity,
            )
            for supervisor in self._supervisors
            if supervisor.info is not None
        ]
        return messages.Description(
            node=self._origin.node,
            site=self._origin.site,
            boot=self._origin.boot,
            version=self._origin.version,
            policy=self._origin.policy,
            lanes=[
                messages.LaneMeta(lane=lane.lane, kind=lane.kind, direction=lane.direction)
                for lane in self._rules.lanes
            ],
            devices=devices,
            heads=[messages.StreamHead(stream=stream, seq=seq) for stream, seq in self._outbox.heads().items()],
        )

    def _snapshot(self) -> Snapshot:
        return Snapshot(self._controller.state, self._controller.now(), self._outbox.waiting())

    def _after_step(self, state: gate.Gate, took_s: float) -> None:
        self._presence.after_step(state)
        self._stats.step_s.observe(took_s)
        self._stats.outbox_waiting = self._outbox.waiting()

    def _feed_watchdog(self) -> None:
        daemon.notify("WATCHDOG=1")

    async def _watch_clock(self) -> None:
        last: TrustState | None = None
        while True:
            state = await self._trust.judge()
            self._stats.clock = state.trust
            if state != last:
                self._controller.offer(ClockIs(ClockTrust(state.trust), state.reason))
                last = state
            await self._clock.sleep_until_mono(self._clock.mono_ns() + TRUST_EVERY_NS)


def _settings(broker: BrokerConfig, node: str) -> Settings:
    tls = None
    if broker.tls_ca and broker.tls_certificate and broker.tls_key:
        tls = Tls(Path(broker.tls_ca), Path(broker.tls_certificate), Path(broker.tls_key))
    return Settings(broker.host, broker.port, node, tls=tls)
