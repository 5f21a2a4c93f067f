"""Masks of legal actions as environments write them, flat or nested as the action space, and as one flat vector over the options.

{"tool": [1, 0, 1], "flags": [1, 1, 1, 0]}     of Dict{flags: MultiBinary(2), grip: Box, tool: Discrete(3)}: by key, numbers without
[1, 1, 1, 0, 1, 0, 1]                          the same, flat: in the space's order, which for a Dict is that of its sorted keys
"""

from collections.abc import Mapping
from typing import Any

import gymnasium.spaces as gs
import numpy as np


def options(space: gs.Space) -> tuple[int, ...]:
    """How many options each choice of an action space has, part after part; numbers have none."""
    match space:
        case gs.Discrete():
            return (int(space.n),)
        case gs.MultiDiscrete():
            return tuple(int(n) for n in space.nvec.reshape(-1))
        case gs.MultiBinary():
            return (2,) * int(np.prod(space.shape))
        case gs.Tuple() | gs.Dict():
            return tuple(n for inner in _inner(space).values() for n in options(inner))
    return ()


def flat_mask(space: gs.Space, mask: Any) -> Any:
    """A mask without nesting: by key of a Dict, in the order of a Tuple, one list per choice, or flat already.

    Raises ValueError for a key that the space has not, for a part of another length than it has options, and for a mask of numbers.
    """
    return np.concatenate(_parts(space, mask, ())) if _nested(space, mask) else joined(mask)


def joined(mask: Any) -> Any:
    """One list per choice, or one for all, as one vector."""
    if isinstance(mask, tuple | list) and any(isinstance(m, tuple | list | np.ndarray) for m in mask):
        return np.concatenate([np.asarray(joined(m)).reshape(-1) for m in mask])
    return np.asarray(mask).reshape(-1)


def _inner(space: gs.Tuple | gs.Dict) -> dict[Any, gs.Space]:
    return dict(space.spaces) if isinstance(space, gs.Dict) else dict(enumerate(space.spaces))


def _nested(space: gs.Space, mask: Any) -> bool:
    """Whether a mask follows the nesting of its space."""
    if isinstance(space, gs.Dict):
        return isinstance(mask, Mapping)
    if not isinstance(space, gs.Tuple) or not isinstance(mask, tuple | list) or len(mask) != len(space.spaces):
        return False
    return any(m is None or isinstance(m, Mapping | tuple | list) or (isinstance(m, np.ndarray) and m.ndim > 0) for m in mask)


def _parts(space: gs.Space, mask: Any, path: tuple[Any, ...]) -> list[np.ndarray]:
    name = "/".join(map(str, path))
    count = sum(options(space))
    if mask is None:
        return [np.ones(count, bool)]
    if isinstance(space, gs.Dict | gs.Tuple):
        inner = _inner(space)
        if isinstance(mask, Mapping) and (strange := [k for k in mask if k not in inner]):
            raise ValueError(f"mask entry {strange[0]!r}: the action space has {', '.join(map(repr, inner))}")
        if not _nested(space, mask):
            raise ValueError(f"mask of {name!r} is {mask!r}: nest it as the action space, {space}")
        found = mask if isinstance(mask, Mapping) else dict(enumerate(mask))
        return [x for k, s in inner.items() for x in _parts(s, found.get(k), (*path, k))]
    flat = joined(mask)
    if not count:
        raise ValueError(f"mask of {name!r}, which is numbers, not a choice: leave it out, or give None")
    if flat.size != count or flat.dtype.kind not in "biuf":
        raise ValueError(f"mask of {name!r} has {flat.size} entries, dtype {flat.dtype}, for {count} options")
    return [flat.astype(bool)]
