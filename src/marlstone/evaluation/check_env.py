"""What an environment is, before anything is trained in it: who sees and does what, how fast it steps, and what goes wrong in random
play."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np

from marlstone.core.distributions import ActionSpace, Box, Composite, Discrete, MultiDiscrete
from marlstone.core.records import replace
from marlstone.core.types import Group, Spec, Step
from marlstone.envs.guards import Guards
from marlstone.envs.make import is_jax, make
from marlstone.envs.protocol import HostEnv
from marlstone.evaluation.select import BUDGET, SEEDS
from marlstone.evaluation.select.question import DEFAULTS
from marlstone.fleet.actor import Tallies
from marlstone.rollout.fault_log import FaultLog

FEW = 5  # first steps are left out of the speed: imports, caches, compiling
BESIDE, LENGTH = 32, 100  # environments written in JAX that are stepped together, and steps at once


def check_env(name: str, steps: int, seed: int = 0) -> dict[str, Any]:
    """Play `steps` joint steps of random legal actions in one environment.

    Returns: `kind`; `groups` (name, agents, observation leaves, action space, share of actions that were legal); `state`, the global
    state's length; `horizon`; `episodes` ended, their mean `episode_length` and `random_return`; `true_metrics` per episode;
    `default_actions`, the agents whose default is declared and another than the first option or a Box's middle; `faults` by name;
    `steps_per_second` of one environment on one core; `hours` that one training seed of 1e6 steps, and `select`'s default, would take by
    that speed alone on `cores`. Raises `UserError` where the environment cannot be built, or breaks its interface in its first step.
    """
    rng, log = np.random.default_rng(seed), FaultLog()
    with _stepped(name, log) as (env, spec, counts, advance):
        row, began, played, tallies = env, time.perf_counter(), 0, Tallies(1, spec)
        legal = [np.zeros(2) for _ in spec.groups]
        for t in range(steps + FEW):
            if t == FEW:
                began, played = time.perf_counter(), 0
            for g, mask in enumerate(row.legal):
                if mask is not None:
                    space = spec.groups[g].space
                    mask = mask[..., space.chosen] if isinstance(space, Composite) else mask
                    legal[g] += [mask.sum(), mask.size]
            row = advance(_random(spec, row, rng))
            tallies.add(row)
            played += not row.first[0]  # a reset is no step of anybody
        speed, beside = played / (time.perf_counter() - began), 1
        faults = {k: n for k, n in counts().items() if n}
    if is_jax(name):
        speed, beside = _compiled_speed(name), BESIDE
    from marlstone.core.machine import cores

    sums = tallies.take()
    mean = lambda total: total / sums["episodes"] if sums["episodes"] else None
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
        "episodes": sums["episodes"],
        "episode_length": mean(sums["length"]),
        "random_return": mean(sums["team_return"]),
        "true_metrics": {k: mean(total) for k, total in sums["metrics"].items()},
        "default_actions": [a for g in spec.groups for a, x in zip(g.agents, g.recorded_defaults, strict=True) if x.any()],
        "faults": faults,
        "environments": beside,
        "steps_per_second": speed,
        "cores": lanes,
        "hours": {"train": hours, "select": len(DEFAULTS) * SEEDS * hours},
    }


@contextmanager
def _stepped(name: str, log: FaultLog) -> Iterator[tuple[Step, Spec, Any, Any]]:
    """The first step of one environment, `[1 ...]` in NumPy; its spec; its counts of faults; and what makes the next step."""
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


def random_play_speed(name: str, seconds: float = 1.0) -> float:
    """Joint steps per second of random legal play in the environment alone, on one core. Takes about `seconds`, and what building and
    compiling take. Raises `UserError` where the environment cannot be built."""
    if is_jax(name):
        return _compiled_speed(name)
    env, rng, played = cast(HostEnv, make(name)), np.random.default_rng(0), 0
    try:
        row, began = env.reset(0), time.perf_counter()
        while (spent := time.perf_counter() - began) < seconds:
            batch = replace(row, legal=tuple(None if x is None else np.asarray(x)[None] for x in row.legal))
            row = env.reset(played) if row.last else env.step(tuple(a[0] for a in _random(env.spec, batch, rng)))
            played += 1
    finally:
        env.close()
    return played / spent


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
        "action": _action(g.space),
        "legal_share": float(legal[0] / legal[1]) if legal[1] else None,
    }


def _action(space: ActionSpace) -> str:
    """The action space in words."""
    if isinstance(space, Discrete):
        return f"one of {space.head}"
    if isinstance(space, MultiDiscrete):
        return " and ".join(f"one of {n}" for n in space.sizes)
    if isinstance(space, Composite):
        return "; ".join(f"{name}: {_action(part)}" for name, part in zip(space.names, space.parts, strict=True))
    return f"{space.size} numbers" if isinstance(space, Box) else str(space)
