"""Some agents of an environment, in groups of their own: what they see of its steps, and where their actions belong in its joint action.

A team that learns beside frozen opponents is one such view, and so is each frozen policy. One code for NumPy's arrays and JAX's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from marlstone.core.distributions import Box, Discrete, MultiDiscrete
from marlstone.core.records import replace
from marlstone.core.types import Array, Group, Leaf, Spec, Step
from marlstone.envs.grouping import arrangement_from_json

Wiring = Mapping[str, Any]


@dataclass(frozen=True)
class AgentView:
    """Agents of `inner` as whoever acts for them knows them.

    Attributes:
      inner: the environment's own spec.
      groups: the agents as they are acted for: perhaps fewer than in the environment's groups, and then perhaps less padded.
      played: along the axis of these groups, whose place in the environment each agent takes; usually its own.
      wirings: how dictionaries by agent become these groups, and how they become the environment's; None where there are none.

    Raises:
      ValueError: where observations or actions are not the same; the message names agent and field.
    """

    inner: Spec
    groups: tuple[Group, ...]
    played: tuple[str, ...]
    wirings: tuple[Wiring | None, Wiring | None] = (None, None)

    def __post_init__(self) -> None:
        places = {a: (g, i) for g, group in enumerate(self.inner.groups) for i, a in enumerate(group.agents)}
        start = 0
        for group in self.groups:
            mine = self.played[start : start + group.count]
            start += group.count
            homes = {places[a][0] for a in mine}
            if len(homes) > 1:
                split = ", ".join(f"{self.inner.groups[h].name!r}" for h in sorted(homes))
                raise ValueError(f"group {group.name!r} would play agents of different groups, {split}")
            home = self.inner.groups[homes.pop()]
            for name, agent in zip(group.agents, mine, strict=True):
                self._check(group, name, home, agent)

    def _check(self, group: Group, name: str, home: Group, agent: str) -> None:
        """Raises ValueError where `name`, as `group` has it, does not see and do what `agent` does in the environment."""
        who = f"agent {agent!r}" if name == agent else f"agent {agent!r}, played by {name!r}"
        if self.wirings[0] is not None and self.wirings[1] is not None:
            for kind, what in (("observation_spaces", "observation"), ("action_spaces", "action")):
                theirs, ours = self.wirings[0][kind][name], self.wirings[1][kind][agent]
                if theirs != ours:
                    raise ValueError(f"{who}: its {what} space is {ours} here, and {theirs} for the policy")
            return
        if group.observation != home.observation:
            raise ValueError(f"{who}: it observes {_leaves(home)} here, and {_leaves(group)} for the policy")
        if group.space != home.space:
            raise ValueError(f"{who}: it acts in {home.space} here, and in {group.space} for the policy")

    @cached_property
    def places(self) -> tuple[tuple[int, np.ndarray], ...]:
        """Per group: in which of the environment's groups its agents are, and where in it."""
        found = {a: (g, i) for g, group in enumerate(self.inner.groups) for i, a in enumerate(group.agents)}
        out, start = [], 0
        for group in self.groups:
            mine = [found[a] for a in self.played[start : start + group.count]]
            start += group.count
            out.append((mine[0][0], np.array([i for _, i in mine])))
        return tuple(out)

    @cached_property
    def axis(self) -> np.ndarray:
        """Where each agent stands on the environment's agent axis."""
        return np.array([self.inner.agents.index(a) for a in self.played])

    def step(self, step: Step) -> Step:
        """What these agents see of a step `[*b ...]` of the environment; the team's numbers and the state stay."""
        obs, legal = [], []
        for group, (home, places) in zip(self.groups, self.places, strict=True):
            leaves = {}
            for name, leaf in group.observation.items():
                x = _take(step.obs[home][name], places, -1 - len(leaf.shape))
                leaves[name] = x[..., : leaf.shape[0]] if leaf.kind == "vector" else x
            obs.append(leaves)
            mask = step.legal[home]
            legal.append(None if mask is None else _cropped(_take(mask, places, -2), self.inner.groups[home].space, group.space))
        numbers = {k: _take(getattr(step, k), self.axis, -1) for k in ("reward", "discount", "present", "deciding")}
        return replace(step, obs=tuple(obs), legal=tuple(legal), **numbers)

    def put(self, joint: Sequence[Array], action: Sequence[Array], acting: frozenset[str]) -> tuple[Array, ...]:
        """The environment's joint action `[*b n_g ...]` with these agents' `action` in it, as far as their place is among `acting`."""
        out, start = list(joint), 0
        for group, (home, places), a in zip(self.groups, self.places, action, strict=True):
            mine = np.array([x in acting for x in self.played[start : start + group.count]])
            start += group.count
            if not mine.any():
                continue
            space = self.inner.groups[home].space
            several = 0 if isinstance(space, Discrete) else 1
            axis = -1 - several
            a = _take(a, np.flatnonzero(mine), axis)
            if isinstance(space, Box) and a.shape[-1] < space.size:
                xp = a.__array_namespace__()
                a = xp.concat([a, xp.zeros((*a.shape[:-1], space.size - a.shape[-1]), a.dtype)], -1)
            out[home] = _put(out[home], places[mine], a, axis)
        return tuple(out)


