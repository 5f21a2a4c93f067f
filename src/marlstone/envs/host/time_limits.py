"""How long episodes of Gymnasium packages are, and which of their terminations only mean that time ran out."""

from collections.abc import Callable
from typing import Any

import numpy as np


def _lbforaging(env: Any) -> bool:
    return bool(env.field.any())  # food is left


def _rware(env: Any) -> bool:
    return bool(env.max_steps and env._cur_steps >= env.max_steps)


OUT_OF_TIME: dict[str, Callable[[Any], bool]] = {"lbforaging": _lbforaging, "rware": _rware}
"""Packages whose "terminated" may mean that time ran out, and where in the environment that can be read."""


def out_of_time(env: Any) -> bool:
    """Whether an environment that reports a termination merely ran out of time."""
    known = OUT_OF_TIME.get(type(env).__module__.partition(".")[0])
    return known is not None and known(env)


def horizon(env: Any) -> int | None:
    """About how many steps an episode has (`Spec.horizon`): from the registered spec, a TimeLimit, or the environment's own attribute."""
    unwrapped = getattr(env, "unwrapped", env)
    spec = getattr(env, "spec", None)
    names = ("_max_episode_steps", "max_episode_steps", "max_steps")
    found = [getattr(spec, "max_episode_steps", None), *(getattr(unwrapped, k, None) for k in names)]
    known = [int(h) for h in found if isinstance(h, int | np.integer) and h > 0]
    return min(known) if known else None
