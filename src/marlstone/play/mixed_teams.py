"""Teams put together from two policies: who has learned to play with whom?"""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from marlstone.algorithm import Algorithm
from marlstone.core.errors import UserError
from marlstone.core.records import record
from marlstone.core.types import Spec, Step
from marlstone.play.action_selectors import Actions, Decider
from marlstone.policy.gate import chosen

Array = Any
SPLITS = 4  # ways to split a team, at most


@record
class Two:
    """What `Mixed` decides by: two of what its inner decider decides by."""

    first: Any
    second: Any


def splits(spec: Spec, most: int = SPLITS) -> tuple[tuple[bool, ...], ...]:
    """Which agents the second policy plays, `[k n]`: the latter half of the team, every other agent, then halves drawn at random, the same
    for every team of that size; fewer where a team has fewer. Opponents stay with the first. Raises `UserError` for a team of one."""
    team = [i for i, a in enumerate(spec.agents) if a not in spec.opponents]
    if len(team) < 2:
        raise UserError(f"a team of {len(team)} cannot be mixed from two policies: cross-play needs at least two agents")
    order, random, found = np.arange(len(team)), np.random.default_rng(0), list[tuple[bool, ...]]()
    half = -(-len(team) // 2)
    for second in (order[half:], order[1::2], *(random.permutation(order)[half:] for _ in range(2 * most))):
        way, other = (tuple(np.isin(np.arange(spec.n), np.array(team)[who]).tolist()) for who in (second, np.setdiff1d(order, second)))
        if way not in found and other not in found:  # that is the same pair the other way round
            found.append(way)
    return tuple(found[:most])


@dataclass(frozen=True)
class Mixed:
    """`inner` decides twice, by both of `Two` and with the same randomness; environment j's agents are split as the j-th of `ways` says,
    round and round. Each of the two remembers what it would have done everywhere, so that either could go on alone."""

    inner: Decider
    ways: tuple[tuple[bool, ...], ...]

    def __post_init__(self) -> None:
        if not self.ways or {len(way) for way in self.ways} != {self.algorithm.spec.n}:
            raise ValueError(
                f"Mixed.ways is {self.ways}: give at least one, each with one entry for each of {self.algorithm.spec.n} agents"
            )

    @property
    def algorithm(self) -> Algorithm:
        """That of the inner decider."""
        return self.inner.algorithm

    def memory(self, b: int) -> Any:
        """Of both policies, each as if it played alone."""
        return self.inner.memory(b), self.inner.memory(b)

    def decide(self, policy: Two, step: Step, memory: Any, key: Array, temperature: Array) -> tuple[Actions, Any]:
        """Both policies' actions, put together as each environment's split says."""
        first, m1 = self.inner.decide(policy.first, step, memory[0], key, temperature)
        second, m2 = self.inner.decide(policy.second, step, memory[1], key, temperature)
        which = jnp.asarray(np.array(self.ways)[np.arange(step.first.shape[0]) % len(self.ways)])
        return chosen(self.algorithm.spec, which, second, first), (m1, m2)
