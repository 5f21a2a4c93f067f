"""Many JAX environments stepped together, with next-step autoreset: what the fused runtime scans over."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from marlstone.core.records import record
from marlstone.core.types import Array, Spec, Step
from marlstone.envs.protocol import Env


@record
class Running:
    """Environment states `[b ...]`, and which of them ended on the previous row, `over` `[b]`."""

    env: Any
    over: Array


@dataclass(frozen=True)
class Vectorized:
    """`b` copies of `env`. The row after one with `last` is a reset row: `first`, reward 0, its action ignored.

    Fresh episodes are made only on the rows where somebody needs one: a `lax.cond` over the whole batch, so `step`
    must not itself be vmapped over environments (over seeds it may, at the price of resetting on every row).
    `keys` is `[b]`, one per environment and row; the same key serves the step or the reset, never both.
    """

    env: Env
    b: int

    def __post_init__(self) -> None:
        if self.b < 1:
            raise ValueError(f"Vectorized.b is {self.b}: step at least one environment")

    @property
    def spec(self) -> Spec:
        return self.env.spec

    def init(self, keys: Array) -> tuple[Running, Step]:
        self._check(keys)
        env, row = jax.vmap(self.env.init)(keys)
        return Running(env, row.last), row

    def step(self, state: Running, action: tuple[Array, ...], keys: Array) -> tuple[Running, Step]:
        self._check(keys)
        env, row = jax.vmap(self.env.step)(state.env, action, keys)

        def fresh(old: Any) -> Any:
            new = jax.vmap(self.env.init)(keys)
            return jax.tree.map(lambda x, y: jnp.where(state.over.reshape(-1, *(1,) * (y.ndim - 1)), x, y), new, old)

        env, row = jax.lax.cond(jnp.any(state.over), fresh, lambda old: old, (env, row))
        return Running(env, row.last), row

    def _check(self, keys: Array) -> None:
        if keys.shape[0] != self.b:
            raise ValueError(f"Vectorized got {keys.shape[0]} keys for b={self.b} environments: split the key into {self.b}")
