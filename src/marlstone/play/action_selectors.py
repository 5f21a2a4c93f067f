"""Who decides when policies are judged: the policy alone, chance, or something that stands between a policy and its environment.

A decider is handed what to decide by (`policy`: whatever the caller evaluates, one entry per training seed), so that one
compiled loop plays a policy, a policy whose inference fails, a gated one, or a team mixed from several seeds.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import jax.numpy as jnp

from marlstone.algorithm import Algorithm, Policy
from marlstone.core.distributions import draw_group_noise
from marlstone.core.records import replace
from marlstone.core.types import Step

Array = Any
Actions = tuple[Array, ...]


class Decider(Protocol):
    """What whole episodes are played by. Pure: memory goes in and comes out. `algorithm` says whose actions they are."""

    @property
    def algorithm(self) -> Algorithm:
        """Whose actions these are: their spaces and groups."""

    def memory(self, b: int) -> Any:
        """What is remembered before an episode of each of `b` environments; steps with `first` begin anew."""

    def decide(self, policy: Any, step: Step, memory: Any, key: Array, temperature: Array) -> tuple[Actions, Any]:
        """Actions of one step of `b` environments, in recorded form, and memory after it. `temperature`: of sampling, 0 for the mode."""


class Telling(Decider, Protocol):
    """A decider that counts something of what it did, such as decisions taken by a fallback."""

    def told(self, memory: Any) -> dict[str, Array]:
        """Counts of the step just decided, by the memory after it: name -> `[b ...]`. Evaluations sum these over each episode."""


class Observing(Decider, Protocol):
    """A decider that counts something of what its decisions led to, such as messages that were sent."""

    def seen_after(self, memory: Any, step: Step) -> dict[str, Array]:
        """Counts of the step just decided, by the memory after it and the step that followed: name -> `[b ...]`."""


def told(decider: Decider, memory: Any, step: Step) -> dict[str, Array]:
    """A decider's counts of the step it just decided, which `step` followed; empty for a decider that has none."""
    counts: dict[str, Array] = decider.told(memory) if hasattr(decider, "told") else {}
    return counts | (decider.seen_after(memory, step) if hasattr(decider, "seen_after") else {})


def deployed(policy: Policy) -> Policy:
    """A policy without exploration: value-based learners act greedily, and no action is taken for credit's sake."""
    return replace(policy, explore=jnp.zeros_like(policy.explore))


@dataclass(frozen=True)
class Alone:
    """The policy itself, as it is deployed: without what training explores by."""

    algorithm: Algorithm

    def memory(self, b: int) -> Any:
        """Recurrent state before an episode."""
        return self.algorithm.memory(b)

    def decide(self, policy: Any, step: Step, memory: Any, key: Array, temperature: Array) -> tuple[Actions, Any]:
        """Sampled at `temperature`, 0 for the mode, without exploration."""
        heads, memory = self.algorithm.heads(deployed(policy), step, memory)
        noise = tuple(temperature * z for z in _noise(self.algorithm, step, key))
        return self.algorithm.sample(heads, step.legal, noise), memory


@dataclass(frozen=True)
class Chance:
    """Uniform among what is legal: what a return is worth nothing below. A Box's policy of zero mean and unit spread."""

    algorithm: Algorithm

    def memory(self, b: int) -> Any:
        """Chance remembers nothing."""
        return ()

    def decide(self, policy: Any, step: Step, memory: Any, key: Array, temperature: Array) -> tuple[Actions, Any]:
        """A sample at temperature 1, whatever `temperature` is: chance has no mode."""
        b = step.first.shape
        heads = tuple(jnp.zeros((*b, g.count, g.space.head)) for g in self.algorithm.spec.groups)
        return self.algorithm.sample(heads, step.legal, _noise(self.algorithm, step, key)), memory


def _noise(algorithm: Algorithm, step: Step, key: Array) -> tuple[Array, ...]:
    groups = algorithm.spec.groups
    return draw_group_noise([g.space for g in groups], [g.count for g in groups], key, step.first.shape)
