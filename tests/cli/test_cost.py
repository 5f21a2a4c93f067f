"""`marlstone cost`: what is said, what is refused, what is written."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from marlstone.core.ledger import SHARED
from tests.cli.conftest import record


@pytest.fixture
def run(marlstone: Any) -> str:
    assert marlstone("train", "--env", "proving:climbing", "--steps", "64", "--checkpoint-every", "32", "--out", "run")[0] == 0
    return "run"


TABLE = 'version = "2"\ncurrency = "EUR"\n[[price]]\nkind = "flops"\nprice = 0.01\n[[price]]\nkind = "steps"\nprice = 1\nphase = "train"\n'


def test_a_statement_says_what_was_counted_and_what_that_costs(marlstone: Any, run: str) -> None:
    """Two checkpoints of 1,000 FLOPs and 10 steps, at 0.01 and 1; two episodes of 4 decisions and 8 FLOPs in all."""
    Path("p.toml").write_text(TABLE)
    said = record(marlstone("cost", run, "--prices", "p.toml", "--traffic", "100", "--budget", "3", "--days", "10", "--json"))
    assert said["agents"] == {"a": {"decisions": 20, "flops": 2000}, SHARED: {"steps": 20}} == said["phases"]["train"]
    assert said["total"] == {"steps": 20, "decisions": 20, "flops": 2000}
    assert (said["price"], said["per_episode"], said["per_decision"]) == (40.0, 0.04, 0.02)
    assert said["crossover_decisions"] == 2001 and said["price_by"]["agent"] == {"a": 20.0, SHARED: 20.0}
    ahead = said["forecast"]
    assert (ahead["total"], ahead["low"], ahead["high"]) == (20.0, 20.0, 20.0) and ahead["spent_by"] > said["day"]
    assert (
        said["prices"]["version"] == "2" and json.loads(Path("run/cost.json").read_text())["prices"]["sha256"] == said["prices"]["sha256"]
    )
    assert said["per_return"] == 0.04 and said["unpriced"] == []


def test_it_is_readable_at_80_columns(marlstone: Any, run: str) -> None:
    code, out, err = marlstone("cost", run, "--traffic", "1e9")
    assert code == 0 and max(map(len, out.splitlines())) <= 80 and "…" not in out
    assert "inference has cost more after" in out and "sha256" in err


def test_bills_have_the_same_money(marlstone: Any, run: str) -> None:
    said = record(marlstone("cost", run, "--focus", "spent.csv", "--json"))
    rows = list(csv.DictReader(Path("spent.csv").read_text().splitlines()))
    assert sum(float(row["BilledCost"]) for row in rows) == pytest.approx(said["price"]) and {row["x_Agent"] for row in rows} == {
        "a",
        SHARED,
    }


def test_several_runs_are_added_up(marlstone: Any, run: str) -> None:
    assert marlstone("train", "--env", "proving:climbing", "--steps", "32", "--checkpoint-every", "32", "--out", "two")[0] == 0
    said = record(marlstone("cost", run, "two", "--json"))
    assert said["total"]["flops"] == 3000 and [x["total"]["flops"] for x in said["runs"]] == [2000, 1000]
    assert said["price"] == pytest.approx(sum(x["price"] for x in said["runs"])) and said["crossover_decisions"] is None
    assert [x["crossover_decisions"] is None for x in said["runs"]] == [False, False]


def test_runs_that_were_counted_before_agents_were_are_shared(marlstone: Any, run: str) -> None:
    """Of a record with ledgers alone."""
    from marlstone.runs.store import Store

    with Store(Path("run/metrics.sqlite"), "run") as store:
        store.truncate(0)
    old = {"steps": 5, "flops": 7, "bytes": 0, "messages": 0, "bits": 0}
    Path("run/result.json").write_text(json.dumps({"ledger": [old, old]}))
    said = record(marlstone("cost", run, "--json"))
    assert said["agents"] == {SHARED: {"steps": 10, "flops": 14}} and said["per_decision"] is None and len(said["notes"]) == 2
    Path("run/result.json").unlink()
    assert marlstone("cost", run)[0] == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--traffic", "0"), "give a number above 0"),
        (("--budget", "5"), "add --traffic"),
        (("--days", "0"), "give 1 to 36500"),
        (("--prices", "none.toml"), "cannot be read"),
        (("--focus", "no/where.csv"), "its folder does not exist"),
        (("run",), "named twice"),
        (("nowhere",), "does not exist"),
    ],
)
def test_mistakes_are_named(marlstone: Any, run: str, words: tuple[str, ...], says: str) -> None:
    code, out, err = marlstone("cost", run, *words)
    assert code == 2 and says in err and not out
