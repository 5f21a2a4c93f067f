"""The autoreset law, and the row laws every JAX environment keeps, by name."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.core.compile_options import FASTEST_COMPILE, supported
from marlstone.core.records import replace
from marlstone.envs.make import is_jax, make
from marlstone.envs.vectorized import Vectorized

NAMES = [
    "jumanji:LevelBasedForaging?task=5x5-2p-1f&time_limit=20",
    "jumanji:RobotWarehouse?task=tiny-2ag&time_limit=20",
    "jaxmarl:MPE_simple_speaker_listener_v4?max_steps=9",
    "proving:pair",
    "proving:dials",
    "proving:climbing",
]
B, ROWS = 8, 60


def _needs(name: str) -> None:
    if name.startswith("jaxmarl"):
        pytest.importorskip("jaxmarl", reason="needs marlstone[jaxmarl]")


@functools.cache
def rollout(name: str):
    """Rows `[b t+1]` and actions `[b t]` of random legal play; the last columns are the scan's carry."""
    _needs(name)
    vector = Vectorized(make(name), B)
    spaces = [(g.space, g.count) for g in vector.spec.groups]

    def body(carry, key):
        state, row = carry
        k1, k2 = jax.random.split(key)
        action = tuple(
            s.emit(s.sample(jnp.zeros((B, n, s.head)), m, s.noise(k1, (B, n)))) for (s, n), m in zip(spaces, row.legal, strict=True)
        )
        after = vector.step(state, action, jax.random.split(k2, B))
        return after, (row, action)

    @functools.partial(jax.jit, compiler_options=supported(FASTEST_COMPILE))
    def run(key):
        (_, row), (rows, actions) = jax.lax.scan(body, vector.init(jax.random.split(key, B)), jax.random.split(key, ROWS))
        rows = jax.tree.map(lambda x, y: jnp.concatenate([x, y[None]]), rows, row)
        return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), (rows, actions))

    return vector, *jax.tree.map(np.asarray, run(jax.random.key(0)))


@pytest.mark.parametrize("name", NAMES)
def test_row_after_an_end_is_a_reset(name: str) -> None:
    vector, row, _ = rollout(name)
    np.testing.assert_array_equal(row.first[:, 1:], row.last[:, :-1])
    assert row.first[:, 0].all() and row.last.any(), "the walk must meet ends"
    assert (row.reward[row.first] == 0).all() and (row.team_reward[row.first] == 0).all()
    assert (row.discount[row.first] == 1).all() and (row.team_discount[row.first] == 1).all()
    lengths = np.diff(np.flatnonzero(row.last[0]))
    assert lengths.max(initial=0) <= vector.spec.horizon + 1, "horizon is the most rows, and a reset row is one more"


@pytest.mark.parametrize("name", NAMES)
def test_rows_have_the_shapes_of_the_spec(name: str) -> None:
    vector, row, action = rollout(name)
    spec = vector.spec
    assert row.reward.shape == row.discount.shape == row.present.shape == row.deciding.shape == (B, ROWS + 1, spec.n)
    assert row.state.shape == (B, ROWS + 1, spec.state) and row.reward.dtype == np.float32 == row.state.dtype
    assert set(row.metrics) == set(spec.metrics)
    for group, obs, legal, act in zip(spec.groups, row.obs, row.legal, action, strict=True):
        assert {k: (v.shape[2:], v.dtype) for k, v in obs.items()} == {
            k: ((group.count, *leaf.shape), np.dtype(leaf.dtype)) for k, leaf in group.observation.items()
        }
        assert legal is None or legal.shape[2:] == (group.count, group.space.width)
        if legal is not None and hasattr(group.space, "size"):
            assert legal.any(-1).all(), "somebody always may do something"
            assert np.take_along_axis(legal[:, :-1], act[..., None], -1).all(), "a masked action was drawn"
    assert (row.team_discount[row.discount.any(-1)] >= 0).all() and np.isfinite(row.state).all()


@pytest.mark.parametrize("name", NAMES)
def test_ends_are_what_they_are(name: str) -> None:
    """`team_discount` is 0 exactly on terminations, and only a last row may have one."""
    _, row, _ = rollout(name)
    assert row.last[row.team_discount == 0].all()
    assert set(np.unique(row.team_discount)) <= {0.0, 1.0}
    ends = set(row.team_discount[row.last].tolist())
    expected = {"proving:climbing": {0.0}, "proving:dials": {1.0}, NAMES[2]: {1.0}}
    assert ends == expected.get(name, {0.0, 1.0})


def test_swapped_ends_are_caught() -> None:
    """The coin in `state` says how `pair` ends; the swapped wiring contradicts it on every end, the straight one on none."""
    for name, agree in (("proving:pair", True), ("proving:pair?swapped=true", False)):
        _, row, _ = rollout(name)
        terminated, coin = row.team_discount[row.last] == 0, row.state[..., 4][row.last] == 1
        assert ((terminated == coin) == agree).all()


