"""The one protocol every environment is brought to, and its two vectorized forms.

`Env` is one environment written in JAX: pure functions, no autoreset. `VectorEnv` is many stepped together, with
next-step autoreset: the step after an end is a reset (`first`), whose action is ignored. The fused runtime steps a
`Vectorized` (JAX); the host runtime steps worker processes. Both return a `Step` with a leading `[b]`.
"""

from typing import Any, Protocol

from marlstone.core.types import Array, Spec, Step


class Env(Protocol):
    """One JAX environment. `action` is per group, as `ActionSpace.emit` gives it, `[n_g ...]`.

    One that remembers across its episodes is `PersistentEnv`.
    """

    @property
    def spec(self) -> Spec: ...
    def init(self, key: Array) -> tuple[Any, Step]:
        """A fresh episode: `first` is True, rewards are 0, discounts 1."""

    def step(self, state: Any, action: tuple[Array, ...], key: Array) -> tuple[Any, Step]:
        """One joint step. Never called after a row whose `last` is True: the vectorizer resets instead."""


class PersistentEnv(Env, Protocol):
    """An environment whose copies outlive their episodes: they age, wear or drift. The vectorizer resets it by `again`, not `init`."""

    def again(self, state: Any, key: Array) -> tuple[Any, Step]:
        """A fresh episode, as `init` makes it, of the same copy: `state` is the one its last episode ended in."""


class HostEnv(Protocol):
    """One environment that only Python can step: the same rows, in NumPy."""

    @property
    def spec(self) -> Spec: ...
    def reset(self, seed: int) -> Step: ...
    def step(self, action: tuple[Array, ...]) -> Step: ...
    def close(self) -> None: ...


class SnapshotEnv(HostEnv, Protocol):
    """A host environment that can go back, random numbers included: then credit can be audited in it."""

    def snapshot(self) -> Any:
        """Where it is now; what is done later must not reach into it."""

    def restore(self, state: Any) -> None:
        """Go back to `state`, which may be asked for again. Bit for bit: this is checked before it is trusted."""


class VectorEnv(Protocol):
    """`b` environments stepped together, autoresetting. State is opaque (None on the host, where it lives in processes)."""

    @property
    def spec(self) -> Spec: ...
    def init(self, keys: Array) -> tuple[Any, Step]: ...
    def step(self, state: Any, action: tuple[Array, ...], keys: Array) -> tuple[Any, Step]: ...
