"""When a policy's answer does not come in time: a declared fallback acts. The policy's side of what may go wrong."""

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp

from marlstone.algorithm import Algorithm
from marlstone.core.errors import UserError
from marlstone.core.types import Step
from marlstone.envs.faults.by_agent import check_choice, check_limits, replace_actions
from marlstone.envs.faults.link import chain_begins, chain_goes_on
from marlstone.play.action_selectors import Actions, Chance, Decider

Array = Any
STREAM = 7919  # folded into a step's key, apart from what the policy draws


@dataclass(frozen=True)
class Late:
    """`inner`, whose answer for an agent at a step does not come in time with probability `rate`; then acts `fallback`.

    `default`: the declared default; `last`: what the agent did at the step before (the default on an episode's first); `random`: any legal
    action. One that is illegal is replaced by the default, or the first legal action. `bursts` above 1: answers stay away together, for
    that many steps on average (a Gilbert-Elliott chain whose long-run rate is `rate`). A recurrent policy's memory goes on: its answer is
    late, not lost. Managers' orders are in time.
    """

    inner: Decider
    rate: float = 0.1
    fallback: Literal["default", "last", "random"] = "default"
    bursts: float = 1.0

    def __post_init__(self) -> None:
        check_limits(self, rate=(0, 1), bursts=(1, 1e6))
        check_choice(self, fallback=("default", "last", "random"))
        if self.bursts > 1 and self.rate > self.bursts / (1 + self.bursts):
            most = self.bursts / (1 + self.bursts)
            raise UserError(f"rate is {self.rate} with bursts of {self.bursts:g} steps: give at most {most:g}, or longer bursts")

    @property
    def algorithm(self) -> Algorithm:
        """That of the inner decider."""
        return self.inner.algorithm

    @property
    def _chain(self) -> tuple[float, float]:
        """to_bad, to_good"""
        if self.bursts == 1:
            return self.rate, 1 - self.rate
        return self.rate / (self.bursts * (1 - self.rate)), 1 / self.bursts

    def _default(self, b: int) -> Actions:
        groups = self.algorithm.spec.groups
        blank = jax.eval_shape(lambda: tuple(g.space.mode(jnp.zeros((b, g.count, g.space.head)), None) for g in groups))
        return tuple(g.default_like(jnp.zeros(x.shape, x.dtype)) for g, x in zip(groups, blank, strict=True))

    def memory(self, b: int) -> Any:
        """The inner decider's, what was done at the step before, and whose answers stay away: nobody's yet."""
        return self.inner.memory(b), self._default(b), jnp.zeros((b, self.algorithm.spec.n), bool)

    def decide(self, policy: Any, step: Step, memory: Any, key: Array, temperature: Array) -> tuple[Actions, Any]:
        """The inner decider's actions, and the fallback's of agents whose inference is late."""
        inner, last, away = memory
        action, inner = self.inner.decide(policy, step, inner, key, temperature)
        k1, k2, k3 = jax.random.split(jax.random.fold_in(key, STREAM), 3)
        first, default = step.first, self._default(step.first.shape[0])
        u = jax.random.uniform(k1, away.shape)
        begun = chain_begins(jax.random.uniform(k2, away.shape), *self._chain)
        away = jnp.where(first[:, None], begun, chain_goes_on(away, u, *self._chain))
        if self.fallback == "random":
            other, _ = Chance(self.algorithm).decide(policy, step, (), k3, temperature)
        elif self.fallback == "last":
            fresh = lambda x: first.reshape(-1, *(1,) * (x.ndim - 1))
            other = tuple(jnp.where(fresh(x), d, x) for x, d in zip(last, default, strict=True))
        else:
            other = default
        acted = jax.vmap(lambda *x: replace_actions(self.algorithm.spec, *x))(away, other, action, step.legal)
        return acted, (inner, acted, away)
