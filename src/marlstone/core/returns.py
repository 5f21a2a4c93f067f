"""The one place where clocks, deaths, resets, truncation and stale data meet: lambda-returns by one backward scan."""

from typing import Any

import jax.numpy as jnp
from jax import lax

Array = Any


def vtrace(
    value: Array, pay: Array, discount: Array, rho: Array, acts: Array, real: Array, gamma: float, lam: float
) -> tuple[Array, Array]:
    """Per-agent V-trace (Espeholt et al. 2018) between an agent's own decisions; with rho = 1, GAE(lambda).

        a_t = r + g d v' - v + g lam d (vs' - v')          vs_t = v + min(rho, 1) a_t

    Shapes, time first: value `[t+1 ...]`; the others broadcast to `[t ...]`. Rows without a decision pass r + g d x
    through, so rewards accumulate until the next decision. At a reset row (`real` False) the trace restarts from v, so
    a truncated episode bootstraps from its final observation and a terminated one has d = 0.
    Returns advantages a and targets vs, `[t ...]`; both are linear in `pay`, and gradients pass.
    """

    def back(after: tuple[Array, Array], row: tuple[Array, ...]) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        (v, r, d, rho, acts, real), (vs1, v1) = row, after
        d = gamma * d
        a = r + d * v1 - v + lam * d * (vs1 - v1)
        vs = v + jnp.minimum(rho, 1) * a
        vs = jnp.where(acts, vs, r + d * vs1)
        return (jnp.where(real, vs, v), jnp.where(real & ~acts, r + d * v1, v)), (a, vs)

    shape = value[:-1].shape
    rows = value[:-1], *(jnp.broadcast_to(x, shape) for x in (pay, discount, rho, acts, real))
    _, out = lax.scan(back, (value[-1], value[-1]), rows, reverse=True, unroll=8)
    return out
