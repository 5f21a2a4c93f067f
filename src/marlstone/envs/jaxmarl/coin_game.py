"""The coin game (Lerer and Peysakhovich 2017): taking the other's coin costs it two."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp

from marlstone.core.types import Array, Metric
from marlstone.envs.jaxmarl.game import Game, Turn

STAY = 4


@dataclass(frozen=True)
class CoinGame(Game):
    """A social dilemma: everybody has an own reward, and the team's is their sum. It ends after `num_inner_steps` x `num_outer_steps`.

    `own_coins` and `taken_coins` count the coins picked up by the agent of their color and by the other; JaxMARL pays none for those of
    an inner episode's last step, which are counted.
    """

    names: ClassVar[tuple[str, ...]] = ("coin_game",)
    metrics: ClassVar[dict[str, Metric]] = {"own_coins": Metric("up", "sum"), "taken_coins": Metric("down", "sum")}

    def idle(self, name: str) -> int:
        """To stay."""
        return STAY

    def horizon(self, env: Any) -> int | None:
        """All episodes of a trial."""
        return int(env.num_inner_steps * env.num_outer_steps)

    def measure(self, env: Any, turn: Turn) -> dict[str, Array]:
        """What JaxMARL's counters rose by."""
        a, b = turn.before, turn.after
        rise = lambda *names: jnp.sum(sum(getattr(b, k) - getattr(a, k) for k in names)).astype(jnp.float32)
        return {"own_coins": rise("red_coop", "blue_coop"), "taken_coins": rise("red_defect", "blue_defect")}
