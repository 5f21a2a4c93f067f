"""A game that uses everything the environment protocol has."""

from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp

from marlstone.core.distributions import Box, Discrete, MultiDiscrete
from marlstone.core.types import Array, Group, Leaf, Metric, Spec, Step


@dataclass(frozen=True)
class Pair:
    """Everything the environment protocol has, in five steps: what adapters, batches and losses are tested with.

    - `players`, two Discrete(3): each is rewarded 1 for saying the digit it is shown; one of the two wrong digits is illegal.
      player_1 dies on step 3 (discount 0, then absent).
    - `arm`, a Box(1): rewarded minus its squared distance to a dial in [-0.5, 0.5].
    - `late`, a MultiDiscrete (2, 3) that appears on step 2, rewarded 0.5 for each of its two choices that fits what it is shown.
    - The episode ends on step 5, by termination or truncation on a coin thrown at the start and shown only in `state`.

    The best team return is 5 (player_0) + 3 (player_1) + 0 (arm) + 3 (late) = 11. `swapped` reports the two ends the
    wrong way round, for the test that must then fail. `metrics` has "score", the rewards of the players.
    """

    swapped: bool = False
    STEPS = 5

    @cached_property
    def spec(self) -> Spec:
        """The groups `players`, `arm` and `late`."""
        players = Group("players", ("player_0", "player_1"), {"view": Leaf("vector", (3,))}, Discrete(3))
        arm = Group("arm", ("arm_0",), {"dial": Leaf("vector", (2,))}, Box(1))
        late = Group("late", ("late_0",), {"view": Leaf("vector", (5,))}, MultiDiscrete((2, 3)), default=(0, 0))
        return Spec((players, arm, late), state=5, horizon=self.STEPS, metrics={"score": Metric("up", "sum")})

    def _wanted(self, t: Array) -> tuple[Array, Array, Array]:
        """The right actions at step t: players' digits `[2]`, the arm's dial, late's two choices `[2]`."""
        digits = jnp.stack([t % 3, (t + 1) % 3])
        return digits, jnp.asarray(t, jnp.float32) / self.STEPS - 0.5, jnp.stack([t % 2, (t + 2) % 3])

    def _step(self, t: Array, coin: Array, reward: Array, first: bool = False) -> Step:
        digits, dial, choice = self._wanted(t)
        over = t >= self.STEPS
        ended = over & (coin != self.swapped)
        present = jnp.stack([jnp.ones((), bool), t < 3, jnp.ones((), bool), t >= 2])
        dies = jnp.arange(4) == 1
        shown = jax.nn.one_hot(digits, 3)
        legal = jnp.arange(3) != ((digits + 1) % 3)[:, None]
        late = jnp.concatenate([jax.nn.one_hot(choice[0], 2), jax.nn.one_hot(choice[1], 3)])[None] * present[3]
        return Step(
            obs=({"view": shown * present[:2, None]}, {"dial": jnp.stack([dial, 1.0])[None]}, {"view": late}),
            state=jnp.concatenate([jax.nn.one_hot(t % 3, 3), jnp.stack([t / self.STEPS, coin.astype(jnp.float32)])]),
            reward=reward,
            team_reward=jnp.sum(reward),
            discount=jnp.where(ended | (dies & (t >= 3)), 0.0, 1.0),
            team_discount=jnp.where(ended, 0.0, 1.0),
            first=jnp.asarray(first, bool),
            last=over,
            legal=(legal, None, None),
            present=present,
            deciding=jnp.ones(4, bool),
            metrics={"score": jnp.sum(reward[:2])},
        )

    def init(self, key: Array) -> tuple[tuple[Array, Array], Step]:
        """Clock at 0, and the coin that decides how the episode ends."""
        t, coin = jnp.zeros((), jnp.int32), jax.random.bernoulli(key)
        return (t, coin), self._step(t, coin, jnp.zeros(4, jnp.float32), first=True)

    def step(self, state: tuple[Array, Array], action: tuple[Array, ...], key: Array) -> tuple[tuple[Array, Array], Step]:
        """Rewards of everybody who is present, and the next step's digits."""
        t, coin = state
        digits, dial, choice = self._wanted(t)
        right = (action[0] == digits).astype(jnp.float32) * jnp.stack([jnp.ones((), bool), t < 3])
        turn = -jnp.square(action[1][0] - dial)
        late = 0.5 * (action[2][0] == choice).astype(jnp.float32) * (t >= 2)
        reward = jnp.concatenate([right, turn, jnp.sum(late, keepdims=True)])
        return (t + 1, coin), self._step(t + 1, coin, reward)
