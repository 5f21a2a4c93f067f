"""A gated recurrent unit (Cho et al. 2014, with the reset gate after the product, as in cuDNN and Flax).

    r = sigmoid(x_r + h U_r)    z = sigmoid(x_z + h U_z)    c = tanh(x_c + r (h U_c + b))    h' = (1 - z) c + z h

The inputs' share `x = [x_r x_z x_c]` is projected for the whole sequence before the scan (`gru_scan`); only the product
with U is inside. One step runs on JAX's arrays and on NumPy's.
"""

from marlstone.core.arrays import Array
from marlstone.core.layers import Dense, init_stacked, orthogonal
from marlstone.core.records import record


@record
class GruParams:
    """Parameters of one GRU layer, gates in the order reset, update, candidate; a leading set axis where they are not shared by all.

    Attributes:
      x: the input projection, `[i 3h]`.
      u: the recurrent product, `[h 3h]`.
      b: the candidate's inner bias, `[h]`.
    """

    x: Dense
    u: Array
    b: Array


def gru_init(key: Array, i: int, h: int, sets: int) -> GruParams:
    """Orthogonal matrices per gate and zero biases, for `i` inputs and `h` units; stacked on a leading axis if `sets` > 1."""
    import jax
    import jax.numpy as jnp

    def one(key: Array) -> GruParams:
        kx, ku = jax.random.split(key)
        x = jnp.concatenate([orthogonal(k, i, h, 1.0) for k in jax.random.split(kx, 3)], -1)
        u = jnp.concatenate([orthogonal(k, h, h, 1.0) for k in jax.random.split(ku, 3)], -1)
        return GruParams(Dense(x, jnp.zeros(3 * h)), u, jnp.zeros(h))

    return init_stacked(one, key, sets)


def gru_cell(u: Array, b: Array, x: Array, h: Array) -> tuple[Array, tuple[Array, ...]]:
    """One step. x `[... r 3h]`, h `[... r h]`, u `[... h 3h]`, b `[... h]` -> h' and what the backward pass needs."""
    xp = x.__array_namespace__()
    d = h.shape[-1]
    a = h @ u
    gates = 1 / (1 + xp.exp(-(x[..., : 2 * d] + a[..., : 2 * d])))
    r, z = gates[..., :d], gates[..., d:]
    q = a[..., 2 * d :] + (b if b.ndim == 1 else b[..., None, :])
    c = xp.tanh(x[..., 2 * d :] + r * q)
    return c + z * (h - c), (r, z, c, q)
