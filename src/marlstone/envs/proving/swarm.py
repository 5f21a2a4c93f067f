"""Many agents, individual rewards, and a small social dilemma between neighbors."""

from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp

from marlstone.core.types import Array, Metric, Spec, Step
from marlstone.envs.names import UnknownEnvironment
from marlstone.envs.proving.symbols import SYMBOLS, SymbolState, show, speakers, worth
from marlstone.envs.team_games import team_step

LOUD = SYMBOLS  # the action that says the last symbol, and disturbs the neighbor before
COST = 2.0  # what it costs that neighbor, in what a right answer earns


@dataclass(frozen=True)
class Swarm:
    """`agents` speakers on a ring, each shown its own symbol and rewarded by its own action and the next one's.

        r_i = c_i - 2 a [a_{i+1} = loud] + sigma / rows * e_i,   c_i = a right_i - a / 4 wrong_i,   a = 4 / (3 rows)

    `reward_i` = r_i / n and `team_reward` = mean_i r_i. Saying the last symbol (the loud one) where it is shown earns its
    agent a and costs its neighbor 2 a: who only counts its own reward says it, and the team then earns 2/3; the best
    policy says nothing there, and every other symbol. e_i is Gaussian, drawn whatever is seen or done.
    `contribution_i` = (c_i - 2 a [a_i = loud]) / n, its own reward's change and its neighbor's, and so is its Shapley value.
    The best expected team return is 1; an episode terminates after `rows` steps. `state` is the part of agents shown each
    symbol and the time, five numbers for any n. `metrics` has "score", the team's reward without noise.
    """

    agents: int = 256
    rows: int = 8
    sigma: float = 0.1

    def __post_init__(self) -> None:
        if not 2 <= self.agents <= 1024:
            raise UnknownEnvironment(f"proving:swarm: option 'agents' is {self.agents}: give 2 to 1024")
        if self.sigma < 0:
            raise UnknownEnvironment(f"proving:swarm: option 'sigma' is {self.sigma}: give at least 0")

    @cached_property
    def spec(self) -> Spec:
        """`agents` speakers in one group, and a state of five numbers."""
        group = speakers(tuple(f"speaker_{i}" for i in range(self.agents)))
        return Spec((group,), state=SYMBOLS + 1, horizon=self.rows, metrics={"score": Metric("up", "sum")})

    @property
    def _share(self) -> float:
        """a: what a right answer earns."""
        return SYMBOLS / ((SYMBOLS - 1) * self.rows)

    def _step(self, state: SymbolState, earned: Array, noise: Array, first: bool = False) -> Step:
        symbol = jax.nn.one_hot(state.symbol, SYMBOLS)
        return team_step(
            ({"symbol": symbol},),
            jnp.concatenate([jnp.mean(symbol, axis=0), jnp.stack([state.t / self.rows])]),
            (earned + noise) / self.agents,
            (None,),
            terminated=state.t >= self.rows, first=first, team_reward=jnp.mean(earned + noise), metrics={"score": jnp.mean(earned)},
        )  # fmt: skip

    def init(self, key: Array) -> tuple[SymbolState, Step]:
        """The first symbols are drawn."""
        state, zeros = SymbolState(jnp.zeros((), jnp.int32), show(key, self.agents)), jnp.zeros(self.agents, jnp.float32)
        return state, self._step(state, zeros, zeros, first=True)

    def step(self, state: SymbolState, action: tuple[Array, ...], key: Array) -> tuple[SymbolState, Step]:
        """Every agent's reward by its own action and the next one's; new symbols are drawn."""
        k1, k2 = jax.random.split(key)
        own, caused = self._terms(state, action)
        earned = own - jnp.roll(caused, -1)
        noise = self.sigma / self.rows * jax.random.normal(k2, (self.agents,))
        state = SymbolState(state.t + 1, show(k1, self.agents))
        return state, self._step(state, earned, noise)

    def _terms(self, state: SymbolState, action: tuple[Array, ...]) -> tuple[Array, Array]:
        """`[n]` each: what an agent earns itself, and what it costs the neighbor before it."""
        return worth(action[0], state.symbol, self._share), COST * self._share * (action[0] == LOUD)

    def contribution(self, state: SymbolState, action: tuple[Array, ...]) -> Array:
        """`[n]`: Its own reward's change and its neighbor's, over n."""
        own, caused = self._terms(state, action)
        return (own - caused) / self.agents

    def shapley(self, state: SymbolState, action: tuple[Array, ...]) -> Array:
        """`[n]`: As `contribution`, since the reward is a sum."""
        return self.contribution(state, action)
