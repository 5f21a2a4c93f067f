"""A policy artifact in the place of a run's policies: judged with its gate and its fallback actions, as it is deployed."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax.numpy as jnp

from marlstone.algorithm import Algorithm
from marlstone.core.distributions import draw_group_noise
from marlstone.core.errors import UserError
from marlstone.core.records import record
from marlstone.core.types import Step
from marlstone.play.action_selectors import Actions
from marlstone.policy.deployed import Deployed
from marlstone.policy.gate import init_memory
from marlstone.policy.policy import Policy

Array = Any


@record
class ArtifactMemory:
    """Recurrent state, and what the gate saw (None without one)."""

    recurrent: Any
    gate: Any


@dataclass(frozen=True, eq=False)
class ByArtifact:
    """Decides by a frozen policy. `algorithm`: of who plays, for its groups and spaces; its networks are not used.

    Raises `UserError` where the policy is of other groups of agents, or was given one of the budgets that its environment draws.
    """

    algorithm: Algorithm
    policy: Policy

    def __post_init__(self) -> None:
        theirs, ours = self.policy.deployed_spec.groups, self.algorithm.spec.groups
        if theirs != ours:
            differ = next((f"group {a.name!r}" for a, b in zip(theirs, ours, strict=False) if a != b), "how many groups there are")
            raise UserError(f"the policy was trained with other agents, observations or actions than are played here: {differ} differs")
        channel = self.algorithm.channel
        if channel.shown and (budget := self.policy.description.get("budget")) is not None:
            raise UserError(
                f"the policy was given a budget of {budget:g} bits, and here every episode draws one of "
                f"{', '.join(f'{b:g}' for b in channel.budget_bits)}: name the policy as its run keeps it (RUN/policy/seed-K)"
            )

    @cached_property
    def _deployed(self) -> Deployed:
        return self.policy.pure().deployed

    def memory(self, b: int) -> ArtifactMemory:
        """Before an episode of each of `b` environments."""
        gate = None if self._deployed.gate is None else init_memory(self.algorithm.spec, b, jnp)
        return ArtifactMemory(self._deployed.actor.memory(b), gate)

    def decide(self, policy: Any, step: Step, memory: ArtifactMemory, key: Array, temperature: Array) -> tuple[Actions, ArtifactMemory]:
        """Recorded actions of `b` environments; `policy` is left aside: the artifact is the same for everybody."""
        groups = self.algorithm.spec.groups
        noise = draw_group_noise([g.space for g in groups], [g.count for g in groups], key, step.first.shape)
        heated = tuple(temperature * z for z in noise)
        action, recurrent, gate = self._deployed.decide(step, memory.recurrent, memory.gate, heated)
        return action, ArtifactMemory(recurrent, gate)
