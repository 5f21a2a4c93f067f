"""The product of a layer with few outputs, as the head of a few actions is, in JAX, with a gradient that is fast on CPUs.

XLA computes the weights' gradient `x^T dy` of a narrow `dy` at a tenth of its usual speed there (jaxlib 0.10); the same sum of rows' outer
products, written out, is one vectorized loop: 8 us in place of 79 for 774 rows, 64 inputs and 5 outputs.
"""

from typing import Any

import jax
from jax import lax

Array = Any


@jax.custom_vjp
def narrow_product(x: Array, w: Array) -> Array:
    """`[m i] [i o]` -> `[m o]`."""
    return x @ w


def _forward(x: Array, w: Array) -> tuple[Array, tuple[Array, Array]]:
    return x @ w, (x, w)


def _backward(saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, w = saved
    if jax.default_backend() != "cpu":
        return dy @ w.T, x.T @ dy
    return dy @ w.T, ((dy.T @ x) if dy.shape[1] == 1 else outer_sum(dy, x)).T


narrow_product.defvjp(_forward, _backward)


@jax.jit
def outer_sum(a: Array, b: Array) -> Array:
    """`a^T b`, `[m j] [m k]` -> `[j k]`, `j` small, as a sum over rows. `core.flops` counts it as the product that it is."""
    a, b = lax.optimization_barrier((a, b))  # else what they are made from would be made again for every number
    return (a[:, :, None] * b[:, None, :]).sum(0)
