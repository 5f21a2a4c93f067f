"""Asking instead of acting: a game whose best policy asks half the time, and its twin in which it asks once."""

from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp

from marlstone.core.distributions import Discrete
from marlstone.core.records import record
from marlstone.core.types import Array, Group, Leaf, Spec, Step
from marlstone.envs.names import UnknownEnvironment
from marlstone.envs.proving.symbols import SYMBOLS, WRONG, show, workers, worth
from marlstone.envs.team_games import team_step

ASK = 1 + SYMBOLS


@record
class ErrandState:
    """Step number `t`, each worker's task `[n]`, and whether it has been shown to it `[n]`."""

    t: Array
    task: Array
    known: Array


@dataclass(frozen=True)
class Errands:
    """Workers who do not see their task: each waits (0, the default), acts symbol 0..3 (1 to 4), or asks (5) to be shown its task from the
    next step on.

        reward_i = a for acting the task's symbol,   -a / 4 for another,   0 for waiting and asking

    `chatty`: after every act the task is drawn anew, and what was shown is gone, so that the best policy asks before every act: it asks in
    half of its steps. Not `chatty`: the task stays for the episode, and what was shown stays visible, so that it asks once, in 1 of `rows`.
    a = 1 / (workers * acts), where acts is how often the best policy acts: rows / 2, or rows - 1. The best team return is 1 in both; to
    guess blindly earns a / 16 an act. An episode terminates after `rows` steps, an even number.

    `Group.requests` names asking as a request: what share of their steps agents spend on it is what an alarm on chatter counts.
    """

    chatty: bool = True
    workers: int = 4
    rows: int = 16

    def __post_init__(self) -> None:
        if self.rows < 2 or self.rows % 2:
            raise UnknownEnvironment(
                f"proving:errands: option 'rows' is {self.rows}: give an even number, so that every question has its act"
            )
        if self.workers < 1:
            raise UnknownEnvironment(f"proving:errands: option 'workers' is {self.workers}: give at least 1")

    @property
    def best_return(self) -> float:
        """The best expected team return."""
        return 1.0

    @property
    def best_asking(self) -> float:
        """The share of its steps in which an agent asks, under the best policy."""
        return 0.5 if self.chatty else 1 / self.rows

    @property
    def _share(self) -> float:
        return 1 / (self.workers * (self.rows // 2 if self.chatty else self.rows - 1))

    @cached_property
    def spec(self) -> Spec:
        """One group of workers, of whose actions the last is a request."""
        group = Group("workers", workers(self.workers), {"task": Leaf("vector", (SYMBOLS,))}, Discrete(2 + SYMBOLS), requests=(ASK,))
        worst = -WRONG * self._share * self.workers * self.rows
        return Spec((group,), state=self.workers * (SYMBOLS + 1) + 1, horizon=self.rows, return_bounds=(worst, 1.0))

    def _step(self, state: ErrandState, reward: Array, first: bool = False) -> Step:
        task = jax.nn.one_hot(state.task, SYMBOLS)
        beside = jnp.concatenate([state.known.astype(jnp.float32), jnp.stack([state.t / self.rows])])
        over = state.t >= self.rows
        whole = jnp.concatenate([task.reshape(-1), beside])
        return team_step(({"task": task * state.known[:, None]},), whole, reward, (None,), terminated=over, first=first)

    def init(self, key: Array) -> tuple[ErrandState, Step]:
        """Tasks are drawn, and nobody has been shown any."""
        state = ErrandState(jnp.zeros((), jnp.int32), show(key, self.workers), jnp.zeros(self.workers, bool))
        return state, self._step(state, jnp.zeros(self.workers, jnp.float32), first=True)

    def step(self, state: ErrandState, action: tuple[Array, ...], key: Array) -> tuple[ErrandState, Step]:
        """Acts are rewarded, questions answered."""
        asked, acted = action[0] == ASK, (action[0] > 0) & (action[0] < ASK)
        reward = jnp.where(acted, worth(action[0], state.task, self._share), 0.0)
        renewed = acted & self.chatty
        task = jnp.where(renewed, show(key, self.workers), state.task)
        state = ErrandState(state.t + 1, task, (state.known | asked) & ~renewed)
        return state, self._step(state, reward)
