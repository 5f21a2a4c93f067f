"""Policies are distributions: they sum to one, never draw what is illegal, and say the same on JAX and NumPy."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.core.distributions import Box, Discrete, MultiDiscrete, concat_agents, draw_group_noise

RNG = np.random.default_rng(0)
SPACES = (Discrete(4), MultiDiscrete((2, 3)), Box(2))


def some(space: Any, rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Heads and legal masks with something legal in every choice."""
    rng = np.random.default_rng(seed)
    head, legal = rng.normal(size=(rows, space.head)).astype(np.float32) * 2, rng.random((rows, space.width)) < 0.6
    for start in {Discrete: (0,), MultiDiscrete: (0, 2), Box: (0,)}[type(space)]:
        legal[:, start] = True
    return head, legal


def every(space: Any) -> np.ndarray:
    sizes = getattr(space, "sizes", None)
    return np.arange(space.size, dtype=np.int32) if sizes is None else np.array(list(itertools.product(*map(range, sizes))), np.int32)


@pytest.mark.parametrize("space", SPACES[:2], ids=repr)
@pytest.mark.parametrize("masked", [False, True])
def test_probabilities_sum_to_one(space: Any, masked: bool) -> None:
    head, legal = some(space, 50)
    ok = legal if masked else None
    probabilities = np.exp([space.log_prob(head, ok, np.broadcast_to(a, (50, *a.shape))) for a in every(space)])
    np.testing.assert_allclose(probabilities.sum(0), 1.0, atol=1e-5)
    if masked:
        allowed = np.array([np.all((space.encode(a) == 0) | legal, -1) for a in every(space)])
        assert (probabilities[~allowed] == 0).all() and (probabilities[allowed] > 0).all()


@pytest.mark.parametrize("head", [(0.3, 0.1), (-1.0, -1.5), (1.2, 3.0)])
def test_box_integrates_to_one_over_actions_in_the_open_interval(head: tuple[float, float]) -> None:
    """In the squashed action's own space, a = tanh(u), by the trapezoid rule."""
    u = np.linspace(-12, 12, 400_001)
    a = np.tanh(u)
    p = np.exp(Box(1).log_prob(np.broadcast_to(np.array(head), (len(u), 2)), None, u[:, None]))
    inside = np.diff(a) > 0
    integral = (np.diff(a) * (p[1:] + p[:-1]) / 2)[inside].sum()
    np.testing.assert_allclose(integral, 1.0, atol=2e-3)


@pytest.mark.parametrize("space", SPACES[:2], ids=repr)
def test_samples_and_modes_are_legal(space: Any) -> None:
    head, legal = some(space, 4000, 1)
    noise = np.asarray(space.noise(jax.random.key(0), (4000,)))
    for action in (space.sample(head, legal, noise), space.mode(head, legal)):
        assert np.all((space.encode(action) == 0) | legal)
    drawn = space.sample(head[:1], legal[:1], np.asarray(space.noise(jax.random.key(1), (20_000,))))
    for a in every(space):
        share = np.mean(np.all(np.reshape(drawn == a, (20_000, -1)), -1))
        assert abs(share - np.exp(space.log_prob(head[:1], legal[:1], a[None]))[0]) < 0.02


def test_box_draws_its_own_density() -> None:
    """Samples of the squashed Gaussian fall below each quantile as often as the Gaussian behind it says."""
    space, head = Box(1), np.array([[0.4, 0.2]], np.float32)
    u = space.sample(head, None, np.asarray(space.noise(jax.random.key(2), (50_000,))))[:, 0]
    assert abs(u.mean() - 0.4) < 0.02 and abs(u.std() - np.exp(0.2 - 0.5)) < 0.02
    assert np.abs(space.emit(u)).max() <= 1.0


@pytest.mark.parametrize("space", SPACES[:2], ids=repr)
def test_entropy_is_the_mean_surprise(space: Any) -> None:
    head, legal = some(space, 3, 2)
    exact = space.entropy(head, legal)
    noise = np.asarray(space.noise(jax.random.key(3), (60_000, 3)))
    surprise = -space.log_prob(head, legal, space.sample(head, legal, noise))
    assert (np.abs(surprise.mean(0) - exact) < 5 * surprise.std(0) / np.sqrt(60_000) + 1e-4).all()
    assert np.allclose(space.entropy(np.zeros_like(head), None), np.log(len(every(space))), atol=1e-5)


