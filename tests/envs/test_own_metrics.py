"""True metrics of a user's own: one file measures JAX's environments and Python's; what cannot be measured is refused by name and line."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from marlstone.config import RunConfig, dump, load, parse
from marlstone.config.paths import files_of
from marlstone.core.errors import UserError
from marlstone.core.records import replace
from marlstone.core.types import Metric
from marlstone.envs.conformance import NonConforming
from marlstone.envs.faults import Noise
from marlstone.envs.make import make
from marlstone.envs.managed import Managers
from marlstone.envs.own_metrics import metric_from_json, metric_to_json, metrics_of
from marlstone.envs.transition import Transition
from marlstone.envs.wrappers import wrap_env
from marlstone.evaluation.paired.players import together
from marlstone.rollout.worker_pool import Workers

HERE = Path(__file__).parent
MINE = HERE / "own_metrics.py"
TOY = f"{HERE / 'host_examples.py'}:toy?length=3"
CLIMBING = "proving:climbing"


def mine(*names: str, env: str = CLIMBING) -> tuple[Any, ...]:
    return parse(f'env = "{env}"\nmetrics = [{", ".join(repr(f"{MINE}:{n}") for n in names)}]').metrics


def test_the_same_metrics_in_jax_and_in_python() -> None:
    """Values follow from what was done and paid, step by step; memory begins anew with an episode; direction and reduction are declared."""
    metrics = mine("second", "gone", "Highest")
    declared = {"second": Metric("up", "sum"), "gone": Metric("down", "sum"), "highest": Metric("up", "last")}
    env: Any = wrap_env(make(CLIMBING), None, (), metrics)
    assert env.spec.metrics == declared | make(CLIMBING).spec.metrics
    for key in (0, 1):
        highest, (state, step) = -np.inf, env.init(jax.random.key(key))
        assert [float(step.metrics[k]) for k in declared] == [0, 0, 0]
        for t in range(3):
            action = tuple(np.full(g.count, (t + key) % 3) for g in env.spec.groups)
            state, step = env.step(state, action, jax.random.key(t))
            highest = max(highest, float(step.team_reward))
            assert [float(step.metrics[k]) for k in declared] == [(t + key) % 3, float((step.discount == 0).sum()), highest]
    host: Any = wrap_env(make(TOY), None, (), metrics)
    for seed in (0, 1):
        highest, step = -np.inf, host.reset(seed)
        for t in range(3):
            step = host.step((np.array([0, t]),))
            highest = max(highest, float(step.team_reward))
            assert [step.metrics[k] for k in declared] == [t, 2 * (t == 2), highest] and step.metrics["gone"].dtype == np.float32
    host.close()


def test_metrics_measure_the_environment_itself() -> None:
    """Below managers and faults: agents are the environment's own, and noise is not seen. What is put over it keeps them."""
    plain: Any = make(CLIMBING)
    env: Any = wrap_env(plain, Managers(2, roles=2), (Noise(scale=1.0),), mine("second"))
    state, _ = env.init(jax.random.key(0))
    action = tuple(np.ones((g.count, *((len(g.space.sizes),) if hasattr(g.space, "sizes") else ())), int) for g in env.spec.groups)
    _, step = env.step(state, action, jax.random.key(1))
    assert float(step.metrics["second"]) == 1 and metrics_of(env) == mine("second") and metrics_of(plain) == ()


def test_a_transition_by_names() -> None:
    """Observations before and after, actions and rewards of each agent; padding is cut off."""
    host: Any = make(TOY)
    before = host.reset(7)
    after = host.step((np.array([1, 2]),))
    it = Transition(host.spec, before, (np.array([1, 2]),), after)
    assert it.agents == ("walker_0", "walker_1")
    assert it.observations["walker_1"].tolist() == [0, 1, 7] and it.next_observations["walker_1"].tolist() == [1, 1, 7]
    assert it.actions == {"walker_0": 1, "walker_1": 2} and list(it.rewards.values()) == after.reward.tolist()
    assert not it.last and it.present == {"walker_0": True, "walker_1": True} and not any(it.terminated.values())
    name = next(iter(host.spec.groups[0].observation))
    narrow = replace(host.spec, groups=(replace(host.spec.groups[0], features={name: (3, 2)}),))
    assert Transition(narrow, before, (np.array([1, 2]),), after).observations["walker_1"].tolist() == [0, 1]
    host.close()


def test_worker_processes_measure_too() -> None:
    metrics = mine("second", "Highest")
    assert [metric_from_json(metric_to_json(m)) for m in metrics] == list(metrics)
    with Workers(TOY, 2, num_workers=1, metrics=metrics) as env:
        env.init(np.array([1, 2]))
        _, step = env.step(None, (np.array([[0, 1], [0, 2]]),))
        assert set(env.spec.metrics) == {"second", "highest"} and step.metrics["second"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("name", "env", "says"),
    [
        ("branches", CLIMBING, "metric 'branches' cannot be traced by JAX: use arithmetic"),
        ("several", CLIMBING, "metric 'several' gives .*return one number"),
        ("fails", CLIMBING, r"own_metrics.py line \d+: KeyError: 'nobody' \(in metric 'fails'\)"),
        ("Sideways", CLIMBING, "metric 'sideways': better is 'sideways': choose one of up, down"),
        ("Sideways", TOY, "metric 'sideways': better is 'sideways': choose one of up, down"),
        ("Nothing", CLIMBING, r"metrics\[0\] = .*Nothing lacks value; see marlstone.envs.own_metrics.TrueMetric"),
        ("Loose", CLIMBING, r"metrics\[0\] = .*Loose is no frozen dataclass"),
        ("Highst", CLIMBING, "defines no class or function 'Highst'; did you mean 'Highest'"),
    ],
)
def test_what_cannot_be_measured_is_refused(name: str, env: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        wrap_env(make(env), None, (), mine(name, env=env))


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(UserError, match="metric 'second': there is one of that name already"):
        wrap_env(make(CLIMBING), None, (), mine("second", "second"))


@pytest.mark.parametrize(("name", "says"), [("fails", r"own_metrics.py line \d+: KeyError"), ("several", "return one number")])
def test_what_fails_while_python_steps_names_its_line(name: str, says: str) -> None:
    host: Any = wrap_env(make(TOY), None, (), mine(name))
    host.reset(0)
    with pytest.raises(NonConforming, match=says):
        host.step((np.array([0, 0]),))
    host.close()


def test_configuration_holds_them(tmp_path: Path) -> None:
    """By the command line beside the file's own, each once; with its fields in TOML; its file among those of the run."""
    (tmp_path / "run.toml").write_text(f'env = "{CLIMBING}"\n[[metrics]]\nkind = "{MINE}:Highest"\npower = 2.0\n')
    config = load(tmp_path / "run.toml", {"metric": f'["{MINE}:second", "{MINE}:Highest"]'})
    assert [type(m).__name__ for m in config.metrics] == ["Highest", "second"] and config.metrics[0].power == 2.0
    assert parse(dump(config)) == config
    assert {"metrics[0]", "metrics[1]"} == set(files_of(config, tmp_path))


def test_runs_that_are_measured_otherwise_are_not_compared() -> None:
    plain, measured = RunConfig(CLIMBING), RunConfig(CLIMBING, metrics=mine("second"))
    with pytest.raises(UserError, match="different metrics of your own, one none, the other second"):
        together(plain, measured)
    assert together(measured, RunConfig(CLIMBING, metrics=mine("second")))[0] == measured
