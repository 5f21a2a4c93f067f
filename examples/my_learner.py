"""A learner of your own, in one file: advantage-weighted regression (after Peng et al. 2019), on each rollout and then forgetting it.

    L = -min(exp(A / beta), cap) log pi(a)        A: lambda-returns less the value, standardized

Actions are imitated, good ones more than bad ones, so that no ratio of policies is needed. What credit answers is what it learns from;
what cannot be got wrong is shared: masks, ends of episodes, averages, clipping, minibatches (`update_in_epochs`).
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax.numpy as jnp
from jax import lax

from marlstone.learners import Adam, Batch, Learner, LearningTargets, Losses, Optimizer, lambda_returns

Array = Any


@dataclass(frozen=True)
class MyLearner(Learner):
    """`lr` falls to 0 over the budget; `beta`: the smaller, the more only the best actions are imitated; `cap` on their weight; `gamma`,
    `lam`: discount and lambda; `epochs`, `minibatches` per rollout; the rest as of every learner."""

    lr: float = 5e-4
    beta: float = 1.0
    cap: float = 20.0
    gamma: float = 0.99
    lam: float = 0.95
    epochs: int = 4
    minibatches: int = 4
    normalize_advantages: bool = True
    normalize_values: bool = True
    optimizer: Optimizer = field(default_factory=Adam)

    queries: ClassVar[frozenset[str]] = frozenset({"reward", "advantage", "loss"})  # what it asks of the credit method
    needs: ClassVar[frozenset[str]] = frozenset({"logp", "entropy", "value"})  # what it asks of the networks
    traced: ClassVar[tuple[str, ...]] = ("lr", "gamma")  # only arithmetic reads them: one program serves all values

    def __post_init__(self) -> None:
        if self.beta <= 0:
            raise ValueError(f"MyLearner.beta is {self.beta}: give a positive number, such as 1.0")

    def rate(self, progress: Array) -> tuple[Array, Array]:
        return self.lr * (1 - progress), self.lr * (1 - progress)

    def targets(self, batch: Batch, target: Batch | None = None) -> LearningTargets:
        credit, views, trajectory = batch.credit, batch.views, batch.trajectory
        reward, discount = credit.reward(views, trajectory)
        beyond = credit.beyond(views, trajectory)
        td, returns, predicted = lambda_returns(views.value, reward, discount, beyond, trajectory, self.gamma, self.lam)
        advantage = credit.advantage(views, trajectory, td)
        return lax.stop_gradient(LearningTargets(returns, predicted, advantage=advantage))

    def loss(self, batch: Batch, fixed: LearningTargets, progress: Array) -> tuple[Losses, dict[str, Array]]:
        weight = jnp.minimum(jnp.exp(fixed.advantage / self.beta), self.cap)
        error = ((batch.views.value[:, :-1] - fixed.target) / batch.sigma) ** 2
        losses = Losses(deciding=-weight * batch.views.logp, predicting=0.5 * error)
        return losses, {"value_loss": error, "entropy": batch.views.entropy, "weight": weight}
