"""The recurrent unit's written-out gradient is the one that differentiation would find, once and twice."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.core.gru import gru_cell
from marlstone.core.gru_scan import gru_scan
from tests.batches import quick

T, N, R, H = 6, 3, 4, 5


def plain_scan(u: Any, b: Any, x: Any, keep: Any, h: Any) -> Any:
    """The definition, left to autodiff."""

    def tick(h: Any, row: Any) -> Any:
        h, _ = gru_cell(u, b, row[0], h * row[1])
        return h, h

    return jax.lax.scan(tick, h, (x, keep))[1]


@functools.cache
def inputs(stacked: bool) -> tuple[Any, ...]:
    rng = np.random.default_rng(0)
    lead = (N,) if stacked else ()
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    keep = jnp.asarray(rng.random((T, *lead, R, 1)) > 0.3, jnp.float32)
    return draw(*lead, H, 3 * H), draw(*lead, H), draw(T, *lead, R, 3 * H), keep, draw(*lead, R, H)


def close(a: Any, b: Any, tolerance: float = 1e-5) -> None:
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("stacked", [False, True])
def test_scan_is_stepping_the_cell(stacked: bool) -> None:
    u, b, x, keep, h = inputs(stacked)
    ys, cell = quick(gru_scan)(u, b, x, keep, h), quick(gru_cell)
    for t in range(T):
        h, _ = cell(u, b, x[t], h * keep[t])
        close(ys[t], h)


def test_cell_is_the_equation() -> None:
    """In NumPy, gate by gate, one set of parameters at a time."""
    u, b, x, _, h = (np.asarray(a) for a in inputs(True))
    out = np.asarray(gru_cell(*(jnp.asarray(a) for a in (u, b, x[0], h)))[0])
    sigmoid = lambda v: 1 / (1 + np.exp(-v))
    for n in range(N):
        (xr, xz, xc), (ur, uz, uc) = np.split(x[0, n], 3, -1), np.split(u[n], 3, -1)
        r, z = sigmoid(xr + h[n] @ ur), sigmoid(xz + h[n] @ uz)
        c = np.tanh(xc + r * (h[n] @ uc + b[n]))
        np.testing.assert_allclose(out[n], (1 - z) * c + z * h[n], atol=1e-5)


@pytest.mark.parametrize("stacked", [False, True])
def test_written_out_gradient_is_autodiffs(stacked: bool) -> None:
    """For every input but `keep`, which is a mask."""
    u, b, x, keep, h = inputs(stacked)
    weight = jnp.asarray(np.random.default_rng(1).normal(size=(*x.shape[:-1], H)), jnp.float32)
    assert 0 < float(keep.mean()) < 1
    loss = lambda scan: lambda u, b, x, h: (weight * scan(u, b, x, keep, h) ** 2).sum()
    ours, plain = (quick(jax.grad(loss(scan), (0, 1, 2, 3)))(u, b, x, h) for scan in (gru_scan, plain_scan))
    close(ours, plain, 2e-5)
    assert all(np.abs(g).max() > 1e-3 for g in ours)


def test_differentiable_twice() -> None:
    """Reverse over reverse: the gradient of the gradient's norm, as bi-level shaping takes it."""
    u, b, x, keep, h = inputs(True)
    loss = lambda scan: lambda u, x: (scan(u, b, x, keep, h) ** 3).sum()
    norm = lambda scan: lambda u, x: sum((g**2).sum() for g in jax.grad(loss(scan), (0, 1))(u, x))
    ours, plain = (quick(jax.grad(norm(scan), (0, 1)))(u, x) for scan in (gru_scan, plain_scan))
    close(ours, plain, 2e-3)
    assert all(np.abs(g).max() > 1e-2 for g in plain)
