"""A `Spec` as plain JSON and back, without pickle and JAX: for worker processes, fleet actors, policies and logs."""

from collections.abc import Iterator
from dataclasses import asdict, fields
from typing import Any

from marlstone.core import distributions as dist
from marlstone.core.types import Group, Leaf, Metric, Spec

_SPACES: dict[str, Any] = {c.__name__: c for c in (dist.Discrete, dist.MultiDiscrete, dist.Box, dist.Composite, dist.Gate, dist.Content)}


def spec_to_json(spec: Spec) -> dict[str, Any]:
    """Plain dictionaries, lists, strings and numbers. Raises ValueError for an action space of another package."""
    groups = []
    for g in spec.groups:
        groups.append(
            {
                "name": g.name,
                "agents": list(g.agents),
                "observation": {k: asdict(leaf) for k, leaf in g.observation.items()},
                "space": _space_to_json(g.space, g.name),
                "types": list(g.types),
                "features": {k: list(v) for k, v in g.features.items()},
                "default": _lists(g.default),
                "clock": g.clock,
                **({"requests": list(g.requests)} if g.requests else {}),  # left out where there are none: as before there were any
            }
        )
    rest = {k: v for k, v in vars(spec).items() if k in Spec.__dataclass_fields__ and k not in ("groups", "metrics")}
    return {**rest, "groups": groups, "metrics": {k: asdict(m) for k, m in spec.metrics.items()}}


def spec_from_json(plain: dict[str, Any]) -> Spec:
    """The inverse of `spec_to_json`; lists become tuples again."""
    groups = []
    for g in plain["groups"]:
        groups.append(
            Group(
                name=g["name"],
                agents=tuple(g["agents"]),
                observation={k: Leaf(v["kind"], tuple(v["shape"]), v["dtype"]) for k, v in g["observation"].items()},
                space=_space_from_json(g["space"]),
                types=tuple(g["types"]),
                features={k: tuple(v) for k, v in g["features"].items()},
                default=_tuples(g["default"]),
                clock=g["clock"],
                requests=tuple(g.get("requests", ())),
            )
        )
    rest = {k: v for k, v in plain.items() if k not in ("groups", "metrics", "opponents", "return_bounds")}
    bounds = plain.get("return_bounds")
    return Spec(
        groups=tuple(groups),
        opponents=tuple(plain["opponents"]),
        metrics={k: Metric(**m) for k, m in plain["metrics"].items()},
        return_bounds=None if bounds is None else tuple(bounds),
        **rest,
    )


def _space_to_json(space: Any, group: str) -> dict[str, Any]:
    kind = type(space).__name__
    if _SPACES.get(kind) is not type(space):
        known = "Discrete, MultiDiscrete, Box or a Composite of these"
        raise ValueError(f"group {group!r}: action space {space!r} cannot be written: use {known}")
    plain = {f.name: getattr(space, f.name) for f in fields(space)}
    if "parts" in plain:
        plain["parts"] = [_space_to_json(part, group) for part in space.parts]
    return {"kind": kind, **plain}


def _space_from_json(plain: dict[str, Any]) -> Any:
    fields_ = {k: tuple(v) if isinstance(v, list) else v for k, v in plain.items() if k != "kind"}
    if "parts" in fields_:
        fields_["parts"] = tuple(map(_space_from_json, fields_["parts"]))
    return _SPACES[plain["kind"]](**fields_)


def _lists(x: Any) -> Any:
    return [_lists(y) for y in x] if isinstance(x, tuple | list) else x


def _tuples(x: Any) -> Any:
    return tuple(map(_tuples, x)) if isinstance(x, list) else x


def first_difference(a: Any, b: Any) -> tuple[str, Any, Any] | None:
    """The first place in which two specs, read from JSON, are not the same, and what is there; None where they are."""
    return next(_differences(a, b, ""), None)


def _differences(a: Any, b: Any, where: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        a, b = ({str(i): v for i, v in enumerate(x)} for x in (a, b))
    if not (isinstance(a, dict) and isinstance(b, dict)):
        if a != b:
            yield where, a, b
        return
    for k in dict.fromkeys((*a, *b)):
        yield from _differences(a.get(k), b.get(k), f"{where}.{k}" if where else k)
