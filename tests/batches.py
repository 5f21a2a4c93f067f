"""Batches of random play that laws are tested on, and updates compiled once for all of them."""

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from marlstone.algorithm import Algorithm, Train
from marlstone.core.compile_options import FASTEST_COMPILE
from marlstone.core.records import replace
from marlstone.core.types import Trajectory, Views
from marlstone.credit import Credit, Individual, Team
from marlstone.envs.make import make
from marlstone.evaluation.credit import random_play
from marlstone.evaluation.credit.random_play import quick

__all__ = ["B", "FASTEST_COMPILE", "T", "Combination", "Either", "begun", "trajectories_of", "combination", "quick", "rollout"]

B, T = 4, 14


@dataclass(frozen=True)
class Either(Credit):
    """Individual or team pay, as its one number says: both in one compiled program."""

    kind: ClassVar[str] = "either"

    def init(self, spec: Any, key: Any) -> Any:
        return jnp.zeros(())

    def reward(self, p: Any, views: Views, trajectory: Trajectory) -> tuple[Any, Any]:
        team, own = (credit.reward(None, views, trajectory) for credit in (Team(), Individual()))
        return tuple(jnp.where(p > 0, a, b) for a, b in zip(team, own))


def built(name: str, architecture: Any) -> Any:
    """The environment `name`, with the managers that `architecture` asks for."""
    managers = architecture.managers()
    return make(name) if managers is None else managers.over(make(name))


@functools.cache
def rollout(name: str, b: int = B, t: int = T, managers: Any = None) -> random_play.Rows:
    """Rows `[b t+1]`, recorded actions and their log-probs `[b t n]`, of a policy that plays uniformly among what is legal."""
    return random_play.rollout(make(name) if managers is None else managers.over(make(name)), b, t)


def trajectories_of(algorithm: Algorithm, name: str, b: int = B, t: int = T) -> Trajectory:
    """A batch of trajectories for this algorithm, begun with a memory that is not zero."""
    return random_play.trajectories_of(algorithm, rollout(name, b, t, algorithm.architecture.managers()))


def begun(algorithm: Algorithm, team: bool = False, like: Trajectory | None = None) -> Train:
    """A `Train` whose networks are random numbers everywhere; `team`: how `Either` pays."""
    train = random_play.drawn(algorithm, like)
    if not isinstance(algorithm.credit, Either):
        return train
    nets = replace(train.nets, credit=jnp.float32(team))
    return replace(
        train, nets=nets, opt=algorithm.learner.optimizer.init(nets), target_params=None if train.target_params is None else nets
    )


class Combination:
    """One combination of parts and its update, compiled once for all tests that use it."""

    def __init__(self, name: str, *parts: Any) -> None:
        self.name, self.it = name, Algorithm(built(name, parts[0]).spec, *parts)
        self._update = quick(lambda train, trajectories: self.it.update(train, trajectories, 0.25, jax.random.key(7))[0])

    def trajectories(self) -> Trajectory:
        return trajectories_of(self.it, self.name)

    def updated(self, trajectories: Trajectory, times: int = 1, team: bool = False) -> Train:
        """After `times` updates on the same trajectories."""
        train = begun(self.it, team, trajectories)
        for _ in range(times):
            train = self._update(train, trajectories)
        return jax.device_get(train)


combination = functools.cache(Combination)
