"""One joint step as a person thinks of it: who saw what, did what, and what came of it, by agents' names."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from marlstone.core.types import Array, Spec, Step

ByAgent = dict[str, Any]


@dataclass(frozen=True)
class Transition:
    """What a metric is computed from: NumPy's arrays where Python steps the environment, JAX's (traced) where JAX does.

    Fields: `spec`, what is known of the environment; `before`, the step that agents saw; `action`, per group what they did, as the
    environment takes it, `[n_g ...]`; `after`, the step that came of it. The properties say the same by agents' names.
    """

    spec: Spec
    before: Step
    action: tuple[Array, ...]
    after: Step

    @property
    def agents(self) -> tuple[str, ...]:
        """Names, in the order of the agent axis."""
        return self.spec.agents

    @cached_property
    def observations(self) -> ByAgent:
        """What each agent saw before it acted: an array, or arrays by name where there are several. Zeros for who was not there."""
        return self._seen(self.before)

    @cached_property
    def next_observations(self) -> ByAgent:
        """What each agent sees after this step; at an episode's end, its final observation."""
        return self._seen(self.after)

    @cached_property
    def actions(self) -> ByAgent:
        """What each agent did, as the environment takes it; the default action of who was not there."""
        return {a: x[i] for g, x in zip(self.spec.groups, self.action, strict=True) for i, a in enumerate(g.agents)}

    @cached_property
    def rewards(self) -> ByAgent:
        """Each agent's own reward."""
        return self._by_agent(self.after.reward)

    @property
    def team_reward(self) -> Array:
        """The team's reward: what returns are summed from."""
        return self.after.team_reward

    @cached_property
    def present(self) -> ByAgent:
        """Whether each agent was there to act."""
        return self._by_agent(self.before.present)

    @cached_property
    def terminated(self) -> ByAgent:
        """Whether each agent's own part of the episode has ended for good, on this step or an earlier one."""
        return {a: x == 0 for a, x in self._by_agent(self.after.discount).items()}

    @property
    def last(self) -> Array:
        """Whether the episode ends with this step, by termination or by truncation."""
        return self.after.last

    @property
    def state(self) -> Array:
        """The global state before the step, `[s]`; empty where the environment has none."""
        return self.before.state

    @property
    def next_state(self) -> Array:
        """The global state after it."""
        return self.after.state

    @property
    def metrics(self) -> dict[str, Array]:
        """The environment's own true metrics on this step."""
        return self.after.metrics

    def _by_agent(self, x: Array) -> ByAgent:
        return {a: x[i] for i, a in enumerate(self.spec.agents)}

    def _seen(self, step: Step) -> ByAgent:
        found = {}
        for g, leaves in zip(self.spec.groups, step.obs, strict=True):
            real: Callable[[str, int], int | None] = lambda k, i: g.features[k][i] if k in g.features else None  # noqa: B023
            for i, agent in enumerate(g.agents):
                mine = {k: x[i][: real(k, i)] for k, x in leaves.items()}
                found[agent] = next(iter(mine.values())) if len(mine) == 1 else mine
        return found
