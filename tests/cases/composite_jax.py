"""The game of `composite.py` in JAX, for two agents with one number each: a tool, a throttle and two flags in one `Composite` action."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from marlstone.core.distributions import Box, Composite, Discrete, MultiDiscrete
from marlstone.core.types import Group, Leaf, Metric, Spec, Step

ACTION = Composite((MultiDiscrete((2, 2)), Box(1), Discrete(3)), ("flags", "throttle", "tool"))
N, ROWS = 2, 4


@dataclass(frozen=True)
class Robots:
    """Wanted tool, throttle in -1 to 1 and flags are drawn anew each step; a wrong tool is forbidden."""

    @property
    def spec(self) -> Spec:
        default = (0, 1, 0.0, 2)
        group = Group("robot", ("robot_0", "robot_1"), {"view": Leaf("vector", (6,))}, ACTION, default=default)
        return Spec((group,), N * 6, ROWS, {"right_tool": Metric("up", "mean")}, return_bounds=(0.0, N * ROWS))

    def init(self, key: Any) -> tuple[Any, Step]:
        state = jnp.int32(0), self._draw(key)
        return state, self._step(state, jnp.zeros(N), jnp.zeros(N), jnp.bool_(True))

    def step(self, state: Any, action: Any, key: Any) -> tuple[Any, Step]:
        (t, (tool, throttle, flags)), did = state, ACTION.split(action[0])
        right = (did["tool"] == tool).astype(jnp.float32)
        near = jnp.clip(1 - jnp.abs(did["throttle"][:, 0] - throttle), 0, 1)
        reward = 0.5 * near * right + 0.25 * (did["flags"] == flags).sum(-1)
        state = t + 1, self._draw(key)
        return state, self._step(state, reward, right, jnp.bool_(False))

    @staticmethod
    def _draw(key: Any) -> Any:
        k1, k2, k3 = jax.random.split(key, 3)
        tool, flags = jax.random.randint(k1, (N,), 0, 3), jax.random.randint(k3, (N, 2), 0, 2)
        return tool, jax.random.uniform(k2, (N,), minval=-1, maxval=1), flags

    def _step(self, state: Any, reward: Any, right: Any, first: Any) -> Step:
        t, (tool, throttle, flags) = state
        seen = jnp.concatenate([tool[:, None] == jnp.arange(3), throttle[:, None], flags], -1).astype(jnp.float32)
        allowed = jnp.concatenate([jnp.ones((N, 5), bool), jnp.arange(3) != ((tool + 1) % 3)[:, None]], -1)
        ones, yes = jnp.ones(N), jnp.ones(N, bool)
        return Step(
            ({"view": seen},), seen.reshape(-1), reward, reward.sum(), ones, jnp.ones(()), first, t >= ROWS, (allowed,), yes, yes,
            {"right_tool": right.mean()},
        )  # fmt: skip


def make_env() -> Robots:
    return Robots()
