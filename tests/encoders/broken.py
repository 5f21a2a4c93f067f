"""Encoders that break one law each: what the laws must catch."""

import itertools
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from marlstone.encoders import Encoder, Leaf

CALLS = itertools.count()


@dataclass(frozen=True)
class Sound(Encoder):
    """One dense layer: keeps them all."""

    accepts: ClassVar[tuple[str, ...]] = ("vector",)
    numpy: ClassVar[bool] = True
    units: int = 3

    def width(self, leaf: Leaf) -> int:
        return self.units

    def init(self, leaf: Leaf, key: Any) -> Any:
        return {"w": jax.random.normal(key, (leaf.shape[0], self.units)), "b": jax.random.normal(key, (self.units,))}

    def apply(self, p: Any, leaf: Leaf, x: Any) -> Any:
        return x @ p["w"] + p["b"]


class Wide(Sound):
    """Declares one feature more than it makes."""

    def width(self, leaf: Leaf) -> int:
        return self.units + 1


class Flat(Sound):
    """Takes one leading axis only."""

    def apply(self, p: Any, leaf: Leaf, x: Any) -> Any:
        return super().apply(p, leaf, x.reshape(-1, leaf.shape[0]))


class Dice(Sound):
    """Begins otherwise each time."""

    def init(self, leaf: Leaf, key: Any) -> Any:
        return super().init(leaf, jax.random.key(next(CALLS)))


class Counted(Sound):
    """Keeps a number that is no array among its parameters."""

    def init(self, leaf: Leaf, key: Any) -> Any:
        return {**super().init(leaf, key), "n": 1.0}


class Whim(Sound):
    """Draws where nobody gave it a key."""

    def apply(self, p: Any, leaf: Leaf, x: Any) -> Any:
        return super().apply(p, leaf, x) + float(next(CALLS))


class Crowd(Sound):
    """Subtracts the mean of the batch."""

    def apply(self, p: Any, leaf: Leaf, x: Any) -> Any:
        return super().apply(p, leaf, x - x.mean(tuple(range(x.ndim - 1)), keepdims=True))


class Idle(Sound):
    """Has a parameter that nothing uses."""

    def init(self, leaf: Leaf, key: Any) -> Any:
        return {**super().init(leaf, key), "unused": jnp.zeros(2)}


class Blind(Sound):
    """Does not look at the last number."""

    def apply(self, p: Any, leaf: Leaf, x: Any) -> Any:
        return x[..., :-1] @ p["w"][:-1] + p["b"] + 0 * p["w"][-1]


class Steep(Sound):
    """Overflows where numbers are large."""

    def apply(self, p: Any, leaf: Leaf, x: Any) -> Any:
        return x.__array_namespace__().exp(x) @ p["w"] + p["b"]


class First(Sound):
    """Does otherwise where agents are mapped over."""

    def apply(self, p: Any, leaf: Leaf, x: Any) -> Any:
        return super().apply(p, leaf, x) * (2.0 if type(x).__name__ == "BatchTracer" else 1.0)


class JaxOnly(Sound):
    """Claims NumPy, and calls JAX."""

    numpy: ClassVar[bool] = True

    def apply(self, p: Any, leaf: Leaf, x: Any) -> Any:
        return jnp.asarray(super().apply(p, leaf, x))


@dataclass(frozen=True)
class Growing(Sound):
    """A field that grows whenever it is read."""

    scale: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", self.scale * 2)
