"""Matrix games in which near-misses of the best joint action are punished (Claus and Boutilier 1998)."""

from dataclasses import dataclass
from functools import cached_property

import jax.numpy as jnp
import numpy as np

from marlstone.core.distributions import Discrete
from marlstone.core.errors import suggest
from marlstone.core.types import Array, Group, Leaf, Spec, Step
from marlstone.envs.names import UnknownEnvironment
from marlstone.envs.proving.ground import pair_contribution, pair_shapley
from marlstone.envs.team_games import team_step

SAFE = {"climbing": 2, "penalty": 1}  # the action that is never punished: the declared default


@dataclass(frozen=True)
class Climbing:
    """Two players, three actions, a reward only the pair earns, in full scale; each player gets half.

        climbing   11 -30   0      penalty   10   0   k
                  -30   7   6                 0   2   0      k = `penalty`, at most 0
                    0   0   5                 k   0  10

    An episode has `rows` steps and terminates. The best team return is 11 `rows` (climbing) or 10 `rows` (penalty, where
    players must agree on one of two best corners); the safe equilibrium earns 5 or 2 a step. The declared default is the
    safe action. `contribution_i` = r(a) - r(a with a_i the default).
    """

    rows: int = 4
    game: str = "climbing"
    penalty: float = -100.0

    def __post_init__(self) -> None:
        if self.game not in SAFE:
            raise UnknownEnvironment(f"proving:climbing has no game {self.game!r}: {suggest(self.game, sorted(SAFE))}")
        if self.penalty > 0 or (self.game == "climbing" and self.penalty != type(self).penalty):
            raise UnknownEnvironment(f"proving:climbing: option 'penalty' is {self.penalty}: give at most 0, with game=penalty")

    @cached_property
    def payoff(self) -> np.ndarray:
        """`[3 3]`: what the pair earns, by player_0's action and player_1's."""
        k = self.penalty
        climbing = [[11.0, -30.0, 0.0], [-30.0, 7.0, 6.0], [0.0, 0.0, 5.0]]
        return np.array(climbing if self.game == "climbing" else [[10.0, 0.0, k], [0.0, 2.0, 0.0], [k, 0.0, 10.0]], np.float32)

    @cached_property
    def spec(self) -> Spec:
        """One group of two players; they see the time."""
        leaves = {"time": Leaf("vector", (2,))}
        group = Group("players", ("player_0", "player_1"), leaves, Discrete(3), default=SAFE[self.game])
        return Spec(
            (group,), state=2, horizon=self.rows, return_bounds=(float(self.payoff.min()) * self.rows, float(self.payoff.max()) * self.rows)
        )

    def _step(self, t: Array, reward: Array, first: bool = False) -> Step:
        view = jnp.stack([t / self.rows, 1.0])
        return team_step(
            ({"time": jnp.stack([view, view])},), view, jnp.stack([reward, reward]) / 2, (None,),
            terminated=t >= self.rows, first=first, team_reward=reward,
        )  # fmt: skip

    def init(self, key: Array) -> tuple[Array, Step]:
        """The clock at 0."""
        t = jnp.zeros((), jnp.int32)
        return t, self._step(t, jnp.zeros((), jnp.float32), first=True)

    def step(self, state: Array, action: tuple[Array, ...], key: Array) -> tuple[Array, Step]:
        """The reward of the joint action."""
        return state + 1, self._step(state + 1, jnp.asarray(self.payoff)[action[0][0], action[0][1]])

    def _value(self, action: tuple[Array, ...]) -> Array:
        """`v [2 2]`: the reward when each player defaults (0) or acts (1)."""
        default = jnp.full(2, SAFE[self.game], action[0].dtype)
        played = jnp.stack([default, action[0]])
        return jnp.asarray(self.payoff)[played[:, None, 0], played[None, :, 1]]

    def contribution(self, state: Array, action: tuple[Array, ...]) -> Array:
        """`[n]`: The reward minus that when player i plays the safe action."""
        return pair_contribution(self._value(action))

    def shapley(self, state: Array, action: tuple[Array, ...]) -> Array:
        """`[n]`: Shares of the reward above that of two safe actions."""
        return pair_shapley(self._value(action))
