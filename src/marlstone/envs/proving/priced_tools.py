"""Paying for what one must know: rounds whose answer is hidden, stakes that differ, and little time to ask."""

from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp

from marlstone.core.distributions import Discrete
from marlstone.core.records import record
from marlstone.core.types import Array, Group, Leaf, Spec, Step
from marlstone.envs.names import UnknownEnvironment
from marlstone.envs.team_games import team_step

AGENTS = 2
PHASES = 3  # steps of a round
STAKES = (1.0, 3.0)
WRONG = 2.0  # times the stake, lost by a wrong answer


@record
class RoundState:
    """Step number `t`, the round's `stake` (0, 1) and `symbol`, and whether it was `answered`."""

    t: Array
    stake: Array
    symbol: Array
    answered: Array


def round_begun(key: Array, symbols: int) -> tuple[Array, Array]:
    """A round's stake and symbol."""
    a, b = jax.random.split(key)
    return jax.random.bernoulli(a).astype(jnp.int32), jax.random.randint(b, (), 0, symbols)


@dataclass(frozen=True)
class PricedTools:
    """Two agents have rounds in turn, of three steps each. In a round a symbol is hidden, and a stake s, 1 or 3, is shown; whose round it
    is waits (0) or answers with a symbol (1 ...), once.

        reward = s for the right answer,   -2 s for a wrong one,   0 for none

    A guess loses s / 2 (of two symbols), so that an agent that does not know says nothing. The leaf `symbol` holds what is asked for: with
    `[[tools]]` that read it, an agent must decide whether knowing is worth the price now, which tool is reliable or fast enough, and what
    the team's budget of calls is better spent on later. `envs.proving.priced_optimum.ToolsOptimum` has the optimum of that.

    The leaf `task` of whose round it is: the stake, each phase, rounds left (all 0 for the other), and whether it was answered.
    """

    symbols: int = 2
    rounds: int = 3

    def __post_init__(self) -> None:
        if self.symbols < 2 or self.rounds < 1:
            raise UnknownEnvironment(f"proving:priced_tools: symbols and rounds are {self.symbols}, {self.rounds}: give at least 2 and 1")

    @cached_property
    def spec(self) -> Spec:
        """One group of two."""
        leaves = {"task": Leaf("vector", (PHASES + 3,)), "symbol": Leaf("vector", (self.symbols,))}
        group = Group("askers", tuple(f"asker_{i}" for i in range(AGENTS)), leaves, Discrete(1 + self.symbols))
        best = STAKES[-1] * self.rounds
        return Spec((group,), PHASES + 3 + self.symbols, PHASES * self.rounds, return_bounds=(-WRONG * best, best))

    def _step(self, state: RoundState, reward: Array, first: bool = False) -> Step:
        over = state.t >= PHASES * self.rounds
        phase, number = state.t % PHASES, state.t // PHASES
        mine = (jnp.arange(AGENTS) == number % AGENTS) & ~over
        acts = mine & ~state.answered
        stake = jnp.array(STAKES)[state.stake]
        left = (self.rounds - number) / self.rounds
        task = jnp.concatenate([jnp.stack([stake]), jax.nn.one_hot(phase, PHASES), jnp.stack([left, state.answered.astype(jnp.float32)])])
        symbol = jax.nn.one_hot(state.symbol, self.symbols)
        obs = {"task": task * mine[:, None], "symbol": symbol * mine[:, None]}
        step = team_step((obs,), jnp.concatenate([task, symbol]), jnp.full(AGENTS, reward / AGENTS), (None,), terminated=over, first=first)
        return step.__class__(**{**vars(step), "deciding": acts})

    def init(self, key: Array) -> tuple[RoundState, Step]:
        """The first round begins."""
        stake, symbol = round_begun(key, self.symbols)
        state = RoundState(jnp.zeros((), jnp.int32), stake, symbol, jnp.zeros((), bool))
        return state, self._step(state, jnp.zeros(()), first=True)

    def step(self, state: RoundState, action: tuple[Array, ...], key: Array) -> tuple[RoundState, Step]:
        """An answer is rewarded; a new round begins where the last is over."""
        said = action[0][(state.t // PHASES) % AGENTS]
        answers = (said > 0) & ~state.answered
        worth = jnp.array(STAKES)[state.stake]
        reward = jnp.where(answers, jnp.where(said - 1 == state.symbol, worth, -WRONG * worth), 0.0)
        stake, symbol = round_begun(key, self.symbols)
        t = state.t + 1
        new = t % PHASES == 0
        pick = lambda fresh, old: jnp.where(new, fresh, old)
        state = RoundState(t, pick(stake, state.stake), pick(symbol, state.symbol), pick(False, state.answered | answers))
        return state, self._step(state, reward)
