"""Run the demo: bring all up, watch it, play what the keys or the script say, account for every event, end it."""

import asyncio
import contextlib
import sys
import termios
import time
import tty
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.live import Live

from broker.embedded import EngineError
from menwei.demo import script, summary
from menwei.demo.processes import Compounds, StartFailed
from menwei.demo.screen import KEYS, View
from menwei.demo.talk import NoAnswer, ask

REFRESH_S = 0.25
RECEIPTED_S = 60.0
SPEEDS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0)

EXIT_OK, EXIT_MISSING, EXIT_CANNOT_START = 0, 1, 3


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asked for."""

    data: Path
    engine: Literal["nats-server", "mosquitto"]
    once: bool
    json: Path | None
    rate: float
    language: str
    http_port: int


def main(options: Options) -> int:
    """Exit code: 0 done, 1 something recorded is not stored or a scene got stuck, 3 something did not start."""
    console = Console()
    console.print("[bold]menwei 门卫[/bold]: two compounds on virtual hardware, everything on loopback of this machine")
    try:
        return asyncio.run(_run(options, console))
    except (StartFailed, EngineError) as e:
        console.print(f"[bold red]cannot start:[/bold red] {e}")
        return EXIT_CANNOT_START
    except script.SceneStuck as e:
        console.print(f"[bold red]stuck:[/bold red] {e}")
        return EXIT_MISSING
    except KeyboardInterrupt:
        return EXIT_OK


async def _run(options: Options, console: Console) -> int:
    compounds = Compounds(options.data, options.engine, options.http_port, script.EVENING, options.rate)
    began_s = time.monotonic()
    try:
        with console.status(f"starting {options.engine}, collector and three gates …"):
            await compounds.up()
        view = View(compounds.page, options.language, options.rate)
        console.print(f"live page: [bold cyan]{compounds.page}[/bold cyan]   files and logs: {options.data}")
        if options.once:
            return await _once(compounds, view, options, console, began_s)
        await _interactive(compounds, view, console)
        return EXIT_OK
    finally:
        await compounds.down()


async def _once(compounds: Compounds, view: View, options: Options, console: Console, began_s: float) -> int:
    def say(chinese: str, english: str) -> None:
        view.say(chinese, english)
        if not console.is_terminal:
            console.print(f"  {english}")

    async with _watching(compounds, view, console):
        await script.play_day(compounds, say)
        say("等待回执", "waiting until every recorded event is receipted")
        heads = await _receipted(compounds)
    duplicates = await asyncio.to_thread(_duplicates, f"{compounds.page}metrics")
    result = summary.summarize(options.data / "collector.db", heads, duplicates, time.monotonic() - began_s)
    console.print(summary.table(result))
    if options.json is not None:
        summary.write(result, options.json)
    return EXIT_OK if result.missing == 0 and result.recorded == result.stored else EXIT_MISSING


async def _receipted(compounds: Compounds) -> dict[tuple[str, str], int]:
    """Wait, bounded, until no outbox waits for a receipt; heads of all streams."""
    heads: dict[tuple[str, str], int] = {}
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(RECEIPTED_S):
            while True:
                statuses = [(gate.node, await ask(gate.guard, {"do": "status"})) for gate in compounds.gates]
                heads = {key: seq for node, status in statuses for key, seq in summary.heads_of(node, status).items()}
                if not any(status["waiting"] for _, status in statuses):
                    break
                await asyncio.sleep(REFRESH_S)
    return heads


async def _interactive(compounds: Compounds, view: View, console: Console) -> None:
    done = asyncio.Event()
    with _keys(view, compounds, done):
        async with _watching(compounds, view, console):
            await done.wait()


@contextlib.asynccontextmanager
async def _watching(compounds: Compounds, view: View, console: Console) -> AsyncIterator[None]:
    """Keep the screen in step with the gates while the block runs; quiet when the output is no terminal."""
    with (
        Live(view.render(), console=console, auto_refresh=False, screen=False)
        if console.is_terminal
        else contextlib.nullcontext() as live
    ):

        async def watch() -> None:
            while True:
                for gate in compounds.gates:
                    try:
                        view.statuses[gate.node] = await ask(gate.guard, {"do": "status"})
                    except NoAnswer:
                        view.statuses[gate.node] = None
                if live is not None:
                    live.update(view.render(), refresh=True)
                await asyncio.sleep(REFRESH_S)

        watcher = asyncio.create_task(watch(), name="screen")
        try:
            yield
        finally:
            watcher.cancel()


@contextlib.contextmanager
def _keys(view: View, compounds: Compounds, done: asyncio.Event) -> Iterator[None]:
    """Single keys from the terminal; without one (a pipe, a service) the demo runs until it is interrupted."""
    if not sys.stdin.isatty():
        yield
        return
    loop, fd = asyncio.get_running_loop(), sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    tasks: set[asyncio.Task[None]] = set()

    def pressed() -> None:
        task = loop.create_task(_key(sys.stdin.read(1), view, compounds, done))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    tty.setcbreak(fd)
    loop.add_reader(fd, pressed)
    try:
        yield
    finally:
        loop.remove_reader(fd)
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


async def _key(key: str, view: View, compounds: Compounds, done: asyncio.Event) -> None:
    gates = {gate.node: gate for gate in compounds.gates}
    gate = gates[view.chosen]
    try:
        if key == "q":
            done.set()
        elif key == "\t":
            names = list(gates)
            view.chosen = names[(names.index(view.chosen) + 1) % len(names)]
        elif key in "+-":
            view.rate = _faster(view.rate) if key == "+" else _slower(view.rate)
            for each in compounds.gates:
                await ask(each.control, {"do": "rate", "rate": view.rate})
        elif key == "n":
            await script.to_midnight(compounds)
            view.say("跳到23:59:50", "it is 23:59:50")
        elif key == "p":
            view.say(f"{gate.node} 断电", f"power cut at {gate.node}")
            compounds.children[gate.node].kill()
            await compounds.restart(gate.node)
            view.say(f"{gate.node} 恢复供电", f"power is back at {gate.node}")
        elif key in KEYS:
            scene, lane, chinese, english = KEYS[key]
            answer = await ask(gate.control, {"do": "scene", "name": scene, "lane": lane})
            refused = "" if answer.get("ok") else f": {answer.get('error')}"
            view.say(f"{gate.node}:{chinese}{refused}", f"{gate.node}: {english}{refused}")
    except NoAnswer as e:
        view.say("无应答", str(e))


def _faster(rate: float) -> float:
    return next((speed for speed in SPEEDS if speed > rate), SPEEDS[-1])


def _slower(rate: float) -> float:
    return next((speed for speed in reversed(SPEEDS) if speed < rate), SPEEDS[0])


def _duplicates(url: str) -> int:
    with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310 - our own collector on loopback
        text: Any = response.read().decode()
    for line in text.splitlines():
        if line.startswith("menwei_collector_events_duplicates_total"):
            return round(float(line.rsplit(" ", 1)[1]))
    return 0
