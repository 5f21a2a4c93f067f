"""To all, or to all within reach; who hears takes the mean (CommNet, Sukhbaatar et al. 2016; with gates, IC3Net, Singh et al. 2019)."""

from dataclasses import dataclass
from typing import ClassVar

from marlstone.comms.contract import Channel, presence, weights
from marlstone.core.arrays import Array


@dataclass(frozen=True)
class Broadcast(Channel):
    """One gate for all recipients. An inbox holds

        (1 / k_i) sum_{j heard} m_j,    k_i / (n - 1),    the mean of 1 / age

    where k_i is how many were heard.
    """

    kind: ClassVar[str] = "broadcast"

    def hear(self, own: Array, said: tuple[Array, ...], age: Array) -> Array:
        """The mean of what was heard, and who that was, `[... n w + 2]`."""
        xp = age.__array_namespace__()
        total = sum(w @ m for w, m in zip(weights(age, len(said)), said, strict=True))
        count = xp.sum(age > 0, axis=-1, keepdims=True)
        return xp.concat([total / xp.maximum(count, 1), presence(age)], axis=-1)
