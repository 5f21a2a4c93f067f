"""A gated recurrent unit over time, in JAX: what training runs.

The backward pass is written out so that U's gradient is one product over all of time, after the scan.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from marlstone.core.gru import gru_cell


@jax.custom_vjp
def gru_scan(u: Array, b: Array, x: Array, keep: Array, h: Array) -> Array:
    """Memory after each step, `[t ... r h]`, from x `[t ... r 3h]`; `keep [t ... r 1]` is 0 where memory is forgotten first."""
    return _forward(u, b, x, keep, h)[0]


def _forward(u: Array, b: Array, x: Array, keep: Array, h: Array) -> tuple[Array, Any]:
    def tick(h: Array, inputs: tuple[Array, Array]) -> tuple[Array, Any]:
        x, keep = inputs
        before = h * keep
        after, saved = gru_cell(u, b, x, before)
        return after, (after, before, *saved)

    _, (ys, *saved) = lax.scan(tick, h, (x, keep))
    return ys, (u, keep, tuple(saved), b)


def _backward(residuals: Any, dys: Array) -> tuple[Array, ...]:
    u, keep, (before, r, z, c, q), b = residuals
    ut = jnp.swapaxes(u, -1, -2)

    def tick(dh: Array, saved: tuple[Array, ...]) -> tuple[Array, Any]:
        dy, keep, h, r, z, c, q = saved
        dh = dh + dy
        dc = dh * (1 - z) * (1 - c * c)
        dr, dz = dc * q * r * (1 - r), dh * (h - c) * z * (1 - z)
        da = jnp.concatenate([dr, dz, dc * r], -1)
        return (da @ ut + dh * z) * keep, (da, dc)

    dh, (da, dc) = lax.scan(tick, jnp.zeros_like(dys[0]), (dys, keep, before, r, z, c, q), reverse=True)
    d = before.shape[-1]
    dx = jnp.concatenate([da[..., : 2 * d], dc], -1)
    du = jnp.einsum("t...rh,t...rg->...hg", before, da) if u.ndim > 2 else before.reshape(-1, d).T @ da.reshape(-1, 3 * d)
    db = da[..., 2 * d :].sum(tuple(range(da.ndim - 1)) if b.ndim == 1 else (0, da.ndim - 2))
    return du, db, dx, jnp.zeros_like(keep), dh


gru_scan.defvjp(_forward, _backward)
