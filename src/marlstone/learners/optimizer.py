"""Adam behind a gradient norm clipped per parameter set, so that agents who share nothing cannot scale each other's steps."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

Array = Any


def clip_by_set(grads: Any, stacked: bool, limit: float) -> tuple[Any, Array]:
    """Scale each set's gradient to at most `limit` in norm. Leaves carry a leading set axis if `stacked`. Returns norms too."""
    axes = lambda g: tuple(range(int(stacked), g.ndim))
    square = sum((g.astype(jnp.promote_types(g.dtype, jnp.float32)) ** 2).sum(axes(g)) for g in jax.tree.leaves(grads))
    norm = jnp.sqrt(square + 1e-24)  # where nothing moves, this too can be differentiated
    scale = jnp.minimum(1.0, limit / jnp.maximum(norm, 1e-8))
    fit = lambda g: scale.reshape(scale.shape + (1,) * (g.ndim - scale.ndim)) if stacked else scale
    return jax.tree.map(lambda g: g * fit(g), grads), norm


@dataclass(frozen=True)
class Adam:
    """Kingma & Ba 2015, epsilon as PPO implementations use it. The learning rate is applied by the caller, so it may follow progress."""

    eps: float = 1e-5

    @property
    def transform(self) -> optax.GradientTransformation:
        return optax.scale_by_adam(eps=self.eps)

    def init(self, nets: Any) -> Any:
        return self.transform.init(nets)

    def step(self, grads: Any, state: Any, nets: Any, lr: Any) -> tuple[Any, Any]:
        """`lr`: one rate per array, as `nets`."""
        updates, state = self.transform.update(grads, state)
        return jax.tree.map(lambda p, u, rate: p - rate * u, nets, updates, lr), state
