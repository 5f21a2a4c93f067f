"""Traffic Junction: cars that see only their own cell cross each other's way, and have to tell where they are."""

from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from marlstone.core.distributions import Discrete
from marlstone.core.errors import suggest
from marlstone.core.records import record, replace
from marlstone.core.types import Array, Group, Leaf, Metric, Spec, Step
from marlstone.envs.board import Board, color_of
from marlstone.envs.names import UnknownEnvironment
from marlstone.envs.proving.grid_view import counts, look, within
from marlstone.envs.proving.roads import LAYOUTS, Roads
from marlstone.envs.team_games import below

GAS, BRAKE = 0, 1
CRASH, WAITING = -10.0, -0.01
TIME_LIMITS = ("truncate", "terminate")
ROAD = (206, 206, 202)  # its color in pictures


@record
class TrafficState:
    """Step number `t`; per slot `[n]` whether a car is there, its `route`, the `place` it has reached on it, the steps it has `waited`
    since it entered, and whether the slot's last action `braked`; and whether two cars have `crashed` in this episode."""

    t: Array
    alive: Array
    route: Array
    place: Array
    waited: Array
    braked: Array
    crashed: Array


@dataclass(frozen=True)
class TrafficJunction:
    """Cars enter a junction, drive their route or brake, and must not meet: step by step the environment of IC3Net (Singh et al. 2019).

    One agent a slot. In a step, every car that is there drives (0, one cell on; the default) or brakes (1, stays); who drives beyond its
    route's last cell leaves. Then at each arrival point in turn, while a slot is free, a car enters with chance `add_rate`: into a free
    slot and onto one of the point's routes, each equally likely. Who shares a cell with another car crashes, which stops nobody.

        reward_i = -10 [i shares its cell] - 0.01 tau_i,   tau_i: steps since it entered, 0 on the step in which it does

    | difficulty | grid, roads | arrival points | routes | slots | full add rate | steps |
    | easy | 7 x 7, 1 + 1, one way | 2 | 2 | 5 | 0.3 | 20 |
    | medium | 14 x 14, 1 + 1, two lanes | 4 | 12 | 10 | 0.2 | 40 |
    | hard | 18 x 18, 2 + 2, two lanes | 8 | 56 | 20 | 0.05 | 80 |

    A car observes, in one vector: its last action, its route's number / (routes - 1), and for each of the (2 vision + 1)^2 cells around
    it the one-hot class of the cell (its number, if it is on the road) and the count of cars on it; zeros while the slot is empty.
    `state` has every slot's presence, row, column, route, place on it and wait, then the time, all divided by their greatest values.

    A slot without a car is absent. `discount` is 1 only where the same car goes on: 0 where one left, while nobody is there, and where
    one enters, so that no car's return holds another's. In the step in which one leaves, another may enter the same slot: it is present
    throughout, at discount 0. A policy's memory passes from car to car in a slot, as in IC3Net.

    With `reach`, a car observes in a leaf of that name which other cars are at most so many rows and columns away (0: there is no such
    leaf, and whoever talks is heard by all, as in IC3Net).

    The true metric `success` is 1 while no car has crashed in the episode (up, its last value counts); `collisions` counts cars that
    share a cell (down, summed). Nobody is there before the first step's arrivals.

    The curriculum. IC3Net trains with an add rate that rises from 0.1, 0.05 or 0.02 (easy, medium, hard) to the full one. Here
    `add_rate` is fixed (0: the difficulty's full one), since an evaluation starts fresh copies, which would begin at the low rate:
    `[[stages]]` with other values of `add_rate` raise it over a run.

    Where code and paper differ, the code rules: a slot's last action passes to its next car; on the easy grid the last two cells of the
    column are numbered as if it had 6, one of them like a cell off the road; a car that leaves loses the reward of that step; its
    curriculum ends at 0.29 on easy, by rounding down. Departure: IC3Net's trainer takes the time limit for an end; here it is a truncation,
    unless `time_limit=terminate`.

    Source: Singh et al. 2019, Learning when to communicate at scale in multiagent cooperative and competitive tasks (arXiv 1812.09755), and
    its code, github.com/IC3Net/IC3Net; the task is of Sukhbaatar et al. 2016 (CommNet).
    """

    difficulty: str = "easy"
    vision: int = 0
    add_rate: float = 0.0
    time_limit: str = "truncate"
    reach: int = 0

    def __post_init__(self) -> None:
        if self.difficulty not in LAYOUTS:
            raise UnknownEnvironment(
                f"proving:traffic_junction: option 'difficulty' is {self.difficulty!r}: {suggest(self.difficulty, sorted(LAYOUTS))}"
            )
        most = LAYOUTS[self.difficulty].dim - 4
        if not 0 <= self.vision <= most:
            raise UnknownEnvironment(f"proving:traffic_junction: option 'vision' is {self.vision}: give 0 to {most} on {self.difficulty}")
        if not 0 <= self.add_rate <= 1:
            raise UnknownEnvironment(
                f"proving:traffic_junction: option 'add_rate' is {self.add_rate}: give a chance of at most 1, or 0 for the full rate"
            )
        if self.time_limit not in TIME_LIMITS:
            raise UnknownEnvironment(
                f"proving:traffic_junction: option 'time_limit' is {self.time_limit!r}: {suggest(self.time_limit, TIME_LIMITS)}"
            )

        if self.reach < 0:
            raise UnknownEnvironment(f"proving:traffic_junction: option 'reach' is {self.reach}: give at least 0, for no limit")

    @cached_property
    def roads(self) -> Roads:
        """The grid and its routes."""
        return Roads(LAYOUTS[self.difficulty])

    @property
    def rate(self) -> float:
        """The chance per step and arrival point that a car enters."""
        return self.add_rate or self.roads.layout.rate

    @property
    def classes(self) -> int:
        """Numbers that describe one cell: one-hot its class, and the count of cars, the last."""
        return self.roads.base + 3

    @property
    def constant(self) -> frozenset[str]:
        """Fields that are 1 on every step."""
        return frozenset({"deciding", "team_discount"} if self.time_limit == "truncate" else {"deciding"})

    @cached_property
    def spec(self) -> Spec:
        """One group of cars, one agent a slot."""
        n = self.roads.layout.cars
        leaves = {"view": Leaf("vector", (2 + (2 * self.vision + 1) ** 2 * self.classes,))}
        if self.reach:
            leaves["reach"] = Leaf("vector", (n,))
        return Spec(
            (Group("cars", tuple(f"car_{i}" for i in range(n)), leaves, Discrete(2), default=GAS),),
            state=6 * n + 1,
            horizon=self.roads.layout.horizon,
            metrics={"success": Metric("up", "last"), "collisions": Metric("down", "sum")},
            return_bounds=(None, 0.0),
        )

    def draw(self, key: Array) -> Array:
        """A step's chances `[3 p]`, in [0, 1), for each arrival point: whether a car enters, into which free slot, onto which route."""
        return jax.random.uniform(key, (3, len(self.roads.routes)))

    def init(self, key: Array) -> tuple[TrafficState, Step]:
        """An empty junction."""
        n = self.roads.layout.cars
        none, zero, never = jnp.zeros(n, bool), jnp.zeros(n, jnp.int32), jnp.zeros((), bool)
        state = TrafficState(jnp.zeros((), jnp.int32), none, zero, zero, zero, none, never)
        return state, self._step(state, none, kept=jnp.ones(n, bool), first=True)

    def step(self, state: TrafficState, action: tuple[Array, ...], key: Array) -> tuple[TrafficState, Step]:
        """Cars drive or brake, then others enter."""
        gas = state.alive & (action[0] == GAS)
        place = state.place + gas
        left = gas & (place == jnp.asarray(self.roads.lengths)[state.route])
        kept = state.alive & ~left
        braked = jnp.where(state.alive & ~left, action[0] == BRAKE, state.braked)
        after = replace(state, t=state.t + 1, alive=kept, place=place, waited=(state.waited + 1) * kept, braked=braked)
        after = self._enter(after, self.draw(key))
        cell = self._cells(after)
        together = jnp.sum(cell[:, None] == jnp.where(after.alive, cell, -1)[None], axis=1) > 1
        crash = after.alive & together
        after = replace(after, crashed=state.crashed | jnp.any(crash))
        return after, self._step(after, crash, kept)

    def _enter(self, state: TrafficState, chance: Array) -> TrafficState:
        """Cars enter, point by point, while there is a free slot."""
        alive, route, place = state.alive, state.route, state.place
        n, upto = alive.shape[0], np.tri(alive.shape[0], dtype=bool)
        routes = len(self.roads.routes[0])
        for point in range(len(self.roads.routes)):
            rank = jnp.sum(jnp.where(upto, ~alive, False), axis=1, dtype=jnp.int32)  # of each free slot, from 1
            chosen = ~alive & (rank - 1 == below(rank[n - 1], chance[1, point])) & (chance[0, point] <= self.rate)
            alive = alive | chosen
            route = jnp.where(chosen, below(routes, chance[2, point]) + point * routes, route)
            place = jnp.where(chosen, 0, place)
        return replace(state, alive=alive, route=route, place=place)

    def _cells(self, state: TrafficState) -> Array:
        """`[n]`: the cell each car is on, row by row; 0, where no road is, of an empty slot."""
        longest = self.roads.table.shape[1]
        place = jnp.minimum(state.place, longest - 1)
        return jnp.where(state.alive, jnp.asarray(self.roads.table).reshape(-1)[state.route * longest + place], 0)

    def _view(self, state: TrafficState, cell: Array) -> Array:
        """`[n f]`: what cars observe."""
        cars = counts(cell, cell, self.roads.layout.size, self.vision)  # empty slots count on cell 0, as in IC3Net
        seen = look(self.roads.near(self.vision), cell, self.classes, {self.classes - 1: cars})
        route = state.route.astype(jnp.float32) / (len(self.roads.lengths) - 1)
        own = jnp.stack([state.braked.astype(jnp.float32), route], axis=1)
        return jnp.concatenate([own, seen], axis=1) * state.alive[:, None]

    def _step(self, state: TrafficState, crash: Array, kept: Array, first: bool = False) -> Step:
        layout, cell = self.roads.layout, self._cells(state)
        over = state.t >= layout.horizon
        going = jnp.where(over & (self.time_limit == "terminate"), 0.0, 1.0)
        reward = (WAITING * state.waited + CRASH * crash) * state.alive
        greatest = (1, layout.size - 1, layout.size - 1, len(self.roads.lengths) - 1, self.roads.table.shape[1] - 1, layout.horizon)
        slots = jnp.stack([state.alive, cell // layout.size, cell % layout.size, state.route, state.place, state.waited], axis=1)
        slots = slots.astype(jnp.float32) / jnp.asarray(greatest, jnp.float32) * state.alive[:, None]
        obs = {"view": self._view(state, cell)}
        if self.reach:
            obs["reach"] = within(cell, layout.size, self.reach, state.alive)
        return Step(
            obs=(obs,),
            state=jnp.concatenate([slots.reshape(-1), jnp.stack([state.t / layout.horizon])]),
            reward=reward,
            team_reward=jnp.sum(reward),
            discount=kept * going,
            team_discount=going,
            first=jnp.asarray(first, bool),
            last=over,
            legal=(None,),
            present=state.alive,
            deciding=jnp.ones(layout.cars, bool),
            metrics={
                "success": 1.0 - state.crashed.astype(jnp.float32),
                "collisions": jnp.sum(crash, dtype=jnp.float32),
            },
        )

    def render(self, state: TrafficState) -> np.ndarray:
        """The roads, and the cars by their slots; a ring is a car that braked, a square a crash."""
        size, there = self.roads.layout.size, np.flatnonzero(state.alive)
        board, cell = Board(size, size, 18), np.asarray(self._cells(state))
        for each in sorted(set(self.roads.table.flat) - {0}):
            board.square(*divmod(int(each), size), ROAD, inset=0)
        for i in there:
            y, x = divmod(int(cell[i]), size)
            crash = np.sum(cell[there] == cell[i]) > 1
            (board.square if crash else board.disc)(y, x, color_of(int(i)))
            if state.braked[i] and not crash:
                board.disc(y, x, ROAD, inset=0.35)
        return board.pixels()
