"""The robot warehouse with jumanji's rules (Bonnet et al. 2024; Papoudakis et al. 2021), written for the inner loop of training.

Robots carry requested shelves to the goals. jumanji moves robots one after the other on a grid (scans, scatters, nested
conditionals) and writes each observation cell by cell through a moving index. Here positions are lists, all robots
move at once, and "what is in this cell" is a comparison against those lists. jumanji's consequences of moving in turn
are kept: entering a cell that a later robot leaves in the same step is a collision, entering one an earlier robot left is not;
and a robot that waits (or whose action is refused) between the highways puts its shelf down.

Departures: new requests and start states come from the same distributions through other random bits; the last step
after a collision shows robots where they are, where jumanji's grid has lost one; and the end at the time limit is a truncation here
(jumanji's own discount is 0 there). A collision terminates, as in jumanji and unlike the original, which resolves it.
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
from marlstone.envs.team_games import below, distinct, pick, team_step

NOOP, FORWARD, LEFT, RIGHT, TOGGLE = range(5)
SIZES = {"tiny": (1, 3), "small": (2, 3), "medium": (2, 5), "large": (3, 5)}  # rows and columns of shelf blocks
REQUESTS = {"": 1.0, "-easy": 2.0, "-hard": 0.5}  # shelves requested at a time, per robot
DEFAULTS = {"task": "tiny-2ag", "time_limit": 500, "sensor_range": 1}
LOST = -(2**20)  # the cell of a shelf overwritten by another, on the last step of an episode


@record
class WarehouseState:
    """Robots' `place` `[n 2]` (row, column), `direction` `[n]` (up, right, down, left), `carrying` `[n]`; shelves' `shelf` `[s]`
    (cell codes, see `Warehouse.code`) and `requested` `[s]`; `clock` `[]` in steps."""

    place: Array
    direction: Array
    carrying: Array
    shelf: Array
    requested: Array
    clock: Array


@dataclass(frozen=True)
class Warehouse:
    """The robot warehouse as an `Env`.

    Team reward: 1 per delivered shelf; each agent's `reward` is an equal share of it, since the game rewards nobody in particular. There is
    no closed form of the best return; published returns are deliveries per episode, as here.

    Attributes:
      rows: of blocks of shelves.
      columns: of blocks of shelves, an odd number.
      agents: how many robots.
      requests: shelves asked for at a time.
      sensor: cells seen each way.
      time_limit: steps until truncation.
      height: shelves a block is high.

    Raises:
      UnknownEnvironment: a number below 1, or more robots or requests than fit.
    """

    constant: ClassVar[frozenset[str]] = EVERYBODY

    rows: int
    columns: int
    agents: int
    requests: int
    sensor: int = 1
    time_limit: int = 500
    height: int = 8

    def __post_init__(self) -> None:
        if min(self.agents, self.requests, self.sensor, self.time_limit) < 1:
            raise UnknownEnvironment(
                f"RobotWarehouse: agents={self.agents}, requests={self.requests}, sensor_range={self.sensor}, "
                f"time_limit={self.time_limit}: each must be at least 1"
            )
        if self.agents > self.size[0] * self.size[1] or self.requests >= self._shelves.size:
            raise UnknownEnvironment(
                f"RobotWarehouse: {self.agents} robots and {self.requests} requests do not fit a warehouse of "
                f"{self._shelves.size} shelves: take a larger one, for example task=large-{self.agents}ag"
            )

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of cells."""
        return (self.height + 1) * self.rows + 2, 3 * self.columns + 1

    @property
    def stride(self) -> int:
        """Codes from one row of cells to the next: wide enough that a sensor past the edge matches nothing."""
        return self.size[1] + 2 * self.sensor

    @cached_property
    def spec(self) -> Spec:
        """One group of robots that see the cells around them."""
        cells = (1 + 2 * self.sensor) ** 2
        width = 8 + 5 * (cells - 1) + 2 * cells
        names = tuple(f"agent_{i}" for i in range(self.agents))
        group = Group("agents", names, {"view": Leaf("vector", (width,))}, Discrete(5))
        return Spec((group,), state=self.agents * width, horizon=self.time_limit, return_bounds=(0.0, None))

    def code(self, place: Array) -> Array:
        """One integer per cell `[... 2] -> [...]`."""
        return place[..., 0] * self.stride + place[..., 1]

    def highway(self, place: Array) -> Array:
        """Whether a cell is free of shelf racks: the aisles, the delivery row and the queue before the goals."""
        x, y = place[..., 0], place[..., 1]
        height, width = self.size
        queue = (x > height - (self.height + 3)) & ((y == width // 2 - 1) | (y == width // 2))
        return (y % 3 == 0) | (x % (self.height + 1) == 0) | (x == height - 1) | queue

    @cached_property
    def _shelves(self) -> np.ndarray:
        """Codes of the racks, where shelves begin."""
        cells = np.stack(np.meshgrid(*map(np.arange, self.size), indexing="ij"), axis=-1).reshape(-1, 2)
        return self.code(cells[~self.highway(cells)]).astype(np.int32)

    @cached_property
    def _goals(self) -> tuple[int, int]:
        first = (self.size[0] - 1) * self.stride + self.size[1] // 2 - 1
        return first, first + 1

    def init(self, key: Array) -> tuple[WarehouseState, Step]:
        """A fresh warehouse: robots anywhere, the first shelves requested."""
        state = self.fresh(key)
        return state, self._make_step(state, jnp.zeros((), jnp.float32), jnp.zeros((), bool), first=True)

    def fresh(self, key: Array) -> WarehouseState:
        """Robots on distinct cells, facing anywhere; distinct shelves requested: all uniform."""
        n, r, shelves = self.agents, self.requests, self._shelves.size
        uniform = jax.random.uniform(key, (2 * n + r,))
        cell = distinct(uniform[:n], self.size[0] * self.size[1])
        asked = distinct(uniform[n : n + r], shelves)
        return WarehouseState(
            place=jnp.stack([cell // self.size[1], cell % self.size[1]], axis=-1),
            direction=below(4, uniform[n + r :]),
            carrying=jnp.zeros(n, bool),
            shelf=jnp.asarray(self._shelves),
            requested=jnp.any(np.arange(shelves) == asked[:, None], axis=0),
            clock=jnp.zeros((), jnp.int32),
        )

    def step(self, state: WarehouseState, action: tuple[Array, ...], key: Array) -> tuple[WarehouseState, Step]:
        """Refuse what is illegal, move and turn, carry, deliver; then new requests from `key`."""
        chosen = jnp.where(self._stuck(state) & (action[0] == FORWARD), NOOP, action[0])
        ahead, going = self._ahead(state), chosen == FORWARD
        here, there = self.code(state.place), self.code(ahead)

        # j disturbs i: walks into a waiting i; or, moving after i, into i's new cell, or wipes i off the cell that it leaves
        later = np.triu(np.ones((self.agents, self.agents), bool), 1)
        enters = there[None] == jnp.where(going, there, here)[:, None]
        leaves = here[None] == there[:, None]
        other = ~np.eye(self.agents, dtype=bool)
        crash = jnp.any(going[None] & jnp.where(going[:, None], later & (enters | leaves), other & enters))

        moving = going & state.carrying
        under = state.shelf == here[:, None]  # [n s]
        beaten = jnp.any(later & moving[None] & (there[None] == there[:, None]), axis=1)
        hit = under & moving[:, None]
        shelf = jnp.where(jnp.any(hit, axis=0), jnp.sum(jnp.where(hit, jnp.where(beaten, LOST, there)[:, None], 0), axis=0), state.shelf)

        turn = (chosen == RIGHT).astype(jnp.int32) - (chosen == LEFT).astype(jnp.int32)
        loads = (chosen == TOGGLE) & ~state.carrying
        drops = ((chosen == NOOP) | ((chosen == TOGGLE) & state.carrying)) & ~self.highway(state.place)
        carrying = jnp.where(loads, jnp.any(under, axis=1), state.carrying & ~drops)

        requested, reward = state.requested, jnp.zeros((), jnp.float32)
        uniform = jax.random.uniform(key, (len(self._goals),))
        for i, goal in enumerate(self._goals):
            done = (shelf == goal) & requested
            delivered = jnp.any(done)
            new = pick(~requested, uniform[i])
            requested = jnp.where(delivered, (requested & ~done) | (np.arange(shelf.size) == new), requested)
            reward = reward + delivered.astype(jnp.float32)

        place = jnp.where(going[:, None], ahead, state.place)
        state = WarehouseState(place, (state.direction + turn) % 4, carrying, shelf, requested, state.clock + 1)
        return state, self._make_step(state, reward, crash)

    def render(self, state: WarehouseState) -> np.ndarray:
        """The warehouse, `[h w 3]` uint8, on the host: racks light, shelves gray and orange where requested, goals green, robots discs that
        look where they head, smaller while they carry."""
        board, cell = Board(*self.size, cell=26), lambda code: divmod(int(code), self.stride)
        for code in self._shelves:
            board.square(*cell(code), (238, 236, 230))
        for code in self._goals:
            board.square(*cell(code), (120, 190, 130))
        for code, requested in zip(np.asarray(state.shelf), state.requested, strict=True):
            if code != LOST:
                board.square(*cell(code), (224, 130, 50) if requested else (150, 150, 150), inset=0.14)
        ways = ((-1, 0), (0, 1), (1, 0), (0, -1))
        for i, (place, direction, carrying) in enumerate(zip(np.asarray(state.place), state.direction, state.carrying, strict=True)):
            row, column = map(int, place)
            board.disc(row, column, color_of(i), inset=0.3 if carrying else 0.2)
            board.heading(row, column, *ways[int(direction)])
        return board.pixels()

    def _ahead(self, state: WarehouseState) -> Array:
        """`[n 2]`: the cell before each robot; its own at a wall."""
        d = state.direction
        down = (d == 2).astype(jnp.int32) - (d == 0).astype(jnp.int32)
        right = (d == 1).astype(jnp.int32) - (d == 3).astype(jnp.int32)
        return jnp.clip(state.place + jnp.stack([down, right], axis=-1), 0, np.array(self.size) - 1)

    def _stuck(self, state: WarehouseState) -> Array:
        """`[n]`: carrying, and another shelf stands ahead: the only illegal action is then to go forward."""
        ahead = self.code(self._ahead(state))
        taken = jnp.any(state.shelf == ahead[:, None], axis=1)
        return state.carrying & taken & (ahead != self.code(state.place))

    def _make_step(self, state: WarehouseState, reward: Array, crash: Array, first: bool = False) -> Step:
        view = self._views(state)
        legal = ~(self._stuck(state)[:, None] & (np.arange(5) == FORWARD))
        share = jnp.broadcast_to(reward / self.agents, (self.agents,))
        limit = False if first else state.clock >= self.time_limit
        return team_step(
            ({"view": view},), view.reshape(-1), share, (legal,), terminated=crash, truncated=limit, first=first, team_reward=reward
        )

    def _views(self, state: WarehouseState) -> Array:
        """`[n f]` float32: row, column, carrying, direction (4), on a highway; other robots about (5 a cell); shelves about (2 a cell)."""
        reach, n = np.arange(-self.sensor, self.sensor + 1), self.agents
        about = (reach[:, None] * self.stride + reach).reshape(-1).astype(np.int32)
        here = self.code(state.place)
        cell = here[:, None] + about
        facing = state.direction[:, None] == np.arange(4)
        own = jnp.concatenate([state.place, jnp.stack([state.carrying], axis=-1), facing, self.highway(state.place)[:, None]], axis=1)
        robot = jnp.concatenate([jnp.ones((n, 1), bool), facing], axis=1)
        there = cell[:, about != 0][..., None] == here  # [n c n]
        robots = jnp.any(there[..., None] & robot, axis=2)
        shelved = cell[..., None] == state.shelf  # [n c s]
        shelves = jnp.stack([jnp.any(shelved, axis=-1), jnp.any(shelved & state.requested, axis=-1)], axis=-1)
        return jnp.concatenate([own.astype(jnp.float32), robots.reshape(n, -1), shelves.reshape(n, -1)], axis=1)


def warehouse(options: Mapping[str, Any]) -> Warehouse:
    """`RobotWarehouse` from options; `task` is the field's name for it, such as `tiny-4ag-easy`."""
    chosen = resolve_options("jumanji:RobotWarehouse", options, DEFAULTS)
    found = re.fullmatch(rf"({'|'.join(SIZES)})-(\d+)ag(-easy|-hard)?", chosen["task"])
    if found is None:
        raise UnknownEnvironment(
            f"jumanji:RobotWarehouse: option 'task' is {chosen['task']!r}: write SIZE-AGENTSag[-easy|-hard] with a size of "
            f"{', '.join(SIZES)}, for example task=tiny-2ag"
        )
    (rows, columns), agents = SIZES[found[1]], int(found[2])
    requests = max(1, int(agents * REQUESTS[found[3] or ""]))
    return Warehouse(rows, columns, agents, requests, chosen["sensor_range"], chosen["time_limit"])
