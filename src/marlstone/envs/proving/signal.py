"""One sees, the other acts: how many bits a message needs, and what it is worth, are known in closed form."""

import heapq
from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from marlstone.core.distributions import Discrete
from marlstone.core.records import record
from marlstone.core.types import Array, Group, Leaf, Metric, Spec, Step
from marlstone.envs.proving.symbols import WRONG, worth
from marlstone.envs.team_games import team_step

CHANCE = (0.45, 0.25, 0.2, 0.1)  # of the symbols shown, most likely first
ROLES = ("scout", "worker")


@record
class SignalState:
    """Step number `t`, the symbol shown to the scout now, and the one shown a step `before`."""

    t: Array
    shown: Array
    before: Array


@dataclass(frozen=True)
class Signal:
    """A scout is shown one of four symbols, a worker who sees none of it earns by naming it one step later.

    Each step a symbol is drawn anew, with chances p = (.45, .25, .2, .1). The worker does nothing (0, the default) or names symbol 0..3 (1
    to 4); the scout can only do nothing. For the symbol that was shown one step before,

        team_reward = 1 / (rows - 1) if the worker names it,   -1/4 of that if it names another,   0 for nothing and on the first step

    each agent rewarded half of it. The scout observes the symbol, both their role. An episode terminates after `rows` steps; the last one's
    symbol is of no use, so rows - 1 messages are.

    In closed form (properties):
      best return                      1, with a message a step          `best_return`
      best return without messages     p_0 - (1 - p_0) / 4 = .3125       `best_silent_return`: always name the likeliest symbol
      least bits a message             H(p) = 1.815                      `entropy`; a prefix code needs 1.85 on average (`huffman`)
      a message's expected worth       (1 - .3125) / (rows - 1)          `message_worth`, under a worker that uses it best
      an action's worth                1 / (rows - 1)                    `action_worth`, under a scout that tells the symbol

    Where silence costs nothing it tells something, too: a scout that is silent for the likeliest symbol, and says 0, 1 or 00 for the
    others, spends .65 bits a step in .55 messages. H(p) bounds the coded length of a message where there is one in every step.

    `contribution_i` of an action: the worker's c = worth of what it names; the scout's 0, and so are Shapley values. `told(state)` is
    what the message of this very step is worth.
    """

    rows: int = 16

    @property
    def entropy(self) -> float:
        """Bits of a shown symbol: the least that a message a step needs on average."""
        return float(-np.sum(np.array(CHANCE) * np.log2(CHANCE)))

    @cached_property
    def huffman(self) -> float:
        """Mean bits of the best prefix code of one symbol at a time."""
        heap, total = sorted(CHANCE), 0.0
        while len(heap) > 1:
            both = heapq.heappop(heap) + heapq.heappop(heap)
            total += both
            heapq.heappush(heap, both)
        return total

    @property
    def best_return(self) -> float:
        """The best return with messages."""
        return 1.0

    @property
    def best_silent_return(self) -> float:
        """The best expected return without any message."""
        return max(0.0, max(CHANCE) - WRONG * (1 - max(CHANCE)))

    @property
    def message_worth(self) -> float:
        """What one of the scout's messages is worth to the team in expectation, over the best that a worker can do without it."""
        return (self.best_return - self.best_silent_return) / (self.rows - 1)

    @property
    def action_worth(self) -> float:
        """What one of the worker's actions is worth, over doing nothing, when it was told the symbol."""
        return self.best_return / (self.rows - 1)

    @cached_property
    def spec(self) -> Spec:
        """One group of a scout and a worker, a type each."""
        leaves = {"symbol": Leaf("vector", (len(CHANCE),)), "role": Leaf("vector", (len(ROLES),))}
        group = Group("team", ROLES, leaves, Discrete(1 + len(CHANCE)), ROLES)
        metrics = {"named": Metric("up", "sum")}
        return Spec((group,), state=2 * len(CHANCE) + 1, horizon=self.rows, metrics=metrics, return_bounds=(-WRONG, 1.0))

    def _draw(self, key: Array) -> Array:
        return jnp.sum(jax.random.uniform(key) >= np.cumsum(CHANCE)[:-1].astype(np.float32), dtype=jnp.int32)

    def _step(self, state: SignalState, reward: Array, first: bool = False) -> Step:
        shown = jax.nn.one_hot(state.shown, len(CHANCE))
        before = jax.nn.one_hot(state.before, len(CHANCE)) * (state.t > 0)
        scout = np.array([[True], [False]])
        legal = ~scout | (np.arange(1 + len(CHANCE)) == 0)
        return team_step(
            ({"symbol": shown * scout, "role": jnp.eye(len(ROLES))},),
            jnp.concatenate([shown, before, jnp.stack([state.t / self.rows])]),
            jnp.stack([reward, reward]) / 2,
            (jnp.asarray(legal),),
            terminated=state.t >= self.rows, first=first, team_reward=reward,
            metrics={"named": (reward > 0) / (self.rows - 1)},
        )  # fmt: skip

    def init(self, key: Array) -> tuple[SignalState, Step]:
        """The first symbol is drawn; there is nothing to name yet."""
        shown = self._draw(key)
        state = SignalState(jnp.zeros((), jnp.int32), shown, shown)
        return state, self._step(state, jnp.zeros((), jnp.float32), first=True)

    def step(self, state: SignalState, action: tuple[Array, ...], key: Array) -> tuple[SignalState, Step]:
        """The worker's name for the symbol of the step before is judged; a new symbol is drawn."""
        reward = self.contribution(state, action)[1]
        state = SignalState(state.t + 1, self._draw(key), state.shown)
        return state, self._step(state, reward)

    def contribution(self, state: SignalState, action: tuple[Array, ...]) -> Array:
        """`[n]`: 0 for the scout, whose action does nothing, and the whole reward for the worker."""
        c = worth(action[0][1], state.before, 1 / (self.rows - 1)) * (state.t > 0)
        return jnp.stack([jnp.zeros_like(c), c])

    def shapley(self, state: SignalState, action: tuple[Array, ...]) -> Array:
        """`[n]`: As `contribution`."""
        return self.contribution(state, action)

    def told(self, state: SignalState) -> Array:
        """What the message of this step is worth: the best return of the next step with it, less that of a worker which then names the
        likeliest symbol; 0 in the last step, whose message nobody uses. Its mean is `message_worth`."""
        used = state.t + 1 < self.rows
        return jnp.where(used & (state.shown != 0), (1 + WRONG) / (self.rows - 1), 0.0)
