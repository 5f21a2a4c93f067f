"""What faults are written with: one number per agent, brought to groups, leaves and actions. NumPy and JAX alike."""

from collections.abc import Callable
from typing import Any

import numpy as np

from marlstone.core.errors import UserError, suggest
from marlstone.core.records import replace
from marlstone.core.types import Array, Group, Spec, Step

Actions = tuple[Array, ...]
Legal = tuple[Array | None, ...]
LONGEST = 1000  # steps that a fault may remember


def check_limits(fault: Any, **limits: tuple[float, float]) -> None:
    """Raises UserError for a field outside its limits, both included."""
    for field, (low, high) in limits.items():
        value = getattr(fault, field)
        if not low <= value <= high:
            raise UserError(f"{field} is {value}: give a number from {low:g} to {high:g}")


def check_choice(fault: Any, **choices: tuple[str, ...]) -> None:
    """Raises UserError for a field that is none of its choices."""
    for field, words in choices.items():
        if (value := getattr(fault, field)) not in words:
            raise UserError(f"{field} is {value!r}; {suggest(str(value), words)}")


def unknown_leaf(spec: Spec, leaf: str) -> str:
    """Why a fault cannot affect `leaf`; empty where it can. "" is every leaf."""
    known = list(dict.fromkeys(k for g in spec.groups for k in g.observation))
    return "" if leaf == "" or leaf in known else f"leaf is {leaf!r}, which nobody observes; {suggest(leaf, known)}"


def groups_of(spec: Spec, x: Array) -> list[Array]:
    """`[n ...]` -> per group `[n_g ...]`."""
    ends = np.cumsum([g.count for g in spec.groups])
    return [x[end - g.count : end] for end, g in zip(ends, spec.groups, strict=True)]


def team_mask(spec: Spec) -> np.ndarray:
    """`[n]`: the team, without managers."""
    return np.array([g.clock == 1 for g in spec.groups for _ in g.agents])


def where_agents(mask: Array, a: Array, b: Array) -> Array:
    """`a` of the agents in `mask` `[n_g]`, else `b` `[n_g ...]`; of b's dtype."""
    xp = b.__array_namespace__()
    return xp.where(mask.reshape(*mask.shape, *(1,) * (b.ndim - mask.ndim)), a, b).astype(b.dtype)


def change_leaves(step: Step, leaf: str, change: Callable[[int, str, Array], Array]) -> Step:
    """The step with `change(group, name, x)` in place of every leaf x `[n_g ...]`, or of those called `leaf`. By name, as JAX orders
    dictionaries, so that draws are in the same order everywhere."""
    obs = ({k: change(g, k, seen[k]) if leaf in ("", k) else seen[k] for k in sorted(seen)} for g, seen in enumerate(step.obs))
    return replace(step, obs=tuple(obs))


def map_leaves(step: Step, leaf: str, of: Callable[[Array], Array]) -> tuple[dict[str, Array], ...]:
    """`of` every leaf, or of those called `leaf`: what a fault remembers of a step."""
    return tuple({k: of(x) for k, x in seen.items() if leaf in ("", k)} for seen in step.obs)


def real_features(group: Group, leaf: str, xp: Any) -> Array:
    """`[n_g f]` or `[n_g]`: which features of a leaf are not padding, and where all are, True."""
    sizes = group.features.get(leaf)
    if sizes is None:
        return xp.ones(group.count, bool)
    return xp.asarray(np.arange(group.observation[leaf].shape[0]) < np.array(sizes)[:, None])


# ---- actions, as environments take them
def default_actions(spec: Spec, xp: Any) -> Actions:
    """Everybody's declared default, `[n_g ...]`."""

    def of(g: Group) -> Array:
        return xp.asarray(np.array(g.space.emit(g.recorded_defaults), g.recorded_defaults.dtype))

    return tuple(of(g) for g in spec.groups)


def legal_or_default(spec: Spec, action: Actions, legal: Legal) -> Actions:
    """Actions as they are where they are legal; else the default, or where that is illegal too the first legal one."""

    def of(g: Group, a: Array, ok: Array | None) -> Array:
        return a if ok is None else g.space.legal_or_default(a, ok, g.recorded_defaults)

    return tuple(of(g, a, ok) for g, a, ok in zip(spec.groups, action, legal, strict=True))


def replace_actions(spec: Spec, mask: Array, other: Actions, action: Actions, legal: Legal) -> Actions:
    """`other` of the agents in `mask` `[n]`, made legal; managers' orders as they are."""
    made = legal_or_default(spec, other, legal)
    return tuple(
        a if g.clock > 1 else where_agents(m, o, a) for g, m, o, a in zip(spec.groups, groups_of(spec, mask), made, action, strict=True)
    )


def push(queue: Array, x: Array) -> Array:
    """The oldest entry of `[k ...]` leaves, `x` enters."""
    xp = queue.__array_namespace__()
    return xp.concat([queue[1:], xp.asarray(x).astype(queue.dtype)[None]])


def repeated(x: Array, k: int) -> Array:
    """`[k ...]`: x again and again."""
    xp = x.__array_namespace__()
    return xp.broadcast_to(x[None], (k, *x.shape)) + xp.zeros((), x.dtype)  # its own memory
