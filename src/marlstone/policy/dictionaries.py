"""Between an environment's dictionaries by agent and a policy's groups: observations and masks in, actions out, without the environment."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NoReturn

import numpy as np

from marlstone.core.distributions import Box, Composite, Discrete, MultiDiscrete
from marlstone.core.types import Group, Spec
from marlstone.envs.actuators import actuator_of
from marlstone.envs.arrangement import Arrangement
from marlstone.envs.default_actions import BOUND, recorded_action
from marlstone.envs.spaces import LISTED, MASKS, masks_in
from marlstone.envs.spaces_json import spaces_from_json


@dataclass(frozen=True)
class Dictionaries:
    """How one environment gives observations and takes actions.

    Fields: `spec`, its groups; `arranged`, how its dictionaries become groups (None: agents are given leaves by name); `withheld`: leaves
    of these, `"leaf"` or `"group:leaf"`, that need not be there and that `spec` does not have.
    """

    spec: Spec
    arranged: Arrangement | None
    withheld: frozenset[str] = frozenset()

    def groups(self, observations: Mapping[str, Any], infos: Mapping[str, Any]) -> tuple[Any, Any]:
        """Observations and masks by group, `[n_g ...]`. Raises ValueError naming agent and field for what is not as declared."""
        masks = masks_in(infos)
        if self.arranged is None:
            return self._leaves(observations, masks)
        obs = self._needed.blank()
        self._needed.write(observations, obs, _refuse)
        self.arranged.read_masks(observations, masks, _refuse)
        obs = tuple({k: x for k, x in seen.items() if k in g.observation} for seen, g in zip(obs, self.spec.groups, strict=True))
        return obs, self.arranged.legal(masks, _refuse)[0]

    @cached_property
    def _needed(self) -> Arrangement:
        """The arrangement of what is not withheld."""
        assert self.arranged is not None
        if not self.withheld:
            return self.arranged
        kept = lambda s: tuple(p for p in s.parts if not {p.name, f"{self.arranged.groups[s.group].name}:{p.name}"} & self.withheld)
        return replace(self.arranged, seats=tuple(replace(s, parts=kept(s)) for s in self.arranged.seats), _plan=[])

    def _leaves(self, observations: Mapping[str, Any], masks: dict[str, Any]) -> tuple[Any, Any]:
        """Of an environment that gives groups itself: an agent's observation is its only leaf, or leaves by name; shorter vectors are
        padded."""
        out, legal = [], []
        for g in self.spec.groups:
            seen = {k: np.zeros((g.count, *leaf.shape), leaf.dtype) for k, leaf in g.observation.items()}
            allowed: np.ndarray | None = None
            for i, agent in enumerate(g.agents):
                if (given := observations.get(agent)) is None:
                    continue
                if not isinstance(given, Mapping):
                    given = {next(iter(g.observation)): given} if len(g.observation) == 1 else {}
                for name, leaf in g.observation.items():
                    x = np.asarray(given.get(name, np.zeros(0)))
                    size = g.features.get(name, (leaf.shape[0],) * g.count)[i]
                    if x.shape not in {leaf.shape, (size, *leaf.shape[1:])}:
                        _refuse("wrong_shape", agent, f"observation {name!r}", f"shape {x.shape} (expected {leaf.shape})")
                    seen[name][i, : len(x)] = x
                found = next(((m, given[m]) for m in MASKS if m in given and m not in g.observation), masks.get(agent))
                if found is not None:
                    allowed = np.ones((g.count, g.space.width), bool) if allowed is None else allowed
                    allowed[i] = _allowed(found, g, agent)
            out.append(seen)
            legal.append(allowed)
        return tuple(out), tuple(legal)

    def named(self, emitted: tuple[np.ndarray, ...]) -> dict[str, Any]:
        """Actions `[n_g ...]` by agent, as its space takes them."""
        if self.arranged is not None:
            return dict(zip(self.arranged.agents, self.arranged.act(emitted), strict=True))
        rows = zip(self.spec.groups, emitted, strict=True)
        return {a: int(x[i]) if isinstance(g.space, Discrete) else x[i] for g, x in rows for i, a in enumerate(g.agents)}

    def recorded(self, agent: str, action: Any) -> np.ndarray:
        """What networks would record of an action of this agent, flat, padded as its group is. Raises ValueError for what is none."""
        if self.arranged is not None:
            declared = spaces_from_json(self.arranged.wiring["action_spaces"])[agent]
            if (found := recorded_action(declared, action)) is None:
                raise ValueError(f"{action!r} is no action of {declared}")
            seat = next(s for s in self.arranged.seats if s.agent == agent)
            return np.asarray(replace(seat.actuator, default=found).padded_default(self.arranged.sizes[seat.group]))
        space = next(g.space for g in self.spec.groups if agent in g.agents)
        return _recorded(space, np.asarray(action).reshape(-1))


def _refuse(fault: str, agent: str, field: str, value: Any) -> NoReturn:
    raise ValueError(f"agent {agent!r}, {field}: got {value}")


def blank_actions(g: Group) -> np.ndarray:
    """Recorded actions of the right shape and dtype, `[n_g ...]`."""
    return np.zeros((g.count, *g.space.action_shape), g.space.action_dtype)


def _recorded(space: Any, flat: np.ndarray) -> np.ndarray:
    """An action in the form that policies emit, `[k]`, as it is recorded. Raises ValueError for what is not in its space."""
    if isinstance(space, Composite):
        if flat.shape != space.action_shape or flat.dtype.kind not in "iuf":
            raise ValueError(f"{flat.tolist()} is not {space.action_shape[0]} numbers, of {space}")
        ends = np.cumsum([sum(part.action_shape) or 1 for part in space.parts])
        parts = zip(space.parts, np.split(flat, ends[:-1]), strict=True)
        whole = lambda x: x.astype(np.int64) if (x == np.floor(x)).all() else x
        return np.concatenate([_recorded(part, x if isinstance(part, Box) else whole(x)) for part, x in parts])
    if isinstance(space, Box):
        if flat.shape != (space.size,) or not (np.abs(flat) <= 1).all():
            raise ValueError(f"{flat.tolist()} is not {space.size} numbers from -1 to 1")
        with np.errstate(divide="ignore"):
            return np.clip(np.arctanh(flat), -BOUND, BOUND)
    sizes = space.sizes if isinstance(space, MultiDiscrete) else (space.width,)
    if flat.dtype.kind not in "iu" or flat.shape != (len(sizes),) or not ((flat >= 0) & (flat < sizes)).all():
        raise ValueError(f"{flat.tolist()} is not {len(sizes)} whole numbers below {sizes}")
    return flat


def _allowed(found: tuple[str, Any], g: Group, agent: str) -> np.ndarray:
    """A mask as the environment gave it, `[a]`."""
    name, mask = found
    default = tuple(np.asarray(g.recorded_defaults[g.agents.index(agent)]).reshape(-1).tolist())
    acts = actuator_of(g.space, default)
    if isinstance(g.space, Composite) and np.size(mask) == g.space.width:  # as a `Step` has it, with an entry for each number
        mask = np.asarray(mask).reshape(-1)[g.space.chosen]
    try:
        return acts.legal(acts.sizes, mask, name in LISTED)[0]
    except (ValueError, TypeError) as error:
        _refuse("wrong_shape", agent, name, error)
