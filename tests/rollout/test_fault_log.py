"""Faults reach a person: the first of each kind when it happens, with its place; counts in the record; a broken environment stops."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from marlstone.algorithm import Algorithm
from marlstone.architectures import Decentralized, Mlp
from marlstone.cli.report import faults, training
from marlstone.config import RunConfig, dump
from marlstone.config.schema import Evaluation, Rollout
from marlstone.core.distributions import Discrete
from marlstone.core.errors import UserError
from marlstone.core.types import Group, Leaf, Spec, Step
from marlstone.credit import Individual
from marlstone.envs.guards import Guards
from marlstone.envs.make import make
from marlstone.envs.team_games import team_step
from marlstone.envs.vectorized import Vectorized
from marlstone.learners import PolicyGradient, QLearning
from marlstone.rollout.fault_log import CHANCE, EPISODES, STEPS, EnvironmentFailed, Health
from marlstone.rollout.worker_pool import Workers
from marlstone.runs.checkpoint import newest
from marlstone.runs.directory import RunDirectory
from marlstone.training.fused import Fused
from marlstone.training.loop import train
from marlstone.training.memory import needed, refuse_too_large
from marlstone.training.trained import evaluate
from tests.rollout.test_workers import EXAMPLES, roll, toy
from tests.standing import always, standing

CASES = Path(__file__).parents[1] / "cases"


def config(env: str, **more: Any) -> RunConfig:
    small = {
        "architecture": Decentralized(Mlp((4,))), "learner": PolicyGradient(epochs=1, minibatches=1),
        "rollout": Rollout(envs=4, length=16), "evaluate": Evaluation(episodes=3, logged=0), "steps": 128, "seeds": 1,
    }  # fmt: skip
    return RunConfig(env=env, **(small | more))


def begun(path: Path, it: RunConfig) -> RunDirectory:
    return RunDirectory.create(path, dump(it))


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ("blank", "nan_observation", ("walker_1", "observation 'obs'", "nan")), ("endless", "nan_reward", ("walker_1", "reward", "inf")),
        ("bounds", "reward_bounds", ("walker_1", "1e+09", "clipped")), ("shape", "wrong_shape", ("walker_1", "(5,)")),
        ("raise", "raised", ("lost its mind", "host_examples.py:")), ("sysexit", "raised", ("SystemExit", "host_examples.py:")),
    ],
)  # fmt: skip
def test_the_first_fault_of_each_kind_is_reported_once(fault: str, kind: str, words: tuple[str, ...], capfd: Any) -> None:
    with Workers(toy(fault=fault, at=2, length=6), 4, guards=Guards(reward_bounds=(-100, 100), most_bad=1.0), num_workers=2) as w:
        roll(w, 1)
        assert "fault" not in capfd.readouterr().err
        roll(w, 12)
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("fault: ")]
    assert len(said) == 1 and f"fault: {kind}: " in said[0] and "environment " in said[0]
    assert all(word in said[0] for word in words), said[0]


def test_an_environment_that_always_raises_stops_within_seconds() -> None:
    """Not after 1,001 restarts; the message has the counts, file and line, and the setting."""
    with Workers(toy(fault="raise", at=2, length=50), 4) as w, pytest.raises(EnvironmentFailed) as error:
        roll(w, 200)
    assert sum(w.counts.values()) <= EPISODES
    for word in ("episodes were broken off", "raised: ", "lost its mind", "host_examples.py:", "guards.most_bad"):
        assert word in str(error.value)


def test_bad_numbers_in_most_steps_stop_it() -> None:
    everything = f"{EXAMPLES}:toy?length=1&at=1&fault=endless"  # every step that is no reset
    with Workers(everything, 4) as w, pytest.raises(EnvironmentFailed, match="steps were faulty") as error:
        roll(w, 2 * STEPS)
    assert "nan_reward" in str(error.value)
    with Workers(everything, 4, guards=Guards(most_bad=1.0)) as w:
        roll(w, STEPS)
        assert w.counts["nan_reward"] > STEPS


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 60), st.floats(0, 1), st.integers(0, 5), st.integers(0, 5)), max_size=60), st.floats(0.05, 1))
def test_health_judges_shares_of_windows(steps: list[tuple[int, float, int, int]], most: float) -> None:
    """It stops exactly where a window as long as the ones it names has more than its share; where there are no faults, never."""
    health, bad, episodes, window = Health("it", most), 0, 0, (0, 0)
    for n, share, ended, broken in steps:
        faulty = round(n * share)
        try:
            health.add(n, faulty, ended, broken, {})
        except EnvironmentFailed:
            stopped = (window[0] + faulty) / max(window[1] + n, STEPS) > most
            whole = bad + ended + broken + episodes
            assert stopped or ((episodes + broken) / whole > most and stats.binom.sf(episodes + broken - 1, whole, most) < CHANCE)
            return
        window = (window[0] + faulty, window[1] + n) if window[1] + n < STEPS else (0, 0)
        whole = bad + ended + broken + episodes
        bad, episodes = (bad + ended, episodes + broken) if whole < EPISODES else (0, 0)
        assert window[0] / STEPS <= most


def test_as_many_broken_episodes_as_are_tolerated_never_stop_it() -> None:
    """A third of all episodes, in 1,000 runs of 200: chance is no evidence. Nine of ten are found in every one."""
    rng = np.random.default_rng(0)
    for share, stops in ((1 / 3, 0), (0.5, 2), (0.9, 1000)):
        found = 0
        for _ in range(1000):
            health = Health("it", 0.5)
            try:
                for broken in rng.random(200) < share:
                    health.add(5, 0, int(not broken), int(broken), {})
            except EnvironmentFailed:
                found += 1
        assert found <= stops if share <= 0.5 else found == stops


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_once")
def test_a_run_under_faults_says_so(tmp_path: Path, capfd: Any) -> None:
    """A third of the episodes raises: trained on, reported at once, counted in the record of training and evaluation, and in the table."""
    some = config(f"{CASES}/raises.py:make_env?mode=some", steps=256)
    run = begun(tmp_path / "run", some)
    record = train(some, run, limited=False)
    err = capfd.readouterr().err
    assert err.count("fault: raised: ") == 1 and "solver diverged" in err and "raises.py:" in err
    assert record["faults"][0]["raised"] > 0 and record["returns"] == [10.0]
    rows = dict(training(record))
    assert f"raised: {record['faults'][0]['raised']}" in rows["faults"] and "faults in evaluation" in rows
    again = evaluate(some, newest(run.checkpoints), 12)
    assert again["evaluation_faults"].get("raised", 0) >= again["broken"] and "faults in evaluation" in dict(faults(again))


@pytest.mark.usefixtures("compiled_once")
def test_a_run_in_a_broken_environment_fails(tmp_path: Path) -> None:
    broken = config(toy(fault="raise", at=2))
    with pytest.raises(EnvironmentFailed, match="lost its mind"):
        train(broken, begun(tmp_path / "run", broken), limited=False)


JAX_ENV = """
from dataclasses import dataclass
from typing import Any
import jax.numpy as jnp
from marlstone.core.records import replace
from marlstone.envs.proving import Climbing

