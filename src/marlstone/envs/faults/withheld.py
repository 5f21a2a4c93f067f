"""What agents do without: observation leaves that they are never given, and actions that are illegal for them, such as calls nobody needs.

Unlike other faults it is part of a policy as it is deployed: what trained or was trimmed without a leaf acts without it (`policy.policy`).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from marlstone.core.distributions import Composite, Discrete, MultiDiscrete
from marlstone.core.errors import UserError, suggest
from marlstone.core.records import replace
from marlstone.core.types import Array, Group, Spec, Step
from marlstone.envs.faults.contract import Draws, Fault


@dataclass(frozen=True)
class Withheld(Fault):
    """Leaves and actions that agents are never given.

    Fields: `leaves`, each `"group:leaf"`, or `"leaf"` of every group that has one; `actions`, each `"agent:5"`, or of an action of several
    choices `"agent:part=5"`. Where nothing else would be legal, an agent's default action is.
    """

    kind: ClassVar[str] = "withheld"
    leaves: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.leaves and not self.actions:
            raise UserError("leaves and actions are both empty: name leaves as 'group:leaf', or actions as 'agent:5'")

    def refuses(self, spec: Spec) -> str:
        """Why agents cannot do without these; empty where they can."""
        leaves = [x for g in spec.groups for x in (f"{g.name}:{k}" for k in g.observation)]
        known = list(dict.fromkeys([*leaves, *(k for g in spec.groups for k in g.observation)]))
        if unknown := next((x for x in self.leaves if x not in known), None):
            return f"leaves has {unknown!r}, which nobody observes; {suggest(unknown, known)}"
        if blind := next((g.name for g in spec.groups if not self.kept(g)), None):
            return f"leaves has all that group {blind!r} observes: leave it at least one"
        labels = {label: g for g in spec.groups for label in action_labels(g)}
        if unknown := next((x for x in self.actions if x not in labels), None):
            return f"actions has {unknown!r}, which is no agent's action; {suggest(unknown, labels)}"
        for label in self.actions:
            g = labels[label]
            if default_entries(g)[action_labels(g)[label]]:
                return f"actions has {label!r}, a default action, which stays where nothing else is legal: leave it out"
        return ""

    def kept(self, g: Group) -> dict[str, Any]:
        """The leaves that a group is left with."""
        return {k: leaf for k, leaf in g.observation.items() if k not in self.leaves and f"{g.name}:{k}" not in self.leaves}

    def forbidden(self, g: Group) -> np.ndarray:
        """Entries of a group's masks that are never legal, `[n_g a]`."""
        mask = np.zeros((g.count, g.space.width), bool)
        for label, place in action_labels(g).items():
            mask[place] = label in self.actions
        return mask

    def spec(self, spec: Spec) -> Spec:
        """Without these leaves."""
        return replace(spec, groups=tuple(self.group(g) for g in spec.groups))

    def group(self, g: Group) -> Group:
        """A group without these leaves."""
        kept = self.kept(g)
        return replace(g, observation=kept, features={k: x for k, x in g.features.items() if k in kept})

    def step(self, spec: Spec, memory: Any, step: Step, draw: Draws) -> tuple[Any, Step]:
        """Without these leaves, and with these actions illegal."""
        xp = step.present.__array_namespace__()
        obs = tuple({k: x for k, x in seen.items() if k in self.kept(g)} for g, seen in zip(spec.groups, step.obs, strict=True))
        legal = tuple(still_legal(g, ok, self.forbidden(g), xp) for g, ok in zip(spec.groups, step.legal, strict=True))
        return memory, replace(step, obs=obs, legal=legal)


def action_labels(g: Group) -> dict[str, tuple[int, int]]:
    """Every option of every agent's choices by its name, `agent:5` or `agent:part=5`, and its place in a mask `[n_g a]`."""
    options, at = dict[str, int](), 0
    several = not isinstance(g.space, Discrete)
    for name, size, chosen in _choices(g):
        if chosen:
            options |= {(f"{name}={k}" if several else f"{k}"): at + k for k in range(size)}
        at += size
    return {f"{agent}:{label}": (i, at) for i, agent in enumerate(g.agents) for label, at in options.items()}


def _choices(g: Group) -> list[tuple[str, int, bool]]:
    """Parts of a mask one after another: their names, their entries, and whether these are options of one choice."""
    parts = zip(g.space.names, g.space.parts, strict=True) if isinstance(g.space, Composite) else (("", g.space),)
    out = list[tuple[str, int, bool]]()
    for name, part in parts:
        if isinstance(part, MultiDiscrete):
            out += [(f"{name}.{i}" if name else f"{i}", size, True) for i, size in enumerate(part.sizes)]
        else:
            out.append((name, part.width, isinstance(part, Discrete)))
    return out


def default_entries(g: Group) -> np.ndarray:
    """Entries of masks that are of every agent's default action, `[n_g a]`."""
    found = np.asarray(g.encoded_default) > 0.5
    return found & (g.space.chosen if isinstance(g.space, Composite) else True)


def still_legal(g: Group, legal: Array | None, forbidden: Array, xp: Any) -> Array | None:
    """What is left of a group's mask `[... n_g a]` without what is `forbidden [n_g a]`: of a choice of which nothing would be left, the
    default. None where everything is legal. `forbidden` may be known only when a program runs."""
    if isinstance(forbidden, np.ndarray) and not forbidden.any():
        return legal
    ok = xp.asarray(~forbidden) if legal is None else legal & ~forbidden
    default, parts, at = default_entries(g), [], 0
    for _, size, chosen in _choices(g):
        mine = ok[..., at : at + size]
        if chosen:
            mine = mine | (xp.asarray(default[:, at : at + size]) & ~xp.any(mine, axis=-1, keepdims=True))
        parts.append(mine)
        at += size
    return xp.concat(parts, axis=-1)
