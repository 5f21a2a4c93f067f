"""Level-based foraging with jumanji's rules (Bonnet et al. 2024), written for the inner loop of training.

Agents walk a grid and load food together: a food is eaten when the levels of the adjacent agents that load add up to
its own. jumanji's own step costs gathers, a sort (`unique`) and three scatters per agent; training steps it at 30,000
steps/s and more on two cores, so the same rules are written here as dense comparisons between few entities. The tests
drive jumanji's environment from the same states and compare positions, food, rewards, observations and masks.

Reset draws from jumanji's distribution, with its quirks (no food on the edge or beside another; no agent in a grid row
whose index is any coordinate of a food, which is how jumanji's mask comes out), but with other random bits: one number
an entity instead of a Gumbel a cell and a sort.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from marlstone.core.distributions import Discrete
from marlstone.core.records import record
from marlstone.core.types import Array, Group, Leaf, Spec, Step
from marlstone.envs.board import Board, color_of
from marlstone.envs.constant import EVERYBODY
from marlstone.envs.names import UnknownEnvironment, resolve_options
from marlstone.envs.team_games import below, others, pick, team_step

MOVES = np.array([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1], [0, 0]], np.int32)  # noop, up, down, left, right, load
LOAD = 5
_TASK = re.compile(r"(?:(?P<sight>\d+)s-)?(?P<grid>\d+)x(?P<width>\d+)-(?P<agents>\d+)p-(?P<food>\d+)f(?P<coop>-coop)?")
DEFAULTS = {"task": "8x8-2p-2f-coop", "time_limit": 100, "max_agent_level": 2, "penalty": 0.0}


@record
class LbfState:
    """Positions `[n 2]` and `[f 2]` (row, column), levels `[n]` and `[f]`, `eaten` `[f]`, `clock` `[]` in steps; all int32 but `eaten`."""

    agent: Array
    level: Array
    food: Array
    food_level: Array
    eaten: Array
    clock: Array


@dataclass(frozen=True)
class Foraging:
    """Level-based foraging as an `Env`.

    Rewards are per agent (each eater its level's share of the food's level), and an episode in which everything is eaten sums to 1 over
    agents and steps: the largest team return is 1. Eating everything terminates; the time limit truncates.

    Attributes:
      grid: cells a side.
      agents: how many.
      food: how many.
      sight: cells seen in each direction.
      coop: whether every food needs everybody (up to three agents).
      time_limit: steps until truncation.
      max_agent_level: agents' levels are drawn from 1 to this.
      penalty: subtracted per food and agent when the loading levels do not suffice (unscaled by jumanji's normalization, as there).

    Raises:
      UnknownEnvironment: a grid too small, nobody or nothing there, or a sight outside the grid.
    """

    constant: ClassVar[frozenset[str]] = EVERYBODY

    grid: int
    agents: int
    food: int
    sight: int
    coop: bool
    time_limit: int = 100
    max_agent_level: int = 2
    penalty: float = 0.0

    def __post_init__(self) -> None:
        if self.grid < 5:
            raise UnknownEnvironment(f"LevelBasedForaging: grid is {self.grid}: it needs at least 5 cells a side, as in task=5x5-2p-1f")
        if min(self.agents, self.food, self.time_limit) < 1:
            raise UnknownEnvironment(
                f"LevelBasedForaging: agents={self.agents}, food={self.food}, time_limit={self.time_limit}: each must be at least 1"
            )
        if not 1 <= self.sight <= self.grid:
            raise UnknownEnvironment(f"LevelBasedForaging: sight is {self.sight}: give between 1 and the grid's {self.grid}")
        if self.max_agent_level < 2:
            raise UnknownEnvironment(f"LevelBasedForaging: max_agent_level is {self.max_agent_level}: give at least 2")
        if (self.grid - 2) ** 2 - self.agents <= 5 * self.food:
            raise UnknownEnvironment(
                f"LevelBasedForaging: {self.food} food and {self.agents} agents do not fit a {self.grid}x{self.grid} grid "
                f"without neighbors: take a larger grid or at most {max(0, ((self.grid - 2) ** 2 - self.agents - 1) // 5)} food"
            )

    @cached_property
    def spec(self) -> Spec:
        """One group of foragers that see food and each other in their window."""
        width = 3 * (self.food + self.agents)
        names = tuple(f"agent_{i}" for i in range(self.agents))
        group = Group("agents", names, {"view": Leaf("vector", (width,))}, Discrete(len(MOVES)))
        return Spec((group,), state=self.agents * width, horizon=self.time_limit, return_bounds=(None if self.penalty else 0.0, 1.0))

    def init(self, key: Array) -> tuple[LbfState, Step]:
        """A fresh grid."""
        state = self.fresh(key)
        return state, self._make_step(state, jnp.zeros(self.agents, jnp.float32), first=True)

    def fresh(self, key: Array) -> LbfState:
        """A start state from jumanji's distribution: food one after the other, then agents, then levels."""
        n, f, g = self.agents, self.food, self.grid
        uniform = jax.random.uniform(key, (2 * (n + f),))
        cell = np.arange(g * g)
        row, column = jnp.asarray(cell // g, jnp.int32), jnp.asarray(cell % g, jnp.int32)
        inner = (cell // g > 0) & (cell // g < g - 1) & (cell % g > 0) & (cell % g < g - 1)
        free, spots = jnp.asarray(inner), []
        for i in range(f):
            at = pick(free, uniform[i])
            spots.append(jnp.stack([at // g, at % g]))
            free = free & (jnp.abs(row - at // g) + jnp.abs(column - at % g) > 1)
        food = jnp.stack(spots)
        free, spots = ~jnp.any(row[:, None] == food.reshape(-1), axis=1), []
        for i in range(n):
            at = pick(free, uniform[f + i])
            spots.append(jnp.stack([at // g, at % g]))
            free = free & (jnp.asarray(cell, jnp.int32) != at)
        level = 1 + below(self.max_agent_level, uniform[f + n : f + 2 * n])
        most = jnp.sum(jnp.sort(level)[:3])
        food_level = jnp.full((f,), most) if self.coop else 1 + below(most, uniform[f + 2 * n :])
        return LbfState(jnp.stack(spots), level, food, food_level, jnp.zeros(f, bool), jnp.zeros((), jnp.int32))

    def step(self, state: LbfState, action: tuple[Array, ...], key: Array) -> tuple[LbfState, Step]:
        """Move (all at once; who would share a cell stays), then load."""
        chosen = action[0]
        down = (chosen == 2).astype(jnp.int32) - (chosen == 1).astype(jnp.int32)
        right = (chosen == 4).astype(jnp.int32) - (chosen == 3).astype(jnp.int32)
        target = state.agent + jnp.stack([down, right], axis=-1)
        other = ~np.eye(self.agents, dtype=bool)
        aside = self._blocked(state, target[:, None])[:, 0]
        moved = jnp.where(aside[:, None], state.agent, target)
        clash = jnp.any(jnp.all(moved[:, None] == moved[None], axis=-1) & other, axis=1)
        agent = jnp.where(clash[:, None], state.agent, moved)

        near = _distance(state.food, agent) == 1  # [f n]
        loading = jnp.where(near & (chosen == LOAD) & ~state.eaten[:, None], state.level, 0)
        total = jnp.sum(loading, axis=1)
        now = total >= state.food_level
        lacking = jnp.where((total > 0) & ~now, self.penalty, 0.0)
        earned = (loading * (now * state.food_level)[:, None]).astype(jnp.float32) - lacking[:, None]
        scale = (total * jnp.sum(state.food_level)).astype(jnp.float32)[:, None]
        reward = jnp.sum(jnp.where(scale > 0, earned / jnp.maximum(scale, 1), 0.0), axis=0)

        state = LbfState(agent, state.level, state.food, state.food_level, state.eaten | now, state.clock + 1)
        return state, self._make_step(state, reward)

    def render(self, state: LbfState) -> np.ndarray:
        """The grid, `[h w 3]` uint8, on the host: food green squares, agents discs, each with its level."""
        board = Board(self.grid, self.grid)
        for (row, column), level, eaten in zip(np.asarray(state.food), state.food_level, state.eaten, strict=True):
            if not eaten:
                board.square(int(row), int(column), (64, 145, 76), str(int(level)))
        for i, ((row, column), level) in enumerate(zip(np.asarray(state.agent), state.level, strict=True)):
            board.disc(int(row), int(column), color_of(i), str(int(level)))
        return board.pixels()

    def _blocked(self, state: LbfState, cells: Array) -> Array:
        """`[n m]`: whether agent i may not enter `cells[i, j]`: outside, another agent's, or food's."""
        other = ~np.eye(self.agents, dtype=bool)[:, None]
        outside = jnp.any((cells < 0) | (cells >= self.grid), axis=-1)
        by_agent = jnp.any(jnp.all(cells[:, :, None] == state.agent, axis=-1) & other, axis=-1)
        by_food = jnp.any(jnp.all(cells[:, :, None] == state.food, axis=-1) & ~state.eaten, axis=-1)
        return outside | by_agent | by_food

    def _make_step(self, state: LbfState, reward: Array, first: bool = False) -> Step:
        view = self._views(state)
        free = ~self._blocked(state, state.agent[:, None] + MOVES[1:5])
        load = jnp.any((_distance(state.agent, state.food) == 1) & ~state.eaten, axis=1, keepdims=True)
        legal = jnp.concatenate([jnp.ones((self.agents, 1), bool), free, load], axis=1)
        if first:
            return team_step(({"view": view},), view.reshape(-1), reward, (legal,), first=True)
        over = jnp.all(state.eaten)
        return team_step(({"view": view},), view.reshape(-1), reward, (legal,), terminated=over, truncated=state.clock >= self.time_limit)

    def _views(self, state: LbfState) -> Array:
        """`[n 3(f+n)]` float32: food, oneself, the others, each (row, column, level) in the agent's window; (-1, -1, 0) if unseen."""
        corner = jnp.minimum(self.sight, state.agent) - state.agent  # [n 2]

        def seen(spot: Array, level: Array, there: Array | bool) -> Array:
            visible = (jnp.max(jnp.abs(spot - state.agent[:, None]), axis=-1) <= self.sight) & there
            place = jnp.where(visible[..., None], spot + corner[:, None], -1)
            return jnp.concatenate([place, jnp.where(visible, level, 0)[..., None]], axis=-1)

        food = seen(jnp.broadcast_to(state.food, (self.agents, self.food, 2)), state.food_level, ~state.eaten)
        team = jnp.concatenate([state.agent, state.level[:, None]], axis=-1)
        team = jnp.concatenate([team[:, None], others(team)], axis=1)
        team = seen(team[..., :2], team[..., 2], True)
        return jnp.concatenate([food, team], axis=1).reshape(self.agents, -1).astype(jnp.float32)


def _distance(a: Array, b: Array) -> Array:
    """City-block distances `[a b]` between two lists of cells."""
    return jnp.sum(jnp.abs(a[:, None] - b[None]), axis=-1)


def foraging(options: Mapping[str, Any]) -> Foraging:
    """`LevelBasedForaging` from options; `task` is the field's name for it, such as `2s-8x8-2p-2f-coop`."""
    chosen = resolve_options("jumanji:LevelBasedForaging", options, DEFAULTS)
    found = _TASK.fullmatch(chosen["task"])
    if found is None or found["grid"] != found["width"]:
        raise UnknownEnvironment(
            f"jumanji:LevelBasedForaging: option 'task' is {chosen['task']!r}: write [SIGHTs-]GRIDxGRID-AGENTSp-FOODf[-coop], "
            "for example task=8x8-2p-2f-coop"
        )
    grid = int(found["grid"])
    return Foraging(
        grid=grid,
        agents=int(found["agents"]),
        food=int(found["food"]),
        sight=int(found["sight"] or grid),
        coop=bool(found["coop"]),
        time_limit=chosen["time_limit"],
        max_agent_level=chosen["max_agent_level"],
        penalty=chosen["penalty"],
    )
