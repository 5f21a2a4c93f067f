"""Whose rewards are the team's, in any environment: `--team "wolf*"`, agents by name, type or group.

A team's reward is the sum of its agents' own rewards; everybody else plays against it (`Spec.opponents`). What agents see, do and earn
stays as it was. A pattern is names joined by `+`, with `*` and `?` for any letters: `leader+wolf_*`.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

import numpy as np

from marlstone.core.errors import UserError
from marlstone.core.records import replace
from marlstone.core.types import Array, Spec, Step
from marlstone.envs.protocol import Env, HostEnv


def members(spec: Spec, pattern: str, field: str) -> tuple[str, ...]:
    """The agents that `pattern` names, in their order: by their own names, their types, or their group's name.

    Raises:
      UserError: where a part of the pattern names nobody; `field` says where it is configured.
    """
    found: set[str] = set()
    for part in (p.strip() for p in pattern.split("+")):
        mine = {
            a
            for g in spec.groups
            for a, kind in zip(g.agents, g.types, strict=True)
            if any(fnmatchcase(name, part) for name in (a, kind, g.name))
        }
        if not mine:
            kinds = sorted({t for g in spec.groups for t in (*g.types, g.name)} - set(spec.agents))
            more = f" (types and groups: {', '.join(kinds)})" if kinds else ""
            raise UserError(f"{field}: {part!r} names no agent; the agents are {', '.join(spec.agents)}{more}")
        found |= mine
    return tuple(a for a in spec.agents if a in found)


def declared_team(spec: Spec) -> tuple[str, ...]:
    """Whose rewards the environment itself counts as the team's."""
    return tuple(a for a in spec.agents if a not in spec.opponents)


@dataclass(frozen=True)
class TeamReward:
    """Counts the rewards of `team` as the team's. `inner`: the environment's own spec."""

    team: tuple[str, ...]
    inner: Spec

    @cached_property
    def spec(self) -> Spec:
        """The environment's, with everybody else as opponents; bounds of another team's return say nothing."""
        others = tuple(a for a in self.inner.agents if a not in self.team)
        return replace(self.inner, opponents=others, return_bounds=None)

    @cached_property
    def mask(self) -> np.ndarray:
        """`[n]`: 1 for the team's agents."""
        return np.isin(np.array(self.inner.agents), np.array(self.team)).astype(np.float32)

    def counted(self, step: Step) -> Step:
        """A step with this team's reward."""
        xp = step.reward.__array_namespace__()
        return replace(step, team_reward=xp.sum(step.reward * self.mask, axis=-1))


@dataclass(frozen=True)
class TeamEnv:
    """A JAX environment whose team is another than it declares."""

    env: Env
    counting: TeamReward

    @property
    def spec(self) -> Spec:
        """The environment's, with this team."""
        return self.counting.spec

    def init(self, key: Array) -> tuple[Any, Step]:
        """As the environment does."""
        state, step = self.env.init(key)
        return state, self.counting.counted(step)

    def step(self, state: Any, action: tuple[Array, ...], key: Array) -> tuple[Any, Step]:
        """As the environment does, with this team's reward."""
        state, step = self.env.step(state, action, key)
        return state, self.counting.counted(step)


@dataclass(frozen=True)
class TeamPersistent(TeamEnv):
    """One whose copies outlive their episodes (`protocol.PersistentEnv`)."""

    def again(self, state: Any, key: Array) -> tuple[Any, Step]:
        """As the environment does."""
        state, step = self.env.again(state, key)  # type: ignore[attr-defined]
        return state, self.counting.counted(step)


class TeamHost:
    """An environment that Python steps, whose team is another than it declares."""

    def __init__(self, env: HostEnv, counting: TeamReward) -> None:
        self.env, self.counting = env, counting

    @property
    def spec(self) -> Spec:
        """The environment's, with this team."""
        return self.counting.spec

    def reset(self, seed: int) -> Step:
        """As the environment does."""
        return self.counting.counted(self.env.reset(seed))

    def step(self, action: tuple[Array, ...]) -> Step:
        """As the environment does, with this team's reward."""
        return self.counting.counted(self.env.step(action))

    def close(self) -> None:
        """Close the environment."""
        self.env.close()


def with_team(env: Any, team: tuple[str, ...]) -> Any:
    """`env`, an `Env` or a `HostEnv`, whose team are these agents; itself where they are already."""
    if not isinstance(env, TeamEnv | TeamHost) and team == declared_team(env.spec):
        return env
    counting = TeamReward(team, env.spec)
    if hasattr(env, "reset"):
        return TeamHost(env, counting)
    return (TeamPersistent if hasattr(env, "again") else TeamEnv)(env, counting)
