"""A constraint on costs: policies keep a budget, or weigh return against cost exactly; what is reported of agents never sees cost."""

import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from marlstone.algorithm import Algorithm
from marlstone.config import dump, load
from marlstone.core.multiplier import AIM, controlled, excess
from marlstone.core.records import replace
from marlstone.learners import QLearning
from marlstone.learners.constraint import Constraint
from marlstone.rollout.unroll import draw_noise, unroll
from marlstone.runs.checkpoint import verify
from marlstone.runs.directory import RunDirectory
from marlstone.training.loop import runtime_of, train

pytestmark = pytest.mark.usefixtures("compiled_once")
CALLS = Path(__file__).with_name("calls.py")
N, ROWS = 8, 8
SMALL = {
    "env": "proving:additive", "metrics": f'[{{ kind = "{CALLS}:calls" }}]', "seeds": "1", "seed": "0", "rollout.envs": "32",
    "rollout.length": "8", "architecture.body.hidden": "[16]", "learner.epochs": "2", "learner.minibatches": "1", "learner.lr": "1e-2",
    "evaluate.episodes": "32", "evaluate.logged": "0", "acting": "mode", "cost.prices.calls": "1.0",
}  # fmt: skip


def trained(tmp_path: Path, **more: str) -> dict[str, Any]:
    config = load(None, {**SMALL, **more})
    return train(config, RunDirectory.create(tmp_path / "run", dump(config)), limited=False)


def worth(i: int) -> float:
    """Of worker i's right symbol at one step."""
    return (i + 1) / (N * (N + 1) / 2 * ROWS)


LEARNING = {"cost.opening": "0.1", "learner.entropy": "0.05", "learner.entropy_end": "0.0", "steps": "200000"}


@pytest.mark.slow
def test_with_a_weight_return_less_cost_is_near_its_greatest(tmp_path: Path) -> None:
    """It is greatest where exactly the workers that earn more than they cost speak."""
    weight = (worth(3) + worth(4)) / 2
    record = trained(tmp_path, **LEARNING, **{"cost.weight": str(weight)})
    best = ROWS * sum(worth(i) - weight for i in range(4, N))
    assert record["returns"][0] - weight * record["true_metrics"]["calls"] > 0.85 * best
    assert 24 <= record["true_metrics"]["calls"] <= 40


def test_a_budget_is_kept_and_spent_where_it_earns_most(tmp_path: Path) -> None:
    """Three of eight workers may speak: the three that earn most do."""
    gamma = {"learner.gamma": "0.0", "learner.entropy": "0.03", "learner.entropy_end": "0.03", "cost.opening": "0.2"}
    record = trained(tmp_path, **{**LEARNING, **gamma, "cost.budget": "24.0", "acting": "sample"})
    assert 0.85 * 24 < record["true_metrics"]["calls"] <= 1.02 * 24
    assert record["returns"][0] > 0.9 * sum(worth(i) for i in range(5, N)) * ROWS


def test_what_is_reported_of_agents_does_not_see_costs() -> None:
    """Contributions and signals are the same at any multiplier; the update is not."""
    config = load(None, {**SMALL, "cost.weight": "0.1", "steps": "512", "credit": "team"})
    runtime = runtime_of(config)
    algorithm, state = runtime.algorithm, jax.tree.map(lambda x: x[0], runtime.start())
    noise, keys = draw_noise(algorithm, jax.random.key(0), config.rollout.length, config.rollout.envs)
    _, trajectories = unroll(runtime.env, algorithm, state.train.policy, state.acting, noise, keys)
    cheap, dear = (replace(state.train, cost=replace(state.train.cost, now=np.float32(x))) for x in (0.0, 5.0))
    one, other = (algorithm.contribution(t, trajectories) for t in (cheap, dear))
    np.testing.assert_array_equal(one, other)
    moved = [algorithm.update(t, trajectories, np.float32(0.5), jax.random.key(1))[0].nets.actor for t in (cheap, dear)]
    assert any(not np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, moved), strict=True))


@pytest.mark.parametrize("body", ["mlp", pytest.param("gru", marks=pytest.mark.slow)])
def test_a_resumed_run_is_one_that_was_never_stopped(tmp_path: Path, body: str) -> None:
    """To the bit: critics of costs with their memory, their scales and the multiplier."""
    hidden = {"architecture.body.hidden": "[16]"} if body == "mlp" else {"architecture.body.hidden": "6", "architecture.body.before": "6"}
    more = {"architecture.body": body, **hidden, "cost.budget": "16.0", "steps": "1024", "checkpoint_every": "512"}
    settings = {k: v for k, v in SMALL.items() if not k.startswith("architecture")}
    config = load(None, {**settings, **more, "rollout.envs": "8"})
    run = RunDirectory.create(tmp_path / "run", dump(config))
    whole = train(config, run, limited=False)
    copy = RunDirectory(Path(shutil.copytree(run.path, tmp_path / "copy")))
    again = train(config, copy, resume=verify(sorted(copy.checkpoints.iterdir())[0]), limited=False)
    assert again["resumed_from_step"] == 512
    for field in ("parameters_sha256", "returns", "true_metrics"):
        assert again[field] == whole[field], field


def test_the_controller_rises_while_too_much_is_used_and_falls_to_nothing_below() -> None:
    """It is at rest exactly where what is aimed at is used, and never negative."""
    total, last = np.float32(0), np.float32(0)
    for _ in range(10):
        error = excess(np.float32(2.0), np.float32(1.0))
        now, total = controlled(total, error, last)
        assert now > 0 and total > 0
        last = error
    assert excess(np.float32(AIM), np.float32(1.0)) == pytest.approx(0, abs=1e-6)
    for _ in range(50):
        now, total = controlled(total, excess(np.float32(0.0), np.float32(1.0)), np.float32(-1))
    assert now == 0 and total == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"budget": 0.0}, r"cost\.budget is 0\.0: give a cost above 0"),
        ({"budget": 1.0, "weight": 1.0}, "leave one out"),
        ({"charge": "team"}, r"cost\.charge is given, but nothing is constrained"),
        ({"budget": 1.0, "prices": {"price": -1.0}}, r"cost\.prices\.price is -1\.0"),
        ({"weight": 1.0, "per": "step"}, r"no cost\.budget that it could be of"),
        ({"budget": 1.0, "opening": 1.0}, r"cost\.opening is 1\.0"),
    ],
)
def test_a_constraint_that_makes_no_sense_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Constraint(**fields)


def test_costs_that_nothing_records_are_refused_and_learners_without_a_value_head_for_them() -> None:
    runtime = runtime_of(load(None, {k: v for k, v in SMALL.items() if not k.startswith("cost")}))
    spec, a = runtime.algorithm.spec, runtime.algorithm
    make = lambda learner, prices: Algorithm(spec, a.architecture, a.credit, learner, constraint=Constraint(1.0, prices=prices))
    with pytest.raises(ValueError, match=r"add \[\[tools\]\]"):
        make(a.learner, {"price": 1.0})
    with pytest.raises(ValueError, match="agents do not talk"):
        make(a.learner, {"bits": 1.0})
    with pytest.raises(ValueError, match="did you mean 'calls'"):
        make(a.learner, {"call": 1.0})
    with pytest.raises(ValueError, match="--learner policy_gradient"):
        make(QLearning(), {"calls": 1.0})
