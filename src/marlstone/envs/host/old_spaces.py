"""Spaces of gym, Gymnasium's predecessor, which older packages declare still (CityLearn 2), as Gymnasium's; gym is not imported."""

from typing import Any

import gymnasium.spaces as gs
import numpy as np


def modern(space: Any) -> Any:
    """A space of gym as the same of Gymnasium; whatever else it is, itself. Raises nothing: a kind that Gymnasium lacks stays as it is."""
    if isinstance(space, gs.Space) or not any(c.__module__.startswith("gym.spaces") for c in type(space).__mro__):
        return space
    match type(space).__name__:
        case "Box":
            return gs.Box(np.asarray(space.low), np.asarray(space.high), dtype=space.dtype)
        case "Discrete":
            return gs.Discrete(int(space.n), start=int(getattr(space, "start", 0)))
        case "MultiDiscrete":
            return gs.MultiDiscrete(np.asarray(space.nvec))
        case "MultiBinary":
            return gs.MultiBinary(space.n)
        case "Tuple":
            return gs.Tuple([modern(x) for x in space.spaces])
        case "Dict":
            return gs.Dict({k: modern(x) for k, x in space.spaces.items()})
    return space
