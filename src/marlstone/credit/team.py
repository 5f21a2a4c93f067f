"""Every agent's reward is the team's."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax.numpy as jnp

from marlstone.core.types import Trajectory, Views
from marlstone.credit.contract import Credit

Array = Any


@dataclass(frozen=True)
class Team(Credit):
    """The team's reward, until the team's end: also beyond an agent's own death, since what it did may bear fruit later.

    `explore`: the share of actions drawn at random while training, half of them the agent's default, for worlds that change: a policy
    that has settled never meets what has become better. Policies are corrected for it by their importance ratios."""

    kind: ClassVar[str] = "team"
    splits: ClassVar[bool] = False
    explore: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        if not 0 <= self.explore < 1:
            raise ValueError(f"{type(self).__name__}.explore is {self.explore}: give a number from 0 to below 1")

    def reward(self, p: Any, views: Views, trajectory: Trajectory) -> tuple[Array, Array]:
        """The team's reward and discount, for every agent."""
        spread = lambda x: jnp.broadcast_to(x[..., 1:, None], trajectory.logp.shape)
        return spread(trajectory.step.team_reward), spread(trajectory.step.team_discount)
