"""Credit methods that break one law each: what the laws must catch."""

import itertools
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from marlstone.credit import Credit, Individual, Spec, Team, Trajectory, Views

CALLS = itertools.count()


@dataclass(frozen=True)
class OnePayForAll(Credit):
    """Answers `[t]` where `[t n]` is asked."""

    def reward(self, p: Any, views: Views, trajectory: Trajectory) -> tuple[Any, Any]:
        return trajectory.step.team_reward[1:], trajectory.step.team_discount[1:]


@dataclass(frozen=True)
class Whim(Individual):
    """Draws where nobody gave it a key."""

    def advantage(self, p: Any, views: Views, trajectory: Trajectory, td: Any) -> Any:
        return td + np.random.default_rng().normal()


@dataclass(frozen=True)
class FirstComeFirstServed(Team):
    """Pays the first agent only."""

    def reward(self, p: Any, views: Views, trajectory: Trajectory) -> tuple[Any, Any]:
        pay, discount = super().reward(p, views, trajectory)
        return pay * (jnp.arange(pay.shape[-1]) == 0), discount


@dataclass(frozen=True)
class Idle(Credit):
    """Has a parameter that nothing uses."""

    def init(self, spec: Spec, key: Any) -> Any:
        return {"used": jnp.zeros(()), "unused": jnp.zeros(3)}

    def loss(self, p: Any, views: Views, trajectory: Trajectory) -> Any:
        return (trajectory.step.team_reward[1:] - p["used"]) ** 2


@dataclass(frozen=True)
class Generous(Team):
    """Gives everyone the whole return as their share."""

    claims: ClassVar[Any] = "shares"

    def contribution(self, p: Any, views: Views, trajectory: Trajectory) -> Any:
        return jnp.where(trajectory.acts, trajectory.step.team_reward[1:, None], 0)


@dataclass(frozen=True)
class Haunted(Individual):
    """Averages over everybody, present or not."""

    def advantage(self, p: Any, views: Views, trajectory: Trajectory, td: Any) -> Any:
        return td - td.mean(-1, keepdims=True)


@dataclass(frozen=True)
class SeedPlacement(Team):
    """Spreads pay over the trajectory, whoever's episode it was."""

    def reward(self, p: Any, views: Views, trajectory: Trajectory) -> tuple[Any, Any]:
        pay, discount = super().reward(p, views, trajectory)
        return jnp.broadcast_to(pay.mean(0), pay.shape), discount


@dataclass(frozen=True)
class Proud(Individual):
    """Divides by pay, which may be 0."""

    def advantage(self, p: Any, views: Views, trajectory: Trajectory, td: Any) -> Any:
        return td / jnp.abs(trajectory.step.reward).max()


@dataclass(frozen=True)
class Dice(Individual):
    """Begins otherwise each time."""

    def init(self, spec: Spec, key: Any) -> Any:
        return jnp.asarray(np.random.default_rng().normal(size=2), jnp.float32)

    def loss(self, p: Any, views: Views, trajectory: Trajectory) -> Any:
        return jnp.broadcast_to((p**2).sum(), trajectory.logp.shape[:1])


@dataclass(frozen=True)
class Growing(Individual):
    """A field that grows whenever it is read."""

    share: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "share", self.share * 2)


@dataclass(frozen=True)
class Diary(Individual):
    """Keeps a count outside of its parameters."""

    def advantage(self, p: Any, views: Views, trajectory: Trajectory, td: Any) -> Any:
        count = jax.pure_callback(
            lambda _: np.float32(next(CALLS)), jax.ShapeDtypeStruct((), jnp.float32), td[0, 0], vmap_method="sequential"
        )
        return td * (1 + count)
