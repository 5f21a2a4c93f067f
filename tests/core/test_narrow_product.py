"""A narrow layer's product is the product: its value, its gradients once and twice, over mapped rows, and in what it costs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.core.flops import count_products
from marlstone.core.layers import NARROW, Dense, dense
from marlstone.core.narrow_product import narrow_product

M, IN = 37, 6


def arrays(o: int) -> tuple[jax.Array, jax.Array]:
    k1, k2 = jax.random.split(jax.random.key(o))
    return jax.random.normal(k1, (M, IN)), jax.random.normal(k2, (IN, o))


@pytest.mark.parametrize("o", [1, 2, 5, NARROW])
def test_it_is_the_product_and_so_are_its_derivatives(o: int) -> None:
    x, w = arrays(o)
    loss = lambda product: lambda x, w: jnp.sum(jnp.sin(product(x, w)) ** 2)
    plain = lambda x, w: x @ w
    np.testing.assert_allclose(narrow_product(x, w), x @ w)
    for found, wanted in zip(jax.grad(loss(narrow_product), (0, 1))(x, w), jax.grad(loss(plain), (0, 1))(x, w), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    size = lambda product: lambda w: sum(jnp.sum(g**2) for g in jax.grad(loss(product), (0, 1))(x, w))
    np.testing.assert_allclose(jax.grad(size(narrow_product))(w), jax.grad(size(plain))(w), rtol=1e-3, atol=1e-2)


def test_mapped_over_rows_it_is_the_same() -> None:
    x, w = arrays(3)
    mapped = lambda product: lambda w: jnp.sum(jax.vmap(lambda row: product(row[None], w)[0])(x) ** 3)
    np.testing.assert_allclose(jax.grad(mapped(narrow_product))(w), jax.grad(mapped(lambda a, b: a @ b))(w), rtol=1e-4, atol=1e-3)


def test_a_layer_costs_what_its_products_cost_however_they_are_computed() -> None:
    """Forward, and backward into inputs and weights: three products of one size."""
    for o in (5, NARROW + 1):
        x, w = arrays(o)
        run = lambda p, x: jnp.sum(dense(p, x) ** 2)
        counted = count_products(jax.grad(run, (0, 1)), Dense(w, jnp.zeros(o)), x[:, None])
        assert counted.total() == 3 * 2 * M * IN * o


def test_mapped_it_costs_as_much() -> None:
    x, w = arrays(3)
    run = lambda w: jnp.sum(jax.vmap(lambda row: narrow_product(row[None], w))(x) ** 2)
    assert count_products(jax.grad(run), w).total() == 2 * 2 * M * IN * 3
