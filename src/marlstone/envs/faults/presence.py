"""Who is there: agents that die, agents that come late. Managers are always there; rewards and metrics stay true.

While an agent is gone it sees zeros, decides nothing, and its declared default acts (where that is illegal, the first legal
action): an environment that knows nothing of the fault still asks for everybody's.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from marlstone.core.records import replace
from marlstone.core.types import Array, Spec, Step
from marlstone.envs.faults.by_agent import (
    Actions,
    Legal,
    change_leaves,
    check_limits,
    default_actions,
    groups_of,
    replace_actions,
    team_mask,
    where_agents,
)
from marlstone.envs.faults.contract import Draws, Fault

NEVER = 2**30
Clock = tuple[Array, Array, Legal]  # the next step's number, when it happens to each agent `[n]`, what is legal


def _gone(spec: Spec, step: Step, gone: Array) -> Step:
    """The step without these agents."""
    xp, masks = step.reward.__array_namespace__(), groups_of(spec, gone)
    step = change_leaves(step, "", lambda g, _, x: where_agents(masks[g], xp.zeros_like(x), x))
    return replace(step, present=step.present & ~gone, deciding=step.deciding & ~gone)


def _act(spec: Spec, gone: Array, action: Actions, legal: Legal) -> Actions:
    return replace_actions(spec, gone, default_actions(spec, action[0].__array_namespace__()), action, legal)


@dataclass(frozen=True)
class _Absence(Fault):
    """`agents` of the team, each choice equally likely, and for each a step that is drawn evenly from 1 to `within` (none: the
    environment's horizon)."""

    agents: int = 1
    within: int | None = None
    others: ClassVar[int]  # the step of those who were not chosen

    def __post_init__(self) -> None:
        check_limits(self, agents=(0, 100_000))
        if self.within is not None:
            check_limits(self, within=(1, NEVER - 1))

    def refuses(self, spec: Spec) -> str:
        team = int(team_mask(spec).sum())
        if self.agents >= team:
            return f"agents is {self.agents}, of a team of {team}: leave at least one"
        if self.within is None and spec.horizon is None:
            return "within is none, which means the longest episode, and its length is unknown here: give within, in steps"
        return ""

    def begin(self, spec: Spec, step: Step, draw: Draws) -> Clock:
        xp, team = step.reward.__array_namespace__(), team_mask(spec)
        lot = xp.where(team, draw.uniform((spec.n,)), 2.0)
        picked = xp.argsort(xp.argsort(lot)) < self.agents
        span: Any = spec.horizon if self.within is None else self.within
        when = 1 + xp.minimum(xp.floor(draw.uniform((spec.n,)) * span), span - 1).astype(np.int32)
        return xp.asarray(0, dtype=np.int32), xp.where(picked, when, self.others).astype(np.int32), step.legal


@dataclass(frozen=True)
class Death(_Absence):
    """`agents` of the team, chosen at random, are gone for good: each from a step on that is drawn evenly from 1 to `within` (none: the
    environment's horizon). Their discount is 0 from there on, as if they had terminated; the team goes on."""

    kind: ClassVar[str] = "death"
    others: ClassVar[int] = NEVER

    def action(self, spec: Spec, memory: Clock, action: Actions, draw: Draws) -> tuple[Clock, Actions]:
        """Of the dead acts the declared default."""
        t, when, legal = memory
        return memory, _act(spec, when < t, action, legal)

    def step(self, spec: Spec, memory: Clock, step: Step, draw: Draws) -> tuple[Clock, Step]:
        """The dead are absent, observe zeros and have discount 0."""
        t, when, _ = memory
        gone = when <= t
        xp = step.reward.__array_namespace__()
        step = replace(_gone(spec, step, gone), discount=xp.where(gone, xp.zeros_like(step.discount), step.discount))
        return (t + 1, when, step.legal), step


@dataclass(frozen=True)
class LateArrival(_Absence):
    """`agents` of the team, chosen at random, are not there until a step that is drawn evenly from 1 to `within` (none: the environment's
    horizon)."""

    kind: ClassVar[str] = "late_arrival"
    others: ClassVar[int] = 0

    def action(self, spec: Spec, memory: Clock, action: Actions, draw: Draws) -> tuple[Clock, Actions]:
        """Of those who have not come acts the declared default."""
        t, when, legal = memory
        return memory, _act(spec, when >= t, action, legal)

    def step(self, spec: Spec, memory: Clock, step: Step, draw: Draws) -> tuple[Clock, Step]:
        """Those who have not come are absent and observe zeros."""
        t, when, _ = memory
        return (t + 1, when, step.legal), _gone(spec, step, when > t)
