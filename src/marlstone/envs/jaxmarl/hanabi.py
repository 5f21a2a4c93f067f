"""Hanabi (Bard et al. 2020): players in turn, each seeing everybody's cards but its own."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp

from marlstone.core.types import Array, Metric
from marlstone.envs.jaxmarl.game import Game, Turn


@dataclass(frozen=True)
class Hanabi(Game):
    """Only the player whose turn it is decides; the others' one legal action is to pass. It always ends by its rules, never by a limit.

    The team's reward is the change of the score: 1 for a card that fits, and all that was earned is lost with the last life. `score` is
    the figure that the field reports: the sum of the fireworks, 0 where all lives were lost, at most 25.
    """

    names: ClassVar[tuple[str, ...]] = ("hanabi",)
    metrics: ClassVar[dict[str, Metric]] = {"score": Metric("up", "last")}
    shared: ClassVar[bool] = True

    def terminated(self, env: Any, turn: Turn) -> Array:
        """Always."""
        return jnp.ones((), bool)

    def deciding(self, env: Any, state: Any) -> Array | None:
        """Whose turn it is; `seat_order[s]` is the player in seat s."""
        seat = jnp.argmax(state.cur_player_idx)
        return jnp.arange(env.num_agents) == state.seat_order[seat]

    def measure(self, env: Any, turn: Turn) -> dict[str, Array]:
        """The score so far."""
        return {"score": turn.after.score.astype(jnp.float32)}
