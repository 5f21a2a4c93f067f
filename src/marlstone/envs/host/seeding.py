"""How an episode of another library's environment is given its seed: by `reset`, by a method `seed`, or by the global generators.

Many environments take a seed and draw from Python's or NumPy's global generator all the same: both are seeded as well, so that an
environment that is alone in its process repeats its episodes.
"""

import inspect
import random
from collections.abc import Callable
from typing import Any

import numpy as np

Begin = Callable[[Any, int], Any]
"""What resets an environment with a seed: `begin(env, seed)`. It holds no environment, so that copies of one are reset themselves."""


def seeded_reset(env: Any) -> tuple[Begin, str | None]:
    """What resets such an environment with a seed, and what a person should know of it (None: nothing).

    Looked for in this order: `reset(seed=...)`, `reset(random_seed=...)`, `seed(number)` before `reset()`, `reset()` alone.
    """
    taken = _parameters(env.reset)
    if "seed" in taken or ("random_seed" not in taken and any(p.kind is p.VAR_KEYWORD for p in taken.values())):
        return _by_keyword, None
    if "random_seed" in taken:
        return _by_random_seed, None
    if callable(getattr(env, "seed", None)) and any(
        p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL) for p in _parameters(env.seed).values()
    ):
        return _by_method, None
    note = (
        "reset() takes no seed, and there is no seed(number): Python's and NumPy's global generators are seeded instead, and an "
        "environment that draws from others does not repeat its episodes"
    )
    return _by_generators, note


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # written in C
        return {}


def _globally(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)


def _by_keyword(env: Any, seed: int) -> Any:
    _globally(seed)
    return env.reset(seed=seed)


def _by_random_seed(env: Any, seed: int) -> Any:
    _globally(seed)
    return env.reset(random_seed=seed + 1)  # to Flatland 0 is no seed


def _by_method(env: Any, seed: int) -> Any:
    _globally(seed)
    env.seed(seed)
    return env.reset()


def _by_generators(env: Any, seed: int) -> Any:
    _globally(seed)
    return env.reset()
