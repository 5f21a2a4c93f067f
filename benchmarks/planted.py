"""Agents that are planted in a team to be found (`credit_tasks.py`): one that is lazy, one that blocks the others. Faults of one agent.

Both draw coins by the fault's own stream, so what an agent's default would have led to is measured with the same coins.
"""

from dataclasses import dataclass
from typing import Any, Literal

from marlstone.core.distributions import Discrete
from marlstone.core.records import replace
from marlstone.core.types import Array, Spec, Step
from marlstone.envs.faults import Draws, Fault
from marlstone.envs.faults.by_agent import Actions, Legal, default_actions, groups_of, replace_actions


@dataclass(frozen=True)
class _Planted(Fault):
    """`agent`: its name; `rate`: on which share of the steps, or in which share of the episodes, it is as it is planted."""

    agent: str = ""
    rate: float = 0.5

    def refuses(self, spec: Spec) -> str:
        if self.agent not in spec.team.agents:
            return f"agent is {self.agent!r}: name one of {', '.join(spec.team.agents)}"
        return "" if 0 <= self.rate <= 1 else f"rate is {self.rate}: give a share from 0 to 1"

    def mine(self, spec: Spec, like: Array) -> Array:
        """`[n]`: the planted agent."""
        return like.__array_namespace__().asarray([a == self.agent for a in spec.agents])


@dataclass(frozen=True)
class Asleep(_Planted):
    """Lazy: while the agent sleeps, its declared default acts in place of what it decided; with probability `rate` through an `episode`,
    or on each `step`.

    Whole episodes halve what it is worth. Of single steps that is not so: where others wait for it, each that is left is worth more, and in
    SMAX 3m whoever slept on half of the steps was worth more than anybody else (2 seeds of 200,000 steps).
    """

    sleeps: Literal["episode", "step"] = "episode"

    def refuses(self, spec: Spec) -> str:
        known = self.sleeps in ("episode", "step")
        return super().refuses(spec) if known else f"sleeps is {self.sleeps!r}: choose one of episode, step"

    def begin(self, spec: Spec, step: Step, draw: Draws) -> tuple[Legal, Array]:
        return step.legal, draw.uniform(()) < self.rate

    def action(self, spec: Spec, memory: tuple[Legal, Array], action: Actions, draw: Draws) -> tuple[Any, Actions]:
        legal, asleep = memory
        if self.sleeps == "step":
            asleep = draw.uniform(()) < self.rate
        rest = default_actions(spec, action[0].__array_namespace__())
        return memory, replace_actions(spec, self.mine(spec, action[0]) & asleep, rest, action, legal)

    def step(self, spec: Spec, memory: tuple[Legal, Array], step: Step, draw: Draws) -> tuple[Any, Step]:
        return (step.legal, memory[1]), step


@dataclass(frozen=True)
class Blocking(_Planted):
    """A saboteur: with probability `rate` a step it must block, else it must not, as a coin says, so that no learning makes it harmless.

    Whatever it does but its declared default blocks the others: their actions are lost, and their defaults act. What it does has no
    other effect. Where the coin says so its default is illegal, elsewhere nothing else is legal. So its actions are recorded as what they
    are, and its default is there to be measured, and to be learned of on the other steps (as in `proving:saboteur`).
    """

    def refuses(self, spec: Spec) -> str:
        if reason := super().refuses(spec):
            return reason
        group = next(g for g in spec.groups if self.agent in g.agents)
        return "" if isinstance(group.space, Discrete) else f"{self.agent} does not choose among numbered actions: plant it in another game"

    def begin(self, spec: Spec, step: Step, draw: Draws) -> Legal:
        return step.legal

    def action(self, spec: Spec, memory: Legal, action: Actions, draw: Draws) -> tuple[Legal, Actions]:
        xp = action[0].__array_namespace__()
        rest, mine = default_actions(spec, xp), self.mine(spec, action[0])
        differs = xp.concat([(a != r).reshape(len(g.agents), -1).any(1) for g, a, r in zip(spec.groups, action, rest, strict=True)])
        blocks = (differs & mine).any()
        return memory, replace_actions(spec, mine | blocks, rest, action, memory)

    def step(self, spec: Spec, memory: Legal, step: Step, draw: Draws) -> tuple[Legal, Step]:
        xp = step.reward.__array_namespace__()
        blocks, rest = draw.uniform(()) < self.rate, default_actions(spec, xp)
        masks: list[Any] = []
        for g, legal, mine, default in zip(spec.groups, step.legal, groups_of(spec, self.mine(spec, step.reward)), rest, strict=True):
            if self.agent not in g.agents:
                masks.append(legal)
                continue
            every = xp.ones((g.count, g.space.size), bool) if legal is None else legal
            idle = xp.arange(g.space.size) == default[:, None]
            able = (every & ~idle).any(1, keepdims=True)  # a dead unit can do nothing but its default
            forced = xp.where(blocks & able, every & ~idle, idle)
            masks.append(xp.where(mine[:, None], forced, every))
        return step.legal, replace(step, legal=tuple(masks))