def without(spec: Spec, gone: frozenset[str], wiring: Wiring | None = None) -> tuple[tuple[Group, ...], Wiring | None]:
    """The groups of everybody but `gone`, and their wiring. With a `wiring` they are arranged anew, as if nobody else had ever been there;
    else they stay padded as they are."""
    if wiring is not None:
        agents = set(spec.agents) - gone
        mine = {k: {a: x for a, x in v.items() if a in agents} if isinstance(v, Mapping) else v for k, v in wiring.items()}
        mine["agents"] = [a for a in wiring["agents"] if a in agents]
        return arrangement_from_json(mine).groups, mine
    out = []
    for group in spec.groups:
        keep = [i for i, a in enumerate(group.agents) if a not in gone]
        if len(keep) == group.count:
            out.append(group)
        elif keep:
            pick = lambda xs: tuple(xs[i] for i in keep)  # noqa: B023
            features = {k: pick(v) for k, v in group.features.items()}
            default = _default(group.recorded_defaults[keep])
            out.append(replace(group, agents=pick(group.agents), types=pick(group.types), features=features, default=default))
    return tuple(out), None


def _default(rows: np.ndarray) -> Any:
    """Recorded actions `[n ...]` as `Group.default` writes them."""
    if not rows.any():
        return 0
    plain = [x if rows.ndim == 1 else tuple(x) for x in rows.tolist()]
    return plain[0] if all(x == plain[0] for x in plain) else tuple(plain)


def _leaves(group: Group) -> str:
    def one(name: str, leaf: Leaf) -> str:
        return f"{name} {leaf.kind}{list(leaf.shape)}"

    return ", ".join(one(k, v) for k, v in group.observation.items())


def _run(places: np.ndarray) -> slice | None:
    """The slice that `places` are, if they follow one another."""
    low = int(places[0])
    return slice(low, low + len(places)) if (places == np.arange(low, low + len(places))).all() else None


def _take(x: Array, places: np.ndarray, axis: int) -> Array:
    """Entries of `x` along a negative `axis`; a slice where they follow one another."""
    after = (slice(None),) * (-axis - 1)
    if (run := _run(places)) is not None:
        return x if run == slice(0, x.shape[axis]) else x[(..., run, *after)]
    return x.__array_namespace__().take(x, places, axis=axis)


def _put(x: Array, places: np.ndarray, new: Array, axis: int) -> Array:
    """`x` with `new` at `places` along a negative `axis`."""
    if len(places) == x.shape[axis]:
        return _take(new, np.argsort(places), axis)
    index: Any = (..., places, *(slice(None),) * (-axis - 1))
    if isinstance(x, np.ndarray) and isinstance(new, np.ndarray):
        out = x.copy()
        out[index] = new
        return out
    import jax.numpy as jnp

    return jnp.asarray(x).at[index].set(new)


def _cropped(mask: Array, wide: Any, narrow: Any) -> Array:
    """A mask of legal actions `[... a]` of a padded space, without the padding that `narrow` has not."""
    if wide == narrow:
        return mask
    if not isinstance(wide, MultiDiscrete):
        return mask[..., : narrow.width]
    parts, at = [], 0
    for size, mine in zip(wide.sizes, narrow.sizes, strict=True):
        parts.append(mask[..., at : at + mine])
        at += size
    return mask.__array_namespace__().concat(parts, -1)
