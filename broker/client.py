"""The MQTT client of gate and collector, on paho in the asyncio loop. The only file that imports paho.

Every connection is a fresh paho object, so nothing of an old one (queued packets, packet ids, timers) reaches the next.
"""

import asyncio
import logging
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from broker.buffered_socket import BufferedSocket
from broker.mqtt import (
    MAX_UNACKNOWLEDGED,
    Incoming,
    NotConnected,
    Publication,
    Settings,
    Tls,
    back_off_s,
    is_refusal,
    tls_context,
)

__all__ = ["Client", "Incoming", "NotConnected", "Publication", "Settings", "Tls"]

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5.0  # TCP and TLS
HANDSHAKE_TIMEOUT_S = 10.0  # CONNACK and every SUBACK
CLOSE_TIMEOUT_S = 2.0
STABLE_S = 5.0  # a connection that lived this long starts the back-off afresh

_PACKETS_PER_TURN = 256  # then the loop serves others
_REFUSALS = frozenset({133, 134, 135})  # client id, credentials, authorisation: trying soon again cannot help
_SUBSCRIPTION_REFUSED = 0x80
_PINGREQ = b"\xc0\x00"


@dataclass(frozen=True, slots=True)
class _Ended:
    reason: str
    refused: bool = False


class Client:
    """A connection to the broker that comes back by itself.

    All callbacks run in the event loop; what one raises is raised by `run`. `on_connected` follows once every
    subscription is granted. `will` is asked at every attempt to connect. Messages may arrive before `on_connected`.
    With `manual_ack` a message is acknowledged by `ack` alone, else when `on_message` returns.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        subscriptions: Sequence[tuple[str, int]] = (),
        will: Callable[[], Publication | None],
        on_message: Callable[[Incoming], None],
        on_connected: Callable[[], None],
        on_disconnected: Callable[[str], None],
        manual_ack: bool = False,
    ) -> None:
        if not 1 <= settings.window <= MAX_UNACKNOWLEDGED:
            raise ValueError(f"window {settings.window}: use 1 to {MAX_UNACKNOWLEDGED}")
        self._settings = settings
        self._subscriptions = tuple(subscriptions)
        self._manual_ack = manual_ack
        self.connected = False
        self.generation = 0
        self._will = will
        self._on_message = on_message
        self._on_connected = on_connected
        self._on_disconnected = on_disconnected
        self._connection: _Connection | None = None
        self._reading = asyncio.Event()  # cleared while paused
        self._reading.set()
        self._closing = asyncio.Event()
        self._announced: set[str] = set()  # troubles of this outage already logged

    async def run(self) -> None:
        """Connect, and again for ever; returns after `close`. Cancelling drops the connection, so the will speaks."""
        failures = 0
        while not self._closing.is_set():
            await self._reading.wait()
            started_s = time.monotonic()
            ended = await self._connect_once()
            if self._closing.is_set():
                return
            self._announce(ended)
            failures = 0 if time.monotonic() - started_s >= STABLE_S else failures + 1
            try:
                await asyncio.wait_for(
                    self._closing.wait(), back_off_s(self._settings, failures, refused=ended.refused)
                )
            except TimeoutError:
                continue

    def publish(self, publication: Publication) -> asyncio.Future[None]:
        """Send; the future is done at the PUBACK (at once for QoS 0). Raises NotConnected, ValueError (topic)."""
        if self._connection is None or not self.connected:
            raise NotConnected("not connected to the broker")
        return self._connection.publish(publication)

    def ack(self, messages: Iterable[Incoming]) -> None:
        """Acknowledge in arrival order, in one write; messages of an earlier connection are ignored."""
        if self._connection is not None:
            self._connection.ack([m.mid for m in messages if m.mid and m.generation == self.generation])

    def pause(self) -> None:
        """Stop reading at once; the broker keeps what follows. The connection stays alive; none is opened meanwhile."""
        self._reading.clear()
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        """Read on."""
        self._reading.set()
        if self._connection is not None:
            self._connection.resume()

    async def close(self, last: Publication | None = None) -> None:
        """Publish `last`, wait a bounded time for its PUBACK, disconnect cleanly (no will); `run` then returns."""
        self._closing.set()
        self._reading.set()
        connection = self._connection
        if connection is None:
            return
        if not self.connected:
            connection.end(_Ended("closed"))
            return
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                if last is not None:
                    connection.resume()  # the PUBACK may stand behind unread messages
                    await connection.publish(last)
                await connection.drained()
        except (TimeoutError, NotConnected):
            logger.warning("the broker did not acknowledge the farewell")
        connection.disconnect()

    async def _connect_once(self) -> _Ended:
        connection = self._connection = _Connection(
            self._settings,
            self._subscriptions,
            manual_ack=self._manual_ack,
            on_accepted=self._accepted,
            on_ready=self._ready,
            on_message=self._received,
        )
        will = self._will()
        try:
            try:
                await connection.open(will)
            except ssl.SSLCertVerificationError as e:
                return _Ended(f"the broker's certificate is not accepted: {e.verify_message}", refused=True)
            except OSError as e:
                return _Ended(str(e) or type(e).__name__, refused=is_refusal(e))
            if self._closing.is_set():
                return _Ended("closed")
            ended = await connection.ended
        finally:
            was_connected, self.connected = self.connected, False
            self._connection = None
            connection.drop()
        if was_connected:
            self._on_disconnected(ended.reason)
        return ended

    def _announce(self, ended: _Ended) -> None:
        trouble = "refused" if ended.refused else "lost"
        if trouble in self._announced:
            return
        self._announced.add(trouble)
        fields = {"host": self._settings.host, "port": self._settings.port, "reason": ended.reason}
        if ended.refused:
            logger.error(
                "the broker refuses us; check certificate, credentials and client id", extra={"fields": fields}
            )
        else:
            logger.warning("no connection to the broker; trying again until it is back", extra={"fields": fields})

    def _accepted(self) -> None:
        """The broker answered CONNACK: a new generation of messages may begin."""
        self.generation += 1

    def _ready(self) -> None:
        """Every subscription is granted."""
        self.connected = True
        self._announced.clear()
        logger.info(
            "connected to the broker", extra={"fields": {"host": self._settings.host, "port": self._settings.port}}
        )
        self._on_connected()

    def _received(self, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            logger.warning("a message whose topic is not UTF-8 was dropped")
            if self._manual_ack and self._connection is not None:
                self._connection.ack([message.mid])
            return
        self._on_message(
            Incoming(
                topic,
                bytes(message.payload),
                message.retain,
                message.dup,
                message.mid if message.qos else 0,
                self.generation,
            )
        )


class _Paho(paho.Client):
    """paho with our own connected socket: TCP_NODELAY, TLS that never leaks a descriptor, buffered both ways."""

    buffered: BufferedSocket | None = None
    tls_context: ssl.SSLContext | None = None

    def _create_socket(self) -> BufferedSocket:
        # A private hook of paho. Should it vanish, paho makes its own socket and all still works, slower.
        raw = socket.create_connection((self.host, self.port), timeout=CONNECT_TIMEOUT_S)
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls_context is not None:
                raw = self.tls_context.wrap_socket(raw, server_hostname=self.host, do_handshake_on_connect=False)
                raw.do_handshake()
        except BaseException:
            raw.close()
            raise
        self.buffered = BufferedSocket(raw)
        return self.buffered


class _Connection:
    """One attempt: from TCP to the end of that connection. `ended` has the reason, or what a callback raised."""

    def __init__(
        self,
        settings: Settings,
        subscriptions: Sequence[tuple[str, int]],
        *,
        manual_ack: bool,
        on_accepted: Callable[[], None],
        on_ready: Callable[[], None],
        on_message: Callable[[paho.MQTTMessage], None],
    ) -> None:
        self._settings = settings
        self._subscriptions = subscriptions
        self._on_accepted = on_accepted
        self._on_ready = on_ready
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[_Ended] = self._loop.create_future()
        self._in_flight: dict[int, asyncio.Future[None]] = {}
        self._waiting: deque[tuple[Publication, asyncio.Future[None]]] = deque()
        self._ungranted: dict[int, str] = {}  # packet id of a SUBSCRIBE: its filter
        self._fd = -1
        self._accepted = False
        self._ready = False
        self._paused = False
        self._quiet_until_s = 0.0  # paho's own keepalive check rests until then
        self._write_scheduled = False
        self._drained = asyncio.Event()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._mqtt = _Paho(
            CallbackAPIVersion.VERSION2,
            client_id=settings.client_id,
            clean_session=settings.clean_session,
            reconnect_on_failure=False,
            manual_ack=manual_ack,
        )
        # The window is kept here: paho walks its whole queue at each PUBACK.
        self._mqtt.max_inflight_messages_set(0)
        self._mqtt.connect_timeout = CONNECT_TIMEOUT_S
        self._mqtt.on_connect = self._on_connect
        self._mqtt.on_subscribe = self._on_subscribe
        self._mqtt.on_publish = self._on_publish
        self._mqtt.on_message = lambda _mqtt, _data, message: on_message(message)
        self._mqtt.on_socket_close = lambda _mqtt, _data, _socket: self._forget_socket()

    async def open(self, will: Publication | None) -> None:
        """Connect in a thread (name look-up and TLS block), then let the loop drive the socket. Raises OSError."""
        settings, mqtt = self._settings, self._mqtt
        if settings.username is not None:
            mqtt.username_pw_set(settings.username, settings.password)
        if settings.tls is not None:
            mqtt.tls_context = tls_context(settings.tls)  # read anew each time: certificates are renewed on disk
            mqtt.tls_set_context(mqtt.tls_context)
        if will is not None:
            mqtt.will_set(will.topic, will.payload, will.qos, will.retain)
        opening = self._loop.run_in_executor(None, mqtt.connect, settings.host, settings.port, settings.keepalive_s)
        try:
            await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(self._abandon)
            raise
        sock: Any = mqtt.socket()
        if sock is None:
            raise ConnectionError("the broker closed the connection at once")
        self._fd = sock.fileno()
        mqtt.on_disconnect = self._on_disconnect
        mqtt.on_socket_register_write = lambda _mqtt, _data, _socket: self._schedule_write()
        if self._paused:
            self.pause()
        else:
            self._loop.add_reader(self._fd, self._read)
        self._write()
        self._tick()
        self._check_handshake_later()

    def publish(self, publication: Publication) -> asyncio.Future[None]:
        """See Client.publish. Beyond the window it waits here, in order."""
        future: asyncio.Future[None] = self._loop.create_future()
        if publication.qos and len(self._in_flight) >= self._settings.window:
            self._waiting.append((publication, future))
        elif not self._send(publication, future):
            raise NotConnected("the connection to the broker is ending")
        return future

    def ack(self, mids: Iterable[int]) -> None:
        """PUBACK each; they leave in one write at the end of this turn of the loop."""
        for mid in mids:
            self._mqtt.ack(mid, 1)

    def pause(self) -> None:
        """See Client.pause."""
        self._paused = True
        if self._mqtt.buffered is not None:
            self._mqtt.buffered.paused = True
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)

    def resume(self) -> None:
        """See Client.resume."""
        if not self._paused:
            return
        self._paused = False
        if self._mqtt.buffered is not None:
            self._mqtt.buffered.paused = False
        # What paho measured while nothing was read says nothing about the far end.
        self._quiet_until_s = time.monotonic() + self._settings.keepalive_s
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._read)
            self._loop.call_soon(self._read)

    async def drained(self) -> None:
        """Return when everything handed over has left for the kernel, or the connection has ended."""
        self._schedule_write()
        await self._drained.wait()

    def disconnect(self) -> None:
        """Say goodbye and end."""
        self._mqtt.disconnect()
        self._write()
        self.end(_Ended("closed"))

    def end(self, ended: _Ended) -> None:
        """The first word about the end counts."""
        if not self.ended.done():
            self.ended.set_result(ended)

    def drop(self) -> None:
        """Free everything; publications without PUBACK fail with NotConnected. May be repeated."""
        for timer in self._timers.values():
            timer.cancel()
        self._forget_socket()
        sock: Any = self._mqtt.socket()
        if sock is not None:
            sock.close()
        if not self.ended.done():
            self.ended.cancel()
        self._drained.set()
        unanswered = [*self._in_flight.values(), *(future for _, future in self._waiting)]
        self._in_flight.clear()
        self._waiting.clear()
        for future in unanswered:
            if not future.done():
                future.set_exception(NotConnected("the connection ended before the broker acknowledged"))
                future.exception()  # whoever still cares awaits it; nobody needs a second complaint

    # --- the loop's side ---

    def _read(self) -> None:
        buffered = self._mqtt.buffered
        try:
            for _ in range(_PACKETS_PER_TURN):
                if self._fd < 0 or self._paused:
                    return
                self._mqtt.loop_read()
                if buffered is None or not buffered.unread:
                    return
        except Exception as e:  # noqa: BLE001 - whatever a callback raised is raised out of run()
            if not self.ended.done():
                self.ended.set_exception(e)
            self._forget_socket()
            return
        self._loop.call_soon(self._read)

    def _schedule_write(self) -> None:
        """Everything queued in this turn of the loop leaves in one write."""
        if not self._write_scheduled:
            self._write_scheduled = True
            self._drained.clear()
            self._loop.call_soon(self._write)

    def _write(self) -> None:
        self._write_scheduled = False
        if self._fd < 0:
            return
        self._mqtt.loop_write()
        if self._fd < 0:  # paho found the connection gone
            return
        buffered = self._mqtt.buffered
        try:
            finished = buffered.flush() if buffered is not None else not self._mqtt.want_write()
        except OSError as e:
            self._lost(e, str(e))
            return
        if finished:
            self._drained.set()
            self._loop.remove_writer(self._fd)
        else:
            self._loop.add_writer(self._fd, self._write)

    def _tick(self) -> None:
        """Keepalive: paho's check notices a half-open connection; while nothing is read, only our pings can go out."""
        self._timers["tick"] = self._loop.call_later(min(5.0, self._settings.keepalive_s / 4), self._tick)
        if not self._paused and time.monotonic() >= self._quiet_until_s:
            self._mqtt.loop_misc()
        elif self._mqtt.buffered is not None:
            self._mqtt.buffered.send(_PINGREQ)
            self._write()

    def _check_handshake_later(self) -> None:
        self._timers["handshake"] = self._loop.call_later(HANDSHAKE_TIMEOUT_S, self._check_handshake)

    def _check_handshake(self) -> None:
        if self._paused:  # the answer may stand unread
            self._check_handshake_later()
        elif not self._ready:
            self.end(_Ended(f"no answer from the broker within {HANDSHAKE_TIMEOUT_S:.0f} s"))

    def _forget_socket(self) -> None:
        """Before a descriptor is closed the loop must forget it: its number is soon somebody else's."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)
            self._fd = -1

    def _abandon(self, opening: asyncio.Future[MQTTErrorCode]) -> None:
        """The thread finished connecting for nobody."""
        if not opening.cancelled() and opening.exception() is None:
            self.drop()

    def _send(self, publication: Publication, future: asyncio.Future[None]) -> bool:
        info = self._mqtt.publish(publication.topic, publication.payload, publication.qos, publication.retain)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            # No socket any more, or a packet id still unacknowledged 65,535 publications later: both end here.
            self.end(_Ended(f"cannot publish: {paho.error_string(info.rc)}"))
            return False
        if publication.qos:
            self._in_flight[info.mid] = future
        else:
            future.set_result(None)
        return True

    # --- paho's side ---

    def _on_connect(self, _mqtt: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self.end(_Ended(str(reason), refused=reason.value in _REFUSALS))
            return
        self._accepted = True
        self._on_accepted()
        for topic_filter, qos in self._subscriptions:
            _, mid = self._mqtt.subscribe(topic_filter, qos)
            if mid is not None:
                self._ungranted[mid] = topic_filter
        self._check_ready()

    def _on_subscribe(self, _mqtt: Any, _data: Any, mid: int, reasons: list[Any], _properties: Any) -> None:
        topic_filter = self._ungranted.pop(mid, "")
        if any(reason.value >= _SUBSCRIPTION_REFUSED for reason in reasons):
            self.end(_Ended(f"subscription to {topic_filter} refused", refused=True))
        else:
            self._check_ready()

    def _check_ready(self) -> None:
        if not self._ungranted and not self._ready and not self.ended.done():
            self._ready = True
            self._on_ready()

    def _on_publish(self, _mqtt: Any, _data: Any, mid: int, _reason: Any, _properties: Any) -> None:
        future = self._in_flight.pop(mid, None)
        if future is None:
            return
        if not future.done():
            future.set_result(None)
        while self._waiting and len(self._in_flight) < self._settings.window:
            publication, waiting = self._waiting[0]
            if not waiting.done() and not self._send(publication, waiting):
                return  # it fails with the others when the connection is dropped
            self._waiting.popleft()

    def _on_disconnect(self, _mqtt: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        error = self._mqtt.buffered.error if self._mqtt.buffered is not None else None
        self._lost(error, str(error or reason))

    def _lost(self, error: OSError | None, reason: str) -> None:
        if self._settings.tls is not None and not self._accepted:
            # TLS 1.3 judges our certificate after the handshake, and the alert is often lost with the connection.
            self.end(_Ended(f"{reason}, before it accepted our certificate", refused=True))
        else:
            self.end(_Ended(reason, refused=is_refusal(error)))
