"""A compiled writer from dictionaries by agent to the dense arrays of groups, and back from actions to what each agent's space takes.

Everything that can be decided once was decided when it was made (`grouping.arrange`), so that a joint step costs a few microseconds
per agent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from marlstone.core.distributions import Discrete
from marlstone.core.types import Array, Group
from marlstone.envs.actuators import Actuator
from marlstone.envs.guards import Report
from marlstone.envs.spaces import LISTED, ObservationPart


@dataclass(frozen=True)
class AgentSlot:
    """One agent's place in the arrangement.

    Attributes:
      agent: its name.
      group: index of its group.
      place: index within the group.
      axis: index on the agent axis.
      parts: its observation, leaf by leaf.
      actuator: how its choice becomes the environment's action.
      mask: path to the legal actions in its observation (None: they are not there).
    """

    agent: str
    group: int
    place: int
    axis: int
    parts: tuple[ObservationPart, ...]
    actuator: Actuator
    mask: tuple[Any, ...] | None


@dataclass(frozen=True)
class Arrangement:
    """Groups and their agents, in agent-axis order, and how observations are written there.

    Attributes:
      groups: agents with the same structure.
      seats: every agent's place.
      structural: per group the legal mask by size alone (None: all alike).
      maskable: per group whether masks come from the environment, so that `legal` changes from step to step.
      sizes: per group the padded sizes of its actions.
      wiring: the arguments of `arrange`, as plain JSON.
    """

    groups: tuple[Group, ...]
    seats: tuple[AgentSlot, ...]
    structural: tuple[np.ndarray | None, ...]
    maskable: tuple[bool, ...]
    sizes: tuple[tuple[int, ...], ...]
    wiring: Mapping[str, Any] = field(default_factory=dict, repr=False)
    _plan: list[Any] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        for s in self.seats:
            entries = [
                (p.name, p.path, p.shape, p.leaf.shape[0], p.encode, *_accepts(p), p.leaf.kind == "image", p.limits) for p in s.parts
            ]
            self._plan.append((s.agent, s.group, s.place, entries))

    @cached_property
    def _whole(self) -> str | None:
        """The one leaf that is the default state as it stands, if there is one: a single vector, unpadded, in a single group."""
        group = self.groups[0]
        (name, leaf), *more = group.observation.items()
        return name if len(self.groups) == 1 and not more and not group.features and leaf.kind == "vector" else None

    @cached_property
    def agents(self) -> tuple[str, ...]:
        """Names along the agent axis."""
        return tuple(s.agent for s in self.seats)

    @cached_property
    def _discrete(self) -> tuple[bool, ...]:
        return tuple(isinstance(g.space, Discrete) for g in self.groups)

    @cached_property
    def _acting(self) -> list[tuple[Any, int, int]]:
        return [(s.actuator.act, s.group, s.place) for s in self.seats]

    @cached_property
    def state(self) -> int:
        """Length of the default state: every agent's real vector features, in agent-axis order."""
        return sum(p.leaf.shape[0] for s in self.seats for p in s.parts if p.leaf.kind == "vector")

    @cached_property
    def plain(self) -> bool:
        """Whether each agent sees one vector, written as it comes: one group, one leaf, nothing padded, encoded or nested, no masks."""
        parts = [p for s in self.seats for p in s.parts]
        return self._whole is not None and not self._mask_paths and all(p.real and not p.path and p.encode is None for p in parts)

    @cached_property
    def plain_limits(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Where `plain`: the least and the greatest numbers that are no fault, `[n f]` each; None where any number is fine."""
        limits = [s.parts[0].limits for s in self.seats]
        if not any(limits):
            return None
        size = self.groups[0].observation[self.seats[0].parts[0].name].shape
        least = [np.full(size, -np.inf) if x is None else x[0] for x in limits]
        most = [np.full(size, np.inf) if x is None else x[1] for x in limits]
        return np.stack(least), np.stack(most)

    def clip_plain(self, seen: np.ndarray, report: Report) -> None:
        """Where `plain`: report and clip, in place, what is outside its limits in one step's observations `[n f]`, as `write` does."""
        for s, x in zip(self.seats, seen, strict=True):
            part = s.parts[0]
            if part.limits is not None:
                x[...] = _clipped(x, part.limits, s.agent, f"observation {part.name!r}", report, False)

    def blank(self) -> tuple[dict[str, np.ndarray], ...]:
        """Zeros for every leaf, `[n_g ...]`."""
        return tuple({k: np.zeros((g.count, *leaf.shape), leaf.dtype) for k, leaf in g.observation.items()} for g in self.groups)

    def write(self, observations: Mapping[str, Any], into: tuple[dict[str, np.ndarray], ...], report: Report) -> None:
        """Write what agents see into `blank()` arrays; who sees nothing stays zero. Wrong shapes and dtypes are reported and stay zero;
        numbers far outside their space (`Part.limits`) are reported, then clipped to its bounds, or all zeros where they are one-hot."""
        for agent, group, place, entries in self._plan:
            seen = observations.get(agent)
            if seen is None:
                continue
            leaves = into[group]
            for name, path, shape, size, encode, kinds, wanted, image, limits in entries:
                x = seen
                if path or type(x) is not np.ndarray:
                    try:
                        for key in path:
                            x = x[key]
                        x = np.asarray(x)
                    except (KeyError, IndexError, TypeError, ValueError) as error:
                        report("wrong_shape", agent, f"observation {name!r}", f"{type(error).__name__} {error} (expected shape {shape})")
                        continue
                if x.shape != shape:
                    report("wrong_shape", agent, f"observation {name!r}", f"shape {x.shape} (expected {shape})")
                    continue
                if x.dtype.kind not in kinds:
                    report("wrong_dtype", agent, f"observation {name!r}", f"dtype {x.dtype} (expected {wanted})")
                    continue
                if limits is not None and ((x < limits[0]).any() or (x > limits[1]).any()):
                    x = _clipped(x, limits, agent, f"observation {name!r}", report, x.size != size and not image)
                if image:
                    leaves[name][place] = x
                else:
                    leaves[name][place, :size] = x if encode is None else encode(x)

    def default_state(self, obs: tuple[dict[str, np.ndarray], ...]) -> np.ndarray:
        """`[s]` float32: what `write` wrote, unpadded, agent after agent."""
        if self._whole is not None:
            return obs[0][self._whole].reshape(-1)
        pieces = [
            obs[group][name][place, :size]
            for _, group, place, entries in self._plan
            for name, _, _, size, _, _, _, image, _ in entries
            if not image
        ]
        return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)

    @cached_property
    def _mask_paths(self) -> dict[str, tuple[Any, ...]]:
        return {s.agent: s.mask for s in self.seats if s.mask is not None}

    def read_masks(self, observations: Mapping[str, Any], masks: dict[str, tuple[str, Any]], report: Report) -> None:
        """Add to `masks`, name and mask by agent, those that observation spaces hold, in place of others. One that is missing is reported,
        unless the agent has another."""
        for agent, path in self._mask_paths.items():
            x = observations.get(agent)
            try:
                for key in path:
                    x = x[key]  # type: ignore[index]
            except (KeyError, IndexError, TypeError):
                if x is not None and agent not in masks:
                    report("wrong_shape", agent, "/".join(map(str, path)), "nothing (its observation space holds a mask there)")
                continue
            masks[agent] = path[-1], x

    def legal(self, masks: Mapping[str, tuple[str, Any]], report: Report) -> tuple[tuple[np.ndarray | None, ...], list[int]]:
        """Per group `[n_g a]` or None, and the agent-axis places of agents whose mask allows nothing: they wait, and all they may do is
        their default action.

        `masks` holds, by agent, the environment's own mask and the name it was found under; an agent without one may do whatever its size
        allows.
        """
        waiting: list[int] = []
        if not masks:
            return self.structural, waiting
        out = [x.copy() if m and x is not None else x for x, m in zip(self.structural, self.maskable, strict=True)]
        for s in self.seats:
            found = masks.get(s.agent)
            table = out[s.group]
            if found is None or table is None or not self.maskable[s.group]:
                continue
            name, mask = found
            try:
                table[s.place], free = s.actuator.legal(self.sizes[s.group], mask, name in LISTED)
            except (ValueError, TypeError) as error:
                report("wrong_shape", s.agent, name, error)
                continue
            if not free:
                waiting.append(s.axis)
        return tuple(out), waiting

    def act(self, action: tuple[Array, ...]) -> list[Any]:
        """What each agent does, in agent-axis order, as its environment takes it. `action` is per group, emitted, `[n_g ...]`."""
        return self.act_of(self.listed(action))

    def listed(self, action: tuple[Array, ...]) -> list[Any]:
        """Actions per group with the indices as Python's own numbers, any leading axes: what `act_of` takes an entry of."""
        return [a.tolist() if d else a for d, a in zip(self._discrete, action, strict=True)]

    def act_of(self, per_group: Sequence[Any]) -> list[Any]:
        """`act`, of what `listed` gives."""
        return [act(per_group[group][place]) for act, group, place in self._acting]


def _clipped(x: np.ndarray, limits: tuple[np.ndarray, ...], agent: str, field: str, report: Report, one_hot: bool) -> np.ndarray:
    """`x` with what is far outside its space reported and clipped. One-hot numbers stay: their encoding has no place for them, and is 0.
    Infinities stay too: they are another fault."""
    least, most, low, high = limits
    outside = ((x < least) | (x > most)) & np.isfinite(x)
    if not outside.any():
        return x
    value = x[tuple(np.argwhere(outside)[0])]
    report("out_of_range", agent, field, f"{value} (its space holds {np.min(low):g} to {np.max(high):g})")
    return x if one_hot else np.where(outside, np.clip(x, low, high), x).astype(x.dtype)


def _accepts(part: ObservationPart) -> tuple[str, str]:
    """Kinds of dtype a part takes, and their name in messages. Whole numbers become floats freely, never the other way round."""
    return ("fiub", "real numbers") if part.real else ("iub", "whole numbers")
