"""Gymnasium spaces as plain JSON and back, without pickle: what a policy artifact keeps of the environment it acts in."""

from collections.abc import Mapping
from typing import Any

import gymnasium.spaces as gs
import numpy as np

Json = dict[str, Any]


def space_to_json(space: gs.Space) -> Json:
    """Plain dictionaries, lists, strings and numbers. Raises ValueError for a space that adapters do not take (`envs.spaces`)."""
    match space:
        case gs.Discrete():
            return {"kind": "Discrete", "n": int(space.n), "start": int(space.start)}
        case gs.MultiDiscrete():
            return {"kind": "MultiDiscrete", "nvec": space.nvec.tolist(), "start": np.broadcast_to(space.start, space.nvec.shape).tolist(),
                    "dtype": str(space.dtype)}  # fmt: skip
        case gs.MultiBinary():
            return {"kind": "MultiBinary", "shape": list(space.shape)}
        case gs.Box():
            return {
                "kind": "Box",
                "shape": list(space.shape),
                "dtype": str(space.dtype),
                "low": _bound(space.low),
                "high": _bound(space.high),
            }
        case gs.Dict():
            return {"kind": "Dict", "spaces": [[key, space_to_json(inner)] for key, inner in space.spaces.items()]}
        case gs.Tuple():
            return {"kind": "Tuple", "spaces": [space_to_json(inner) for inner in space.spaces]}
    raise ValueError(f"{space} cannot be written: use Box, Discrete, MultiDiscrete, MultiBinary, Dict or Tuple")


def space_from_json(plain: Json) -> gs.Space:
    """The inverse of `space_to_json`. Raises ValueError for a kind that it does not write."""
    kind = plain["kind"]
    if kind == "Discrete":
        return gs.Discrete(plain["n"], start=plain["start"])
    if kind == "MultiDiscrete":
        return gs.MultiDiscrete(np.array(plain["nvec"]), dtype=plain["dtype"], start=np.array(plain["start"]))
    if kind == "MultiBinary":
        return gs.MultiBinary(plain["shape"])
    if kind == "Box":
        dtype = np.dtype(plain["dtype"])
        low, high = (np.broadcast_to(np.array(plain[k], float), plain["shape"]).astype(dtype) for k in ("low", "high"))
        return gs.Box(low, high, tuple(plain["shape"]), dtype.type)
    if kind == "Dict":
        return gs.Dict([(key, space_from_json(inner)) for key, inner in plain["spaces"]])
    if kind == "Tuple":
        return gs.Tuple([space_from_json(inner) for inner in plain["spaces"]])
    raise ValueError(f"a space of kind {kind!r} cannot be read: write it with this version of the package")


def spaces_to_json(spaces: Mapping[str, gs.Space]) -> Json:
    """Of every agent, by name."""
    return {agent: space_to_json(space) for agent, space in spaces.items()}


def spaces_from_json(plain: Mapping[str, Json]) -> dict[str, gs.Space]:
    """The inverse of `spaces_to_json`."""
    return {agent: space_from_json(space) for agent, space in plain.items()}


def _bound(x: np.ndarray) -> Any:
    """A bound that is the same everywhere as one number; infinities as text, which strict JSON has no numbers for."""
    x = x.astype(float)
    flat = x.reshape(-1)
    if flat.size and (flat == flat[0]).all():
        return _number(float(flat[0]))
    return np.vectorize(_number, otypes=[object])(x).tolist()


def _number(x: float) -> float | str:
    return x if np.isfinite(x) else str(x)
