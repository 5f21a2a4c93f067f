"""What goes wrong between an agent's decision and the world. Only what is legal now reaches it; managers' orders are never lost.

In the place of an action that is illegal by the time it arrives acts the declared default or, where that is illegal too,
the first legal one.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from marlstone.core.types import Spec, Step
from marlstone.envs.faults.by_agent import (
    LONGEST,
    Actions,
    Legal,
    check_choice,
    check_limits,
    default_actions,
    push,
    repeated,
    replace_actions,
    team_mask,
)
from marlstone.envs.faults.contract import Draws, Fault


@dataclass(frozen=True)
class ActionDelay(Fault):
    """Actions arrive `rows` steps late; in an episode's first steps the declared default acts."""

    kind: ClassVar[str] = "action_delay"
    rows: int = 1

    def __post_init__(self) -> None:
        check_limits(self, rows=(0, LONGEST))

    def begin(self, spec: Spec, step: Step, draw: Draws) -> tuple[Actions, Legal]:
        """A queue of `rows` default actions, and what is legal now."""
        rest = default_actions(spec, step.reward.__array_namespace__())
        return tuple(repeated(a, self.rows) for a in rest), step.legal

    def action(self, spec: Spec, memory: tuple[Actions, Legal], action: Actions, draw: Draws) -> tuple[Any, Actions]:
        """The action of `rows` steps ago; the default in its place where it is no longer legal."""
        queues, legal = memory
        if self.rows == 0:
            return memory, action
        late = tuple(q[0] for q in queues)
        queues = tuple(push(q, a) for q, a in zip(queues, action, strict=True))
        everyone = action[0].__array_namespace__().asarray(team_mask(spec))
        return (queues, legal), replace_actions(spec, everyone, late, action, legal)

    def step(self, spec: Spec, memory: tuple[Actions, Legal], step: Step, draw: Draws) -> tuple[Any, Step]:
        """Agents see the step as it is; what is legal is remembered."""
        return (memory[0], step.legal), step


@dataclass(frozen=True)
class ActionLoss(Fault):
    """With probability `rate` per agent and step its action is lost; `instead` acts the declared `default`, or the `last` that arrived."""

    kind: ClassVar[str] = "action_loss"
    rate: float = 0.1
    instead: Literal["default", "last"] = "default"

    def __post_init__(self) -> None:
        check_limits(self, rate=(0, 1))
        check_choice(self, instead=("default", "last"))

    def begin(self, spec: Spec, step: Step, draw: Draws) -> tuple[Actions, Legal]:
        """The default action, and what is legal now."""
        return default_actions(spec, step.reward.__array_namespace__()), step.legal

    def action(self, spec: Spec, memory: tuple[Actions, Legal], action: Actions, draw: Draws) -> tuple[Any, Actions]:
        """The action, or where it is lost what `instead` says."""
        other, legal = memory
        acted = replace_actions(spec, draw.uniform((spec.n,)) < self.rate, other, action, legal)
        if self.instead == "last":
            other = tuple(a.astype(o.dtype) for a, o in zip(acted, other, strict=True))
        return (other, legal), acted

    def step(self, spec: Spec, memory: tuple[Actions, Legal], step: Step, draw: Draws) -> tuple[Any, Step]:
        """Agents see the step as it is; what is legal is remembered."""
        return (memory[0], step.legal), step
