"""Lambda-returns of a batch of trajectories, with every kind of end told apart: what all learners' targets are made of."""

from typing import Any

import jax.numpy as jnp

from marlstone.core.returns import vtrace
from marlstone.core.types import Trajectory

Array = Any


def lambda_returns(
    value: Array, reward: Array, discount: Array, beyond: Array, trajectory: Trajectory, gamma: Any, lam: float, ratio: Any = None
) -> tuple[Array, Array, Array]:
    """Advantages, lambda-returns, and where values are predicted by them, `[b t n]` each.

    Terminations bootstrap nothing, truncations the value of the final observation; nothing flows over a reset, and an agent that is gone
    for good is left out. Gradients pass to `reward`.

    Args: `value [b t+1 n]`; `reward`, `discount [b t n]`, as credit answers them; `beyond [b t n]`: whose reward goes on after its own end
    (`Trajectory.counts`); `gamma`, `lam`: discount and lambda; `ratio [b t n]`: pi / mu, where data are corrected for another policy's
    having acted. Source: GAE (Schulman et al. 2016); with `ratio`, V-trace (Espeholt et al. 2018).
    """
    time = lambda x: jnp.moveaxis(x, 1, 0)
    acts, real = trajectory.acts, trajectory.real[..., None]
    real = real & trajectory.counts(discount, beyond)  # elsewhere it is bootstrapped, as where an episode was truncated
    rho = jnp.ones_like(reward) if ratio is None else jnp.where(acts, ratio, 1.0)
    value, reward, discount, rho, acts, real_ = (time(x) for x in (value, reward, discount, rho, acts, real))
    advantage, target = vtrace(value, reward, discount, rho, acts, real_, gamma, lam)
    return time(advantage), time(target), real
