"""Images to features: a small convolutional encoder, strided, channels last."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from marlstone.core.layers import Dense, orthogonal, product
from marlstone.core.types import Leaf

Array = Any


def convolved(x: Array, filters: Array, stride: int) -> Array:
    """`[b h w i]` with 3x3 filters `[9 i, o]` -> `[b h/stride w/stride o]`, padded with zeros as XLA's "SAME" does.

    JAX has kernels for it; in NumPy it is one product with every window, rows in the order of the filters'.
    """
    if x.__array_namespace__() is not np:
        from jax import lax

        filters = filters.reshape(3, 3, x.shape[-1], -1)
        return lax.conv_general_dilated(x, filters, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    lacking = [max((-(-n // stride) - 1) * stride + 3 - n, 0) for n in x.shape[1:3]]
    x = np.pad(x, [(0, 0), *((n // 2, n - n // 2) for n in lacking), (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))[:, ::stride, ::stride]
    return product(np.moveaxis(windows, 3, 5).reshape(*windows.shape[:3], -1), filters)


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
        import jax
        import jax.numpy as jnp

        sizes = (leaf.shape[2], *self.channels)
        keys = jax.random.split(key, len(self.channels))
        return tuple(Dense(orthogonal(k, 9 * i, o, 2**0.5), jnp.zeros(o)) for k, i, o in zip(keys, sizes, sizes[1:], strict=False))

    def apply(self, p: tuple[Dense, ...], leaf: Leaf, x: Array) -> Array:
        """`[... h w c] -> [... f]`; uint8 pictures are scaled to 0..1."""
        lead = x.shape[:-3]
        xp = x.__array_namespace__()
        y = x.reshape(-1, *leaf.shape).astype(np.float32)
        y = y / 255 if leaf.dtype == "uint8" else y
        for q, s in zip(p, self._strides(leaf), strict=True):
            y = convolved(y, q.w, s) + q.b
            y = xp.where(y <= 0, 0, y)  # no slope at 0 itself, where all of a black picture lies
        return y.reshape(*lead, -1)
