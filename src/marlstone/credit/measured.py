"""Credit learned from what was measured: on a share of the steps the counterfactual is played, and a critic learns what came of it.

    A_i = q(s, a) - sum_a' pi_i(a' | o_i) q(s, (a_-i, a'))                                as `counterfactual`
    min (r + g v(s') - q(s, a))^2 + c (q(s, a) - q(s, (a_-i, default_i)) - w_i)^2         w_i: measured (`rollout.counterfactuals`)

The first loss knows only actions that were taken, and blames every agent for what the others' did at the time; the second is told what one
agent's action changed. What the method claims, q(s, a) - q(s, (a_-i, default_i)), is what it was taught.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp

from marlstone.core.types import Trajectory, Views
from marlstone.credit.contract import Measuring
from marlstone.credit.counterfactual import Counterfactual

Array = Any


@dataclass(frozen=True)
class Measured(Counterfactual):
    """`share`: of a rollout's steps after which each environment is played on once more, with one agent's default in place of its action;
    `window`: for how many steps, after which the critic's value stands for the rest; `weight`: c. The steps played count as any others.

    Source: paired by common random numbers (Glasserman & Yao 1992); bootstrapped as n-step returns are.
    """

    kind: ClassVar[str] = "measured"
    share: float = 0.03
    window: int = 16
    weight: float = 1.0

    needs: ClassVar[frozenset[str]] = Counterfactual.needs | {"q_default", "gap_scale"}

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.share <= 1 or self.window < 1 or self.weight <= 0:
            raise ValueError(
                f"Measured.share is {self.share}, window {self.window}, weight {self.weight}: give a share above 0 and up to 1, at least "
                "one step, and a weight above 0"
            )

    @property
    def measures(self) -> Measuring:
        """How often, and how far."""
        return Measuring(self.share, self.window)

    def loss(self, p: Any, views: Views, trajectory: Trajectory) -> Array:
        """How far what is claimed is from what was measured, `[t]`: squared, in units of the action values' spread, averaged over what was
        measured in this environment's rollout. 0 where nothing was."""
        if (measured := trajectory.measured) is None:
            return jnp.zeros(trajectory.logp.shape[0])
        error = (views.q_chosen - views.q_default - measured.worth) / views.gap_scale
        each = jnp.where(measured.known, error, 0) ** 2
        return self.weight * each.sum(-1) * trajectory.real.sum() / jnp.maximum(measured.known.sum(), 1)