@pytest.mark.parametrize("space", SPACES, ids=repr)
def test_jax_and_numpy_agree(space: Any) -> None:
    head, legal = some(space, 20, 4)
    noise = np.asarray(space.noise(jax.random.key(4), (20,)))
    action = space.sample(head, legal, noise)
    for question, more in (("sample", noise), ("mode", None), ("log_prob", action), ("entropy", None)):
        asked = (head, legal) if more is None else (head, legal, more)
        host = getattr(space, question)(*asked)
        device = getattr(space, question)(*map(jnp.asarray, asked))
        assert isinstance(host, np.ndarray) and isinstance(device, jax.Array)
        np.testing.assert_allclose(host, device, rtol=1e-6, atol=1e-6)
    for question in ("encode", "emit"):
        np.testing.assert_allclose(getattr(space, question)(action), getattr(space, question)(jnp.asarray(action)), rtol=1e-6, atol=1e-6)


# ---- action values
ENUMERABLE = pytest.mark.parametrize("space", SPACES[:2], ids=repr)
MASKED = pytest.mark.parametrize("masked", [False, True], ids=["free", "masked"])


def valued(space: Any, masked: bool, rows: int = 40) -> tuple[Any, ...]:
    """Action values, heads, masks `[rows ...]`; and of every joint action: its value, its probability, whether it is legal, `[rows m]`."""
    head, mask = some(space, rows, 6)
    legal, q = mask if masked else None, np.random.default_rng(7).normal(size=(rows, space.head)).astype(np.float32)
    each = lambda f: np.stack([f(np.broadcast_to(a, (rows, *a.shape))) for a in every(space)], -1)
    allowed = each(lambda a: np.all((space.encode(a) == 0) | mask, -1)) if masked else np.ones((rows, len(every(space))), bool)
    return q, head, legal, each(lambda a: space.score(q, a)), each(lambda a: np.exp(space.log_prob(head, legal, a))), allowed


@ENUMERABLE
@MASKED
def test_values_are_those_of_all_actions_one_by_one(space: Any, masked: bool) -> None:
    """`best` is the largest of the legal, `mean` the policy's expectation, and options' values add up."""
    q, head, legal, each, p, allowed = valued(space, masked)
    np.testing.assert_allclose(each, (q[:, None] * space.encode(every(space))).sum(-1), atol=1e-5)
    np.testing.assert_allclose(space.best(q, legal), np.where(allowed, each, -np.inf).max(-1), atol=1e-5)
    np.testing.assert_allclose(space.mean(q, head, legal), (p * each).sum(-1), atol=1e-4)
    np.testing.assert_allclose(space.score(q, space.mode(q, legal)), space.best(q, legal), atol=1e-6)
    np.testing.assert_allclose(space.mean(jnp.asarray(q), jnp.asarray(head), legal), space.mean(q, head, legal), atol=1e-5)


@ENUMERABLE
@MASKED
@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_exploring_heads_mix_a_policy_with_any_legal_action(space: Any, masked: bool, epsilon: float) -> None:
    """Choice by choice, p = (1 - e) policy + e / legal options: they sum to one, are never illegal, and e = 0 leaves the policy."""
    q, head, legal, *_ = valued(space, masked)
    allowed = np.ones(q.shape) if legal is None else legal
    sizes = getattr(space, "sizes", (space.head,))
    for explored, policy in ((space.greedy(q, legal, epsilon), None), (space.mixed(head, legal, epsilon), head)):
        for part in np.split(np.arange(space.head), np.cumsum(sizes)[:-1]):
            p, ok, one = np.exp(explored[:, part]), allowed[:, part], Discrete(len(part))
            says = lambda a: np.exp(one.log_prob(policy[:, part], None if legal is None else ok, np.full(len(p), a)))  # noqa: B023
            plain = one.encode(one.mode(q[:, part], ok > 0)) if policy is None else np.stack([says(a) for a in range(one.size)], -1)
            np.testing.assert_allclose(p.sum(-1), 1, atol=1e-5)
            np.testing.assert_allclose(p, (1 - epsilon) * plain + epsilon * ok / ok.sum(-1, keepdims=True), atol=1e-6)
            assert p[ok == 0].max(initial=0) < 1e-8 and (p[ok > 0] >= epsilon / one.size - 1e-6).all()
        drawn = space.sample(explored, legal, np.asarray(space.noise(jax.random.key(6), (len(q),))))
        assert np.all((space.encode(drawn) == 0) | (allowed > 0))
        if epsilon < 1 or policy is None:
            np.testing.assert_array_equal(space.mode(explored, legal), space.mode(q if policy is None else head, legal))


