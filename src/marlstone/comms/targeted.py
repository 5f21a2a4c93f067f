"""To whom the sender chooses; who hears attends to it (TarMAC, Das et al. 2019)."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from marlstone.comms.contract import Channel, presence, weights
from marlstone.core.arrays import Array
from marlstone.core.distributions import Content


@dataclass(frozen=True)
class Targeted(Channel):
    """A gate for each recipient, and attention over what arrives. A message is a signature k_j and a value v_j; a listener puts out a query
    q_i one step before, which nobody is sent:

        inbox_i = sum_{j heard} a_ij v_j,    a_ij = softmax_j(q_i . k_j / sqrt(d)) over those heard

    Fields: `signature`: numbers d of a signature; `each`: whether there is a gate for each recipient, or one for all. Symbols have no
    signature: they are refused.
    """

    kind: ClassVar[str] = "targeted"
    signature: int = 4
    each: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.signature < 1:
            raise ValueError(f"comms.signature is {self.signature}: give at least 1")
        if self.message == "symbols":
            raise ValueError("comms.message is 'symbols', and a targeted message carries a signature: use float or dithered, or broadcast")

    @property
    def private(self) -> int:  # type: ignore[override]
        """The query."""
        return self.signature

    @property
    def numbers(self) -> int:
        """The value and the signature."""
        return self.size + self.signature

    @property
    def content(self) -> Content:
        """Values and signatures in one message."""
        return Content(self.numbers, self.message, self.step)

    def choices(self, n: int) -> int:
        """One for each recipient, or one for all."""
        return n if self.each else 1

    def heard(self, n: int) -> int:
        """The attended value, and who was heard."""
        return self.size + 2

    def hear(self, own: Array, said: tuple[Array, ...], age: Array) -> Array:
        """The attended value, and who was heard, `[... n v + 2]`."""
        xp = age.__array_namespace__()
        share, total = 0.0, 0.0
        scores = [w * xp.exp(xp.clip(self._match(own, m), -20, 20)) for w, m in zip(weights(age, len(said)), said, strict=True)]
        for score, m in zip(scores, said, strict=True):
            share = share + xp.sum(score, axis=-1, keepdims=True)
            total = total + score @ m[..., : self.size]
        return xp.concat([total / xp.maximum(share, np.float32(1e-12)), presence(age)], axis=-1)

    def _match(self, own: Array, said: Array) -> Array:
        """`[... n n]`: how well each listener's query fits each sender's signature."""
        xp = own.__array_namespace__()
        return (own @ xp.swapaxes(said[..., self.size :], -1, -2)) / np.float32(np.sqrt(self.signature))