@dataclass(frozen=True)
class Env:
    every: int
    game: Climbing = Climbing()

    @property
    def spec(self) -> Any:
        return self.game.spec

    def init(self, key):
        return self.game.init(key)

    def step(self, state, action, key):
        state, row = self.game.step(state, action, key)
        bad = jnp.where(state % self.every == 0, jnp.nan, 0.0)
        return state, replace(row, reward=row.reward + bad, team_reward=row.team_reward + bad)

def make(every=1):
    return Env(every)
"""


@pytest.mark.usefixtures("compiled_once")
@pytest.mark.slow
def test_environments_in_jax_are_judged_at_the_hosts_contacts(tmp_path: Path, capfd: Any) -> None:
    (tmp_path / "nan.py").write_text(JAX_ENV)
    always = config(f"jax:{tmp_path}/nan.py:make", steps=4096, rollout=Rollout(envs=32, length=32))
    with pytest.raises(EnvironmentFailed, match=r"steps were faulty \(nan_reward: "):
        train(always, begun(tmp_path / "always", always), limited=False)
    rare = replace(always, env=f"jax:{tmp_path}/nan.py:make?every=3")
    record = train(rare, begun(tmp_path / "rare", rare), limited=False)
    assert record["evaluation_faults"]["nan_reward"] > 0
    assert record["faults"][0]["nan_reward"] > 0 and capfd.readouterr().err.count("fault: nan_reward: ") == 2  # one a run


@dataclass(frozen=True)
class Uneven:
    """Episodes of one to six steps; the first step's rewards are NaN, and so is whatever an episode is made to give after its end."""

    spec = Spec((Group("walkers", ("a", "b"), {"x": Leaf("vector", (1,))}, Discrete(2)),), state=1, horizon=None)

    def _row(self, t: Any, end: Any, first: bool = False) -> Step:
        rewards = jnp.where(((t == 1) | (t > end)) & (not first), jnp.nan, jnp.ones(2))
        return team_step(({"x": jnp.ones((2, 1))},), jnp.ones(1), rewards, (None,), terminated=(t == end), first=first)

    def init(self, key: Any) -> Any:
        end = jax.random.randint(key, (), 1, 7)
        return (jnp.zeros((), jnp.int32), end), self._row(jnp.zeros((), jnp.int32), end, True)

    def step(self, state: Any, action: Any, key: Any) -> Any:
        t, end = state[0] + 1, state[1]
        return (t, end), self._row(t, end)


