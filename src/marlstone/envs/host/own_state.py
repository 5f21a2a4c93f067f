"""An environment's own `state()`, as critics read it: it must never cost an episode its end.

Real environments raise in `state()` once their agents are gone, have a `state` that is no function, or one of another length each time.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from marlstone.envs.conformance import source_location
from marlstone.envs.guards import Report


def _asked(env: Any) -> np.ndarray:
    """`[s]` float32. Raises whatever `state()` raises, and ValueError for what is no array of numbers."""
    state = np.asarray(env.state())
    if state.dtype.kind not in "fiub" or state.size == 0:
        raise ValueError(f"state() returned {state!r:.80}, no array of numbers")
    return state.astype(np.float32).reshape(-1)


LARGEST = 2**16
"""Numbers of a state that critics read; a larger one is a picture of the screen."""


@dataclass
class EnvState:
    """Reads the environment's own `state()` and falls back to the last one that worked.

    Attributes:
      last: the last state that could be had, `[s]`.
    """

    last: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))

    def found(self, env: Any, where: str, notices: list[str]) -> bool:
        """Whether `env`, which was reset, has a state that works. An environment that claims to have one that does not is a notice."""
        if getattr(env, "state", None) is None:
            return False
        try:
            asked = _asked(env)
        except NotImplementedError:
            return False
        except Exception as error:  # noqa: BLE001  whatever a user's code raises
            at = source_location(env, "state") if callable(env.state) else where
            notices.append(f"{at}: state() does not work ({type(error).__name__}: {error}): the state is all observations, concatenated")
            return False
        if asked.size > LARGEST:
            notices.append(f"state() has {asked.size:,} numbers, more than {LARGEST:,}: the state is all vector observations, concatenated")
            return False
        self.last = asked
        return True

    def read(self, env: Any, last: bool, report: Report) -> np.ndarray:
        """The state now, or the last one that could be had. After the episode's `last` step failing is no fault: a termination needs no
        state, and a truncation takes the one before."""
        try:
            state = _asked(env)
            if state.size != self.last.size:
                raise ValueError(f"state() returned {state.size} numbers (expected {self.last.size})")
        except Exception as error:  # noqa: BLE001  whatever a user's code raises
            if not last:
                report("no_state", "team", "state", f"{type(error).__name__}: {error}")
            return self.last
        self.last = state
        return state
