"""Whether what was learned in one environment fits another: as many groups, alike in what they see and do. How many agents a group has
may differ where parameters are shared."""

from marlstone.core.types import Spec


def spec_misfit(trained: Spec, other: Spec) -> str:
    """Why networks for the groups of `trained` are none for those of `other`, naming group, leaf and sizes; empty where they are."""
    if len(trained.groups) != len(other.groups):
        names = lambda spec: f"{len(spec.groups)} ({', '.join(g.name for g in spec.groups)})"
        return f"it has {names(other)} groups of agents instead of {names(trained)}"
    for g, h in zip(trained.groups, other.groups, strict=True):
        if g.space != h.space:
            return f"group {h.name!r}: its actions are {h.space} instead of {g.space}"
        if g.clock != h.clock:
            return f"group {h.name!r}: it decides every {h.clock} steps instead of {g.clock}"
        for leaf in dict.fromkeys((*g.observation, *h.observation)):
            was, is_ = g.observation.get(leaf), h.observation.get(leaf)
            if was is None or is_ is None:
                return f"group {h.name!r}: its observation {'lacks' if is_ is None else 'also has'} {leaf!r}"
            if was != is_:
                return f"group {h.name!r}: leaf {leaf!r} of its observation is {_leaf(is_)} instead of {_leaf(was)}"
    return ""


def _leaf(leaf: object) -> str:
    return f"{getattr(leaf, 'kind', '')} {list(getattr(leaf, 'shape', ()))} {getattr(leaf, 'dtype', '')}".strip()
