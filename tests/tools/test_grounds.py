"""The grounds in which knowing has a price: their optimum is that of the environment itself, and every decision's loss is exact."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from marlstone.config import load
from marlstone.core.types import Trajectory
from marlstone.envs.make import make
from marlstone.envs.proving.priced_optimum import GUESS, NONE, READ, RIGHT, WAIT
from marlstone.envs.proving.priced_tools import PHASES
from marlstone.evaluation.credit.random_play import quick
from marlstone.evaluation.priced_grounds import PricedJudge, PricedPlay

ROOT = Path(__file__).parents[2]
B = 400


@lru_cache
def ground(name: str) -> tuple[PricedJudge, Any, Any, Any]:
    """Its judge, the environment with tools, and `B` copies of beginning and step."""
    config = load(str(ROOT / "benchmarks" / "tools" / f"{name}.toml"), {})
    env = config.toolbox.over(make(config.env))
    return PricedJudge(config), env, quick(jax.vmap(env.init)), quick(jax.vmap(env.step))


def play(name: str, act: Any, seed: int) -> list[PricedPlay]:
    """`B` episodes; `act(decision so far, step, b, agent)` gives what is said and the choice."""
    judge, _, begin, go = ground(name)
    length = PHASES * judge._ground.rounds
    state, step = begin(jax.random.split(jax.random.key(seed), B))
    steps: list[Any] = [jax.device_get(step)]
    actions: list[Any] = []
    for t in range(length):
        chosen = act(steps, actions, t)
        actions.append(chosen)
        state, step = go(state, (chosen,), jax.random.split(jax.random.key(seed * 1000 + t + 1), B))
        steps.append(jax.device_get(step))
    return judge.plays(trajectory(steps, actions))


def trajectory(steps: list[Any], actions: list[Any]) -> Trajectory:
    step = jax.tree.map(lambda *x: np.stack(x, axis=1), *steps)
    return Trajectory(step, (np.stack(actions, axis=1),), None, None)


def at_random(rng: np.random.Generator, name: str) -> Any:
    """Anything legal, calls seldom."""
    _, env, _, _ = ground(name)
    sizes = env.spec.groups[0].space.sizes

    def act(steps: list[Any], actions: list[Any], t: int) -> np.ndarray:
        legal = steps[-1].legal[0]
        ends = np.cumsum(sizes)
        parts = [legal[..., e - s : e] * rng.random((*legal.shape[:-1], s)) for s, e in zip(sizes, ends, strict=True)]
        return np.stack([p.argmax(-1) for p in parts], axis=-1).astype(np.int32)

    return act


def at_best(name: str) -> Any:
    """What the optimum says, by what has been seen."""
    judge, env, _, _ = ground(name)
    group = env.spec.groups[0]

    def act(steps: list[Any], actions: list[Any], t: int) -> np.ndarray:
        out = np.zeros((B, group.count, *group.space.action_shape), np.int32)
        known = steps[-1].state[:, -2:].argmax(-1)
        length = PHASES * judge._ground.rounds
        blank = [*actions, *[out] * (length - len(actions))]
        rows = [*steps, *[steps[-1]] * (length + 1 - len(steps))]
        for b, so_far in enumerate(judge.plays(trajectory(rows, blank))):
            x, _ = judge.decisions(so_far)[t]
            said, call = min(judge.optimum.best(x))
            agent = judge._turns(length)[t]
            out[b, agent, 0] = 1 + known[b] if said == RIGHT else 0
            out[b, agent, 1] = 1 + call
            assert said in (WAIT, RIGHT), said
        return out

    return act


@pytest.mark.parametrize("name", ["priced_tools", "priced_memory"])
def test_the_best_play_is_worth_the_optimum(name: str) -> None:
    """To within chance, and no decision of it loses anything."""
    judge = ground(name)[0]
    plays = play(name, at_best(name), 1)
    found = judge.verdict(plays)
    objective = np.array([p.reward.sum() - judge.optimum.weight * p.cost.sum() for p in plays])
    assert found["exact"] == 1 and found["regret_share"] == 0
    assert abs(objective.mean() - judge.optimum.value) < 4 * objective.std() / np.sqrt(B)
    everything = {NONE, *range(len(judge.optimum.items))}
    assert {c for p in plays for c in p.call.tolist()} == everything  # is worth its price somewhere


@pytest.mark.parametrize("name", ["priced_tools", "priced_memory"])
def test_losses_add_up_to_what_is_missing(name: str) -> None:
    """For random play too: E[return - weight * cost] = optimum - E[sum of what decisions lost] (the performance difference)."""
    judge = ground(name)[0]
    plays = play(name, at_random(np.random.default_rng(0), name), 2)
    missing = np.array([judge.optimum.value - p.reward.sum() + judge.optimum.weight * p.cost.sum() - judge.regrets(p).sum() for p in plays])
    assert abs(missing.mean()) < 4 * missing.std() / np.sqrt(B)
    found = judge.verdict(plays)
    assert found["exact"] < 0.1 and found["regret_share"] > 0.5 and found["cost"] > 0


def test_guesses_and_late_look_ups_lose() -> None:
    """As they must."""
    optimum = ground("priced_tools")[0].optimum
    x = optimum.begun(6, 1, (1, 2), (0, 0))  # type: ignore[union-attr]
    assert optimum.best(x) == {(WAIT, NONE)} and optimum.regret(x, (GUESS, NONE)) == 1.5
    late = ground("priced_memory")[0].optimum
    from marlstone.envs.proving.priced_optimum import MemoryState

    x = MemoryState(11, 1, False, 0, (0,))
    assert late.best(x) == {(WAIT, NONE)} and late.regret(x, (WAIT, READ)) == pytest.approx(0.5)
