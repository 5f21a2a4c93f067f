"""Initial matrices are orthonormal and uniform, and no initialization waits on XLA's own thread pool."""

import jax
import numpy as np
import pytest

from marlstone.algorithm import Algorithm
from marlstone.architectures import Ctde, Gru
from marlstone.core.layers import orthogonal
from marlstone.credit import Individual
from marlstone.envs.make import make
from marlstone.learners import PolicyGradient


@pytest.mark.parametrize("shape", [(6, 5), (5, 6), (4, 4), (1, 1), (3, 1), (1, 3), (100, 64)])
def test_initial_matrices_are_orthonormal_and_scaled(shape: tuple[int, int]) -> None:
    w = np.asarray(orthogonal(jax.random.key(2), *shape, 3.0))
    assert w.shape == shape
    gram = w.T @ w if shape[0] >= shape[1] else w @ w.T
    np.testing.assert_allclose(gram, 9 * np.eye(min(shape)), atol=1e-5)


def test_initial_matrices_are_uniform() -> None:
    """Moments of a uniform orthogonal 3 x 3 matrix: E w = 0, E w^2 = 1/3, E w^4 = 1/5, E det = 0; to 5 standard errors."""
    draw = jax.jit(jax.vmap(lambda k: orthogonal(k, 3, 3, 1.0)))
    w = np.asarray(draw(jax.random.split(jax.random.key(0), 20_000)))
    np.testing.assert_allclose(w.mean(0), 0, atol=0.021)
    np.testing.assert_allclose((w**2).mean(0), 1 / 3, atol=0.011)
    np.testing.assert_allclose((w**4).mean(0), 1 / 5, atol=0.0095)
    assert abs(np.linalg.det(w).mean()) < 0.036


def test_initialization_calls_no_lapack() -> None:
    """Two batched LAPACK calls in one program deadlock XLA's thread pool on two cores (jaxlib 0.10.2)."""
    spec = make("proving:pair").spec
    algorithm = Algorithm(spec, Ctde(Gru(4, 4)), Individual(), PolicyGradient())
    assert "lapack" not in jax.jit(algorithm.init).lower(jax.random.key(0)).as_text()
