"""Exploration over many steps: a chain of sub-goals, rewarded only at its end."""

from dataclasses import dataclass
from functools import cached_property

import jax.numpy as jnp
import numpy as np

from marlstone.core.distributions import Discrete
from marlstone.core.records import record
from marlstone.core.types import Array, Group, Leaf, Metric, Spec, Step
from marlstone.envs.names import UnknownEnvironment
from marlstone.envs.proving.ground import pair_contribution, pair_shapley
from marlstone.envs.team_games import team_step

SUBGOALS = 3
MOVE = np.array([0, -1, 1], np.int32)  # stay, left, right


@record
class PlanState:
    """Step number `t`, places `[2]` of carrier and partner in -reach..reach, and how many sub-goals are `done`."""

    t: Array
    place: Array
    done: Array


@dataclass(frozen=True)
class Plan:
    """A carrier and a partner in a corridor of 2 `reach` + 1 places, both starting in the middle; actions stay, left, right.

    In this order: the carrier fetches the key at the left end; brings it to the door at the right end; then both stand
    on the plates at once, the carrier on the left end's, the partner on the right end's. Only that is rewarded, by 1, and ends
    the episode; otherwise it is truncated after `rows` steps. Each sub-goal is one direction held for at most 2 `reach`
    steps, the shortest plan takes 5 `reach`, and walls hold who walks into them. By default, uniformly random play succeeds
    in 0.015% of the episodes (59 of 400,000), random actions held for 4 steps in 7.6%, for 8 steps in 19% (of 50,000 each).
    "place" is an agent's own, in [-1, 1]; "progress" is (has key, door open); "role" is (carrier, partner). `metrics` has
    "score", the part of the sub-goals reached.

    What a step is worth depends on the steps after it; here they are played best: V(s) = 1 where the shortest plan from s
    fits into the steps left, else 0, and `contribution_i` = V(next of a) - V(next of a with agent i staying). A lost step
    therefore counts exactly when no slack is left.
    """

    reach: int = 4
    rows: int = 48

    def __post_init__(self) -> None:
        if self.reach < 1:
            raise UnknownEnvironment(f"proving:plan: option 'reach' is {self.reach}: give at least 1")
        if self.rows < 5 * self.reach:
            raise UnknownEnvironment(
                f"proving:plan: option 'rows' is {self.rows}: the shortest plan takes {5 * self.reach}, 5 times 'reach'"
            )

    @cached_property
    def spec(self) -> Spec:
        """A carrier and a partner in one group."""
        leaves = {"place": Leaf("vector", (1,)), "progress": Leaf("vector", (2,)), "role": Leaf("vector", (2,))}
        names = ("carrier", "partner")
        return Spec(
            (Group("walkers", names, leaves, Discrete(3), names),),
            state=5,
            horizon=self.rows,
            metrics={"score": Metric("up", "sum")},
            return_bounds=(0.0, 1.0),
        )

    def _step(self, state: PlanState, reached: Array, first: bool = False) -> Step:
        place = state.place / self.reach
        progress = jnp.stack([state.done > 0, state.done > 1]).astype(jnp.float32)
        won = state.done == SUBGOALS
        reward = won.astype(jnp.float32)
        return team_step(
            ({"place": place[:, None], "progress": jnp.stack([progress, progress]), "role": jnp.eye(2)},),
            jnp.concatenate([place, progress, jnp.stack([state.t / self.rows])]),
            jnp.stack([reward, reward]) / 2,
            (None,),
            terminated=won, truncated=state.t >= self.rows, first=first, team_reward=reward, metrics={"score": reached / SUBGOALS},
        )  # fmt: skip

    def init(self, key: Array) -> tuple[PlanState, Step]:
        """Both in the middle, no sub-goal done."""
        zero = jnp.zeros((), jnp.int32)
        state = PlanState(zero, jnp.zeros(2, jnp.int32), zero)
        return state, self._step(state, jnp.zeros((), jnp.float32), first=True)

    def step(self, state: PlanState, action: tuple[Array, ...], key: Array) -> tuple[PlanState, Step]:
        """Both move; a sub-goal is done where its place is reached."""
        after = self._next(state, action[0])
        return after, self._step(after, (after.done - state.done).astype(jnp.float32))

    def _next(self, state: PlanState, action: Array) -> PlanState:
        place = jnp.clip(state.place + jnp.asarray(MOVE)[action], -self.reach, self.reach)
        left, right = place[0] == -self.reach, place == self.reach
        reached = jnp.stack([left, right[0], left & right[1], jnp.zeros((), bool)])[state.done]
        return PlanState(state.t + 1, place, state.done + reached)

    def shortest(self, state: PlanState) -> Array:
        """Steps the best play still needs: the carrier's way through the sub-goals left, the partner going to its plate meanwhile."""
        left, right = state.place + self.reach, self.reach - state.place
        legs = jnp.stack([left[0] + 4 * self.reach, right[0] + 2 * self.reach, left[0]])[jnp.minimum(state.done, 2)]
        return jnp.where(state.done == SUBGOALS, 0, jnp.maximum(legs, right[1]))

    def _value(self, state: PlanState, action: tuple[Array, ...]) -> Array:
        """`v [2 2]`: V after each agent stays (0) or acts (1)."""

        def worth(a: int, b: int) -> Array:
            after = self._next(state, action[0] * np.array([a, b]))
            return (after.t + self.shortest(after) <= self.rows).astype(jnp.float32)

        return jnp.stack([jnp.stack([worth(a, b) for b in (0, 1)]) for a in (0, 1)])

    def contribution(self, state: PlanState, action: tuple[Array, ...]) -> Array:
        """`[n]`: V(next of a) - V(next of a with agent i staying), the steps after played best."""
        return pair_contribution(self._value(state, action))

    def shapley(self, state: PlanState, action: tuple[Array, ...]) -> Array:
        """`[n]`: Shares of V(next of a) - V(next with both staying)."""
        return pair_shapley(self._value(state, action))
