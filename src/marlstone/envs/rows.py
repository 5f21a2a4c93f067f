"""What JAX team games are written from: rows in which everybody is present, views of the others, uniform choices."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from marlstone.core.types import Array, Step


def team_row(
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
    """A row of one environment whose agents live and die together.

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
    """The index of a free cell, each with the same chance: the k-th free one, k from `uniform` in [0, 1)."""
    rank = jnp.cumsum(free.astype(jnp.int32))
    return jnp.sum((rank <= below(rank[-1], uniform)).astype(jnp.int32))
