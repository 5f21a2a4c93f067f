"""Going back to a state an environment was in, for environments that only Python can step: by deep copies.

NumPy's and Python's global random states belong to a snapshot: environments may draw from them.
"""

import copy
import random
from typing import Any

import numpy as np

CANNOT = {"sumo": "SUMO's simulator keeps its state in native code, and its saved states leave out its random numbers"}
"""Sources whose environments cannot go back, and why."""


def take_snapshot(env: Any, fields: tuple[str, ...]) -> Any:
    """A snapshot of an adapter's mutable `fields`, copied together, and of the global random states."""
    return _copied({f: getattr(env, f) for f in fields}), np.random.get_state(), random.getstate()


def restore_snapshot(env: Any, state: Any) -> None:
    """Put `env` where it was when `state` was taken (`take_snapshot`); `state` stays good for more."""
    fields, drawn, also = state
    for name, value in _copied(fields).items():
        setattr(env, name, value)
    np.random.set_state(drawn)
    random.setstate(also)


def _copied(fields: dict[str, Any]) -> dict[str, Any]:
    """A deep copy of the attributes themselves. EzPickle, which PettingZoo's environments derive from, would make a new environment; what
    pygame draws with cannot be copied, and is shared."""
    memo: dict[int, Any] = {}
    remade, env = [], fields.get("_env")
    while env is not None:
        if "_ezpickle_args" in vars(env):
            remade.append(env)
            memo[id(env)] = object.__new__(type(env))
        memo |= {id(x): x for x in vars(env).values() if type(x).__module__.startswith("pygame")}
        env = vars(env).get("env") or vars(env).get("aec_env")
    for env in remade:
        vars(memo[id(env)]).update(copy.deepcopy(vars(env), memo))
    return copy.deepcopy(fields, memo)
