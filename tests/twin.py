"""One deterministic game twice: in NumPy as a PettingZoo environment, named `twin.py:make`, and in JAX, `Twin`.

Two agents push a point along a line; each sees the point, the row's time and its own number. The episode is cut, or ends,
after `length` rows; what is reported can be `swapped`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

NAMES = ("puller", "pusher")
LENGTH = 5


def advance(x: Any, actions: Any) -> tuple[Any, Any]:
    """The point after everybody's push, and what each is paid for it."""
    x = 0.8 * x + 0.25 * (actions[0] - 1) - 0.125 * (actions[1] - 1) + 0.1
    return x, (-x * x, x - 0.5 * (actions[1] == 2))


def make(length: int = LENGTH, end: str = "truncate", swapped: bool = False) -> Any:
    from gymnasium import spaces
    from pettingzoo import ParallelEnv

    class Line(ParallelEnv):
        metadata = {"name": "line"}  # noqa: RUF012
        possible_agents = list(NAMES)  # noqa: RUF012

        def observation_space(self, agent: str) -> Any:
            return spaces.Box(-10, 10, (3,), np.float32)

        def action_space(self, agent: str) -> Any:
            return spaces.Discrete(3)

        def state(self) -> np.ndarray:
            return np.array([self.x, self.t / length], np.float32)

        def _see(self) -> dict[str, np.ndarray]:
            return {a: np.array([self.x, self.t / length, i], np.float32) for i, a in enumerate(NAMES)}

        def reset(self, seed: int | None = None, options: Any = None) -> Any:
            self.t, self.x, self.agents = 0, np.float32(0.5), list(NAMES)
            return self._see(), {a: {} for a in NAMES}

        def step(self, actions: dict[str, int]) -> Any:
            self.t += 1
            x, pay = advance(float(self.x), [actions[a] for a in NAMES])
            self.x = np.float32(x)
            over = self.t >= length
            terminated = over and (end == "terminate") != swapped
            self.agents = [] if over else list(NAMES)
            flags = lambda v: dict.fromkeys(NAMES, v)
            return self._see(), dict(zip(NAMES, pay, strict=True)), flags(terminated), flags(over and not terminated), flags({})

        def close(self) -> None:
            pass

    return Line()


@dataclass(frozen=True)
class Twin:
    """The same in JAX, for the same spec."""

    spec: Any

    def _row(self, x: Any, t: Any, pay: Any, first: bool = False) -> Any:
        import jax.numpy as jnp

        from marlstone.envs.team_games import team_step

        (leaf,) = self.spec.groups[0].observation
        seen = jnp.stack([jnp.stack([x, t / LENGTH, jnp.float32(i)]) for i in range(2)])
        legal = (jnp.ones((2, 3), bool),)  # as PettingZoo's choices always have it
        return team_step(({leaf: seen},), jnp.stack([x, t / LENGTH]), pay, legal, truncated=t >= LENGTH, first=first)

    def init(self, key: Any) -> Any:
        import jax.numpy as jnp

        x, t = jnp.float32(0.5), jnp.zeros((), jnp.int32)
        return (x, t), self._row(x, t, jnp.zeros(2), True)

    def step(self, state: Any, action: Any, key: Any) -> Any:
        import jax.numpy as jnp

        x, t = state
        x, pay = advance(x, action[0])
        return (x, t + 1), self._row(x, t + 1, jnp.stack(pay))
