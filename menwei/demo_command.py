"""`menwei demo` and `menwei demo send`: arguments only; what they do lies in `menwei/demo/`, imported lazily."""

import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Two compounds on virtual hardware, as real processes on this machine (loopback only).")


def default_data_dir() -> Path:
    """Where the demo keeps its files: short, because Unix socket paths are limited to 107 bytes."""
    return Path(tempfile.gettempdir()) / f"menwei-demo-{os.getuid()}"


DataDir = Annotated[
    Path | None, typer.Option("--data", metavar="DIR", help="Folder of the demo (default: in the temporary folder).")
]


@app.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="Play the scripted day, print a summary and end.")] = False,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the summary there (with --once).")
    ] = None,
    broker: Annotated[str, typer.Option("--broker", help="nats-server (embedded) or mosquitto.")] = "nats-server",
    rate: Annotated[
        float | None,
        typer.Option("--rate", min=0.1, max=60, help="How fast the simulated time runs. Default 1, with --once 8."),
    ] = None,
    lang: Annotated[str, typer.Option("--lang", help="zh or en; default by LANG.")] = "",
    http_port: Annotated[
        int, typer.Option("--http-port", min=0, max=65535, help="Port of the page; 0 takes a free one.")
    ] = 8080,
    data: DataDir = None,
) -> None:
    """Start broker, collector and two compounds; watch them here and in the browser."""
    if context.invoked_subcommand is not None:
        return
    if json is not None and not once:
        raise typer.BadParameter("--json needs --once: the summary is written when the scripted day is over")
    if broker not in ("nats-server", "mosquitto"):
        raise typer.BadParameter(f"{broker!r} is not a broker of the demo; use nats-server or mosquitto")
    from menwei.demo import run as demo_run  # noqa: PLC0415 - lazy by design

    options = demo_run.Options(
        data=data or default_data_dir(),
        engine="mosquitto" if broker == "mosquitto" else "nats-server",
        once=once,
        json=json,
        rate=rate or (8.0 if once else 1.0),
        language=lang or ("zh" if os.environ.get("LANG", "").lower().startswith("zh") else "en"),
        http_port=0 if once else http_port,
    )
    raise typer.Exit(demo_run.main(options))


@app.command("send")
def send(
    scene: Annotated[
        str, typer.Argument(help="What arrives: resident, car_with_three, feverish_driver, ambulance, fire, …")
    ],
    gate: Annotated[str, typer.Option("--gate", help="Gate of the running demo.")] = "garden-1",
    lane: Annotated[str, typer.Option("--lane", help="walk or car; default: where the scene belongs.")] = "",
    data: DataDir = None,
) -> None:
    """Make something happen in a running demo."""
    from menwei.demo import send as demo_send  # noqa: PLC0415

    raise typer.Exit(demo_send.main(data or default_data_dir(), gate, scene, lane))
