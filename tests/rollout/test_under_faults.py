"""Training under faults is training: it resumes to the bit, no bad number reaches learners, and every runtime does it alike."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.config import RunConfig, load
from marlstone.config.schema import Evaluation, Rollout
from marlstone.core.records import replace
from marlstone.envs.faults import ActionLoss, Death, Delay, Dropout, Extreme, Noise, RewardDelay, Volatile, with_faults
from marlstone.envs.make import make
from marlstone.envs.managed import Managers
from marlstone.envs.vectorized import Vectorized
from marlstone.envs.wrappers import wrap_env
from marlstone.fleet.actor import Post, setup_of
from marlstone.rollout.env_stepper import EnvStepper
from marlstone.rollout.worker_pool import Workers
from marlstone.runs.checkpoint import load as read
from marlstone.runs.checkpoint import save
from marlstone.runs.leaves import parameters_sha256
from marlstone.training.loop import runtime_of
from tests.batches import quick
from tests.twin import Twin

pytestmark = pytest.mark.usefixtures("compiled_once")
LINE = f"{Path(__file__).parents[1] / 'twin.py'}:make"
MANY = (Delay(1), Extreme(0.1, "nan"), ActionLoss(0.3, "last"), Death(1, 3))


def config(env: str, **changes: Any) -> RunConfig:
    base = load(
        None, {"env": env, "seed": "0", "seeds": "1", "learner.epochs": "1", "learner.minibatches": "2", "architecture.body.hidden": "[8]"}
    )
    return replace(base, rollout=Rollout(4, 7, 1), evaluate=Evaluation(4), steps=4 * 28, **changes)


def bits(tree: Any) -> str:
    return parameters_sha256(jax.device_get(tree))


def test_fused_resumes_to_the_bit_and_learns_no_bad_number(tmp_path: Path) -> None:
    """All of what faults remember is saved; `pair` has masks, deaths, a late agent and every kind of action."""
    runtime = runtime_of(config("proving:pair", faults=MANY))
    assert runtime.env.env == with_faults(MANY, make("proving:pair"))
    advance = quick(lambda state, n: runtime.advance(state, n, 4))
    begun = quick(runtime.begin)(0)
    whole, report = advance(begun, 4)
    half, _ = advance(begun, 2)
    kept, _ = read(save(tmp_path, 2, half, {}), half)
    resumed, _ = advance(runtime.restored(kept), 2)
    assert bits(whole) == bits(resumed) != bits(half)
    assert int(whole.acting.env.faults["nan_observation"]) > 20
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(jax.device_get((whole.train.nets, whole.train.seen, report))))
    shown = jax.device_get(whole.acting.step)
    assert np.isfinite(shown.obs[0]["view"]).all() and not shown.present.all()


def test_paired_episodes_differ_by_the_fault_alone() -> None:
    """Evaluated from the same keys: faults without effect on play leave metrics to the bit, and returns."""
    runtime = runtime_of(config("proving:dummy"))
    state = runtime.start()
    plain = runtime.evaluate(state, 4)
    other = runtime.evaluate(state, 4, faults=(Noise(0), RewardDelay(2)))
    np.testing.assert_array_equal(plain.metrics["score"], other.metrics["score"])
    np.testing.assert_allclose(plain.team_return, other.team_return, rtol=1e-5)
    blind, alone, late = runtime.under_each(state, 4, (Dropout(1.0), Volatile(0.5, 0.5, 0.5), Delay(1)))
    returns = [x.team_return for x in (plain, blind, alone, late)]
    assert len({x.tobytes() for x in returns}) == 4
    for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(runtime.evaluate(state, 4, faults=(Volatile(0.5, 0.5, 0.5),))), strict=True):
        np.testing.assert_array_equal(a, b, "played among others, it is what it is alone")


def test_workers_step_under_faults_as_jax_does() -> None:
    """Faults without chance, over managers, in other processes: the rows of the twin in JAX."""
    managers, faults = Managers(2, 2, roles=3), (Delay(2), ActionLoss(1.0), RewardDelay(1))
    rng, keys = np.random.default_rng(0), jax.random.split(jax.random.key(0), 2)
    with Workers(LINE, 2, num_workers=1, managers=managers, faults=faults) as env:
        twin = Vectorized(wrap_env(Twin(make(LINE).spec), managers, faults), 2)
        step = quick(twin.step)
        (_, row), (state, same) = env.init(keys), twin.init(keys)
        for t in range(8):
            for x, y in zip(jax.tree.leaves(row), jax.tree.leaves(same), strict=True):
                np.testing.assert_allclose(np.asarray(x, float), np.asarray(y, float), rtol=1e-5, atol=1e-5)
            action = rng.integers(0, 3, (2, 2)).astype(np.int32), rng.integers(0, 4, (2, 1, 2)).astype(np.int32)
            (_, row), (state, same) = env.step(None, action), step(state, action, keys)
            late = (0, 0, 1, 2, 3, 0, 0, 0)[t]  # two rows late, and anew in each episode
            assert (row.obs[0]["obs"][..., 1] == np.float32(late / 5)).all()


def test_hosted_trains_and_is_judged_under_its_faults() -> None:
    """Blind agents see zeros in training, and evaluation adds its faults to the run's own; bad numbers are mended and counted."""
    runtime = runtime_of(config(LINE, faults=(Dropout(1.0), Extreme(0.2, "nan"))))
    try:
        state = runtime.start()
        seen = np.asarray(state.acting.step.obs[0]["obs"])
        assert np.isfinite(seen).all() and not seen.any()
        state, _ = runtime.compile(state, 2)(state, 2)
        assert runtime.faults(state)[0]["nan_observation"] > 10
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(jax.device_get(state.train)) if np.issubdtype(x.dtype, np.floating))
        plain, lost = (runtime.evaluate(state, 2, faults=f) for f in ((), (ActionLoss(1.0),)))
        x, total = 0.5, 0.0
        for _ in range(5):  # both doing the default, 0
            x = 0.8 * x - 0.25 + 0.125 + 0.1
            total += -x * x + x
        np.testing.assert_allclose(lost.team_return, total, rtol=1e-4)
        assert plain.team_return.shape == (1, 2)
    finally:
        runtime.close()


