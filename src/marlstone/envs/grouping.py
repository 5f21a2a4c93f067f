"""From Gymnasium spaces per agent to groups.

Agents with the same leaves (names, kinds, shapes of images) and the same kind of action form one group; smaller vectors
and action spaces are padded, and masked through `Group.features` and `Step.legal`. `Arrangement` then writes steps by these groups.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from marlstone.core.types import Group, Leaf
from marlstone.envs.actuators import Actuator, make_actuator
from marlstone.envs.arrangement import AgentSlot, Arrangement
from marlstone.envs.default_actions import Recorded, group_default
from marlstone.envs.spaces import ObservationPart, observation_parts
from marlstone.envs.spaces_json import spaces_from_json, spaces_to_json


def type_of(agent: str) -> str:
    """`"adversary_0"` -> `"adversary"`: agents that differ by a number only are of one type."""
    return re.sub(r"_\d+$", "", agent)


def _signature(parts: tuple[ObservationPart, ...], actuator: Actuator) -> tuple[Any, ...]:
    leaves = tuple(sorted((p.name, p.leaf.kind, (p.leaf.shape, p.leaf.dtype) if p.leaf.kind == "image" else None) for p in parts))
    return (leaves, *actuator.signature)


def _name(types: list[str], taken: set[str], kind: str) -> str:
    """A group's name: its only type, a few types joined by `+`, or `agents`; the kind of action is added where that is taken."""
    distinct = list(dict.fromkeys(types))
    name = "+".join(distinct) if len(distinct) <= 3 else "agents"
    for candidate in (name, f"{name}.{kind.lower()}"):
        if candidate not in taken:
            return candidate
    return f"{name}.{len(taken)}"


def arrange(
    agents: list[str],
    observation_spaces: Mapping[str, Any],
    action_spaces: Mapping[str, Any],
    *,
    masked: bool = True,
    types: Mapping[str, str] | None = None,
    defaults: Mapping[str, Recorded] | None = None,
) -> Arrangement:
    """Groups for `agents`, in their order. `masked`: masks may come at any step, in `info` too, so that all choices have a `legal`;
    without, only where an observation space has one. `defaults`: recorded actions by agent (`default_actions`). Raises `UnsupportedSpace`,
    naming agent and field."""
    known = {}
    for a in agents:
        actuator = replace(make_actuator(action_spaces.get(a), a), default=(defaults or {}).get(a))
        known[a] = (*observation_parts(observation_spaces.get(a), a, actuator.options), actuator)
    members: dict[Any, list[str]] = {}
    for a, (parts, _, actuator) in known.items():
        members.setdefault(_signature(parts, actuator), []).append(a)
    groups: list[Group] = []
    seats: list[AgentSlot] = []
    structural, maskable, sizes = [], [], []
    for g, names in enumerate(members.values()):
        actuators = [known[a][2] for a in names]
        kind = actuators[0].kind
        room = tuple(max(k) for k in zip(*(x.sizes for x in actuators), strict=True))
        leaves: dict[str, Leaf] = {}
        features: dict[str, tuple[int, ...]] = {}
        for part in known[names[0]][0]:
            each = [next(p.leaf for p in known[a][0] if p.name == part.name) for a in names]
            leaves[part.name] = part.leaf
            if part.leaf.kind == "vector":
                widths = tuple(leaf.shape[0] for leaf in each)
                leaves[part.name] = Leaf("vector", (max(widths),))
                if min(widths) < max(widths):
                    features[part.name] = widths
        kinds = [(types or {}).get(a) or type_of(a) for a in names]
        name = _name(kinds, {x.name for x in groups}, kind)
        default = group_default(kind, [x.padded_default(room) for x in actuators])
        groups.append(Group(name, tuple(names), leaves, actuators[0].space(room), tuple(kinds), features, default))
        masks = kind != "Box" and (masked or any(known[a][1] is not None for a in names))
        mask = np.stack([x.legal(room)[0] for x in actuators])
        structural.append(mask if masks or not mask.all() else None)
        maskable.append(masks)
        sizes.append(room)
        for i, a in enumerate(names):
            seats.append(AgentSlot(a, g, i, len(seats), known[a][0], actuators[i].within(room), known[a][1]))
    wiring = {
        "agents": list(agents),
        "observation_spaces": spaces_to_json({a: observation_spaces[a] for a in agents}),
        "action_spaces": spaces_to_json({a: action_spaces[a] for a in agents}),
        "masked": masked,
        "types": dict(types or {}),
        "defaults": {a: list(x) for a, x in (defaults or {}).items()},
    }
    return Arrangement(tuple(groups), tuple(seats), tuple(structural), tuple(maskable), tuple(sizes), wiring)


def arrangement_from_json(wiring: Mapping[str, Any]) -> Arrangement:
    """The arrangement that has this `wiring`."""
    observed, acted = (spaces_from_json(wiring[k]) for k in ("observation_spaces", "action_spaces"))
    defaults = {a: tuple(x) for a, x in wiring.get("defaults", {}).items()}
    return arrange(wiring["agents"], observed, acted, masked=wiring["masked"], types=wiring["types"], defaults=defaults)
