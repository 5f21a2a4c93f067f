"""Steps of environments that Python steps: NumPy, checked number by number, with everybody's fate on the agent axis."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from marlstone.core.types import Step
from marlstone.envs.guards import Report

Observations = tuple[dict[str, np.ndarray], ...]
_ONE = np.float32(1.0)
_NUMBERS = (float, int, np.floating, np.integer)  # a tuple, since unions of types are slow to ask


def as_number(value: Any, agent: str, field: str, report: Report) -> float:
    """`value` as one float; what is not one number is reported and counts as 0. NaN passes: `sanitize` finds it."""
    if isinstance(value, _NUMBERS):
        try:
            return float(value)
        except OverflowError:  # a whole number beyond every float
            return float("inf")
    try:
        x = np.asarray(value)
    except ValueError as error:  # ragged nested lists
        report("wrong_shape", agent, field, error)
        return 0.0
    if x.dtype.kind not in "fiub":
        report("wrong_dtype", agent, field, f"{value!r} of type {type(value).__name__} (expected a number)")
    elif x.size != 1:
        report("wrong_shape", agent, field, f"shape {x.shape} (expected one number)")
    else:
        return float(x.reshape(-1)[0])
    return 0.0


def as_flag(value: Any, agent: str, field: str, report: Report) -> bool:
    """`value` as one truth; what is neither a truth nor a number is reported and counts as False."""
    if value is False or value is True or isinstance(value, np.bool_):
        return bool(value)
    return bool(as_number(value, agent, field, report))


@cache
def _everyone(n: int) -> np.ndarray:
    out = np.ones(n, bool)
    out.flags.writeable = False
    return out


@cache
def _undiscounted(n: int) -> np.ndarray:
    out = np.ones(n, np.float32)
    out.flags.writeable = False
    return out


def host_step(
    obs: Observations,
    state: np.ndarray,
    legal: tuple[np.ndarray | None, ...],
    reward: np.ndarray,
    *,
    discount: np.ndarray | None = None,
    team_discount: float = 1.0,
    first: bool = False,
    last: bool = False,
    present: np.ndarray | None = None,
    deciding: np.ndarray | None = None,
    team_reward: float | None = None,
    metrics: Mapping[str, float] | None = None,
) -> Step:
    """One step of a Python environment; where a field is not given, everyone is there, everyone decides and nobody terminated.

    Shapes: `reward`, `discount`, `present`, `deciding` `[n]`; the others are scalars. `team_reward` is the sum over agents, unless given.
    """
    n = reward.shape[0]
    here = _everyone(n) if present is None else present
    return Step(
        obs=obs,
        state=state,
        reward=reward,
        team_reward=np.float32(sum(reward.tolist()) if team_reward is None else team_reward),
        discount=_undiscounted(n) if discount is None else discount,
        team_discount=_ONE if team_discount == 1.0 else np.float32(team_discount),
        first=np.True_ if first else np.False_,
        last=np.True_ if last else np.False_,
        legal=legal,
        present=here,
        deciding=here if deciding is None else deciding,
        metrics={k: np.float32(v) for k, v in metrics.items()} if metrics else {},
    )
