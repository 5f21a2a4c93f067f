"""Managers leave the game as it was, keep their clock, and are obeyed one row later: in JAX and in NumPy alike."""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.core.errors import UserError
from marlstone.core.records import replace
from marlstone.core.types import Leaf, Step
from marlstone.envs.make import make
from marlstone.envs.managed import Layout, Managers
from marlstone.envs.vectorized import Vectorized
from tests.batches import quick
from tests.twin import Twin

PAIR, PLAN = "proving:pair", "proving:plan?reach=1&rows=12"
LINE = f"{Path(__file__).parents[1] / 'twin.py'}:make"
B, T = 4, 30


@functools.cache
def played(name: str, managers: Managers) -> tuple[Step, Step, tuple[np.ndarray, ...], Any]:
    """Rows `[b t+1]` with managers, without them under the workers' same actions and keys, and all actions `[b t]`."""
    inner, outer = Vectorized(make(name), B), Vectorized(managers.over(make(name)), B)

    def tick(carry: Any, key: Any) -> Any:
        (s1, led), (s2, plain) = carry
        k1, k2 = jax.random.split(key)
        drawn = zip(outer.spec.groups, led.legal, jax.random.split(k1, len(outer.spec.groups)), strict=True)
        action = tuple(
            g.space.emit(g.space.sample(jnp.zeros((B, g.count, g.space.head)), ok, g.space.noise(k, (B, g.count)))) for g, ok, k in drawn
        )
        keys = jax.random.split(k2, B)
        return (outer.step(s1, action, keys), inner.step(s2, action[:-1], keys)), (led, plain, action)

    def run(key: Any) -> Any:
        keys = jax.random.split(key, B)
        after, rows = jax.lax.scan(tick, (outer.init(keys), inner.init(keys)), jax.random.split(key, T))
        led, plain = (jax.tree.map(lambda x, y: jnp.concatenate([x, y[None]]), r, a[1]) for r, a in zip(rows[:2], after, strict=True))
        return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), (led, plain, rows[2]))

    return *jax.tree.map(np.asarray, quick(run)(jax.random.key(1))), outer.spec


CASES = pytest.mark.parametrize(
    ("name", "managers"),
    [(PAIR, Managers(2, 3)), (PLAN, Managers(3, 2, "place")), ("proving:flip?rows=3&at=7", Managers(2, 2))],
    ids=["pair", "plan", "flip"],
)


@CASES
def test_the_game_is_what_it_was(name: str, managers: Managers) -> None:
    """Everything of the workers, the team and the metrics, to the bit; copies that outlive their episodes (`flip`) still do."""
    led, plain, _, spec = played(name, managers)
    n = plain.reward.shape[-1]
    assert hasattr(managers.over(make(name)), "again") == hasattr(make(name), "again")
    for k in ("team_reward", "team_discount", "first", "last"):
        np.testing.assert_array_equal(getattr(led, k), getattr(plain, k))
    for k in ("reward", "discount", "present", "deciding"):
        np.testing.assert_array_equal(getattr(led, k)[..., :n], getattr(plain, k))
    np.testing.assert_array_equal(led.state[..., : plain.state.shape[-1]], plain.state)
    for k, x in plain.metrics.items():
        np.testing.assert_array_equal(led.metrics[k], x)
    for with_goal, leaves in zip(led.obs, plain.obs, strict=False):
        assert set(with_goal) == {*leaves, "goal"}
        for k, x in leaves.items():
            np.testing.assert_array_equal(with_goal[k], x)
    np.testing.assert_array_equal(led.reward[..., n:], np.broadcast_to((led.team_reward / n)[..., None], led.reward[..., n:].shape))
    np.testing.assert_array_equal(led.discount[..., n:], np.broadcast_to(led.team_discount[..., None], led.discount[..., n:].shape))
    assert led.present[..., n:].all() and plain.last.any() and np.abs(plain.reward).any()
    assert spec.team.agents == make(name).spec.agents and spec.metrics == make(name).spec.metrics


@CASES
def test_managers_decide_by_their_clock_and_are_obeyed_one_row_later(name: str, managers: Managers) -> None:
    """From each episode's start on, every so many rows; goals stand still between, and begin free."""
    led, _, action, spec = played(name, managers)
    n, m = spec.team.n, spec.n - spec.team.n
    goal = np.concatenate([x["goal"] for x in led.obs[:-1]], -2)
    layout = managers.over(make(name)).layout
    seen, changed = led.obs[-1], 0
    for b in range(B):
        clock, held = 0, np.zeros(n, int)
        for t in range(T + 1):
            if led.first[b, t]:
                clock, held = 0, np.zeros(n, int)
            np.testing.assert_array_equal(goal[b, t], np.eye(layout.goals)[held])
            np.testing.assert_array_equal(led.deciding[b, t, n:], np.full(m, clock == 0))
            np.testing.assert_allclose(seen["clock"][b, t], clock / managers.every)
            if t < T and clock == 0:
                after = action[-1][b, t].reshape(-1)[layout.slot]
                assert (after[~led.present[b, t, :n]] == 0).all(), "nobody orders who is gone"
                changed += int((after != held).sum())
                held = after
            clock = (clock + 1) % managers.every
    assert changed > 10
    tail = np.concatenate([goal.reshape(B, T + 1, -1), seen["clock"][:, :, 0]], -1)
    np.testing.assert_allclose(led.state[..., -tail.shape[-1] :], tail, atol=1e-7)


