"""Evaluating policies behind a gate (`policy.gate`): outside it a fallback acts, and every decision it takes is counted."""

from dataclasses import dataclass
from typing import Any, get_args

import jax
import jax.numpy as jnp

from marlstone.algorithm import Algorithm
from marlstone.core.errors import UserError, suggest
from marlstone.core.records import record
from marlstone.core.types import Step
from marlstone.play.action_selectors import Actions, Decider
from marlstone.policy.gate import Fallback, Gate, GateMemory, chosen, held, init_memory, watch

Array = Any
STREAM = 7207  # folded into a step's key for the baseline, apart from what the policy draws


@record
class Guarded:
    """What `Gated` decides by: what its inner decider does, a gate, and what its baseline decides by (() without one)."""

    policy: Any
    gate: Gate
    baseline: Any = ()


@record
class Watching:
    """Memory of a gated decider: of its inner decider, of its baseline, of its gate; and what is counted of the last step, `[b]`."""

    inner: Any
    baseline: Any
    gate: GateMemory
    told: dict[str, Array]


@dataclass(frozen=True)
class Gated:
    """`inner`, but where an agent's observation lies outside the gate, `fallback` acts for it:

    `default`: the declared default action, or, where that is illegal, the first legal one; `baseline`: what the `baseline` decides, which
    watches from the beginning; `ask`: the default, while somebody is asked: one question each time an agent gets outside.
    Tells `outside`, decisions taken by the fallback, and `asked`, questions, summed over agents.
    """

    inner: Decider
    fallback: Fallback = "default"
    baseline: Decider | None = None

    def __post_init__(self) -> None:
        if self.fallback not in get_args(Fallback):
            raise UserError(f"Gated.fallback is {self.fallback!r}: {suggest(self.fallback, get_args(Fallback))}")
        if (self.fallback == "baseline") != (self.baseline is not None):
            raise UserError(f"Gated.fallback is {self.fallback!r} with baseline = {self.baseline!r}: one needs the other")
        if self.baseline is not None and self.baseline.algorithm.spec.groups != self.algorithm.spec.groups:
            raise UserError("Gated.baseline sees or does other things than the policy: train it in the same environment")

    @property
    def algorithm(self) -> Algorithm:
        """That of the inner decider."""
        return self.inner.algorithm

    def memory(self, b: int) -> Watching:
        """Of the inner decider, the baseline and the gate."""
        return Watching(
            self.inner.memory(b),
            () if self.baseline is None else self.baseline.memory(b),
            init_memory(self.algorithm.spec, b, jnp),
            {"outside": jnp.zeros(b), "asked": jnp.zeros(b)},
        )

    def told(self, memory: Watching) -> dict[str, Array]:
        """`outside` and `asked`, summed over agents, `[b]`."""
        return memory.told

    def decide(self, policy: Guarded, step: Step, memory: Watching, key: Array, temperature: Array) -> tuple[Actions, Watching]:
        """The inner decider's actions, and the fallback's of who is outside."""
        spec = self.algorithm.spec
        action, inner = self.inner.decide(policy.policy, step, memory.inner, key, temperature)
        baseline = memory.baseline
        if self.baseline is None:
            other = held(spec, action, step.legal)
        else:
            other, baseline = self.baseline.decide(policy.baseline, step, baseline, jax.random.fold_in(key, STREAM), temperature)
        gate = watch(spec, policy.gate, step, memory.gate)
        count = lambda which: which.sum(-1).astype(jnp.float32)
        told = {"outside": count(gate.away), "asked": count(gate.asked) if self.fallback == "ask" else jnp.zeros(step.first.shape)}
        return chosen(spec, gate.away, other, action), Watching(inner, baseline, gate, told)
