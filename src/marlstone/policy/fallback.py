"""Actions as an environment takes them, in the form that networks record them: how declared fallback actions enter an artifact."""

from typing import Any

import gymnasium.spaces as gs
import numpy as np

EDGE = 1 - 1e-6  # of a bounded number: tanh reaches the bounds themselves only at infinity


def recorded(space: gs.Space, action: Any) -> np.ndarray:
    """The numbers that an adapter turns into `action`, flat: indices of choices, or a Box's numbers before tanh.

    Raises ValueError where `action` is not in `space`.
    """
    if not space.contains(action):
        raise ValueError(f"{action!r} is no action of {space}")
    return np.concatenate(_flat(space, action))


def _flat(space: gs.Space, action: Any) -> list[np.ndarray]:
    match space:
        case gs.Discrete():
            return [np.atleast_1d(int(action) - int(space.start))]
        case gs.MultiDiscrete():
            return [(np.asarray(action, np.int64) - space.start).reshape(-1)]
        case gs.MultiBinary():
            return [np.asarray(action, np.int64).reshape(-1)]
        case gs.Box():
            low, high = space.low.astype(float), space.high.astype(float)
            return [np.arctanh(np.clip(2 * (np.asarray(action, float) - low) / (high - low) - 1, -EDGE, EDGE)).reshape(-1)]
        case gs.Tuple():
            return [x for inner, a in zip(space.spaces, action, strict=True) for x in _flat(inner, a)]
        case gs.Dict():
            return [x for key, inner in space.spaces.items() for x in _flat(inner, action[key])]
    raise ValueError(f"{space} has no recorded form: use Discrete, MultiDiscrete, MultiBinary, Box, Tuple or Dict")
