"""The proving games' best returns are what their docstrings say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.envs.make import make


def play(name: str, policy, seeds: int = 64) -> np.ndarray:
    """Team returns of `policy(t, row, rows so far) -> emitted action` in `seeds` episodes."""
    env = make(name)

    @jax.vmap
    def run(key):
        keys = jax.random.split(key, env.spec.horizon + 1)
        state, row = env.init(keys[0])
        past, total = [row], 0.0
        for t in range(env.spec.horizon):
            state, row = env.step(state, policy(t, past), keys[t + 1])
            past.append(row)
            total += row.team_reward
        return total, row.last

    total, last = jax.jit(run)(jax.random.split(jax.random.key(0), seeds))
    assert np.asarray(last).all()
    return np.asarray(total)


def _pair(t, past):
    obs = past[-1].obs
    late = obs[2]["view"]
    choice = jnp.stack([jnp.argmax(late[0, :2]), jnp.argmax(late[0, 2:])])[None]
    return jnp.argmax(obs[0]["view"], -1), obs[1]["dial"][:, :1], choice


def _dials(t, past):
    return ((jnp.argmax(past[-1].obs[0]["picture"][:, 0, :, 0], -1)[:, None] - 3.5) / 4,)


def _match(t, past):
    return (jnp.argmax(past[max(t - 1, 0)].obs[0]["symbol"], -1),)


@pytest.mark.parametrize(
    ("name", "policy", "best"),
    [
        ("proving:climbing", lambda t, past: (jnp.array([0, 0]),), 44.0),
        ("proving:climbing?game=penalty", lambda t, past: (jnp.array([2, 2]),), 40.0),
        ("proving:pair", _pair, 11.0),
        ("proving:dials", _dials, 4.0),
        ("proving:match", _match, 1.0),
    ],
)
def test_best_return_is_the_documented_one(name: str, policy, best: float) -> None:
    np.testing.assert_allclose(play(name, policy), best, atol=1e-5)


def test_match_without_memory_is_a_coin() -> None:
    blind = play("proving:match", lambda t, past: (jnp.argmax(past[-1].obs[0]["symbol"], -1),), seeds=2000)
    assert abs(blind.mean() - 0.5) < 5 * blind.std() / np.sqrt(blind.size)


def test_pair_says_who_is_there() -> None:
    """player_1 dies on row 3 and late_0 comes on row 2; an absent agent earns nothing, and death is not the team's end."""
    env = make("proving:pair")
    state, row = env.init(jax.random.key(0))
    rows = [row]
    for t in range(4):
        state, row = env.step(state, _pair(t, rows), jax.random.key(t))
        rows.append(row)
    present = np.array([r.present for r in rows])
    np.testing.assert_array_equal(present[:, 1], [True, True, True, False, False])
    np.testing.assert_array_equal(present[:, 3], [False, False, True, True, True])
    assert [float(r.discount[1]) for r in rows] == [1, 1, 1, 0, 0] and all(float(r.team_discount) == 1 for r in rows)
    assert float(rows[4].reward[1]) == 0 and float(rows[1].reward[3]) == 0 and float(rows[3].reward[1]) == 1
