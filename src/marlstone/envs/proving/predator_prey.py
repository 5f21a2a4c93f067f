"""Predator-Prey: who has found the prey can tell the others where it is."""

from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from marlstone.core.distributions import Discrete
from marlstone.core.errors import suggest
from marlstone.core.records import record, replace
from marlstone.core.types import Array, Group, Leaf, Metric, Spec, Step
from marlstone.envs.board import INK, Board, color_of
from marlstone.envs.names import UnknownEnvironment
from marlstone.envs.proving.grid_view import counts, look, windows, within
from marlstone.envs.team_games import distinct, team_step

STAY = 4
MOVES = np.array([[-1, 0], [0, 1], [1, 0], [0, -1], [0, 0]])  # up, right, down, left, stay
TIME, PREY = -0.05, 0.05
MODES = ("mixed", "cooperative", "competitive")
TIME_LIMITS = ("truncate", "terminate")


@record
class HuntState:
    """Step number `t`, the predators' cells `[n]` and the prey's, row by row, and which predators have `reached` the prey `[n]`."""

    t: Array
    at: Array
    prey: Array
    reached: Array


@dataclass(frozen=True)
class PredatorPrey:
    """Predators look for a prey that never moves, and stay where they find it: step by step the environment of IC3Net (Singh et al. 2019).

    Everybody starts on a cell of its own, each choice equally likely. Predators move up, right, down, left or stay (0 to 4; the default is
    to stay) and do not leave the grid; who is on the prey's cell stays there. m being how many are there after the step,

        reward_i = -0.05 while i is not there;   once it is: mixed 0,   cooperative 0.05 m,   competitive 0.05 / m

    In `mixed` the episode terminates when all have reached the prey; in the other modes it lasts `max_steps`. The defaults are IC3Net's
    easy task; medium is dim=10, agents=5, vision=1, max_steps=40 and hard dim=20, agents=10, vision=1, max_steps=80.

    A predator observes, for each of the (2 vision + 1)^2 cells around it, the one-hot class of the cell (its number, or off the grid) and
    the counts of preys and of predators on it. `state` has every predator's row, column and whether it is there, the prey's row and column,
    then the time, all between 0 and 1.

    With `reach`, a predator observes in a leaf of that name which others are at most so many rows and columns away (0: there is no such
    leaf, and whoever talks is heard by all, as in IC3Net).

    The true metric `success` is 1 when all are on the prey (up, its last value counts); `steps` counts steps until they are (down, summed):
    in `mixed`, the only mode whose steps IC3Net reports, the length of the episode.

    Departures: IC3Net's trainer takes the time limit for an end; here it is a truncation, unless `time_limit=terminate`. It reports no
    success in `competitive`. Where code and paper differ, the code rules: episodes of the other modes do not end early.

    Source: Singh et al. 2019, Learning when to communicate at scale in multiagent cooperative and competitive tasks (arXiv 1812.09755), and
    its code, github.com/IC3Net/IC3Net.
    """

    mode: str = "mixed"
    dim: int = 5
    agents: int = 3
    vision: int = 0
    max_steps: int = 20
    time_limit: str = "truncate"
    reach: int = 0

    def __post_init__(self) -> None:
        where = "proving:predator_prey: option"
        for name, known in (("mode", MODES), ("time_limit", TIME_LIMITS)):
            if (value := getattr(self, name)) not in known:
                raise UnknownEnvironment(f"{where} {name!r} is {value!r}: {suggest(value, known)}")
        if self.dim < 2:
            raise UnknownEnvironment(f"{where} 'dim' is {self.dim}: give at least 2")
        if not 1 <= self.agents < self.dim**2:
            raise UnknownEnvironment(
                f"{where} 'agents' is {self.agents}: give 1 to {self.dim**2 - 1}, since each starts on a cell of its own"
            )
        if not 0 <= self.vision < self.dim:
            raise UnknownEnvironment(f"{where} 'vision' is {self.vision}: give 0 to {self.dim - 1}")
        if self.max_steps < 1:
            raise UnknownEnvironment(f"{where} 'max_steps' is {self.max_steps}: give at least 1")
        if self.reach < 0:
            raise UnknownEnvironment(f"{where} 'reach' is {self.reach}: give at least 0, for no limit")

    @property
    def constant(self) -> frozenset[str]:
        """Fields that are 1 on every step."""
        return frozenset({"present", "deciding"})

    @property
    def classes(self) -> int:
        """Numbers that describe one cell: every cell's number, one that is never used, off the grid, preys, predators."""
        return self.dim**2 + 4

    @cached_property
    def _near(self) -> np.ndarray:
        return windows(np.arange(self.dim**2).reshape(self.dim, self.dim), self.vision, self.classes - 3)

    @cached_property
    def spec(self) -> Spec:
        """One group of predators."""
        n, most = self.agents, {"mixed": 0.0, "cooperative": PREY * self.agents**2, "competitive": PREY}[self.mode]
        leaves = {"view": Leaf("vector", (self._near.shape[1] * self.classes,))}
        if self.reach:
            leaves["reach"] = Leaf("vector", (n,))
        return Spec(
            (Group("predators", tuple(f"predator_{i}" for i in range(n)), leaves, Discrete(len(MOVES)), default=STAY),),
            state=3 * n + 3,
            horizon=self.max_steps,
            metrics={"success": Metric("up", "last"), "steps": Metric("down", "sum")},
            return_bounds=(TIME * n * self.max_steps, most * self.max_steps),
        )

    def init(self, key: Array) -> tuple[HuntState, Step]:
        """Predators, then the prey, on cells of their own."""
        cells = distinct(jax.random.uniform(key, (self.agents + 1,)), self.dim**2)
        state = HuntState(jnp.zeros((), jnp.int32), cells[:-1], cells[-1], jnp.zeros(self.agents, bool))
        return state, self._step(state, jnp.zeros(self.agents, jnp.float32), jnp.zeros((), jnp.float32), first=True)

    def step(self, state: HuntState, action: tuple[Array, ...], key: Array) -> tuple[HuntState, Step]:
        """Who has not found the prey moves."""
        place = jnp.stack([state.at // self.dim, state.at % self.dim], axis=1)
        moved = jnp.clip(place + jnp.asarray(MOVES)[action[0]], 0, self.dim - 1)
        at = jnp.where(state.reached, state.at, moved[:, 0] * self.dim + moved[:, 1])
        there = at == state.prey
        many = jnp.sum(there, dtype=jnp.float32)
        bonus = jnp.stack([0.0 * many, PREY * many, PREY / jnp.maximum(many, 1)])[MODES.index(self.mode)]
        waited = 1.0 - jnp.all(state.reached).astype(jnp.float32)
        state = replace(state, t=state.t + 1, at=at, reached=there)
        return state, self._step(state, jnp.where(there, bonus, TIME), waited)

    def _step(self, state: HuntState, reward: Array, waited: Array, first: bool = False) -> Step:
        prey, every = counts(state.at, state.prey[None], self.dim, self.vision), counts(state.at, state.at, self.dim, self.vision)
        view = look(self._near, state.at, self.classes, {self.classes - 2: prey, self.classes - 1: every})
        obs = {"view": view}
        if self.reach:
            obs["reach"] = within(state.at, self.dim, self.reach, jnp.ones(self.agents, bool))
        everybody, late = jnp.all(state.reached), state.t >= self.max_steps
        done = everybody & (self.mode == "mixed")
        cells = jnp.stack([state.at // self.dim, state.at % self.dim], axis=1) / (self.dim - 1)
        beside = jnp.stack([state.prey // self.dim / (self.dim - 1), state.prey % self.dim / (self.dim - 1), state.t / self.max_steps])
        return team_step(
            (obs,),
            jnp.concatenate([cells.reshape(-1), state.reached.astype(jnp.float32), beside]),
            reward,
            (None,),
            terminated=done | (late & (self.time_limit == "terminate")),
            truncated=late,
            first=first,
            metrics={"success": everybody.astype(jnp.float32), "steps": waited},
        )

    def render(self, state: HuntState) -> np.ndarray:
        """The prey, a dark square, and the predators, discs with their numbers."""
        board = Board(self.dim, self.dim, 24)
        board.square(*divmod(int(state.prey), self.dim), INK)
        for i, cell in enumerate(np.asarray(state.at)):
            board.disc(*divmod(int(cell), self.dim), color_of(i), str(i))
        return board.pixels()
