"""Agents that are planted in a team to be found (`credit_tasks.py`): one that is lazy, one that blocks the others. Faults of one agent.

Both draw a coin a step, by the fault's own stream, so what an agent's default would have led to is measured with the same coins.
"""

from dataclasses import dataclass
from typing import Any

from marlstone.core.distributions import Discrete
from marlstone.core.records import replace
from marlstone.core.types import Array, Spec, Step
from marlstone.envs.faults import Draws, Fault
from marlstone.envs.faults.by_agent import Actions, Legal, default_actions, groups_of, replace_actions


@dataclass(frozen=True)
class _Planted(Fault):
    """`agent`: its name; `rate`: on which share of the steps it is as it is planted."""

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
    """Lazy: with probability `rate` a step the agent sleeps, and its declared default acts in place of what it decided."""

    def begin(self, spec: Spec, step: Step, draw: Draws) -> Legal:
        return step.legal

    def action(self, spec: Spec, memory: Legal, action: Actions, draw: Draws) -> tuple[Legal, Actions]:
        mine = self.mine(spec, action[0])
        asleep = mine & (draw.uniform(()) < self.rate)
        return memory, replace_actions(spec, asleep, default_actions(spec, action[0].__array_namespace__()), action, memory)

    def step(self, spec: Spec, memory: Legal, step: Step, draw: Draws) -> tuple[Legal, Step]:
        return step.legal, step


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
