"""Channels that each break one law of channels, and one that breaks none."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from marlstone.comms import Broadcast

CALLS = [0]


@dataclass(frozen=True)
class Sound(Broadcast):
    """Keeps every law."""

    size: int = 2


@dataclass(frozen=True)
class Wide(Sound):
    """Its inboxes are wider than it says."""

    def heard(self, n: int) -> int:
        return super().heard(n) + 1


@dataclass(frozen=True)
class Overhears(Sound):
    """What was said one step ago is heard by everybody, sent or not."""

    def hear(self, own: Any, said: Any, age: Any) -> Any:
        return super().hear(own, said, age) + said[0].mean(axis=(-1, -2), keepdims=True)


@dataclass(frozen=True)
class Pushy(Sound):
    """Sends to everybody, whoever chose to be silent."""

    def admits(self, to: Any, u: Any) -> Any:
        return to | ~np.eye(to.shape[0], dtype=bool)


@dataclass(frozen=True)
class Crowded(Sound):
    """What everybody listens by is in everybody's inbox: of absent agents too."""

    private = 2

    def hear(self, own: Any, said: Any, age: Any) -> Any:
        return super().hear(own, said, age) + own.sum(axis=(-1, -2), keepdims=True)


@dataclass(frozen=True)
class Ranked(Sound):
    """Louder for the later agents."""

    def hear(self, own: Any, said: Any, age: Any) -> Any:
        return super().hear(own, said, age) * (1 + np.arange(age.shape[-1], dtype=np.float32))[:, None]


@dataclass(frozen=True)
class Forgetful(Sound):
    """Keeps nothing that is late."""

    history = 1


@dataclass(frozen=True)
class Diary(Sound):
    """Counts how often it was asked, which a compiled program does once."""

    def hear(self, own: Any, said: Any, age: Any) -> Any:
        CALLS[0] += 1
        return super().hear(own, said, age) + np.float32(0.01 * CALLS[0])


@dataclass(frozen=True)
class Mixed(Sound):
    """Scales by the oldest message of the whole batch."""

    def hear(self, own: Any, said: Any, age: Any) -> Any:
        return super().hear(own, said, age) / (1 + age.max())


@dataclass(frozen=True)
class JaxOnly(Sound):
    """Makes JAX's arrays of NumPy's."""

    def hear(self, own: Any, said: Any, age: Any) -> Any:
        return jnp.asarray(super().hear(own, said, age))


@dataclass(frozen=True)
class Generous(Sound):
    """Allows twice the budget."""

    @property
    def levels(self) -> np.ndarray:
        return 2 * super().levels


@dataclass(frozen=True)
class Numb(Sound):
    """Learns nothing of what its messages do."""

    def hear(self, own: Any, said: Any, age: Any) -> Any:
        return super().hear(own, tuple(lax.stop_gradient(m) for m in said), age)


@dataclass(frozen=True)
class Growing(Sound):
    """Changes its own field whenever it is made."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "size", self.size + 1)