def test_actors_of_a_fleet_are_told_of_faults() -> None:
    faults = (Noise(0.3), Dropout(1.0))
    said = json.loads(json.dumps(setup_of(config(LINE, faults=faults), Post(0, 0, 0, 0, 2, 7), (), frozenset(), None)))
    rows = EnvStepper.of(said["stepping"], lambda note: None)
    assert rows.envs[0].layers.faults == faults and not rows.envs[0].reset(3).obs[0]["obs"].any()  # type: ignore[attr-defined]
    rows.close()


def test_episodes_without_resets_are_the_same_first_episodes() -> None:
    env = Vectorized(make("proving:pair"), 3)
    both = env, replace(env, resets=False)
    keys = jax.random.split(jax.random.key(0), 3)
    action = jnp.zeros((3, 2), jnp.int32), jnp.zeros((3, 1, 1)), jnp.zeros((3, 1, 2), jnp.int32)

    def run(env: Vectorized) -> Any:
        tick = lambda state, k: env.step(state, action, jax.random.split(k, 3))
        return jax.lax.scan(tick, env.init(keys)[0], jax.random.split(jax.random.key(1), 5))[1]

    a, b = (jax.device_get(x) for x in quick(lambda: [run(e) for e in both])())
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("env", ["proving:additive?rows=3", LINE], ids=["fused", "host"])
def test_the_runs_own_faults_are_there_in_another_environment_too(env: str) -> None:
    """Judged in the very same environment by the one way there is, the very same episodes are played, faults included."""
    runtime = runtime_of(config(env, faults=(ActionLoss(1.0), Noise(1.0))))
    bare = runtime_of(config(env))
    try:
        state = runtime.start()
        here, there, other = (x.evaluate(state, 4) for x in (runtime, runtime.elsewhere(env), bare))
        assert bits(here) == bits(there) != bits(other)
    finally:
        runtime.close()
        bare.close()
