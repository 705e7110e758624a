"""The front door: `menwei`. Services are imported only when asked for, so that a gate stays small and starts soon."""

from pathlib import Path
from typing import Annotated

import typer

from menwei import demo_command

# Exit codes, everywhere: 0 done, 1 something recorded is missing or a check failed, 2 bad arguments or configuration,
# 3 a service could not start.
app = typer.Typer(
    name="menwei",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="门卫 menwei: the gate that makes the ten epidemic rules of a compound enforce themselves.",
)
edge_app = typer.Typer(no_args_is_help=True, help="One gate's own process.")
collector_app = typer.Typer(no_args_is_help=True, help="The centre: stores, alarms, shows.")
app.add_typer(edge_app, name="edge")
app.add_typer(collector_app, name="collector")
app.add_typer(demo_command.app, name="demo")

ConfigFile = Annotated[Path, typer.Option("--config", metavar="FILE", help="TOML file; see configs/README.md.")]


@edge_app.command("run")
def edge_run(config: ConfigFile) -> None:
    """Run the gate until SIGTERM."""
    from edge import compose  # noqa: PLC0415 - lazy by design

    raise typer.Exit(compose.main(config))


@edge_app.command("check")
def edge_check(config: ConfigFile) -> None:
    """Check a gate's configuration and policy; every mistake at once, nothing starts."""
    from edge import check  # noqa: PLC0415

    raise typer.Exit(check.main(config))


@edge_app.command("safe")
def edge_safe(config: ConfigFile) -> None:
    """Release every relay of this gate (systemd calls it when the service has ended, however it ended)."""
    from edge import safe  # noqa: PLC0415

    raise typer.Exit(safe.main(config))


@collector_app.command("run")
def collector_run(config: ConfigFile) -> None:
    """Run the collector until SIGTERM."""
    from broker.collector import compose  # noqa: PLC0415

    raise typer.Exit(compose.main(config))


def main() -> None:
    """Entry point of the `menwei` command."""
    app()


if __name__ == "__main__":
    main()
