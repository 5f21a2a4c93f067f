"""Images to features: a small convolutional encoder, strided, channels last."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from marlstone.core.layers import Dense, dense_product, orthogonal
from marlstone.core.types import Leaf

Array = Any


BLOCK = 2**17  # numbers in the windows of the pictures that are convolved at once on CPUs: half a MiB, which stays in a core's cache


def convolved(x: Array, filters: Array, stride: int) -> Array:
    """`[b h w i]` with 3x3 filters `[9 i, o]` -> `[b h/stride w/stride o]`, padded with zeros as XLA's "SAME" does.

    Nine strided slices and one product, in JAX as in NumPy: inside loops XLA's own convolution on CPUs is some twenty times slower, and
    compiles for minutes. Accelerators have kernels for it.
    """
    xp = x.__array_namespace__()
    if xp is not np and not _on_cpu():
        from jax import lax

        filters = filters.reshape(3, 3, x.shape[-1], -1)
        return lax.conv_general_dilated(x, filters, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    h, w = (-(-n // stride) for n in x.shape[1:3])
    lacking = [max((after - 1) * stride + 3 - n, 0) for after, n in zip((h, w), x.shape[1:3], strict=True)]
    x = xp.pad(x, [(0, 0), *((n // 2, n - n // 2) for n in lacking), (0, 0)])
    along = lambda k, n: slice(k, k + (n - 1) * stride + 1, stride)
    windows = xp.concatenate([x[:, along(i, h), along(j, w)] for i in range(3) for j in range(3)], -1)
    return dense_product(windows, filters)


def _on_cpu() -> bool:
    import jax

    return jax.default_backend() == "cpu"


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
        y = x.reshape(-1, *leaf.shape)
        if (size := self._block(leaf)) < len(y) and y.__array_namespace__() is not np and _on_cpu():
            y = in_blocks(lambda y: self._features(p, leaf, y), y, size)
        else:
            y = self._features(p, leaf, y)
        return y.reshape(*lead, -1)

    def _features(self, p: tuple[Dense, ...], leaf: Leaf, y: Array) -> Array:
        xp = y.__array_namespace__()
        y = y.astype(np.float32) / 255 if leaf.dtype == "uint8" else y.astype(np.float32)
        for q, s in zip(p, self._strides(leaf), strict=True):
            y = convolved(y, q.w, s) + q.b
            y = xp.where(y <= 0, 0, y)  # no slope at 0 itself, where all of a black picture lies
        return y.reshape(len(y), -1)

    def _block(self, leaf: Leaf) -> int:
        """How many pictures are convolved at once on CPUs."""
        (h, w, before), most = leaf.shape, 1
        for c, s in zip(self.channels, self._strides(leaf), strict=True):
            h, w = -(-h // s), -(-w // s)
            most, before = max(most, 9 * h * w * before), c
        return max(1, BLOCK // most)


def in_blocks(f: Callable[[Array], Array], x: Array, size: int) -> Array:
    """`f(x)` of `[b ...]`, computed for about `size` entries at a time, so that what lies between stays in a core's cache.

    For the gradient only products are kept; what lies between them is computed again.
    """
    import jax
    import jax.numpy as jnp

    b = len(x)
    count = -(-b // size)
    each = -(-b // count)
    x = jnp.pad(x, [(0, count * each - b), *[(0, 0)] * (x.ndim - 1)])
    f = jax.checkpoint(f, prevent_cse=False, policy=jax.checkpoint_policies.dots_saveable)
    y = jax.lax.map(f, x.reshape(count, each, *x.shape[1:]))
    return y.reshape(count * each, *y.shape[2:])[:b]
