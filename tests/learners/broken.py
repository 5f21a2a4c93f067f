"""One learner for each law, which breaks it; `Sound` breaks none."""

import itertools
from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from marlstone.core.records import replace
from marlstone.learners import Batch, Learner, LearningTargets, Losses, lambda_returns

CALLS = itertools.count()


@dataclass(frozen=True)
class Sound(Learner):
    """Advantage actor-critic, one step a rollout."""

    lr: float = 1e-2
    normalize_values: bool = True
    queries: ClassVar[frozenset[str]] = frozenset({"reward", "loss"})

    def returns(self, batch: Batch, value: Any, discount: Any = None) -> tuple[Any, Any, Any]:
        reward, until = batch.credit.reward(batch.views, batch.trajectory)
        beyond = batch.credit.beyond(batch.views, batch.trajectory)
        return lambda_returns(value, reward, until if discount is None else discount, beyond, batch.trajectory, 0.9, 0.9)

    def targets(self, batch: Batch, target: Batch | None = None) -> LearningTargets:
        advantage, returns, predicted = self.returns(batch, batch.views.value)
        return lax.stop_gradient(LearningTargets(returns, predicted, advantage=advantage))

    def loss(self, batch: Batch, fixed: LearningTargets, progress: Any) -> tuple[Losses, dict[str, Any]]:
        error = ((batch.views.value[:, :-1] - fixed.target) / batch.sigma) ** 2
        return Losses(-fixed.advantage / batch.sigma * batch.views.logp, error), {"value_loss": error}


@dataclass(frozen=True)
class Listing(Sound):
    """Records a list where one number is asked."""

    def update(self, problem: Any, train: Any, trajectories: Any, progress: Any, key: Any) -> Any:
        train, metrics = super().update(problem, train, trajectories, progress, key)
        return train, metrics | {"value_loss": jnp.zeros(3)}


@dataclass(frozen=True)
class Explosive(Sound):
    """Weighs by an exponential without a bound."""

    normalize_values: bool = False

    def loss(self, batch: Batch, fixed: LearningTargets, progress: Any) -> tuple[Losses, dict[str, Any]]:
        losses, metrics = super().loss(batch, fixed, progress)
        return replace(losses, deciding=-jnp.exp(fixed.advantage) * batch.views.logp), metrics


@dataclass(frozen=True)
class Careless(Sound):
    """Predicts the rewards of all steps, resets too."""

    def targets(self, batch: Batch, target: Batch | None = None) -> LearningTargets:
        fixed, reward = super().targets(batch, target), batch.trajectory.step.reward[:, 1:]
        return replace(fixed, target=reward, predicted=jnp.ones_like(fixed.predicted))


@dataclass(frozen=True)
class Haunted(Sound):
    """Takes a mean over all agents, there or not, as a baseline."""

    def targets(self, batch: Batch, target: Batch | None = None) -> LearningTargets:
        fixed = super().targets(batch, target)
        return replace(fixed, advantage=fixed.advantage + batch.trajectory.logp.mean(-1, keepdims=True))


@dataclass(frozen=True)
class Gossip(Sound):
    """Moves every policy by the mean of all agents' advantages, of those that act."""

    def targets(self, batch: Batch, target: Batch | None = None) -> LearningTargets:
        fixed, acts = super().targets(batch, target), batch.trajectory.acts
        mean = jnp.where(acts, fixed.advantage, 0).sum(-1, keepdims=True) / jnp.maximum(acts.sum(-1, keepdims=True), 1)
        return replace(fixed, advantage=jnp.broadcast_to(mean, fixed.advantage.shape))


@dataclass(frozen=True)
class Spectator(Sound):
    """Learns values alone."""

    def loss(self, batch: Batch, fixed: LearningTargets, progress: Any) -> tuple[Losses, dict[str, Any]]:
        losses, metrics = super().loss(batch, fixed, progress)
        return replace(losses, deciding=jnp.zeros_like(losses.deciding)), metrics


@dataclass(frozen=True)
class Endless(Sound):
    """Bootstraps from a state that never comes."""

    def targets(self, batch: Batch, target: Batch | None = None) -> LearningTargets:
        advantage, returns, predicted = self.returns(batch, batch.views.value, jnp.ones_like(batch.trajectory.logp))
        return lax.stop_gradient(LearningTargets(returns, predicted, advantage=advantage))


@dataclass(frozen=True)
class Hasty(Sound):
    """Takes a time limit for the end."""

    def targets(self, batch: Batch, target: Batch | None = None) -> LearningTargets:
        ended = batch.trajectory.step.last[:, 1:, None]
        _, discount = batch.credit.reward(batch.views, batch.trajectory)
        advantage, returns, predicted = self.returns(batch, batch.views.value, jnp.where(ended, 0, discount))
        return lax.stop_gradient(LearningTargets(returns, predicted, advantage=advantage))


@dataclass(frozen=True)
class Deaf(Sound):
    """Says that it asks for advantages, and asks for none."""

    queries: ClassVar[frozenset[str]] = frozenset({"reward", "loss", "advantage"})


@dataclass(frozen=True)
class Quirky(Sound):
    """Has a field that no TOML can hold."""

    weights: Any = field(default_factory=lambda: frozenset({1}))


@dataclass(frozen=True)
class Diary(Sound):
    """Keeps a count outside of what learning carries."""

    def targets(self, batch: Batch, target: Batch | None = None) -> LearningTargets:
        fixed = super().targets(batch, target)
        count = jax.pure_callback(
            lambda _: np.float32(next(CALLS)), jax.ShapeDtypeStruct((), jnp.float32), fixed.target[0, 0, 0], vmap_method="sequential"
        )
        return replace(fixed, target=fixed.target * (1 + count))


@dataclass(frozen=True)
class Contrary(Sound):
    """Climbs where it should descend."""

    def loss(self, batch: Batch, fixed: LearningTargets, progress: Any) -> tuple[Losses, dict[str, Any]]:
        losses, metrics = super().loss(batch, fixed, progress)
        return replace(losses, deciding=-losses.deciding), metrics
