"""`python -m broker.collector --config FILE`; exit codes: 0 stopped in order, 2 configuration wrong, 3 cannot start."""

import argparse
import sys
from pathlib import Path


def main() -> int:
    """Parse the command line, then import and run the service."""
    parser = argparse.ArgumentParser(prog="python -m broker.collector", description="Collects the events of all gates.")
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="TOML configuration")
    arguments = parser.parse_args()
    from broker.collector import compose  # noqa: PLC0415 - `--help` must not wait for the service's libraries

    return compose.main(arguments.config)


if __name__ == "__main__":
    sys.exit(main())
