"""Paying for what one has seen: rounds in which a symbol is shown before anybody knows what it is good for."""

from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp

from marlstone.core.distributions import Discrete
from marlstone.core.types import Array, Group, Leaf, Spec, Step
from marlstone.envs.names import UnknownEnvironment
from marlstone.envs.proving.priced_tools import PHASES, STAKES, WRONG, RoundState, round_begun
from marlstone.envs.team_games import team_step


@dataclass(frozen=True)
class PricedMemory:
    """One agent has rounds of three steps. In a round's first step a symbol is shown, and nothing else; in its second the stake s, 1 or 3;
    in its third the agent waits (0) or answers with the symbol that was shown (1 ...). Answers at other steps are ignored.

        reward = s for the right answer,   -2 s for a wrong one,   0 for none

    A guess loses. An agent without recurrent memory knows the symbol only if an external one (`[memory]`, automatic, which stores the leaf
    `shown`) kept it, and it looked it up when it knew the stake: whether that is worth the price depends on the stake, on prices now, and
    on how many look-ups are left. `envs.proving.priced_optimum.MemoryOptimum` has the optimum of that. With a recurrent body looking up
    never pays.

    The leaf `task`: the stake (0 in the first step), each phase, rounds left. The leaf `shown`: the symbol in the first step.
    """

    symbols: int = 2
    rounds: int = 4

    def __post_init__(self) -> None:
        if self.symbols < 2 or self.rounds < 1:
            raise UnknownEnvironment(f"proving:priced_memory: symbols and rounds are {self.symbols}, {self.rounds}: give at least 2 and 1")

    @cached_property
    def spec(self) -> Spec:
        """One agent."""
        leaves = {"task": Leaf("vector", (PHASES + 2,)), "shown": Leaf("vector", (self.symbols,))}
        group = Group("clerks", ("clerk",), leaves, Discrete(1 + self.symbols))
        best = STAKES[-1] * self.rounds
        return Spec((group,), PHASES + 2 + self.symbols, PHASES * self.rounds, return_bounds=(-WRONG * best, best))

    def _step(self, state: RoundState, reward: Array, first: bool = False) -> Step:
        over = state.t >= PHASES * self.rounds
        phase, number = state.t % PHASES, state.t // PHASES
        stake = jnp.where(phase > 0, jnp.array(STAKES)[state.stake], 0.0)
        left = (self.rounds - number) / self.rounds
        task = jnp.concatenate([jnp.stack([stake]), jax.nn.one_hot(phase, PHASES), jnp.stack([left])])
        symbol = jax.nn.one_hot(state.symbol, self.symbols)
        obs = {"task": task[None], "shown": (symbol * (phase == 0))[None]}
        return team_step((obs,), jnp.concatenate([task, symbol]), reward[None], (None,), terminated=over, first=first)

    def init(self, key: Array) -> tuple[RoundState, Step]:
        """The first round begins."""
        stake, symbol = round_begun(key, self.symbols)
        state = RoundState(jnp.zeros((), jnp.int32), stake, symbol, jnp.zeros((), bool))
        return state, self._step(state, jnp.zeros(()), first=True)

    def step(self, state: RoundState, action: tuple[Array, ...], key: Array) -> tuple[RoundState, Step]:
        """An answer in a round's last step is rewarded; then a new round begins."""
        said, last = action[0][0], state.t % PHASES == PHASES - 1
        worth = jnp.array(STAKES)[state.stake]
        reward = jnp.where((said > 0) & last, jnp.where(said - 1 == state.symbol, worth, -WRONG * worth), 0.0)
        stake, symbol = round_begun(key, self.symbols)
        pick = lambda fresh, old: jnp.where(last, fresh, old)
        state = RoundState(state.t + 1, pick(stake, state.stake), pick(symbol, state.symbol), state.answered)
        return state, self._step(state, reward)