def test_a_manager_sees_its_own_workers() -> None:
    """Eight agents led by threes: 3, 3 and 2; what the last lacks is zeros in its view and nothing to choose in its orders."""
    managers = Managers(2, 3, roles=2)
    led, _, action, spec = played("proving:additive?rows=3", managers)
    group, x = spec.groups[-1], led.obs[-1]
    assert group.count == 3 and group.space.sizes == (3, 3, 3) and group.clock == 2
    own = np.concatenate([x for k, x in led.obs[0].items() if k != "goal"], -1)
    width = own.shape[-1]
    flat = lambda x: x.reshape(B, T + 1, -1)
    for i, workers in enumerate((slice(0, 3), slice(3, 6), slice(6, 8))):
        k = workers.stop - workers.start
        np.testing.assert_array_equal(x["workers"][:, :, i, : k * width], flat(own[:, :, workers]))
        np.testing.assert_array_equal(x["goals"][:, :, i, : 3 * k], flat(led.obs[0]["goal"][:, :, workers]))
        assert group.features["workers"][i] == k * width and group.features["goals"][i] == 3 * k
    assert not x["workers"][:, :, 2, 2 * width :].any() and not x["goals"][:, :, 2, 6:].any()
    np.testing.assert_array_equal(led.legal[-1][0, 0, 2], [True] * 6 + [True, False, False])
    assert (action[-1][:, :, 2, 2] == 0).all() and len(np.unique(action[-1][:, :, 2, 1])) == 3


def test_goals_of_features_an_agent_lacks_are_not_given() -> None:
    spec = make(PLAN).spec
    group = replace(spec.groups[0], observation={"place": Leaf("vector", (2,))}, features={"place": (2, 1)})
    layout = Layout(Managers(leaf="place"), replace(spec, groups=(group,)))
    np.testing.assert_array_equal(layout.allowed, [[True] * 5, [True] * 3 + [False] * 2])


@pytest.mark.parametrize("end", ["truncate", "terminate"])
def test_numpy_and_jax_make_the_same_rows(end: str) -> None:
    """The twin game: stepped by Python with managers, and in JAX with the same ones."""
    managers, rng = Managers(2, 1), np.random.default_rng(0)
    host = managers.over(make(f"{LINE}?end={end}"))
    env = managers.over(Twin(host.layout.inner))
    assert host.spec == env.spec and host.spec.groups[-1].count == 2
    row, (state, twin) = host.reset(3), env.init(jax.random.key(0))
    for _ in range(5):
        kinds = zip(jax.tree.leaves(row), jax.tree.leaves(twin), strict=True)
        for path, (a, b) in enumerate(kinds):
            assert np.asarray(a).dtype == b.dtype and np.shape(a) == b.shape, path
            if end == "truncate":
                np.testing.assert_allclose(np.asarray(a, float), np.asarray(b, float), atol=1e-5)
        action = tuple(rng.integers(0, k, s).astype(np.int32) for k, s in ((3, 2), (5, (2, 1))))
        row, (state, twin) = host.step(action), env.step(state, action, jax.random.key(0))
    assert row.last and row.team_discount == (end == "truncate") and (row.obs[0]["goal"].argmax(-1) == action[1][:, 0]).all()
    assert host.reset(4).obs[0]["goal"][:, 0].all()
    host.close()


@pytest.mark.parametrize(
    ("make_it", "words"),
    [
        (lambda: Managers(every=1), ["every is 1", "at least 2"]),
        (lambda: Managers(span=0), ["span is 0", "at least 1"]),
        (lambda: Managers(roles=0), ["roles is 0", "at least 1"]),
        (lambda: Managers(leaf="palce").over(make(PLAN)), ["leaf is 'palce'", "'walkers'", "did you mean 'place'?"]),
        (lambda: Managers(leaf="view").over(make(PAIR)), ["leaf is 'view'", "'arm'", "dial"]),
        (lambda: Managers().over(Managers().over(make(PLAN))), ["cannot lead managers"]),
    ],
)
def test_what_cannot_be_led_is_refused_with_a_remedy(make_it: Any, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        make_it()
    assert all(w in str(caught.value) for w in words), caught.value


def test_opponents_pictures_alone_and_taken_names_are_refused() -> None:
    spec = make(PLAN).spec
    sees = lambda **leaves: replace(spec, groups=(replace(spec.groups[0], observation=leaves),))
    for changed, words in (
        (replace(spec, opponents=("partner",)), "partner play against it: use architecture"),
        (sees(goal=Leaf("vector", (2,))), "'goal'.*rename it"),
        (sees(camera=Leaf("image", (4, 4, 3))), "vector observations, and group 'walkers' has none: add one, or use"),
    ):
        with pytest.raises(UserError, match=words):
            Layout(Managers(), changed)
