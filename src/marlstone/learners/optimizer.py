"""Optimizers: any optax gradient transformation, behind gradients clipped per parameter set, with learning rates applied outside.

    p <- p - rate(progress, network) * transform(gradient)

Clipping is per network and parameter set, so that agents who share nothing cannot scale each other's steps. The learning rates (of actors
and critics, and of what credit wants learned) follow the learner's own schedule, so a transformation must give a direction, not a step.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax

Array = Any


class Optimizer:
    """The contract. Subclass as a frozen dataclass, in one file, and name it `optimizer = "file.py:Class"`.

    `transform()` gives any `optax.GradientTransformation` that keeps the gradient's sign and applies no learning rate, such as
    `optax.scale_by_adam()` or `optax.chain(optax.scale_by_adam(), optax.add_decayed_weights(1e-4))`. `optax.adam(lr)` turns the sign and
    applies a rate, and is refused.
    """

    kind: ClassVar[str]

    def transform(self) -> optax.GradientTransformation:
        """The transformation from gradients to directions of descent."""
        raise NotImplementedError(f"{type(self).__name__} has no transform: return an optax.GradientTransformation")

    def init(self, nets: Any) -> Any:
        """The optimizer's state for these networks: arrays only."""
        return self.transform().init(nets)

    def step(self, grads: Any, state: Any, nets: Any, rates: Any) -> tuple[Any, Any]:
        """Networks and state after one step. `rates`: one learning rate per array, as `nets`."""
        updates, state = self.transform().update(grads, state, nets)
        return jax.tree.map(lambda p, u, rate: p - rate * u, nets, updates, rates), state

    def steps_taken(self, state: Any) -> Array | None:
        """How many steps led to this state, of a transformation that counts them, as Adam's does; else None."""
        return state.count if "count" in getattr(state, "_fields", ()) else None  # every tuple has a method of that name

    def refuses(self) -> str | None:
        """Why this optimizer cannot be used, or None: its first direction must point along the gradient."""
        return _refusal(self)


@lru_cache(maxsize=64)
def _refusal(optimizer: Optimizer) -> str | None:
    name = type(optimizer).__name__
    if not isinstance(transform := optimizer.transform(), optax.GradientTransformation):
        return f"{name}.transform gives a {type(transform).__name__}: return an optax.GradientTransformation, such as optax.scale_by_adam()"
    with jax.ensure_compile_time_eval():
        p = jnp.zeros(1)
        first = float(transform.update(jnp.ones(1), transform.init(p), p)[0][0])
    if first > 0:
        return None
    return (
        f"{name}.transform turns a gradient of 1 into {first:.3g}: give a direction of descent without a learning rate, such as "
        "optax.scale_by_adam() instead of optax.adam(lr); learner.lr is applied to it"
    )


def _check(optimizer: Any, **fields: tuple[bool, str]) -> None:
    """Raises ValueError for the first field that is not as it must be."""
    for name, (ok, wanted) in fields.items():
        if not ok:
            raise ValueError(f"{type(optimizer).__name__}.{name} is {getattr(optimizer, name)}: give {wanted}")


DECAY = "a number from 0 to below 1"
EPS = "a positive number, such as 1e-5"


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam (Kingma & Ba 2015), `eps` as PPO implementations use it. `b1`, `b2`: decay of the gradient's first and second moment."""

    kind: ClassVar[str] = "adam"
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-5

    def __post_init__(self) -> None:
        _check(self, b1=(0 <= self.b1 < 1, DECAY), b2=(0 <= self.b2 < 1, DECAY), eps=(self.eps > 0, EPS))

    def transform(self) -> optax.GradientTransformation:
        """Adam's direction."""
        return optax.scale_by_adam(self.b1, self.b2, self.eps)


@dataclass(frozen=True)
class RAdam(Optimizer):
    """Rectified Adam (Liu et al. 2020), which PQN uses: steps stay plain until the second moment is known well enough."""

    kind: ClassVar[str] = "radam"
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-5

    def __post_init__(self) -> None:
        _check(self, b1=(0 <= self.b1 < 1, DECAY), b2=(0 <= self.b2 < 1, DECAY), eps=(self.eps > 0, EPS))

    def transform(self) -> optax.GradientTransformation:
        """Rectified Adam's direction."""
        return optax.scale_by_radam(self.b1, self.b2, self.eps)


@dataclass(frozen=True)
class RmsProp(Optimizer):
    """RMSprop (Tieleman & Hinton 2012), which the authors of QMIX use: gradients divided by their running root mean square, whose memory
    fades by `decay`."""

    kind: ClassVar[str] = "rmsprop"
    decay: float = 0.99
    eps: float = 1e-5

    def __post_init__(self) -> None:
        _check(self, decay=(0 <= self.decay < 1, DECAY), eps=(self.eps > 0, EPS))

    def transform(self) -> optax.GradientTransformation:
        """RMSprop's direction."""
        return optax.scale_by_rms(self.decay, self.eps)


@dataclass(frozen=True)
class Sgd(Optimizer):
    """Stochastic gradient descent, with a running sum of gradients that fades by `momentum` (0: none). Learning rates that suit it are far
    above Adam's."""

    kind: ClassVar[str] = "sgd"
    momentum: float = 0.0

    def __post_init__(self) -> None:
        _check(self, momentum=(0 <= self.momentum < 1, DECAY))

    def transform(self) -> optax.GradientTransformation:
        """The gradient itself, or its running sum."""
        return optax.trace(self.momentum) if self.momentum else optax.identity()


def clip_by_set(grads: Any, stacked: bool, limit: float) -> tuple[Any, Array]:
    """Scale each set's gradient to at most `limit` in norm. Leaves carry a leading set axis if `stacked`. Returns norms too."""
    axes = lambda g: tuple(range(int(stacked), g.ndim))
    square = sum((g.astype(jnp.promote_types(g.dtype, jnp.float32)) ** 2).sum(axes(g)) for g in jax.tree.leaves(grads))
    norm = jnp.sqrt(square + 1e-24)  # where nothing moves, this too can be differentiated
    scale = jnp.minimum(1.0, limit / jnp.maximum(norm, 1e-8))
    fit = lambda g: scale.reshape(scale.shape + (1,) * (g.ndim - scale.ndim)) if stacked else scale
    return jax.tree.map(lambda g: g * fit(g), grads), norm
