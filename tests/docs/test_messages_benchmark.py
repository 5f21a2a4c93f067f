"""The benchmark of messages compares what it says: methods that differ in their channel alone, on grounds that take them."""

import importlib
from pathlib import Path
from typing import Any

import pytest

from marlstone.comms.layout import TalkLayout
from marlstone.config import dump, parse
from marlstone.core.records import replace
from marlstone.envs.make import make

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
GROUNDS = sorted(p.stem for p in (BENCHMARKS / "messages" / "grounds").glob("*.toml"))


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("messages_config")


def asked(settings: Any, ground: str) -> dict[str, Any]:
    more = {"thinned": {"keep": 0.25}}
    return {m: settings.configured(ground, m, more.get(m)) for m in settings.METHODS}


def test_every_ground_and_method_has_a_file(settings: Any) -> None:
    assert sorted(settings.GROUNDS) == GROUNDS
    assert sorted(settings.METHODS) == sorted(p.stem for p in (BENCHMARKS / "messages" / "methods").glob("*.toml"))


@pytest.mark.parametrize("ground", GROUNDS)
def test_methods_differ_in_their_channel_alone(settings: Any, ground: str) -> None:
    configs = asked(settings, ground)
    rest = {dump(replace(c, comms=configs["none"].comms)) for c in configs.values()}
    assert len(rest) == 1
    assert len({dump(c) for c in configs.values()} - rest) == len(configs) - 1  # and each has one of its own


@pytest.mark.parametrize("ground", GROUNDS)
def test_a_ground_takes_every_channel_and_declares_its_measure_of_success(settings: Any, ground: str) -> None:
    configs = asked(settings, ground)
    spec = make(configs["none"].env).spec
    for method, config in configs.items():
        assert parse(dump(config)) == config, method
        met = TalkLayout(config.channel, spec).spec if config.comms.speaks else spec
        assert settings.GROUNDS[ground] in met.wanted_metrics


@pytest.mark.parametrize("ground", GROUNDS)
def test_numbers_of_a_message_are_equal_where_channels_send_numbers_and_only_a_price_or_a_budget_costs(settings: Any, ground: str) -> None:
    configs = asked(settings, ground)
    dense = [configs[m].comms for m in ("commnet", "ic3net", "ddcl", "thinned")]
    assert len({c.size for c in dense}) == 1
    assert {m for m, c in configs.items() if c.comms.budget_bits or c.comms.price} == {"ours"}
    priced = settings.configured(ground, "ours", {"price": 0.001}).comms
    assert priced.price and not priced.budget_bits
