"""`menwei edge check`: configuration and policy together, every mistake at once, nothing starts."""

import sys
from pathlib import Path

import configs
from configs.loader import ConfigError
from edge.config import EdgeConfig, load_edge_config
from edge.core.rules import Policy
from edge.policy import load_policy, rules_of

OK, BAD_CONFIGURATION = 0, 2


def main(config_path: Path) -> int:
    """Exit code 0 when both files are sound, 2 with every mistake on stderr."""
    try:
        config, policy = load(config_path)
    except ConfigError as e:
        complain(e)
        return BAD_CONFIGURATION
    rules = rules_of(config, policy)
    lanes = ", ".join(f"{lane.lane} ({lane.kind}, {lane.direction})" for lane in rules.lanes)
    sys.stdout.write(f"{config_path}: gate {config.node} of {config.site}: {lanes}; policy {policy.label}. All good.\n")
    return OK


def load(config_path: Path) -> tuple[EdgeConfig, Policy]:
    """Both files. Raises ConfigError."""
    config = load_edge_config(config_path)
    return config, load_policy(policy_path(config, config_path))


def policy_path(config: EdgeConfig, config_path: Path) -> Path:
    """The policy beside the configuration, or the one of this name that ships with the product."""
    beside = config_path.parent / config.policy
    return beside if beside.exists() or "/" in config.policy else configs.resource(config.policy)


def complain(error: ConfigError) -> None:
    """Say every mistake on stderr."""
    sys.stderr.write(f"{error}\n")
