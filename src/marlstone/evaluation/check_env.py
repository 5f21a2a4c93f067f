"""What an environment is, before anything is trained in it: who sees and does what, how fast it steps, and what goes wrong in random
play."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np

from marlstone.core.distributions import Box, Discrete, MultiDiscrete
from marlstone.core.types import Group, Spec, Step
from marlstone.envs.guards import Guards
from marlstone.envs.make import is_jax, make
from marlstone.evaluation.select import BUDGET, SEEDS
from marlstone.evaluation.select.question import DEFAULTS
from marlstone.rollout.fault_log import FaultLog

FEW = 5  # first steps are left out of the speed: imports, caches, compiling
BESIDE, LENGTH = 32, 100  # environments written in JAX that are stepped together, and rows at once


def check_env(name: str, steps: int, seed: int = 0) -> dict[str, Any]:
    """Play `steps` joint steps of random legal actions in one environment.

    Returns: `kind`; `groups` (name, agents, observation leaves, action space, share of actions that were legal); `state`, the global
    state's length; `horizon`; `episodes` ended, their mean `episode_length` and `random_return`; `true_metrics` per episode; `faults` by
    name; `steps_per_second` of one environment on one core; `hours` that one training seed of 1e6 steps, and `select`'s default, would take
    by that speed alone on `cores`. Raises `UserError` where the environment cannot be built, or breaks its interface in its first step.
    """
    rng, log = np.random.default_rng(seed), FaultLog()
    with _stepped(name, log) as (env, spec, counts, advance):
        row, began, played = env, time.perf_counter(), 0
        length, total, metrics = 0, 0.0, dict.fromkeys(spec.metrics, 0.0)
        lengths: list[int] = []
        returns: list[float] = []
        sums: list[dict[str, float]] = []
        legal = [np.zeros(2) for _ in spec.groups]
        for t in range(steps + FEW):
            if t == FEW:
                began, played = time.perf_counter(), 0
            for g, mask in enumerate(row.legal):
                if mask is not None:
                    legal[g] += [mask.sum(), mask.size]
            row = advance(_random(spec, row, rng))
            if row.first[0]:  # a reset: no step of anybody
                length, total, metrics = 0, 0.0, dict.fromkeys(spec.metrics, 0.0)
                continue
            played, length, total = played + 1, length + 1, total + float(row.team_reward[0])
            for k, m in spec.metrics.items():
                value = float(row.metrics[k][0])
                metrics[k] = value if m.reduce == "last" else metrics[k] + value
            if row.last[0]:
                lengths, returns = [*lengths, length], [*returns, total]
                sums.append({k: v / length if spec.metrics[k].reduce == "mean" else v for k, v in metrics.items()})
        speed, beside = played / (time.perf_counter() - began), 1
        faults = {k: n for k, n in counts().items() if n}
    if is_jax(name):
        speed, beside = _compiled_speed(name), BESIDE
    from marlstone.core.machine import cores

    mean = lambda values: float(np.mean(values)) if values else None
    lanes = len(cores())
    hours = float(BUDGET) / (speed * lanes) / 3600
    return {
        "env": name,
        "kind": "jax" if is_jax(name) else "python",
        "agents": spec.n,
        "groups": [_described(g, seen) for g, seen in zip(spec.groups, legal, strict=True)],
        "state": spec.state,
        "horizon": spec.horizon,
        "steps": steps,
        "episodes": len(lengths),
        "episode_length": mean(lengths),
        "random_return": mean(returns),
        "true_metrics": {k: mean([x[k] for x in sums]) for k in spec.metrics},
        "faults": faults,
        "environments": beside,
        "steps_per_second": speed,
        "cores": lanes,
        "hours": {"train": hours, "select": len(DEFAULTS) * SEEDS * hours},
    }


@contextmanager
def _stepped(name: str, log: FaultLog) -> Iterator[tuple[Step, Spec, Any, Any]]:
    """The first row of one environment, `[1 ...]` in NumPy; its spec; its counts of faults; and what makes the next row."""
    if not is_jax(name):
        from marlstone.rollout.worker_pool import Workers

        with Workers(name, 1, guards=Guards(most_bad=1.0), num_workers=1, log=log) as one:
            import jax

            _, row = one.init(jax.random.split(jax.random.key(0), 1))
            yield row, one.spec, lambda: one.counts, lambda action: one.step(None, action)[1]
        return
    import jax

    from marlstone.envs.vectorized import Vectorized

    many = Vectorized(cast(Any, make(name)), 1)
    state, row = many.init(jax.random.split(jax.random.key(0), 1))
    step = jax.jit(many.step)
    keys = iter(range(1, 2**31))

    def advance(action: Any) -> Step:
        nonlocal state
        state, after = step(state, action, jax.random.split(jax.random.key(next(keys)), 1))
        found: Step = jax.device_get(after)
        return found

    yield jax.device_get(row), many.spec, lambda: {k: int(n) for k, n in state.faults.items()}, advance


def _compiled_speed(name: str) -> float:
    """Joint steps per second of `BESIDE` environments written in JAX, stepped together on one core, random legal actions."""
    from marlstone.algorithm import Algorithm
    from marlstone.architectures import Decentralized
    from marlstone.credit import Individual
    from marlstone.envs.vectorized import Vectorized
    from marlstone.learners import PolicyGradient
    from marlstone.rollout.placement import SeedPlacement
    from marlstone.training.limit import random_rate

    many = Vectorized(cast(Any, make(name)), BESIDE)
    return random_rate(many, Algorithm(many.spec, Decentralized(), Individual(), PolicyGradient()), LENGTH, SeedPlacement(1))


def _random(spec: Spec, row: Step, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Random legal actions `[1 n_g ...]`, as the environment takes them."""
    out = []
    for g, legal in zip(spec.groups, row.legal, strict=True):
        noise = g.space.noise(rng, (1, g.count))
        out.append(np.asarray(g.space.emit(g.space.sample(np.zeros((1, g.count, g.space.head), np.float32), legal, noise))))
    return tuple(out)


def _described(g: Group, legal: np.ndarray) -> dict[str, Any]:
    leaf = lambda name: f"{g.observation[name].kind} {'x'.join(map(str, g.observation[name].shape))}"
    return {
        "name": g.name,
        "agents": list(g.agents),
        "observation": {k: leaf(k) for k in g.observation},
        "action": _action(g),
        "legal_share": float(legal[0] / legal[1]) if legal[1] else None,
    }


def _action(g: Group) -> str:
    """The action space in words."""
    if isinstance(g.space, Discrete):
        return f"one of {g.space.head}"
    if isinstance(g.space, MultiDiscrete):
        return " and ".join(f"one of {n}" for n in g.space.sizes)
    return f"{g.space.size} numbers" if isinstance(g.space, Box) else str(g.space)
