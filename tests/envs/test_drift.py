"""Drift outlives episodes, in JAX and in NumPy, and is nothing at its beginning."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.core.errors import UserError
from marlstone.envs.faults import Drift, Noise, with_faults
from marlstone.envs.make import make
from marlstone.envs.vectorized import Vectorized
from tests.envs.host_examples import __file__ as HOST

GAME = "proving:additive?rows=3"
B, T = 2, 9


def rows(env: Any) -> list[Any]:
    """`T` rows of `B` copies, everybody playing action 0."""
    many = Vectorized(env, B)
    state, row = jax.jit(many.init)(jax.random.split(jax.random.key(0), B))
    out, step = [row], jax.jit(many.step)
    for t in range(1, T):
        action = tuple(jnp.zeros((B, g.count), jnp.int32) for g in env.spec.groups)
        state, row = step(state, action, jax.random.split(jax.random.key(t), B))
        out.append(row)
    return jax.device_get(out)


def test_a_gain_drifts_over_episodes_to_its_size_and_stays() -> None:
    still, drifting = rows(make(GAME)), rows(with_faults([Drift(0.5, rows=6)], make(GAME)))
    assert any(r.first.any() for r in still[1:])  # episodes end within these rows
    for t, (a, b) in enumerate(zip(still, drifting, strict=True)):
        x, y = a.obs[0]["symbol"], b.obs[0]["symbol"]
        gain = (y / np.where(x == 0, 1, x))[x != 0]
        np.testing.assert_allclose(np.abs(gain - 1), 0.5 * min(t / 6, 1), atol=1e-6)
        assert len(np.unique(np.sign(gain - 1))) == (1 if t == 0 else 2)
        same = lambda r: (r.state, r.reward, r.team_reward, r.first, r.last)
        jax.tree.map(np.testing.assert_array_equal, same(a), same(b))


def test_faults_beside_it_begin_anew_with_each_episode() -> None:
    env = with_faults([Noise(0.0), Drift(0.5, rows=6)], make(GAME))
    both, alone = rows(env), rows(with_faults([Drift(0.5, rows=6)], make(GAME)))
    assert len(both) == len(alone)
    assert all(np.abs(b.obs[0]["symbol"]).max() == np.abs(a.obs[0]["symbol"]).max() for a, b in zip(both, alone, strict=True))


def test_a_host_environment_drifts_from_one_episode_to_the_next() -> None:
    env: Any = with_faults([Drift(0.5, rows=4)], make(f"{HOST}:toy?length=2"))
    plain: Any = make(f"{HOST}:toy?length=2")
    for k in range(3):
        a, b = plain.reset(k), env.reset(k)
        floats = [k for k, x in a.obs[0].items() if x.dtype.kind == "f" and (x != 0).any()]
        ratio = np.concatenate([(b.obs[0][n] / np.where(a.obs[0][n] == 0, 1, a.obs[0][n]))[a.obs[0][n] != 0] for n in floats])
        np.testing.assert_allclose(np.abs(ratio - 1), 0.5 * min(k / 4, 1), atol=1e-6)
    env.close(), plain.close()


@pytest.mark.parametrize("wrong", [{"size": 1.0}, {"size": -0.1}, {"rows": 0}])
def test_what_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"drift: {next(iter(wrong))} is"):
        Drift(**wrong)
