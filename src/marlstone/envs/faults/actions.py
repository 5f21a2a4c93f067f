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
    """Actions arrive `rows` rows late; in an episode's first rows the declared default acts."""

    kind: ClassVar[str] = "action_delay"
    rows: int = 1

    def __post_init__(self) -> None:
        check_limits(self, rows=(0, LONGEST))

    def begin(self, spec: Spec, row: Step, draw: Draws) -> tuple[Actions, Legal]:
        rest = default_actions(spec, row.reward.__array_namespace__())
        return tuple(repeated(a, self.rows) for a in rest), row.legal

    def action(self, spec: Spec, memory: tuple[Actions, Legal], action: Actions, draw: Draws) -> tuple[Any, Actions]:
        queues, legal = memory
        if self.rows == 0:
            return memory, action
        late = tuple(q[0] for q in queues)
        queues = tuple(push(q, a) for q, a in zip(queues, action, strict=True))
        everyone = action[0].__array_namespace__().asarray(team_mask(spec))
        return (queues, legal), replace_actions(spec, everyone, late, action, legal)

    def row(self, spec: Spec, memory: tuple[Actions, Legal], row: Step, draw: Draws) -> tuple[Any, Step]:
        return (memory[0], row.legal), row


@dataclass(frozen=True)
class ActionLoss(Fault):
    """With probability `rate` per agent and row its action is lost; `instead` acts the declared `default`, or the `last` that arrived."""

    kind: ClassVar[str] = "action_loss"
    rate: float = 0.1
    instead: Literal["default", "last"] = "default"

    def __post_init__(self) -> None:
        check_limits(self, rate=(0, 1))
        check_choice(self, instead=("default", "last"))

    def begin(self, spec: Spec, row: Step, draw: Draws) -> tuple[Actions, Legal]:
        return default_actions(spec, row.reward.__array_namespace__()), row.legal

    def action(self, spec: Spec, memory: tuple[Actions, Legal], action: Actions, draw: Draws) -> tuple[Any, Actions]:
        other, legal = memory
        acted = replace_actions(spec, draw.uniform((spec.n,)) < self.rate, other, action, legal)
        if self.instead == "last":
            other = tuple(a.astype(o.dtype) for a, o in zip(acted, other, strict=True))
        return (other, legal), acted

    def row(self, spec: Spec, memory: tuple[Actions, Legal], row: Step, draw: Draws) -> tuple[Any, Step]:
        return (memory[0], row.legal), row
