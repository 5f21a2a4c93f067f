"""Every agent is paid the team's reward."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp

from marlstone.core.types import Chunk, Views
from marlstone.credit.contract import Credit

Array = Any


@dataclass(frozen=True)
class Team(Credit):
    """The team's reward, until the team's end: also beyond an agent's own death, since what it did may pay off later."""

    kind: ClassVar[str] = "team"
    splits: ClassVar[bool] = False

    def reward(self, p: Any, views: Views, chunk: Chunk) -> tuple[Array, Array]:
        spread = lambda x: jnp.broadcast_to(x[1:, None], chunk.logp.shape)
        return spread(chunk.step.team_reward), spread(chunk.step.team_discount)
