"""Proximal policy optimization, decoupled (Schulman et al. 2017; Hilton et al. 2022), on per-agent V-trace returns.

    L = min(pi_prox / mu, c) x min(ratio A, clip(ratio, 1 - e, 1 + e) A),   ratio = pi / pi_prox

mu acted, pi_prox is the policy when the update began, so data may be stale; on-policy is the case pi_prox = mu, not
another path. Ratios are per agent, never their product.

Where credit wants action values, they are learned as what a joint action adds to the state's value,

    q(s, a) = v(s) + f(s, a),   f(s, a) -> r + g d v(s') - v(s)

since one agent's action changes the return by far less than states differ in theirs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax.numpy as jnp
from jax import lax

from marlstone.core.distributions import ActionSpace
from marlstone.core.layers import Dense
from marlstone.core.records import replace
from marlstone.core.types import Trajectory
from marlstone.learners.contract import Learner, in_range
from marlstone.learners.lambda_returns import lambda_returns
from marlstone.learners.minibatches import update_in_epochs
from marlstone.learners.optimizer import Adam, Optimizer
from marlstone.learners.problem import Batch, LearningTargets, Losses, Problem, TrainT

Array = Any
SHARPEN_FROM, SHARPEN_TO = 0.25, 0.75  # of the budget


@dataclass(frozen=True)
class PolicyGradient(Learner):
    """Defaults follow Yu et al. 2022 and Andrychowicz et al. 2021, tuned here on seeds 0-9 (docs/results).

    Fields: `lr` learning rate, `credit_lr` that of what credit wants learned (action values, its own networks); `anneal`
    whether they fall linearly to 0 over the budget; `entropy` bonus, which moves linearly to
    `entropy_end` over the budget (None: stays), so that policies explore first; `sharpen` makes policies nearly deterministic while they
    still learn from what that does: over the middle half of the budget logits are multiplied by it in all (of a Box, standard deviations
    are divided by it), a little after every update; 1: not at all; `clip` e;
    `cap` c on stale ratios; `value` weight of the value loss; `gamma`, `lam` discount and lambda; `epochs`,
    `minibatches` per batch (environments are permuted, never single steps); `max_grad_norm` per network and parameter
    set; `normalize_advantages` per batch and parameter set; `normalize_values` PopArt; `normalize_observations`;
    `optimizer`: any optax gradient transformation (`learners.optimizer`); `group_lr`: learning rates of groups' actors and critics, by
    name, in place of `lr`.
    """

    kind: ClassVar[str] = "policy_gradient"
    lr: float = 5e-4
    credit_lr: float = 2e-3
    anneal: bool = True
    entropy: float = 0.01
    entropy_end: float | None = None
    sharpen: float = 1.0
    clip: float = 0.2
    cap: float = 2.0
    value: float = 0.5
    gamma: float = 0.99
    lam: float = 0.95
    epochs: int = 4
    minibatches: int = 4
    max_grad_norm: float = 0.5
    normalize_advantages: bool = True
    normalize_values: bool = True
    normalize_observations: bool = True
    optimizer: Optimizer = field(default_factory=Adam)
    group_lr: dict[str, float] = field(default_factory=dict, hash=False)

    queries: ClassVar[frozenset[str]] = frozenset({"reward", "mix", "advantage", "loss", "meta"})
    constrained: ClassVar[bool] = True
    traced: ClassVar[tuple[str, ...]] = ("lr", "gamma")
    rampable: ClassVar[tuple[str, ...]] = ("lr", "credit_lr", "entropy", "clip", "cap", "value", "gamma", "lam", "max_grad_norm")

    def __post_init__(self) -> None:
        ranges = {
            "lr": self.lr > 0,
            "credit_lr": self.credit_lr > 0,
            "clip": self.clip > 0,
            "cap": self.cap >= 1,
            "gamma": 0 <= self.gamma <= 1,
            "lam": 0 <= self.lam <= 1,
            "epochs": self.epochs >= 1,
            "minibatches": self.minibatches >= 1,
            "max_grad_norm": self.max_grad_norm > 0,
            "entropy": self.entropy >= 0,
            "entropy_end": self.entropy_end is None or self.entropy_end >= 0,
            "value": self.value >= 0,
            "sharpen": self.sharpen >= 1,
            "group_lr": all(x > 0 for x in self.group_lr.values()),
        }
        in_range(self, ranges)

    def sharpened(self, spaces: Sequence[ActionSpace], actor: tuple[Any, ...], progress: Array, version: Array) -> tuple[Any, ...]:
        """The actors' networks after update number `version`, made at `progress`: with sharper heads, while `sharpen` is under way."""
        if self.sharpen == 1:
            return actor
        part = lambda p: jnp.clip((p - SHARPEN_FROM) / (SHARPEN_TO - SHARPEN_FROM), 0, 1)
        following = jnp.where(version > 0, progress * (version + 1) / jnp.maximum(version, 1), 0.0)
        factor = self.sharpen ** (part(following) - part(progress))
        head = lambda space, p: replace(p, head=Dense(*space.scale_head(p.head.w, p.head.b, factor)))
        return tuple(head(space, p) for space, p in zip(spaces, actor, strict=True))

    def rate(self, progress: Array) -> tuple[Array, Array]:
        """The learning rates at `progress` in [0, 1] of the budget: of actors and critics, and of what credit wants learned."""
        left = 1 - progress if self.anneal else jnp.ones(())
        return self.lr * left, self.credit_lr * left

    def update(
        self, problem: Problem, train: TrainT, trajectories: Trajectory, progress: Array, key: Array
    ) -> tuple[TrainT, dict[str, Array]]:
        """Epochs over minibatches; then policies are sharpened, where that is asked for."""
        train, metrics = update_in_epochs(self, problem, train, trajectories, progress, key)
        actor = self.sharpened([g.space for g in problem.spec.groups], train.nets.actor, progress, train.version)
        return replace(train, nets=replace(train.nets, actor=actor)), metrics

    def advantage(
        self, value: Array, reward: Array, discount: Array, beyond: Array, logp: Array, trajectory: Trajectory
    ) -> tuple[Array, Array, Array]:
        """Advantages, value targets, and where values are predicted, `[b t n]`, under that reward and discount.

        Args: `value [b t+1 n]`; `beyond`: whose reward goes on after its own end (`Trajectory.counts`); `logp`: by the policy that learns.
        Gradients pass to `reward`. Source: V-trace (Espeholt et al. 2018) with the lambda of GAE (Schulman et al. 2016).
        """
        ratio = jnp.exp(jnp.clip(logp - trajectory.logp, -20, 20))
        return lambda_returns(value, reward, discount, beyond, trajectory, self.gamma, self.lam, ratio)

    def targets(self, batch: Batch, target: Batch | None = None) -> LearningTargets:
        """Value targets and advantages, `[b t n]`, of rewards and of costs; the policy that begins the update is the proximal one."""
        credit, views, trajectory = batch.credit, batch.views, batch.trajectory
        value = credit.predict(views.value, views.value, trajectory.step)
        reward, discount = credit.reward(views, trajectory)
        a, vs, predicted = self.advantage(value, reward, discount, credit.beyond(views, trajectory), views.logp, trajectory)
        advantage = credit.advantage(replace(views, value=value), trajectory, a)
        gap = reward + self.gamma * discount * value[:, 1:] - value[:, :-1]
        costs = charged = None
        if (cost := batch.cost) is not None:
            excess, costs, _ = self.advantage(cost.value, cost.cost, cost.discount, cost.beyond, views.logp, trajectory)
            charged = cost.rate * excess
        return lax.stop_gradient(LearningTargets(vs, predicted, views.logp, advantage, gap, costs, charged))

    def loss(self, batch: Batch, fixed: LearningTargets, progress: Array) -> tuple[Losses, dict[str, Array]]:
        """The clipped surrogate with its entropy bonus, and the squared errors of values in units of `batch.sigma`, of action values and of
        values of costs, `[b t n]` each."""
        views, trajectory = batch.views, batch.trajectory
        end = self.entropy if self.entropy_end is None else self.entropy_end
        bonus = self.entropy + (end - self.entropy) * progress
        log_ratio = views.logp - fixed.logp
        ratio, weight = jnp.exp(log_ratio), jnp.minimum(jnp.exp(jnp.clip(fixed.logp - trajectory.logp, -20, 20)), self.cap)
        clipped = jnp.clip(ratio, 1 - self.clip, 1 + self.clip)
        surrogate = weight * jnp.minimum(ratio * fixed.advantage, clipped * fixed.advantage)
        value = batch.credit.predict(views.value, views.value, trajectory.step)
        error = ((value[:, :-1] - fixed.target) / batch.sigma) ** 2
        metrics = {
            "value_loss": error,
            "entropy": views.entropy,
            "kl": ratio - 1 - log_ratio,
            "clipped": (jnp.abs(ratio - 1) > self.clip).astype(jnp.float32),
            "staleness": weight,
        }
        gap = None
        if views.q_chosen is not None:
            gap = self.value * (views.q_chosen - lax.stop_gradient(views.value[:, :-1]) - fixed.gap) ** 2
            metrics["action_value_loss"] = gap
        costs = None
        if (cost := batch.cost) is not None:
            metrics["cost_value_loss"] = ((cost.value[:, :-1] - fixed.cost) / cost.sigma) ** 2
            costs = self.value * metrics["cost_value_loss"]
        return Losses(-surrogate - bonus * views.entropy, self.value * error, gap, costs), metrics