def test_jit_changes_nothing() -> None:
    """One row of the richest game, compiled and op by op, agree (to the last bits that fusion may move)."""
    env, key = make("proving:pair"), jax.random.key(2)
    state, _ = env.init(key)
    action = (jnp.array([0, 2]), jnp.array([[0.3]]), jnp.array([[1, 2]]))
    compiled = jax.jit(env.step)(state, action, key)
    with jax.disable_jit():
        plain = env.step(state, action, key)
    for a, b in zip(jax.tree.leaves(compiled), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_environments_do_not_touch_each_other() -> None:
    """Changing one environment's key and action changes its own row only."""
    vector, _, action = rollout(NAMES[0])
    act = jax.tree.map(lambda x: jnp.asarray(x[:, 0]), action)
    step = jax.jit(vector.step)
    state, _ = jax.jit(vector.init)(jax.random.split(jax.random.key(1), B))
    state = replace(state, over=jnp.ones(B, bool))
    keys = jax.random.split(jax.random.key(2), B)
    other = keys.at[3].set(jax.random.key(99))
    a, b = step(state, act, keys)[1], step(state, act, other)[1]
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(np.delete(x, 3, 0), np.delete(y, 3, 0))
    assert (np.asarray(a.state[3]) != np.asarray(b.state[3])).any()


def test_few_resets_are_the_resets_of_all() -> None:
    """However many environments are over, each one's fresh state and row come from its own key, and nobody else's change."""
    env, b = make(NAMES[3]), 16
    vector = Vectorized(env, b)
    keys = jax.random.split(jax.random.key(4), b)
    state, _ = jax.jit(vector.init)(keys)
    act = (jnp.zeros((b, 2), jnp.int32), jnp.zeros((b, 1, 1)), jnp.zeros((b, 1, 2), jnp.int32))

    @jax.jit
    def step(over):
        after, row = vector.step(replace(state, over=over), act, keys)
        return after.env, row

    fresh, going = jax.jit(jax.vmap(env.init))(keys), step(np.zeros(b, bool))
    for over in ([3], [0, 15], [1, 2, 3], list(range(b))):
        mask = np.isin(np.arange(b), over)
        for new, yes, no in zip(jax.tree.leaves(step(mask)), jax.tree.leaves(fresh), jax.tree.leaves(going), strict=True):
            np.testing.assert_array_equal(new, np.where(mask.reshape(-1, *(1,) * (new.ndim - 1)), yes, no))


CONSTANT = {
    "jaxmarl:MPE_simple_spread_v3?max_steps=9": {"present", "deciding", "discount", "team_discount"},
    "jaxmarl:MPE_simple_spread_v3?max_steps=9&time_limit=terminate": {"present", "deciding"},
    "jaxmarl:switch_riddle": {"present"},
    "jumanji:LevelBasedForaging?task=5x5-2p-1f&time_limit=20": {"present", "deciding"},
    "jumanji:RobotWarehouse?task=tiny-2ag&time_limit=20": {"present", "deciding"},
}


@pytest.mark.parametrize("name", CONSTANT)
def test_fields_declared_constant_are_1_on_every_step_of_the_bare_environment(name: str) -> None:
    """Rollouts and resets leave these fields out and put ones in their place, so nothing but this would show a wrong declaration."""
    _needs(name)
    env = make(name)
    assert env.constant == CONSTANT[name] == Vectorized(env, B).constant

    def body(carry, key):
        (state, row), k1, k2 = carry, *jax.random.split(key)
        action = tuple(g.space.emit(g.space.sample(jnp.zeros((g.count, g.space.head)), m, g.space.noise(k1, (g.count,))))
                       for g, m in zip(env.spec.groups, row.legal, strict=True))  # fmt: skip
        after = env.step(state, action, k2)
        return after, (after[1], row.last)

    @functools.partial(jax.jit, compiler_options=supported(FASTEST_COMPILE))
    @jax.vmap
    def run(key):
        begun = env.init(key)
        return begun[1], jax.lax.scan(body, begun, jax.random.split(key, 22))[1]

    first, (rows, over) = run(jax.random.split(jax.random.key(0), B))
    going = ~np.logical_or.accumulate(np.asarray(over), axis=1)  # what comes after an end means nothing
    assert np.asarray(rows.last)[going].any(), "the walk must meet ends"
    for field in env.constant:
        assert np.asarray(getattr(first, field)).all()
        assert (np.asarray(getattr(rows, field))[going] == 1).all(), field


def test_an_unknown_constant_field_is_refused() -> None:
    class Wrong:
        constant = frozenset({"reward"})

    with pytest.raises(ValueError, match="declares 'reward' constant"):
        Vectorized(Wrong(), 2)


def test_vectorized_refuses_a_wrong_batch() -> None:
    with pytest.raises(ValueError, match="split the key into 8"):
        Vectorized(make("proving:climbing"), B).init(jax.random.split(jax.random.key(0), 3))
    with pytest.raises(ValueError, match="at least one environment"):
        Vectorized(make("proving:climbing"), 0)
    assert is_jax("proving:climbing")
