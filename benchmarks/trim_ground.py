"""A team in which four of five links and four of five calls are of no use, by construction; `jax:benchmarks/trim_ground.py:Desks`.

A scout and `workers` workers, in cycles of three steps:

  ask     each worker may ask one of five desks, in turn, each beginning elsewhere; only the first that it comes to, its own, shows its task
  task    a worker earns a for naming its task (one of four, drawn for the episode), which it sees once its own desk was asked
  symbol  a worker earns a for naming the symbol that only the scout saw one step before

-a/4 for naming another, 0 for waiting; a = 1 / (workers x 2 x cycles), so that the best return is 1. Asking costs nothing and takes nothing
away, and everybody may speak to everybody: nothing teaches a policy to leave out what it does not need. Of n (n - 1) links between five
agents the scout's four are of use, and of 4 x 5 pairs of worker and desk four.
"""

from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from marlstone.core.distributions import Discrete
from marlstone.core.records import record
from marlstone.core.types import Array, Group, Leaf, Spec, Step
from marlstone.envs.proving.symbols import SYMBOLS, WRONG, show, worth
from marlstone.envs.team_games import team_step

DESKS, PHASES = 5, 3
ASK = 1 + SYMBOLS


@record
class DesksState:
    """Step number `t`, the symbol shown now and the one before, each worker's task `[w]`, and whether it was shown it `[w]`."""

    t: Array
    symbol: Array
    before: Array
    task: Array
    known: Array


@dataclass(frozen=True)
class Desks:
    """As the module says. `useful_links`, `useful_calls`: by name."""

    workers: int = 4
    cycles: int = 5

    @property
    def names(self) -> tuple[str, ...]:
        """The scout, then the workers."""
        return ("scout", *(f"worker_{i}" for i in range(self.workers)))

    @property
    def useful_links(self) -> frozenset[str]:
        """The scout's."""
        return frozenset(f"scout>{a}" for a in self.names[1:])

    @property
    def useful_calls(self) -> frozenset[str]:
        """Each worker's own desk."""
        return frozenset(f"worker_{i}:{ASK + i % DESKS}" for i in range(self.workers))

    @cached_property
    def spec(self) -> Spec:
        """One group; actions 1-4 name, 5-9 ask."""
        leaves = {k: Leaf("vector", (n,)) for k, n in (("symbol", SYMBOLS), ("task", SYMBOLS), ("phase", PHASES), ("role", 2))}
        types = ("scout", *("worker",) * self.workers)
        group = Group("team", self.names, leaves, Discrete(ASK + DESKS), types, requests=tuple(range(ASK, ASK + DESKS)))
        rows = PHASES * self.cycles
        return Spec((group,), state=1 + SYMBOLS * (1 + self.workers), horizon=rows, return_bounds=(-WRONG, 1.0))

    def _step(self, s: DesksState, reward: Array, first: bool = False) -> Step:
        w, phase = self.workers, s.t % PHASES
        symbol, task = jax.nn.one_hot(s.symbol, SYMBOLS), jax.nn.one_hot(s.task, SYMBOLS)
        seen = task * s.known[:, None]
        obs = {
            "symbol": jnp.concatenate([symbol[None], jnp.zeros((w, SYMBOLS))]),
            "task": jnp.concatenate([jnp.zeros((1, SYMBOLS)), seen]),
            "phase": jnp.broadcast_to(jax.nn.one_hot(phase, PHASES), (w + 1, PHASES)),
            "role": jnp.eye(2)[np.array([0, *[1] * w])],
        }
        options, desk = jnp.arange(ASK + DESKS), ASK + (s.t // PHASES + jnp.arange(w)) % DESKS
        asks = (options == 0) | (options == desk[:, None])
        legal = jnp.where(phase == 0, asks, options < ASK)
        legal = jnp.concatenate([(options == 0)[None], legal])
        state = jnp.concatenate([jnp.stack([s.t / (PHASES * self.cycles)]), symbol, task.reshape(-1)])
        own = jnp.concatenate([jnp.zeros(1), reward])
        return team_step((obs,), state, own, (legal,), terminated=s.t >= PHASES * self.cycles, first=first)

    def init(self, key: Array) -> tuple[DesksState, Step]:
        """Tasks are drawn, and nobody has been shown any."""
        k1, k2 = jax.random.split(key)
        symbol = show(k1, 1)[0]
        s = DesksState(jnp.zeros((), jnp.int32), symbol, symbol, show(k2, self.workers), jnp.zeros(self.workers, bool))
        return s, self._step(s, jnp.zeros(self.workers), first=True)

    def step(self, s: DesksState, action: tuple[Array, ...], key: Array) -> tuple[DesksState, Step]:
        """Asking is answered, naming rewarded; a new symbol is drawn."""
        did, phase, share = action[0][1:], s.t % PHASES, 1 / (self.workers * 2 * self.cycles)
        right = jnp.where(phase == 1, s.task, s.before)
        reward = jnp.where(phase == 0, 0.0, worth(did, right, share))
        asked = (phase == 0) & (did == ASK + jnp.arange(self.workers) % DESKS)
        s = DesksState(s.t + 1, show(key, 1)[0], s.symbol, s.task, s.known | asked)
        return s, self._step(s, reward)
