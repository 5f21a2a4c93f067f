"""Pictures: slices and one product on CPUs are the convolution that accelerators run, in value and gradient, in blocks or whole."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.core.layers import Dense
from marlstone.core.types import Leaf
from marlstone.encoders import image
from marlstone.encoders.image import Image, convolved

SHAPES = [(8, 8, 1), (9, 12, 2), (10, 7, 3), (21, 18, 4)]


@pytest.fixture
def on_an_accelerator(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`f(*args)` as it is traced where the backend is an accelerator: with XLA's convolution."""

    def run(f: Any, *args: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(image, "_on_cpu", lambda: False)
            return f(*args)

    return run


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_slices_and_a_product_are_the_convolution(shape: tuple[int, ...], stride: int, on_an_accelerator: Any) -> None:
    x, filters = drawn(3, *shape), drawn(9 * shape[-1], 5)
    weigh = drawn(5)
    loss = lambda x, filters: jnp.sum(jnp.sin(convolved(x, filters, stride)) * weigh)
    both = lambda: (convolved(jnp.asarray(x), jnp.asarray(filters), stride), *jax.grad(loss, (0, 1))(jnp.asarray(x), jnp.asarray(filters)))
    for mine, theirs in zip(both(), on_an_accelerator(both), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(convolved(x, filters, stride), both()[0], rtol=1e-4, atol=1e-4)  # in NumPy


@pytest.mark.parametrize(("dtype", "lead"), [("uint8", ()), ("float32", (5,)), ("uint8", (3, 7, 2))], ids=str)
def test_blocks_change_nothing(dtype: str, lead: tuple[int, ...], monkeypatch: pytest.MonkeyPatch, on_an_accelerator: Any) -> None:
    """However many pictures are convolved at once, also where they leave a rest: features and gradients are the same."""
    leaf, encoder = Leaf("image", (9, 12, 2), dtype), Image((3, 4))
    x = np.random.default_rng(0).integers(0, 256, (*lead, *leaf.shape)).astype(dtype)
    p = tuple(Dense(jnp.asarray(q.w), jnp.asarray(drawn(*q.b.shape))) for q in encoder.init(leaf, jax.random.key(0)))
    weigh = drawn(encoder.width(leaf))
    loss = lambda p, x: jnp.sum(jnp.sin(encoder.apply(p, leaf, x) / 10) * weigh)
    both = lambda: (encoder.apply(p, leaf, jnp.asarray(x)), jax.jit(jax.grad(loss))(p, jnp.asarray(x)))
    whole = on_an_accelerator(both)
    assert whole[0].shape == (*lead, encoder.width(leaf))
    for block in (1, 1500, 4000, 10**9):
        monkeypatch.setattr(image, "BLOCK", block)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3), both(), whole)


def test_blocks_under_vmap_and_inside_a_scan(monkeypatch: pytest.MonkeyPatch, on_an_accelerator: Any) -> None:
    """Agents with filters of their own, in a loop over minibatches."""
    leaf, encoder = Leaf("image", (8, 8, 1), "uint8"), Image((3, 4))
    x = np.random.default_rng(0).integers(0, 256, (4, 10, 2, *leaf.shape)).astype(np.uint8)
    p = jax.vmap(lambda key: encoder.init(leaf, key))(jax.random.split(jax.random.key(0), 2))

    def descend(p: Any, x: Any) -> Any:
        loss = lambda p, x: jnp.square(jax.vmap(lambda q, y: encoder.apply(q, leaf, y), (0, 1), 1)(p, x)).mean()
        step = lambda p, x: (jax.tree.map(lambda a, g: a - 0.1 * g, p, jax.grad(loss)(p, x)), None)
        return jax.lax.scan(step, p, x)[0]

    monkeypatch.setattr(image, "BLOCK", 5000)
    mine, theirs = jax.jit(descend)(p, x), on_an_accelerator(lambda: jax.jit(lambda p, x: descend(p, x))(p, x))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), mine, theirs)


def test_programs_for_cpus_hold_no_convolution_and_others_do(on_an_accelerator: Any) -> None:
    leaf, encoder = Leaf("image", (9, 12, 2), "uint8"), Image((3, 4))
    p, x = encoder.init(leaf, jax.random.key(0)), jnp.zeros((4, *leaf.shape), jnp.uint8)
    traced = lambda: str(jax.make_jaxpr(lambda p, x: encoder.apply(p, leaf, x))(p, x))
    assert "conv_general_dilated" not in traced()
    assert "conv_general_dilated" in on_an_accelerator(traced)
