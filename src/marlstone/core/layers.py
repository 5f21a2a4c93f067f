"""The few layers every network is made of, written against an array namespace, with their parameters apart.

A layer's parameters are shared by every agent of a group, `w [i o]`, or stacked, one per agent, `w [n i o]`. Inputs are
`[... n i]`. Under sharing by type the stack is `[k i o]` and `owners [n]` says whose parameters an agent uses.
JAX is imported only where parameters are made, so that processes which only act need none.
"""

import math
from functools import cache, lru_cache
from typing import Any, Literal

import numpy as np

from marlstone.core.arrays import Array
from marlstone.core.records import record

Activation = Literal["relu", "tanh"]
NARROW = 24  # outputs of a layer, up to which `core.narrow_product` is faster


@record
class Dense:
    """`x @ w + b`. Shapes `w [i o]`, `b [o]`, with a leading set axis where parameters are not shared by all."""

    w: Array
    b: Array


def activate(x: Array, kind: Activation) -> Array:
    """ReLU or tanh of every number, on JAX's arrays and on NumPy's."""
    xp = x.__array_namespace__()
    return xp.maximum(x, 0) if kind == "relu" else xp.tanh(x)


def gain(kind: Activation) -> float:
    """The gain of orthogonal matrices: sqrt 2 keeps relu's second moment (He et al. 2015); 5/3 for tanh is PyTorch's
    `nn.init.calculate_gain`, a convention that lets signals neither fade nor saturate."""
    return math.sqrt(2) if kind == "relu" else 5 / 3


def orthogonal(key: Array, i: int, o: int, scale: float) -> Array:
    """A scaled random matrix with orthonormal rows or columns (Saxe et al. 2014), uniform among them, `[i o]`."""
    q = _orthonormal()(key, max(i, o), min(i, o))
    return scale * (q if i >= o else q.T)


@cache
def _orthonormal() -> Any:
    """`(key, m, n)` -> `[m n]` with orthonormal columns, `m >= n`; traced once for every size, however many layers have it.

    A product of random Householder reflections (Stewart 1980), not `linalg.qr`: jaxlib's batched LAPACK kernels wait, on a thread
    of XLA's pool, for work that only that pool can do, so that two of them in one program on two cores wait for ever.
    """
    import jax
    import jax.numpy as jnp

    def orthonormal(key: Array, m: int, n: int) -> Array:
        normal, rows = jax.random.normal(key, (m, n)), jnp.arange(m)

        def reflect(k: Array, q: Array) -> Array:
            j = n - 1 - k
            x = jnp.where(rows < j, 0, normal[:, j])
            sign = jnp.where(x[j] < 0, -1.0, 1.0)
            v = x.at[j].add(sign * jnp.sqrt((x * x).sum()))
            q = q - v[:, None] * (2 / (v * v).sum() * (v @ q))
            return q.at[:, j].multiply(-sign)

        return jax.lax.fori_loop(0, n, reflect, jnp.eye(m, n))

    return jax.jit(orthonormal, static_argnums=(1, 2))


def init_stacked(make: Any, key: Array, sets: int) -> Any:
    """`make(key)` once if parameters are shared by all, else one per set, stacked on a leading axis."""
    import jax

    return make(key) if sets == 1 else jax.vmap(make)(jax.random.split(key, sets))


def dense_init(key: Array, i: int, o: int, sets: int, scale: float) -> Dense:
    """An orthogonal matrix of gain `scale` and a zero bias; stacked on a leading axis if `sets` > 1."""
    import jax.numpy as jnp

    return init_stacked(lambda k: Dense(orthogonal(k, i, o, scale), jnp.zeros(o)), key, sets)


@lru_cache(maxsize=256)
def owner_index(owners: tuple[int, ...]) -> np.ndarray | None:
    """Whose parameters each agent uses, `[n]`, for `gather_agent_params`: None where one set serves all, or each has its own."""
    return None if max(owners) == 0 or owners == tuple(range(len(owners))) else np.array(owners)


def gather_agent_params(x: Array, owners: np.ndarray | None, rank: int) -> Array:
    """Parameters by agent: `[k ...] -> [n ...]`; shared ones (of rank `rank`) and one-per-agent ones (no `owners`) pass through."""
    return x if x.ndim == rank or owners is None else x[owners]


def dense_product(x: Array, w: Array, owners: np.ndarray | None = None) -> Array:
    """`[... n i] -> [... n o]`: one large product if shared, else one batched over agents.

    Rows are flattened first: XLA's gradient of a product with several leading axes takes nearly twice as long on CPUs.
    """
    xp = x.__array_namespace__()
    w = gather_agent_params(w, owners, 2)
    if w.ndim == 2:
        rows = x.reshape(-1, x.shape[-1])
        if xp is not np and w.shape[-1] <= NARROW:
            from marlstone.core.narrow_product import narrow_product

            return narrow_product(rows, w).reshape(*x.shape[:-1], w.shape[-1])
        return (rows @ w).reshape(*x.shape[:-1], w.shape[-1])
    y = xp.moveaxis(x, -2, 0).reshape(w.shape[0], -1, x.shape[-1]) @ w
    return xp.moveaxis(y.reshape(w.shape[0], *x.shape[:-2], w.shape[-1]), 0, -2)


def dense(p: Dense, x: Array, owners: np.ndarray | None = None) -> Array:
    """Apply an affine layer to every agent, `[... n i] -> [... n o]`; `owners` (`owner_index`) says whose parameters each agent uses."""
    return dense_product(x, p.w, owners) + gather_agent_params(p.b, owners, 1)
