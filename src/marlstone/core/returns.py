"""The one place where clocks, deaths, resets, truncation and stale data meet: lambda-returns by one backward scan."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
from jax import Array, lax

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


def vtrace(
    value: Float[Array, "t+1 ..."],
    reward: Float[Array, "t ..."],
    discount: Float[Array, "t ..."],
    rho: Float[Array, "t ..."],
    acts: Bool[Array, "t ..."],
    real: Bool[Array, "t ..."],
    gamma: float,
    lam: float,
) -> tuple[Float[Array, "t ..."], Float[Array, "t ..."]]:
    """Per-agent V-trace between an agent's own decisions; with rho = 1, GAE(lambda).

        a_t = r + g d v' - v + g lam d (vs' - v')          vs_t = v + min(rho, 1) a_t

    Steps without a decision pass r + g d x through, so rewards accumulate until the next decision. At a reset step (`real` False)
    the trace restarts from v, so a truncated episode bootstraps from its final observation and a terminated one has d = 0.

    Args:
      value: values of the observations, one more than there are actions.
      reward: of each action; this and the following broadcast to `[t ...]`.
      discount: 0 where the action ended what is bootstrapped, else 1; `gamma` is applied here.
      rho: importance ratios of the current policy over the acting one; values are corrected with min(rho, 1).
      acts: where the agent made a decision.
      real: False at reset steps, whose action was ignored.
      gamma: discount per joint step.
      lam: lambda of the lambda-return; 1 is Monte Carlo, 0 one step.

    Returns:
      Advantages a and value targets vs. Both are linear in `reward`, and gradients pass.

    Source: Espeholt et al. 2018 (V-trace); Schulman et al. 2016 (GAE).
    """

    def back(after: tuple[Array, Array], step: tuple[Array, ...]) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        (v, r, d, rho, acts, real), (vs1, v1) = step, after
        d = gamma * d
        a = r + d * v1 - v + lam * d * (vs1 - v1)
        vs = v + jnp.minimum(rho, 1) * a
        vs = jnp.where(acts, vs, r + d * vs1)
        return (jnp.where(real, vs, v), jnp.where(real & ~acts, r + d * v1, v)), (a, vs)

    shape = value[:-1].shape
    steps = value[:-1], *(jnp.broadcast_to(x, shape) for x in (reward, discount, rho, acts, real))
    _, out = lax.scan(back, (value[-1], value[-1]), steps, reverse=True, unroll=8)
    return out
