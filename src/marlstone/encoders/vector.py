"""Vectors to features: fully connected layers of a leaf's own, in front of the network's first layer, where leaves meet."""

from dataclasses import dataclass
from typing import Any, ClassVar

from marlstone.core.layers import Dense, activate, dense, gain, orthogonal
from marlstone.core.types import Leaf
from marlstone.encoders.contract import Encoder

Array = Any


@dataclass(frozen=True)
class Vector(Encoder):
    """Layers of `hidden` rectified units: for a vector that deserves layers of its own. Without it, vectors go into the first layer as
    they are."""

    kind: ClassVar[str] = "vector"
    accepts: ClassVar[tuple[str, ...]] = ("vector",)
    numpy: ClassVar[bool] = True
    hidden: tuple[int, ...] = (64,)

    def __post_init__(self) -> None:
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"Vector.hidden is {self.hidden}: give at least one positive width, e.g. (64,)")

    def width(self, leaf: Leaf) -> int:
        """The last layer's units."""
        return self.hidden[-1]

    def init(self, leaf: Leaf, key: Array) -> tuple[Dense, ...]:
        """One `Dense` a layer, `[i o]`, orthogonal."""
        import jax
        import jax.numpy as jnp

        sizes = (leaf.shape[0], *self.hidden)
        keys = jax.random.split(key, len(self.hidden))
        return tuple(Dense(orthogonal(k, i, o, gain("relu")), jnp.zeros(o)) for k, i, o in zip(keys, sizes, sizes[1:], strict=False))

    def apply(self, p: tuple[Dense, ...], leaf: Leaf, x: Array) -> Array:
        """`[... f] -> [... width]`."""
        for layer in p:
            x = activate(dense(layer, x), "relu")
        return x
