"""Default actions that an environment of another library declares: `env.default_actions`, the action that does nothing special.

    self.default_actions = {"forklift_0": 4, "drone_0": [0.0, 0.0, 0.0]}     # by agent, as its action space takes them
    self.default_actions = 0                                                 # or one for all

What an agent is compared with when its contribution is measured, what it does where no action is legal, and what a policy that must not act
falls back to. Undeclared: the first option of every choice, the middle of every Box.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium.spaces as gs
import numpy as np

from marlstone.core.errors import suggest
from marlstone.envs.conformance import NonConforming

Recorded = tuple[float, ...] | tuple[int, ...]
"""One agent's action as it is recorded: an index, one index per choice, numbers of a Box before they are squashed by tanh, or indices and
numbers, part after part of a Dict or Tuple of both."""
BOUND = 10.0  # tanh of it is 1 in float32: a Box's bound is met exactly, by a finite number


def declared_defaults(env: Any, action_spaces: Mapping[str, gs.Space], where: str) -> dict[str, Recorded]:
    """What `env.default_actions` declares, as recorded actions by agent.

    Args: `action_spaces`: every agent's, by name; `where`: the environment's name, for messages.
    Raises: `NonConforming`, naming agent, value and remedy, for an unknown agent and an action that its space does not hold.
    """
    given = getattr(env, "default_actions", None) or getattr(getattr(env, "unwrapped", env), "default_actions", None)
    if given is None:
        return {}
    if isinstance(given, Mapping) and not all(
        isinstance(space, gs.Dict) and set(space.spaces) == set(given) for space in action_spaces.values()
    ):
        for agent in given:
            if agent not in action_spaces:
                raise NonConforming(f"{where}: default_actions names {agent!r}; {suggest(str(agent), action_spaces)}")
        by_agent = dict(given)
    else:
        by_agent = dict.fromkeys(action_spaces, given)
    return {agent: _checked(action, action_spaces[agent], agent, where) for agent, action in by_agent.items()}


def _checked(action: Any, space: gs.Space, agent: str, where: str) -> Recorded:
    wrong = NonConforming(
        f"{where}: default_actions[{agent!r}] is {action!r}: give one action of its space, {' '.join(str(space).split())}"
    )
    try:
        out = recorded_action(space, action)
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise wrong from error
    if out is None:
        raise wrong
    return out


def recorded_action(space: gs.Space, action: Any) -> Recorded | None:
    """An action as networks record it: the inverse of what an actuator does (`actuators.make_actuator`); None where the space does not hold
    it."""
    match space:
        case gs.Discrete():
            x = np.asarray(action)
            fits = x.shape == () and x.dtype.kind in "iu" and space.contains(int(x))
            return (int(x) - int(space.start),) if fits else None
        case gs.MultiDiscrete() | gs.MultiBinary():
            x = np.asarray(action)
            if x.dtype.kind not in "iub" or not space.contains(x.astype(space.dtype)):
                return None
            start = 0 if isinstance(space, gs.MultiBinary) else np.asarray(space.start)
            return tuple(int(v) for v in (x - start).reshape(-1))
        case gs.Box():
            x = np.asarray(action, np.float64)
            low, high = space.low.astype(np.float64), space.high.astype(np.float64)
            if x.shape != space.shape or not ((x >= low) & (x <= high)).all():
                return None
            with np.errstate(divide="ignore", invalid="ignore"):
                half = (high - low) / 2
                unit = np.where(half > 0, (x - low) / np.where(half > 0, half, 1.0) - 1, 0.0)
                return tuple(float(v) for v in np.clip(np.arctanh(np.clip(unit, -1, 1)), -BOUND, BOUND).reshape(-1))
        case gs.Tuple() | gs.Dict():
            keys: Sequence[Any] = list(space.spaces) if isinstance(space, gs.Dict) else range(len(space.spaces))
            if len(action) != len(keys):
                return None
            parts = [recorded_action(space.spaces[k], action[k]) for k in keys]
            known = [p for p in parts if p is not None]
            return tuple(x for p in known for x in p) if len(known) == len(parts) else None
    return None


def group_default(kind: str, defaults: Sequence[Recorded]) -> Any:
    """`Group.default` of agents with these defaults, in their order: 0 where all are zeros, one action where they agree, else one each.

    Args: `kind`: of their action space; `defaults`: padded to the group's sizes.
    """
    if not any(any(d) for d in defaults):
        return 0
    rows = [d[0] if kind == "Discrete" else d for d in defaults]
    return rows[0] if all(r == rows[0] for r in rows) else tuple(rows)
