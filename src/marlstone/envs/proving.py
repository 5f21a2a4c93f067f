"""`proving:` tiny JAX games with a known best team return: for tests, first steps, and what a learner must be able to do.

climbing   the climbing matrix game; best return 11 a row (Claus and Boutilier 1998)
pair       two Discrete agents beside a Box agent and a late MultiDiscrete one; deaths, masks, both kinds of end
dials      cooperative and continuous; what to turn to is drawn in an image
match      say what was shown one row ago: only a policy with memory solves it
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from marlstone.core.distributions import Box, Discrete, MultiDiscrete
from marlstone.core.types import Array, Group, Leaf, Metric, Spec, Step
from marlstone.envs.names import UnknownEnvironment, settle, suggestion
from marlstone.envs.protocol import Env
from marlstone.envs.rows import team_row


@dataclass(frozen=True)
class Climbing:
    """The climbing game (Claus and Boutilier 1998): two players, three actions, a reward only the pair earns.

    The best joint action (0, 0) pays 11, but erring beside it costs 30. An episode has `rows` rows and terminates; the
    best team return is 11 `rows`; the safe equilibrium (2, 2) earns 5 `rows`. Each player is paid half.
    """

    rows: int = 4
    PAY = np.array([[11.0, -30.0, 0.0], [-30.0, 7.0, 6.0], [0.0, 0.0, 5.0]], np.float32)

    @cached_property
    def spec(self) -> Spec:
        group = Group("players", ("player_0", "player_1"), {"time": Leaf("vector", (2,))}, Discrete(3))
        return Spec((group,), state=2, horizon=self.rows)

    def _row(self, t: Array, pay: Array, first: bool = False) -> Step:
        view = jnp.stack([t / self.rows, 1.0])
        return team_row(
            ({"time": jnp.stack([view, view])},), view, jnp.stack([pay, pay]) / 2, (None,),
            terminated=t >= self.rows, first=first, team_reward=pay,
        )  # fmt: skip

    def init(self, key: Array) -> tuple[Array, Step]:
        t = jnp.zeros((), jnp.int32)
        return t, self._row(t, jnp.zeros((), jnp.float32), first=True)

    def step(self, state: Array, action: tuple[Array, ...], key: Array) -> tuple[Array, Step]:
        return state + 1, self._row(state + 1, jnp.asarray(self.PAY)[action[0][0], action[0][1]])


@dataclass(frozen=True)
class Pair:
    """Everything the row protocol can say, in five rows: what adapters, batches and losses are tested with.

    - `players`, two Discrete(3): each is paid 1 for saying the digit it is shown; one of the two wrong digits is illegal.
      player_1 dies on row 3 (discount 0, then absent).
    - `arm`, a Box(1): paid minus its squared distance to a dial in [-0.5, 0.5].
    - `late`, a MultiDiscrete (2, 3) that appears on row 2, paid 0.5 for each of its two choices that fits what it is shown.
    - The episode ends on row 5, by termination or truncation on a coin thrown at the start and shown only in `state`.

    The best team return is 5 (player_0) + 3 (player_1) + 0 (arm) + 3 (late) = 11. `swapped` reports the two ends the
    wrong way round, for the test that must then fail. `metrics` has "score", the rewards of the players.
    """

    swapped: bool = False
    ROWS = 5

    @cached_property
    def spec(self) -> Spec:
        players = Group("players", ("player_0", "player_1"), {"view": Leaf("vector", (3,))}, Discrete(3))
        arm = Group("arm", ("arm_0",), {"dial": Leaf("vector", (2,))}, Box(1))
        late = Group("late", ("late_0",), {"view": Leaf("vector", (5,))}, MultiDiscrete((2, 3)), default=(0, 0))
        return Spec((players, arm, late), state=5, horizon=self.ROWS, metrics={"score": Metric("up", "sum")})

    def _wanted(self, t: Array) -> tuple[Array, Array, Array]:
        """What each is to say at row t: players' digits `[2]`, the arm's dial, late's two choices `[2]`."""
        digits = jnp.stack([t % 3, (t + 1) % 3])
        return digits, jnp.asarray(t, jnp.float32) / self.ROWS - 0.5, jnp.stack([t % 2, (t + 2) % 3])

    def _row(self, t: Array, coin: Array, reward: Array, first: bool = False) -> Step:
        digits, dial, choice = self._wanted(t)
        over = t >= self.ROWS
        ended = over & (coin != self.swapped)
        present = jnp.stack([jnp.ones((), bool), t < 3, jnp.ones((), bool), t >= 2])
        dies = jnp.arange(4) == 1
        shown = jax.nn.one_hot(digits, 3)
        legal = jnp.arange(3) != ((digits + 1) % 3)[:, None]
        late = jnp.concatenate([jax.nn.one_hot(choice[0], 2), jax.nn.one_hot(choice[1], 3)])[None] * present[3]
        return Step(
            obs=({"view": shown * present[:2, None]}, {"dial": jnp.stack([dial, 1.0])[None]}, {"view": late}),
            state=jnp.concatenate([jax.nn.one_hot(t % 3, 3), jnp.stack([t / self.ROWS, coin.astype(jnp.float32)])]),
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
        t, coin = jnp.zeros((), jnp.int32), jax.random.bernoulli(key)
        return (t, coin), self._row(t, coin, jnp.zeros(4, jnp.float32), first=True)

    def step(self, state: tuple[Array, Array], action: tuple[Array, ...], key: Array) -> tuple[tuple[Array, Array], Step]:
        t, coin = state
        digits, dial, choice = self._wanted(t)
        right = (action[0] == digits).astype(jnp.float32) * jnp.stack([jnp.ones((), bool), t < 3])
        turn = -jnp.square(action[1][0] - dial)
        late = 0.5 * (action[2][0] == choice).astype(jnp.float32) * (t >= 2)
        reward = jnp.concatenate([right, turn, jnp.sum(late, keepdims=True)])
        return (t + 1, coin), self._row(t + 1, coin, reward)


@dataclass(frozen=True)
class Dials:
    """Two agents turn dials (Box(1), in (-1, 1)) until they match a target; agent 0 sees its own in an image.

    Each sees an 8x8x1 image with one bright column (uint8), whose place is its target in [-0.875, 0.875], beside a vector
    leaf with the row's time. The team earns 1 minus the mean squared error of both dials, shared equally; an episode
    has `rows` rows and is truncated. The best team return is `rows`; random Gaussian dials earn about a third of it.
    """

    rows: int = 4

    @cached_property
    def spec(self) -> Spec:
        leaves = {"picture": Leaf("image", (8, 8, 1), "uint8"), "time": Leaf("vector", (2,))}
        return Spec((Group("dials", ("dial_0", "dial_1"), leaves, Box(1)),), state=4, horizon=self.rows)

    @staticmethod
    def _target(column: Array) -> Array:
        return (column.astype(jnp.float32) - 3.5) / 4

    def _row(self, t: Array, column: Array, pay: Array, first: bool = False) -> Step:
        bright = (jnp.arange(8) == column[:, None]) * jnp.uint8(255)
        picture = jnp.broadcast_to(bright[:, None, :, None], (2, 8, 8, 1)).astype(jnp.uint8)
        time = jnp.stack([t / self.rows, 1.0])
        obs = {"picture": picture, "time": jnp.stack([time, time])}
        state = jnp.concatenate([self._target(column), time])
        return team_row((obs,), state, jnp.stack([pay, pay]) / 2, (None,), truncated=t >= self.rows, first=first, team_reward=pay)

    def init(self, key: Array) -> tuple[tuple[Array, Array], Step]:
        state = (jnp.zeros((), jnp.int32), jax.random.randint(key, (2,), 0, 8))
        return state, self._row(*state, jnp.zeros((), jnp.float32), first=True)

    def step(self, state: tuple[Array, Array], action: tuple[Array, ...], key: Array) -> tuple[tuple[Array, Array], Step]:
        t, column = state
        pay = 1 - jnp.mean(jnp.square(action[0][:, 0] - self._target(column)))
        state = (t + 1, jax.random.randint(key, (2,), 0, 8))
        return state, self._row(*state, pay)


@dataclass(frozen=True)
class Match:
    """Recall: two agents each see one of two symbols, drawn anew every row, and are paid for saying the one of the row before.

    Each correct answer earns its agent 1 / (2 (rows - 1)); the first row's answer earns nothing. The best team return is
    1, for a policy with one row of memory; without memory no policy expects more than 0.5. Truncated after `rows` rows.
    """

    rows: int = 8

    @cached_property
    def spec(self) -> Spec:
        group = Group("speakers", ("speaker_0", "speaker_1"), {"symbol": Leaf("vector", (2,))}, Discrete(2))
        return Spec((group,), state=4, horizon=self.rows)

    def _row(self, t: Array, shown: Array, reward: Array, first: bool = False) -> Step:
        symbol = jax.nn.one_hot(shown, 2)
        return team_row(({"symbol": symbol},), symbol.reshape(-1), reward, (None,), truncated=t >= self.rows, first=first)

    def init(self, key: Array) -> tuple[tuple[Array, Array, Array], Step]:
        shown = jax.random.randint(key, (2,), 0, 2)
        t = jnp.zeros((), jnp.int32)
        return (t, shown, shown), self._row(t, shown, jnp.zeros(2, jnp.float32), first=True)

    def step(self, state: tuple[Array, Array, Array], action: tuple[Array, ...], key: Array) -> tuple[tuple[Array, Array, Array], Step]:
        t, shown, before = state
        right = (action[0] == before) & (t > 0)
        fresh = jax.random.randint(key, (2,), 0, 2)
        reward = right.astype(jnp.float32) / (2 * max(self.rows - 1, 1))
        return (t + 1, fresh, shown), self._row(t + 1, fresh, reward)


NAMES: dict[str, tuple[Callable[..., Env], dict[str, Any]]] = {
    "climbing": (Climbing, {"rows": 4}),
    "pair": (Pair, {"swapped": False}),
    "dials": (Dials, {"rows": 4}),
    "match": (Match, {"rows": 8}),
}


def make(name: str, options: Mapping[str, Any]) -> Env:
    """The game `proving:name`; raises `UnknownEnvironment` with a suggestion."""
    if name not in NAMES:
        raise UnknownEnvironment(f"proving has no game {name!r}: {suggestion(name, NAMES)}")
    build, defaults = NAMES[name]
    chosen = settle(f"proving:{name}", options, defaults)
    if chosen.get("rows", 2) < 2:
        raise UnknownEnvironment(f"proving:{name}: option 'rows' is {chosen['rows']}: give at least 2")
    return build(**chosen)
