"""FLOPs counted in a program's trace: equal to counts by hand, loops multiplied, gradients included."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from marlstone.core.flops import Flops, count_flops, count_products

B, I, H, O = 7, 5, 6, 3  # noqa: E741
LAYERS = jax.ShapeDtypeStruct((I, H), jnp.float32), jax.ShapeDtypeStruct((H, O), jnp.float32)
X = jax.ShapeDtypeStruct((B, I), jnp.float32)
FORWARD = 2 * B * (I * H + H * O)
GRADIENT = 2 * FORWARD + 2 * B * H * O  # the same again for the weights, and the second layer's input


def loss(layers: Any, x: Any) -> Any:
    first, second = layers
    return jnp.square(jnp.tanh(x @ first) @ second).sum()


def descended(layers: Any, x: Any) -> Any:
    body = lambda p, _: (jax.tree.map(lambda p, g: p - g, p, jax.grad(loss)(p, x)), None)
    return jax.lax.scan(body, layers, None, length=11)[0]


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (loss, FORWARD),
        (jax.grad(loss), GRADIENT),
        (descended, 11 * GRADIENT),
        (jax.jit(jax.checkpoint(loss)), FORWARD),
        (jax.grad(jax.checkpoint(loss)), GRADIENT),  # the forward pass is made again: the first one is not needed
        (lambda p, x: jax.vmap(loss, (None, 0))(p, jnp.stack([x, x])), 2 * FORWARD),
        (lambda p, x: jax.lax.cond(x.sum() > 0, loss, lambda p, x: (x @ p[0]).sum(), p, x), FORWARD),
        (lambda p, x: (loss(p, x), x)[1], 0),  # what nothing depends on is not computed
        (lambda p, x: jnp.einsum("bi,ih->hb", x, p[0]).sum(), 2 * B * I * H),
    ],
    ids=["forward", "gradient", "scan", "jit", "checkpoint", "vmap", "cond", "unused", "einsum"],
)
def test_counts_are_those_by_hand(program: Any, expected: int) -> None:
    assert count_flops(program, LAYERS, X) == expected


@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions_and_their_gradients(stride: int) -> None:
    """Each multiplication of a convolution comes back in the gradient of its filters, and in that of its input."""
    x, filters = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32), jax.ShapeDtypeStruct((3, 3, 3, 4), jnp.float32)

    def convolved(x: Any, filters: Any) -> Any:
        y = jax.lax.conv_general_dilated(x, filters, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return jnp.square(y).sum()

    places = 2 * (8 // stride) ** 2
    assert count_products(convolved, x, filters) == {(places, 27, 4): 2 * places * 27 * 4}
    once = 2 * 2 * (8 // stride) ** 2 * 27 * 4
    assert count_flops(convolved, x, filters) == once
    assert count_flops(jax.grad(convolved, 1), x, filters) == 2 * once
    assert count_flops(jax.grad(convolved, (0, 1)), x, filters) == 3 * once


def test_products_are_told_apart_by_their_shapes() -> None:
    """Of what is mapped over, each product has its own shape; loops and branches count as in the total."""
    assert count_products(loss, LAYERS, X) == {(B, I, H): 2 * B * I * H, (B, H, O): 2 * B * H * O}
    mapped = lambda p, x: jax.vmap(lambda w: x @ w)(p[0]).sum()
    layers = (jax.ShapeDtypeStruct((4, I, H), jnp.float32),)
    assert sum(count_products(mapped, layers, X).values()) == 4 * 2 * B * I * H
    own = lambda p, x: jnp.einsum("abi,aio->abo", jnp.stack([x] * 4), p[0]).sum()
    assert count_products(own, layers, X) == {(B, I, H): 4 * 2 * B * I * H}
    assert sum(count_products(descended, LAYERS, X).values()) == 11 * GRADIENT


def test_few_shapes_stand_for_most_of_the_work() -> None:
    counted = Flops(1, 2, {(1, 1, k): float(2**-k) for k in range(30)})
    chosen = counted.heaviest
    assert len(chosen) <= 5 and sum(chosen.values()) >= 0.9 * sum(counted.by_shape.values()) and max(chosen.values()) == 1
