"""Images to features: a small convolutional encoder, strided, channels last."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from marlstone.core.layers import Dense, orthogonal
from marlstone.core.types import Leaf

Array = Any


@dataclass(frozen=True)
class Image:
    """3x3 convolutions, one per entry of `channels`, each with a stride of 2 while the picture is larger than 8, then flattened."""

    channels: tuple[int, ...] = (16, 32)

    def __post_init__(self) -> None:
        if not self.channels or min(self.channels) < 1:
            raise ValueError(f"Image.channels is {self.channels}: give at least one positive number of filters, e.g. (16, 32)")

    def _strides(self, leaf: Leaf) -> list[int]:
        h, w, out = *leaf.shape[:2], []
        for _ in self.channels:
            out.append(2 if min(h, w) > 8 else 1)
            h, w = -(-h // out[-1]), -(-w // out[-1])
        return out

    def width(self, leaf: Leaf) -> int:
        """How many features a picture becomes."""
        h, w = leaf.shape[:2]
        for s in self._strides(leaf):
            h, w = -(-h // s), -(-w // s)
        return h * w * self.channels[-1]

    def flops(self, leaf: Leaf) -> int:
        """FLOPs of one picture's convolutions: two per weight and output position."""
        (h, w, before), out = leaf.shape, 0
        for c, s in zip(self.channels, self._strides(leaf), strict=True):
            h, w = -(-h // s), -(-w // s)
            out, before = out + 2 * h * w * 9 * before * c, c
        return out

    def init(self, leaf: Leaf, key: Array) -> tuple[Dense, ...]:
        """Filters as `[9 c_in, c_out]` products, one per layer."""
        sizes = (leaf.shape[2], *self.channels)
        keys = jax.random.split(key, len(self.channels))
        return tuple(Dense(orthogonal(k, 9 * i, o, 2**0.5), jnp.zeros(o)) for k, i, o in zip(keys, sizes, sizes[1:], strict=False))

    def apply(self, p: tuple[Dense, ...], leaf: Leaf, x: Array) -> Array:
        """`[... h w c] -> [... f]`; uint8 pictures are scaled to 0..1."""
        lead = x.shape[:-3]
        y = x.reshape(-1, *leaf.shape).astype(jnp.float32)
        y = y / 255 if leaf.dtype == "uint8" else y
        for q, s in zip(p, self._strides(leaf), strict=True):
            filters = q.w.reshape(3, 3, y.shape[-1], -1)
            y = lax.conv_general_dilated(y, filters, (s, s), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
            y = jax.nn.relu(y + q.b)
        return y.reshape(*lead, -1)
