from pathlib import Path

import pytest

import configs
from configs.loader import ConfigError
from edge.core.rules import CurfewWindow
from edge.policy import load_policy

SHIPPED = configs.resource("policy-2020-17.toml")


def test_the_notice_as_data() -> None:
    policy = load_policy(SHIPPED)
    assert policy.label == "kunshan-2020-17@1"
    assert policy.curfews == (CurfewWindow(1440, 360),)
    assert policy.thermal.fever_centi_c == 3730
    assert (policy.thermal.plausible_low_centi_c, policy.thermal.plausible_high_centi_c) == (3400, 4200)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('end = "06:00"', 'end = "6"', "'6' is not a time of day: write 00:00 to 24:00"),
        ('start = "24:00"', 'start = "24:01"', "is not a time of day"),
        ("fever_c = 37.3", "fever_c = 73.3", "thermal.fever_c"),
        ("[34.0, 42.0]", "[42.0, 34.0]", "write the lower number first"),
        ("version = 1", 'version = "one"', "version"),
        ("ambulance    =", "vip =", "ambulance, fire_brigade, police, medical, duty"),
        ('"2020-02-02T00:00:00+08:00"', '"2020-02-02T00:00:00"', "needs an offset"),
    ],
)
def test_a_broken_policy_says_where_and_what(tmp_path: Path, old: str, new: str, says: str) -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    assert old in text
    file = tmp_path / "policy.toml"
    file.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError) as raised:
        load_policy(file)
    assert says in str(raised.value)
    assert f"{file}:" in str(raised.value)