@pytest.mark.parametrize("size", [1, 3])
def test_points_of_a_box_have_its_moments(size: int) -> None:
    """Mean and second moment of each number are the Gaussian's, exactly; every row is given the same draws."""
    space, head = Box(size), np.random.default_rng(8).normal(size=(5, 2, 2 * size)).astype(np.float32)
    points = space.points(head)
    mean, std = head[..., :size], np.exp(np.clip(head[..., size:] - 0.5, -5, 1))
    assert points.shape == (8, 5, 2, size)
    np.testing.assert_allclose(points.mean(0), mean, atol=1e-5)
    np.testing.assert_allclose((points**2).mean(0), mean**2 + std**2, rtol=1e-5, atol=1e-5)
    draws = (points - mean) / std
    np.testing.assert_allclose(draws, np.broadcast_to(draws[:, :1, :1], draws.shape), atol=1e-3)
    np.testing.assert_allclose(space.points(jnp.asarray(head)), points, atol=1e-6)


def test_padded_dimensions_of_a_box_say_nothing() -> None:
    space, narrow = Box(3), Box(2)
    head = RNG.normal(size=(6, 6)).astype(np.float32)
    mine = head[:, [0, 1, 3, 4]]
    action, legal = RNG.normal(size=(6, 3)).astype(np.float32), np.array([True, True, False])
    np.testing.assert_allclose(space.log_prob(head, legal, action), narrow.log_prob(mine, None, action[:, :2]), atol=1e-6)
    np.testing.assert_allclose(space.entropy(head, legal), narrow.entropy(mine, None), atol=1e-6)
    moved = jnp.asarray(head).at[:, [2, 5]].add(100.0)
    np.testing.assert_array_equal(space.log_prob(moved, legal, action), space.log_prob(jnp.asarray(head), legal, action))
    slope = jax.grad(lambda h: space.log_prob(h, legal, jnp.asarray(action)).sum())(jnp.asarray(head))
    assert not np.asarray(slope)[:, [2, 5]].any() and np.asarray(slope)[:, [0, 1, 3, 4]].all()


def test_all_illegal_is_uniform_not_nan() -> None:
    nothing = np.zeros((1, 4), bool)
    head = RNG.normal(size=(1, 4)).astype(np.float32)
    np.testing.assert_allclose(Discrete(4).log_prob(head, nothing, np.array([2])), np.log(0.25), atol=1e-6)
    assert np.isfinite(np.asarray(jax.grad(lambda h: Discrete(4).entropy(h, nothing).sum())(jnp.asarray(head)))).all()


def test_log_prob_of_extremes_is_finite() -> None:
    space = Box(1)
    for u in (-40.0, 0.0, 40.0):
        assert np.isfinite(space.log_prob(np.array([0.0, 0.0]), None, np.array([u]))).all()
        assert np.isfinite(np.asarray(jax.grad(lambda h, u=u: space.log_prob(h, None, jnp.array([u])))(jnp.zeros(2)))).all()
    assert np.isfinite(Discrete(3).log_prob(np.array([1e4, -1e4, 0.0]), None, np.array(1)))


def test_groups_draw_apart() -> None:
    """Another group beside it, or another size of it, leaves a group's noise alone."""
    key = jax.random.key(5)
    alone, beside = draw_group_noise([Discrete(3), Box(1)], [2, 1], key, (4,)), draw_group_noise([Discrete(3), Box(2)], [2, 3], key, (4,))
    np.testing.assert_array_equal(alone[0], beside[0])
    assert concat_agents([np.ones((4, 2)), np.zeros((4, 1))]).shape == (4, 3)


@pytest.mark.parametrize(("space", "size"), [(Discrete, 0), (Box, 0), (MultiDiscrete, ()), (MultiDiscrete, (2, 0))])
def test_empty_spaces_are_refused(space: Any, size: Any) -> None:
    with pytest.raises(ValueError, match="at least one"):
        space(size)
