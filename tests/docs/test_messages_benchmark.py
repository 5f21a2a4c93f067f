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


def result(ground: str, method: str, success: float, messages: float, bits: float, **more: Any) -> dict[str, Any]:
    """A recorded result, as far as tables read it; `more`: its other fields, those of `comms` among them."""
    seen = {"success": success, "success_ci95": [success - 0.01, success], "success_worst_seed": success - 0.02, "return": -1.0}
    sent = {"messages_per_step": messages, "bits_per_step": bits, "senders": {"scout": {"messages_per_step": 1.0, "bits_per_step": bits}}}
    where = {"ground": ground, "method": method, "metric": "success", "purpose": more.get("purpose", "reporting"), "seeds": [1, 2]}
    stamp = {"steps": 100, "date": "2026-01-01 00:00 UTC", "commit": "abc", "machine": "one", "config": {"comms": more.get("comms", {})}}
    curve = {"curve": {"steps": [50, 100], "success": [[None, 0.5], [0.25, 1.0]]}}
    return {**where, **seen, **sent, **stamp, **curve, **more.get("found", {})}


@pytest.fixture
def tables(settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The module of tables, which reads results from a folder of this test's own."""
    record, module = importlib.import_module("record"), importlib.import_module("messages_table")
    for each in (record, module):
        monkeypatch.setattr(each, "RESULTS", tmp_path)
    monkeypatch.setattr(module, "keep", lambda name, r: record.write(name, r, tmp_path), raising=False)
    return module


def test_without_results_every_table_is_one_line(tables: Any) -> None:
    assert "|" not in tables.tables() and tables.tables().count("not recorded yet") == 7


def test_methods_are_compared_with_commnet_and_ddcl_on_their_ground_and_tuning_seeds_are_left_out(tables: Any) -> None:
    free = {"unenforced": {"bits_per_step": 9.0, "bits_p95": 9.5}, "refused": 0.004}
    for name, r in {
        "commnet": result("traffic_hard", "commnet", 0.98, 40.0, 1000.0),
        "ours": result("traffic_hard", "ours", 0.975, 2.0, 10.0, comms={"budget_bits": [10.0]}, found=free),
        "cheap": result("traffic_hard", "ddcl", 0.9, 40.0, 5.0, comms={"price": 1.0}),
        "dear": result("traffic_hard", "ddcl", 0.97, 40.0, 40.0, comms={"price": 0.1}),
        "tuning": result("traffic_easy", "commnet", 1.0, 40.0, 2000.0, purpose="tuning"),
    }.items():
        tables.keep(f"messages/{name}", r)
    ours = next(line for line in tables.methods().splitlines() if "`ours`" in line)
    assert "| 2 | 5% | 10 | 1% | 9, 9.5 | 0.4% |" in ours
    assert "traffic_easy: all" in tables.methods() and "2,000" not in tables.methods()
    assert "| 0.5 points | 5% | 1% | 40 at price 0.1 | 25% |" in tables.frontier()
    assert "| 25% | 25% | 25% | 75% | 75% |" in tables.curves()


def test_bits_of_a_message_are_the_scouts(tables: Any) -> None:
    tables.keep("messages/ours", result("signal", "ours", 1.0, 2.0, 2.25, comms={"budget_bits": [2.25]}))
    assert "| `ours`, budget 2.25 | 2.25 | 1 |" in tables.signal() and "1.815 bits" in tables.signal()
