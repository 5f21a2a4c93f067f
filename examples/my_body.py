"""A body of your own, in one file: residual layers, which stay trainable where plain ones are deep.

y = relu(x)        y <- y + B relu(A y), for each block
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from marlstone.architectures import Body
from marlstone.core.layers import activate, dense, dense_init

Array = Any


@dataclass(frozen=True)
class MyBody(Body):
    """`width`: units of every layer; `blocks`: residual blocks. Without memory: `Body`'s own answer."""

    activation: ClassVar[Literal["relu"]] = "relu"
    numpy: ClassVar[bool] = True
    width: int = 64
    blocks: int = 3

    @property
    def intake(self) -> int:
        return self.width

    @property
    def end(self) -> int:
        return self.width

    def init(self, key: Array, sets: int) -> Any:
        import jax  # here, so that what acts in NumPy never loads it

        pairs = (jax.random.split(k) for k in jax.random.split(key, self.blocks))
        layer = lambda k, scale: dense_init(k, self.width, self.width, sets, scale)
        return tuple((layer(a, 2**0.5), layer(b, self.blocks**-0.5)) for a, b in pairs), ()

    def advance(self, p: Any, x: Array, first: Array, memory: None, owners: Any) -> tuple[Array, None]:
        y = activate(x, "relu")
        for a, b in p:
            y = y + dense(b, activate(dense(a, y, owners), "relu"), owners)
        return y, None
