"""What lies between a network's first layer and its head: feed-forward or recurrent.

A body first advances to its core, which actor and critic may share, then finishes, which they never do. Time,
where there is any, is the axis before agents: `[... t n f]`. Step by step or a whole sequence at once is the same code:
`first` has a time axis or it has none. Memory runs over a time axis in JAX only; everything else in NumPy too.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

from marlstone.core.gru import GruParams as GruParameters
from marlstone.core.gru import gru_cell, gru_init
from marlstone.core.layers import Activation, Dense, activate, dense, dense_init, gain, gather_agent_params

Array = Any
Norm = Literal["none", "layer"]


class Body(Protocol):
    """`intake` is the width of the first layer, made elsewhere (`encoders.fuse`); `end` of the finished features."""

    @property
    def activation(self) -> Activation: ...
    @property
    def intake(self) -> int: ...
    @property
    def end(self) -> int: ...
    def init(self, key: Array, sets: int) -> tuple[Any, tuple[Dense, ...]]: ...
    def memory(self, n: int) -> Array | None: ...
    def advance(self, p: Any, x: Array, first: Array, memory: Array | None, owners: np.ndarray | None) -> tuple[Array, Array | None]: ...
    def finish(self, p: tuple[Dense, ...], y: Array, owners: np.ndarray | None) -> Array: ...


def _chain(key: Array, sizes: tuple[int, ...], sets: int, activation: Activation) -> tuple[Dense, ...]:
    import jax

    keys = jax.random.split(key, max(len(sizes) - 1, 1))
    return tuple(dense_init(k, i, o, sets, gain(activation)) for k, i, o in zip(keys, sizes, sizes[1:], strict=False))


def _bend(x: Array, activation: Activation, norm: Norm) -> Array:
    """Normalize, then activate."""
    if norm == "layer":
        x = x - x.mean(-1, keepdims=True)
        x = x / ((x * x).mean(-1, keepdims=True) + 1e-5) ** 0.5
    return activate(x, activation)


def _run(layers: tuple[Dense, ...], x: Array, activation: Activation, norm: Norm, owners: np.ndarray | None) -> Array:
    for p in layers:
        x = _bend(dense(p, x, owners), activation, norm)
    return x


def _known(part: str, norm: str) -> None:
    if norm not in ("none", "layer"):
        raise ValueError(f"{part}.norm is {norm!r}: choose one of none, layer")


@dataclass(frozen=True)
class Mlp:
    """Fully connected layers of `hidden` units. `norm = "layer"` normalizes in front of each activation (Ba et al. 2016, without gains):
    value-based learning without target networks needs it."""

    kind: ClassVar[str] = "mlp"
    hidden: tuple[int, ...] = (128, 128)
    activation: Activation = "relu"
    norm: Norm = "none"

    def __post_init__(self) -> None:
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"Mlp.hidden is {self.hidden}: give at least one positive width, e.g. (128, 128)")
        _known("Mlp", self.norm)

    @property
    def intake(self) -> int:
        return self.hidden[0]

    @property
    def end(self) -> int:
        return self.hidden[-1]

    def init(self, key: Array, sets: int) -> tuple[Any, tuple[Dense, ...]]:
        return _chain(key, self.hidden, sets, self.activation), ()

    def memory(self, n: int) -> None:
        return None

    def advance(self, p: Any, x: Array, first: Array, memory: None, owners: np.ndarray | None) -> tuple[Array, None]:
        return _run(p, _bend(x, self.activation, self.norm), self.activation, self.norm, owners), None

    def finish(self, p: tuple[Dense, ...], y: Array, owners: np.ndarray | None) -> Array:
        return y


@dataclass(frozen=True)
class Gru:
    """A layer of `before` units, `hidden` recurrent ones, layers of `after` units; `norm` as in `Mlp`, outside the recurrence.

    Memory is forgotten where an episode starts."""

    kind: ClassVar[str] = "gru"
    before: int = 128
    hidden: int = 128
    after: tuple[int, ...] = (128,)
    activation: Activation = "relu"
    norm: Norm = "none"

    def __post_init__(self) -> None:
        if min(self.before, self.hidden, *self.after) < 1:
            raise ValueError(f"Gru.before, hidden, after are {self.before}, {self.hidden}, {self.after}: give positive widths")
        _known("Gru", self.norm)

    @property
    def intake(self) -> int:
        return self.before

    @property
    def end(self) -> int:
        return (self.hidden, *self.after)[-1]

    def init(self, key: Array, sets: int) -> tuple[Any, tuple[Dense, ...]]:
        import jax

        k1, k2 = jax.random.split(key)
        return gru_init(k1, self.before, self.hidden, sets), _chain(k2, (self.hidden, *self.after), sets, self.activation)

    def memory(self, n: int) -> Array:
        import jax.numpy as jnp

        return jnp.zeros((n, self.hidden))

    def advance(self, p: GruParameters, x: Array, first: Array, memory: Array, owners: np.ndarray | None) -> tuple[Array, Array]:
        """x `[b (t) n before]`, first `[b (t)]`, memory `[b n hidden]` -> `[b (t) n hidden]` and the last memory."""
        x = dense(p.x, _bend(x, self.activation, self.norm), owners)
        u, b, xp = gather_agent_params(p.u, owners, 2), gather_agent_params(p.b, owners, 1), x.__array_namespace__()
        keep = 1.0 - first.astype(x.dtype)
        stacked, (lead, n) = u.ndim > 2, (memory.shape[:-2], memory.shape[-2])
        # rows of one product: every agent of every environment; where parameters differ, agents stay apart in front
        rows = (lambda y: xp.moveaxis(y, -2, 0).reshape(n, -1, y.shape[-1])) if stacked else (lambda y: y.reshape(-1, y.shape[-1]))
        back = (lambda y: xp.moveaxis(y.reshape(n, *lead, -1), 0, -2)) if stacked else (lambda y: y.reshape(*lead, n, -1))
        if first.ndim == len(lead):
            h, _ = gru_cell(u, b, rows(x), rows(memory * keep[..., None, None]))
            h = back(h)
            return h, h
        import jax

        from marlstone.core.gru_scan import gru_scan

        time, keep = (lambda y: xp.moveaxis(y, -3, 0)), xp.broadcast_to(keep[..., None, None], (*keep.shape, n, 1))
        ys = gru_scan(u, b, jax.vmap(rows)(time(x)), jax.vmap(rows)(time(keep)), rows(memory))
        return xp.moveaxis(jax.vmap(back)(ys), 0, -3), back(ys[-1])

    def finish(self, p: tuple[Dense, ...], y: Array, owners: np.ndarray | None) -> Array:
        return _run(p, y, self.activation, self.norm, owners)