@pytest.mark.usefixtures("compiled_once")
def test_faults_of_evaluation_in_jax_are_counted_up_to_each_episodes_end(capfd: Any) -> None:
    it = Algorithm(Uneven.spec, Decentralized(Mlp((4,))), Individual(), PolicyGradient(epochs=1, minibatches=1))
    runtime = Fused(Vectorized(Uneven(), 4), it, 4, 1, (5, 6))
    state = standing(always(it, [0.0, 0.1]), always(it, [0.1, 0.0]))
    played = runtime.evaluate(state, 16)
    assert len(np.unique(played.length)) > 3 and runtime.judged.counts == {"nan_reward": 2 * 16 * 2}  # seeds, episodes, agents
    runtime.evaluate(state, 16, "sample")
    assert runtime.judged.counts == {"nan_reward": 2 * 2 * 16 * 2} and capfd.readouterr().err.count("fault: nan_reward: ") == 1


# ---- defaults and memory
def test_environments_of_python_default_to_what_the_cores_bear(monkeypatch: Any) -> None:
    from marlstone.config import parse, schema

    for cores, envs, simulations in ((1, 8, 4), (2, 8, 4), (6, 12, 8), (64, 128, 64)):
        monkeypatch.setattr(schema, "cores", lambda cores=cores: list(range(cores)))
        it = RunConfig(env=toy())
        assert it.rollout.envs == envs and RunConfig(env="sumo:cologne3").rollout.envs == simulations
        assert RunConfig(env="proving:climbing").rollout.envs == 32 and RunConfig(env=toy(), rollout=Rollout(envs=5)).rollout.envs == 5
        kept = dump(it)
        monkeypatch.setattr(schema, "cores", lambda: [0, 1, 2])
        assert f"envs = {envs}" in kept and parse(kept).rollout.envs == envs  # resumed elsewhere: the same
    assert RunConfig(env=toy(), learner=PolicyGradient(minibatches=3)).rollout.envs % 3 == 0


def test_more_memory_than_there_is_is_refused(tmp_path: Path) -> None:
    spec = make(f"{EXAMPLES}:pictures").spec
    it = config(f"{EXAMPLES}:pictures", rollout=Rollout(envs=64, length=100))
    rollouts, replay = needed(it, spec, 1, 2)
    pictures = 64 * 100 * 2 * 16 * 12 * 3
    assert 2 * pictures < rollouts < 2.5 * pictures and replay == 0
    refuse_too_large(it, spec, 1, 2, free=rollouts)
    with pytest.raises(UserError, match=r"needs at least .* lower rollout.envs"):
        refuse_too_large(it, spec, 1, 2, free=rollouts - 1)
    remembering = replace(it, learner=QLearning())
    with pytest.raises(UserError, match=r"lower learner.replay.capacity"):
        refuse_too_large(remembering, spec, 1, 2, free=rollouts)
    huge = replace(it, rollout=Rollout(envs=64, length=10**9))
    with pytest.raises(UserError, match="GB are free"):
        train(huge, begun(tmp_path / "huge", huge), limited=False)
