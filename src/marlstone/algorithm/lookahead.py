"""One step of learning as a pure function: what credit differentiates that asks how policies would have moved."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from marlstone.algorithm.parameter_sets import ParameterSets
from marlstone.algorithm.views import log_prob
from marlstone.architectures.contract import Architecture, ObservationNormalizer
from marlstone.architectures.network import Network
from marlstone.core.types import Spec, Trajectory
from marlstone.credit.contract import everyone
from marlstone.learners.contract import Learner
from marlstone.learners.optimizer import clip_by_set

Array = Any


@dataclass(frozen=True, eq=False)
class BatchLookahead:
    """A batch of trajectories `[b t ...]` and the actors that would learn from it; they themselves get no gradient through here.

    `acts`: how many decisions each parameter set has in it; `beyond`: whose reward goes on after its own end (`Trajectory.counts`).
    """

    spec: Spec
    architecture: Architecture
    learner: Learner
    sets: ParameterSets
    actor: tuple[Network, ...]
    seen: ObservationNormalizer
    trajectory: Trajectory
    acts: Array
    beyond: Array

    def _logp(self, actor: Any) -> Array:
        step = self.trajectory.step
        heads, _, _ = self.architecture.policy(self.spec, actor, self.seen, step, self.trajectory.memory)
        now = lambda xs: tuple(None if x is None else x[:, :-1] for x in xs)
        return log_prob(self.spec, now(heads), now(step.legal), self.trajectory.action)

    def advantage(self, value: Array, reward: Array, discount: Array) -> tuple[Array, Array]:
        """The learner's advantages and value targets, `[b t m]`, were the team's values `[b t+1 m]` and rewards these."""
        m, step = reward.shape[-1], self.trajectory.step
        logp = lax.stop_gradient(self._logp(self.actor))
        value = everyone(self.spec, value, jnp.zeros_like(step.reward))
        full = everyone(self.spec, reward, step.reward[:, 1:]), everyone(self.spec, discount, step.discount[:, 1:])
        a, target, _ = self.learner.advantage(value, *full, self.beyond, logp, self.trajectory)  # type: ignore[attr-defined]
        return a[..., :m], target[..., :m]

    def step(self, advantage: Array, lr: float) -> Array:
        """Log-probs `[b t m]` of what the team did, by policies one plain gradient step of `lr` along

            mean_bt pi_i(a_i) / mu_i(a_i) A_i       per parameter set

        ahead, its gradient clipped as the learner's is: per group and parameter set. (With a shared trunk the learner's norm also holds the
        critic's part, which is not known here.) Gradients pass through the step to `advantage`."""
        m, actor = advantage.shape[-1], lax.stop_gradient(self.actor)
        whole = everyone(self.spec, advantage, jnp.zeros_like(self.trajectory.logp))

        def surrogate(actor: Any) -> Array:
            ratio = jnp.exp(jnp.clip(jnp.where(self.trajectory.acts, self._logp(actor) - self.trajectory.logp, 0), -20, 20))
            return self.sets.mean(ratio * whole, self.trajectory.acts, self.acts)

        grads = jax.grad(surrogate)(actor)
        groups = zip(grads, self.sets.sizes, strict=True)
        grads = tuple(clip_by_set(g, k > 1, self.learner.max_grad_norm)[0] for g, k in groups)
        after = jax.tree.map(lambda p, g: p + lr * g, actor, grads)
        return self._logp(after)[..., :m]
