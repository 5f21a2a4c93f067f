"""A network that comes and goes: one link per agent, good or bad by a Markov chain (Gilbert 1960; Elliott 1963)."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from marlstone.core.types import Array, Spec, Step
from marlstone.envs.faults.by_agent import (
    LONGEST,
    Actions,
    change_leaves,
    check_choice,
    check_limits,
    default_actions,
    groups_of,
    map_leaves,
    push,
    repeated,
    replace_actions,
    where_agents,
)
from marlstone.envs.faults.contract import Draws, Fault
from marlstone.envs.faults.sensors import Leaves, lagged_read


def chain_begins(u: Array, to_bad: float, to_good: float) -> Array:
    """Whether links are bad, as often as they are in the long run: to_bad / (to_bad + to_good)."""
    return u < to_bad / max(to_bad + to_good, 1e-30)


def chain_goes_on(bad: Array, u: Array, to_bad: float, to_good: float) -> Array:
    """P(good -> bad) = to_bad, P(bad -> good) = to_good; `u` uniform, one per link."""
    return u.__array_namespace__().where(bad, u >= to_good, u < to_bad)


@dataclass(frozen=True)
class Volatile(Fault):
    """Each agent's link to the world is good or bad. Per step a good one turns bad with probability `to_bad`, a bad one good with
    `to_good`: it is bad for 1 / to_good steps at a time, and to_bad / (to_bad + to_good) of the time.

    While it is bad, what an agent sees and what it does come `delay` steps late, and each is lost with probability `loss` (while it is
    good: `loss_good`). An agent that receives nothing keeps what came last, zeros before anything came. For a lost action acts the declared
    `default`, or the `last` that arrived. A step's action and the observation before it meet the same state of the link. Managers see over
    a link of their own; their orders are never lost.
    """

    kind: ClassVar[str] = "volatile"
    to_bad: float = 0.05
    to_good: float = 0.25
    loss: float = 0.9
    loss_good: float = 0.0
    delay: int = 0
    instead: Literal["default", "last"] = "default"

    def __post_init__(self) -> None:
        check_limits(self, to_bad=(0, 1), to_good=(0, 1), loss=(0, 1), loss_good=(0, 1), delay=(0, LONGEST))
        check_choice(self, instead=("default", "last"))

    def begin(self, spec: Spec, step: Step, draw: Draws) -> dict[str, Any]:
        """Links in their long-run state, and queues of observations and of default actions."""
        xp = step.reward.__array_namespace__()
        rest = default_actions(spec, xp)
        return {
            "bad": chain_begins(draw.uniform((spec.n,)), self.to_bad, self.to_good),
            "seen": map_leaves(step, "", lambda x: repeated(x, self.delay + 1)),
            "held": map_leaves(step, "", xp.zeros_like),
            "said": tuple(repeated(a, self.delay + 1) for a in rest),
            "other": rest,
            "legal": step.legal,
        }

    def _lost(self, spec: Spec, bad: Array, draw: Draws) -> Array:
        return draw.uniform((spec.n,)) < bad.__array_namespace__().where(bad, self.loss, self.loss_good)

    def _lag(self, spec: Spec, bad: Array) -> list[Array]:
        return groups_of(spec, bad.__array_namespace__().where(bad, self.delay, 0))

    def action(self, spec: Spec, memory: dict[str, Any], action: Actions, draw: Draws) -> tuple[dict[str, Any], Actions]:
        """Actions late or lost where the link is bad."""
        bad, legal = memory["bad"], memory["legal"]
        sent = tuple(push(q, a) for q, a in zip(memory["said"], action, strict=True))
        late = tuple(lagged_read(q, lag) for q, lag in zip(sent, self._lag(spec, bad), strict=True))
        acted = replace_actions(spec, bad, late, action, legal) if self.delay else action
        acted = replace_actions(spec, self._lost(spec, bad, draw), memory["other"], acted, legal)
        other = memory["other"]
        if self.instead == "last":
            other = tuple(a.astype(o.dtype) for a, o in zip(acted, other, strict=True))
        return {**memory, "said": sent, "other": other}, acted

    def step(self, spec: Spec, memory: dict[str, Any], step: Step, draw: Draws) -> tuple[dict[str, Any], Step]:
        """The links' next state, and observations late or lost by it."""
        bad = chain_goes_on(memory["bad"], draw.uniform((spec.n,)), self.to_bad, self.to_good)
        seen: Leaves = tuple({k: push(q, step.obs[g][k]) for k, q in qs.items()} for g, qs in enumerate(memory["seen"]))
        lag, lost, held = self._lag(spec, bad), groups_of(spec, self._lost(spec, bad, draw)), memory["held"]
        shown = change_leaves(step, "", lambda g, k, _: where_agents(lost[g], held[g][k], lagged_read(seen[g][k], lag[g])))
        return {**memory, "bad": bad, "seen": seen, "held": map_leaves(shown, "", lambda x: x), "legal": step.legal}, shown
