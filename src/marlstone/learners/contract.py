"""How signals become parameters: the contract of a learner.

A learner is one frozen dataclass. It says what it learns from (`targets`), what it minimizes (`loss`), and owns its update: by default
epochs over minibatches of each rollout (`learners.minibatches`), or batches of what is remembered (`learners.replayed`), or anything it
builds from the learning problem (`learners.problem`).
"""

from dataclasses import MISSING
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from marlstone.core.distributions import ActionSpace
from marlstone.core.types import Trajectory
from marlstone.learners.minibatches import update_in_epochs
from marlstone.learners.optimizer import Adam, Optimizer
from marlstone.learners.problem import Batch, LearningTargets, Losses, Problem, TrainState, TrainT
from marlstone.learners.replay import Replay

Array = Any


class Learner:
    """The contract. Subclass as a frozen dataclass, in one file, and name it `kind = "file.py:Class"`.

    Class attributes:
      queries: the questions that it asks a credit method; a method that answers others is refused, so that no answer is ignored.
      needs: views that it learns from; critics are built for these and for what credit needs.
      constrained: whether it subtracts what actions cost (`Batch.cost`) from what moves policies; others are refused a constraint.
      value_based: whether actors' outputs are action values, acted on epsilon-greedily; else they are policies, and act by chance.
      traced: fields that only arithmetic reads: one compiled program serves all their values.
      rampable: fields that only arithmetic in `update` reads, so that `[ramps]` may move them while a run trains.

    Attributes, each of which may be a field (these are the defaults):
      optimizer, max_grad_norm: how gradients become steps, and their largest norm per network and parameter set.
      epochs, minibatches: passes over a rollout, and parts of it that a step is made from; environments are divided, never single steps.
      normalize_observations, normalize_values, normalize_advantages: by running moments; by PopArt; within a batch.
      replay: what is remembered, of a learner that replays.
      group_lr: by name, learning rates of groups, of a learner whose gradient steps take `learning_rates(..., problem)`.
    """

    kind: ClassVar[str]
    queries: ClassVar[frozenset[str]] = frozenset({"reward", "loss"})
    needs: ClassVar[frozenset[str]] = frozenset({"logp", "entropy", "value"})
    constrained: ClassVar[bool] = False
    value_based: ClassVar[bool] = False
    traced: ClassVar[tuple[str, ...]] = ()
    rampable: ClassVar[tuple[str, ...]] = ()

    lr: float = 5e-4
    optimizer: Optimizer = Adam()
    max_grad_norm: float = 0.5
    epochs: int = 1
    minibatches: int = 1
    normalize_observations: bool = True
    normalize_values: bool = False
    normalize_advantages: bool = False
    replay: Replay | None = None

    # ---- what it can learn
    def refuses(self, space: ActionSpace) -> str | None:
        """Why it cannot learn to act in `space`, or None."""
        return None

    def init(self, nets: Any, like: Trajectory | None) -> tuple[Any, Any]:
        """`(target_params, replay)` before the first update: arrays that `Train` carries for this learner alone, None for none.

        Args: `nets`, the networks; `like`, the shapes of one rollout's trajectories, `[b ...]`, None where nobody will learn.
        """
        return None, None

    # ---- schedules: `progress` in [0, 1] of the budget
    def rate(self, progress: Array) -> tuple[Array, Array]:
        """The learning rates: of actors and critics, and of what credit wants learned (action values, its own arrays)."""
        return jnp.asarray(self.lr), jnp.asarray(self.lr)

    def explore(self, progress: Array) -> Array:
        """How often agents act at random in the next rollout."""
        return jnp.zeros(())

    # ---- what it learns
    def targets(self, batch: Batch, target: Batch | None = None) -> LearningTargets:
        """What losses are measured against, `[b t n]`, without gradient. `target`: the batch as target networks read it, of learners that
        ask for it in `compute_targets`."""
        raise NotImplementedError(f"{type(self).__name__} has no targets: return LearningTargets, or write `update` without")

    def loss(self, batch: Batch, fixed: LearningTargets, progress: Array) -> tuple[Losses, dict[str, Array]]:
        """The losses, `[b t n]`, against `fixed`; and figures to record, of the same shape, averaged where agents act."""
        raise NotImplementedError(f"{type(self).__name__} has no loss: return Losses and a dict, or write `update` without")

    def compute_targets(self, problem: Problem, train: TrainState, trajectories: Trajectory, outputs: Any = None) -> LearningTargets:
        """The targets of a batch by these networks. `outputs`: of the actors, where they are known."""
        return self.targets(problem.read(train, trajectories, outputs))

    def update(
        self, problem: Problem, train: TrainT, trajectories: Trajectory, progress: Array, key: Array
    ) -> tuple[TrainT, dict[str, Array]]:
        """One update from a batch of trajectories, `[b ...]`; and figures to record, scalars. Version and exploration are moved by the
        algorithm. Default: `learners.minibatches`."""
        return update_in_epochs(self, problem, train, trajectories, progress, key)

    # ---- what it tells
    def signal(self, problem: Problem, train: TrainState, trajectories: Trajectory) -> Array:
        """What moves each agent's policy, `[b t n]`: what is reported of agents where the credit method makes no claim."""
        advantage = self.compute_targets(problem, train, trajectories).advantage
        return jnp.zeros_like(trajectories.logp) if advantage is None else advantage

    def check_divergence(self, now: dict[str, float], highest: dict[str, float]) -> str | None:
        """What is wrong with the latest figures, given the highest ever met, and what to do about it; or None."""
        return None


def in_range(learner: Any, ranges: dict[str, bool]) -> None:
    """Raises ValueError for the first field that is out of range, naming its value and its default."""
    for name, ok in ranges.items():
        if not ok:
            part, default = type(learner).__name__, type(learner).__dataclass_fields__[name].default
            usual = "" if default is MISSING else f", the default is {default}"
            raise ValueError(f"{part}.{name} is {getattr(learner, name)}: out of range{usual}")


def copied(nets: Any) -> Any:
    """Networks of equal values in arrays of their own, as target networks begin."""
    return jax.tree.map(jnp.copy, nets)
