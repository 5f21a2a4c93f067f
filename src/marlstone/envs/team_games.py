"""What JAX team games are written with: steps in which everybody is present, views of the others, uniform choices."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from marlstone.core.types import Array, Step


def team_step(
    obs: tuple[dict[str, Array], ...],
    state: Array,
    reward: Array,
    legal: tuple[Array | None, ...],
    *,
    terminated: Any = False,
    truncated: Any = False,
    first: bool = False,
    team_reward: Array | None = None,
    metrics: Mapping[str, Array] | None = None,
) -> Step:
    """A step of one environment whose agents live and die together.

    Shapes: `reward` `[n]`, `terminated` and `truncated` scalars. Termination wins over truncation: discounts are 0
    exactly when `terminated`. `team_reward` defaults to the sum over agents.
    """
    everyone = jnp.ones(reward.shape, bool)
    going = 1.0 - jnp.asarray(terminated, jnp.float32)
    return Step(
        obs=obs,
        state=state,
        reward=reward,
        team_reward=jnp.sum(reward) if team_reward is None else team_reward,
        discount=jnp.broadcast_to(going, reward.shape),
        team_discount=going,
        first=jnp.asarray(first, bool),
        last=jnp.asarray(terminated, bool) | jnp.asarray(truncated, bool),
        legal=legal,
        present=everyone,
        deciding=everyone,
        metrics=dict(metrics or {}),
    )


def others(x: Array) -> Array:
    """`[n ...]` -> `[n n-1 ...]`: what belongs to everybody else, in order. A select between two shifts: no gather."""
    n = x.shape[0]
    before = np.arange(n - 1) < np.arange(n)[:, None]
    return jnp.where(before.reshape(n, n - 1, *(1,) * (x.ndim - 1)), x[None, :-1], x[None, 1:])


def below(limit: Any, uniform: Array) -> Array:
    """Integers 0..limit-1 from numbers in [0, 1); exact to 2^-23, which rounding could otherwise push to `limit`."""
    return jnp.minimum((uniform * limit).astype(jnp.int32), limit - 1)


def pick(free: Array, uniform: Array) -> Array:
    """The index of a free cell, each with the same chance: the k-th free one, k from `uniform` in [0, 1).

    In two levels of about sqrt(m) (which block, then which cell of it): short running sums written as masked sums,
    which compile into one loop where a `cumsum` over m cells does not.
    """
    side = math.isqrt(max(free.shape[0] - 1, 0)) + 1
    blocks = jnp.pad(free, (0, side * side - free.shape[0])).reshape(side, side)
    count = jnp.sum(blocks, axis=1, dtype=jnp.int32)
    upto = _running(count)
    rank = below(upto[-1], uniform)
    block = jnp.sum((upto <= rank).astype(jnp.int32))
    chosen = np.arange(side) == block
    rank = rank - jnp.sum(jnp.where(chosen, upto - count, 0))
    inside = jnp.any(blocks & chosen[:, None], axis=0)
    index = block * side + jnp.sum((_running(inside.astype(jnp.int32)) <= rank).astype(jnp.int32))
    return jax.lax.optimization_barrier(index)  # else the compiler computes chained picks anew for each reader


def _running(x: Array) -> Array:
    """Inclusive running sums of a short `[k]`."""
    return jnp.sum(jnp.where(np.tri(x.shape[0], dtype=bool), x, 0), axis=1)


def distinct(uniform: Array, size: int) -> Array:
    """`k` different integers below `size`, every ordered choice equally likely, from `k` numbers in [0, 1)."""
    chosen: list[Array] = []
    ascending: list[Array] = []
    for i in range(uniform.shape[0]):
        value = below(size - i, uniform[i])
        for taken in ascending:
            value = value + (value >= taken)
        chosen.append(value)
        carried, merged = value, []
        for other in ascending:
            merged.append(jnp.minimum(other, carried))
            carried = jnp.maximum(other, carried)
        ascending = [*merged, carried]
    return jnp.stack(chosen)
