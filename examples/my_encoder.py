"""An encoder of your own, in one file: a small residual network for pictures (after He et al. 2016, without normalization).

    y = relu(x * F)        y <- relu(y + relu(y * A) * B), for each block        features: every place of every channel

It asks its arrays for nothing that NumPy lacks, and says so (`numpy`); `marlstone check-encoder` holds it to that.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from marlstone.encoders import Encoder, Leaf, convolved

Array = Any


@dataclass(frozen=True)
class MyEncoder(Encoder):
    """`channels`: filters of each convolution; `blocks`: residual blocks after the first, which halves the picture."""

    accepts: ClassVar[tuple[str, ...]] = ("image",)
    numpy: ClassVar[bool] = True
    channels: int = 16
    blocks: int = 1

    def width(self, leaf: Leaf) -> int:
        height, width, _ = leaf.shape
        if min(height, width) < 4:
            raise ValueError("it halves pictures, and needs at least 4 x 4: leave it out")
        return -(-height // 2) * -(-width // 2) * self.channels

    def init(self, leaf: Leaf, key: Array) -> Any:
        import jax  # here, so that what acts in NumPy never loads it

        first, *keys = jax.random.split(key, 1 + 2 * self.blocks)
        filters = lambda k, before: jax.random.normal(k, (9 * before, self.channels)) * (2 / (9 * before)) ** 0.5
        blocks = tuple({"a": filters(a, self.channels), "b": filters(b, self.channels)} for a, b in zip(keys[::2], keys[1::2], strict=True))
        return {"stem": filters(first, leaf.shape[2]), "blocks": blocks}

    def apply(self, p: Any, leaf: Leaf, x: Array) -> Array:
        y = x.reshape(-1, *leaf.shape).astype("float32") / (255 if leaf.dtype == "uint8" else 1)
        y = relu(convolved(y, p["stem"], 2))
        for block in p["blocks"]:
            y = relu(y + convolved(relu(convolved(y, block["a"], 1)), block["b"], 1))
        return y.reshape(*x.shape[:-3], -1)


def relu(x: Array) -> Array:
    return x.__array_namespace__().maximum(x, 0)
