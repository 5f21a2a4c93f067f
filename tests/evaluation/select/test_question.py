"""What is asked: budgets, candidates, prices."""

from pathlib import Path
from typing import Any

import pytest

from marlstone.cli.arguments import check_cluster
from marlstone.cli.select import parser
from marlstone.core.errors import UserError
from marlstone.core.ledger import Ledger
from marlstone.cost.prices import PriceTable
from marlstone.envs.make import make
from marlstone.evaluation.select.prices import Cost, Prices
from marlstone.evaluation.select.question import DEFAULTS, QUICK, Budget, Candidate, Question, common_leaf, led, read_candidates
from marlstone.evaluation.select.question_file import remembered


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("1e6", Budget(steps=1_000_000)),
        ("250_000", Budget(steps=250_000)),
        ("30m", Budget(minutes=30)),
        ("1.5h", Budget(minutes=90)),
        ("2.5usd", Budget(price=2.5)),
        ("2.5USD", Budget(price=2.5)),
    ],
)
def test_budgets_are_steps_time_or_a_price(text: str, budget: Budget) -> None:
    assert Budget.read(text, Prices()) == budget
    assert Budget.read("2.5eur", Prices("EUR")) == Budget(price=2.5) and Budget.read("1e-1Eur", Prices("EUR")) == Budget(price=0.1)


@pytest.mark.parametrize("text", ["", "many", "-1", "0", "5eur", "1e6 steps", "nan", "inf", "e", "1e", "30s"])
def test_other_budgets_are_refused_with_what_may_be_said(text: str) -> None:
    with pytest.raises(UserError, match=r"--budget .*: give joint steps per seed \(1e6\).*2\.5usd"):
        Budget.read(text, Prices())


def test_prices_are_of_what_was_counted() -> None:
    prices = Prices("EUR", step=1.0, flop=0.1, byte=0.01, message=10.0)
    assert prices.of(Ledger(steps=3, flops=20, bytes=100, messages=2)) == 3 + 2 + 1 + 20
    cost = Cost.of(prices, [{"steps": 10, "flops": 100}, {"steps": 10, "flops": 300}], act_flops=6, agents=3)
    assert (cost.train, cost.train_per_seed, cost.per_agent) == (60.0, 30.0, 10.0)
    assert cost.per_1k_decisions == pytest.approx(1000 * 0.1 * 6 / 3)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[price]\nflops = 1", "did you mean 'flop'"),
        ("[price]\nflop = -1", "give a price of at least 0"),
        ("[price]\nflop = true", "give a price of at least 0"),
        ("[[candidates]]\narchitecture = 'ctde'", "has the name None"),
        ("[[candidates]]\nname = '../x'", "has the name '../x'"),
        ("[[candidates]]\nname = 'a'\nsteps = 5", "says steps, which the question says for all"),
        ("[[candidate]]\nname = 'a'", "did you mean 'candidates'"),
        ("x =", "line 1: not valid TOML"),
    ],
)
def test_a_file_of_candidates_that_does_not_read_says_where(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(UserError, match=says.replace("(", r"\(").replace("[", r"\[")):
        read_candidates(tmp_path / "c.toml")


def test_own_candidates_stand_beside_the_packages_or_alone(tmp_path: Path) -> None:
    mine = '[[candidates]]\nname = "ctde-team"\narchitecture = "ctde"\n[[candidates]]\nname = "mine"\ntries = [{}]\n'
    (tmp_path / "beside.toml").write_text(mine)
    (tmp_path / "alone.toml").write_text("defaults = false\n" + mine)
    beside, _ = read_candidates(tmp_path / "beside.toml")
    assert {c.name for c in beside} == {c.name for c in DEFAULTS} | {"mine"}
    assert next(c for c in beside if c.name == "ctde-team").settings == {"architecture": "ctde"}  # a namesake takes its place
    alone, _ = read_candidates(tmp_path / "alone.toml")
    assert [(c.name, c.tries) for c in alone] == [("ctde-team", Candidate("x", {}).tries), ("mine", ({},))]


def test_the_shipped_candidates_are_configurations_of_every_architecture() -> None:
    configs = [c.config("proving:additive", {"rollout.length": "8"}, {"lr": 0.1}, steps=5, seeds=2, seed=7) for c in DEFAULTS]
    assert 6 <= len(DEFAULTS) <= 9
    assert {type(c.architecture).kind for c in configs} == {"decentralized", "ctde", "hierarchical"}
    assert all((c.steps, c.seeds, c.seed, c.rollout.length, c.learner.lr) == (5, 2, 7, 8, 0.1) for c in configs)
    assert (
        len(QUICK) == 3
        and len({c.config("proving:additive", {}, {}).architecture.kind for c in QUICK}) == 3
        and all(len(c.tries) == 1 for c in QUICK)
    )


def test_managers_are_told_what_goals_mean_where_a_leaf_says_it() -> None:
    assert common_leaf(make("proving:plan").spec) == "place"  # type: ignore[union-attr]
    told = {c.name: c.settings["architecture"] for c in led(DEFAULTS, "place")}
    assert told["hierarchical-team"] == {"kind": "hierarchical", "leaf": "place"}
    assert told["ctde-team"] == {"kind": "ctde", "value_gain": 0.0}
    assert led(DEFAULTS, "") == DEFAULTS
    assert common_leaf(make("proving:dials").spec) == "time"  # type: ignore[union-attr]


def test_another_question_is_never_answered_by_what_lies_there(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"env": "proving:additive", "budget": Budget(steps=5), "candidates": DEFAULTS}
    remembered(tmp_path / "s", Question(**asked))
    remembered(tmp_path / "s", Question(**asked))
    with pytest.raises(UserError, match="holds a selection with another seeds"):
        remembered(tmp_path / "s", Question(**asked, seeds=3))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(UserError, match="is not empty and holds no selection"):
        remembered(tmp_path / "other", Question(**asked))


def test_a_cluster_is_rays_or_none() -> None:
    for words, says in (
        (["--fleet", "local"], "--fleet local: a selection's trials"),
        (["--address", "h:1"], "h:1 is that of a Ray cluster"),
    ):
        with pytest.raises(UserError, match=says):
            check_cluster(parser().read(words), "selection")
    check_cluster(parser().read(["--fleet", "ray", "--address", "h:1"]), "selection")


def test_after_so_many_decisions_acting_has_cost_more() -> None:
    """Than all of the candidate's training; never, where a decision costs nothing."""
    cost = Cost.of(Prices(flop=1.0, step=0.0, byte=0.0), [{"flops": 100}, {"flops": 300}], act_flops=6, agents=3)
    assert cost.crossover_decisions == 201 and cost.crossover_decisions * cost.per_1k_decisions / 1000 > cost.train
    assert Cost.of(Prices(flop=0.0), [{"steps": 1}], act_flops=6, agents=3).crossover_decisions is None


def test_prices_are_the_packages_unless_they_are_given() -> None:
    shipped = {x.kind: x.unit for x in PriceTable.shipped().entries}
    assert (Prices().step, Prices().flop, Prices().byte) == (shipped["steps"], shipped["flops"], shipped["bytes"])
    assert Prices(flop=1.0).table.sha256 != Prices().table.sha256 == Prices(currency="USD").table.sha256
