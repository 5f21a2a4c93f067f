"""A Composite is its parts, independent and side by side: their log-probabilities add up, their masks hold, nothing mixes."""

import itertools
import json
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from marlstone.core.distributions import Box, Composite, Discrete, MultiDiscrete, enumerable, exploration_head
from marlstone.core.spec_json import spec_from_json, spec_to_json
from marlstone.core.types import Group, Leaf, Spec
from tests.batches import quick

SPACE = Composite((Discrete(3), Box(2), MultiDiscrete((2, 4)), Box(1)), ("tool", "arm", "flags", "throttle"))
CHOICES = ((3,), (2, 4))
ROWS = 200


def drawn(seed: int = 0, rows: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    """Heads, and masks with something legal in every choice."""
    rng = np.random.default_rng(seed)
    legal = rng.random((rows, SPACE.width)) < 0.6
    legal[:, [0, 3, 4, 5, 7, 11]] = True
    return rng.normal(size=(rows, SPACE.head)).astype(np.float32) * 2, legal


def noise(seed: int, rows: int = ROWS) -> np.ndarray:
    return SPACE.noise(np.random.default_rng(seed), (rows,))


def allowed(action: np.ndarray, legal: np.ndarray) -> bool:
    return bool(np.all((SPACE.encode(action) == 0) | legal | ~SPACE.chosen))


def test_sizes_are_the_parts_one_after_another() -> None:
    assert (SPACE.head, SPACE.width, SPACE.action_shape) == (3 + 4 + 6 + 2, 3 + 2 + 6 + 1, (1 + 2 + 2 + 1,))
    np.testing.assert_array_equal(SPACE.chosen, [1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 0])
    action = SPACE.sample(*drawn(), noise(0))
    parts = SPACE.split(action)
    assert {k: (x.dtype.kind, x.shape[1:]) for k, x in parts.items()} == {
        "tool": ("i", ()), "arm": ("f", (2,)), "flags": ("i", (2,)), "throttle": ("f", (1,)),
    }  # fmt: skip
    assert action.dtype == np.float32
    np.testing.assert_array_equal(SPACE.join(parts), action)
    np.testing.assert_array_equal(action[:, 0], parts["tool"])
    np.testing.assert_array_equal(action[:, 3:5], parts["flags"])


@pytest.mark.parametrize("masked", [False, True])
def test_log_probabilities_are_sums_of_what_formulas_say(masked: bool) -> None:
    """Softmax for each choice, and scipy's normal density less tanh's slope for each number that is no padding."""
    head, mask = drawn(1)
    action = SPACE.sample(head, mask if masked else None, noise(1))
    wanted = np.zeros(ROWS)
    for i, a in enumerate(action.astype(np.float64)):
        ok = mask[i] if masked else np.ones(SPACE.width, bool)
        for h, o, chosen in ((0, 0, 0), (7, 5, 3), (9, 7, 4)):
            n = {0: 3, 7: 2, 9: 4}[h]
            logits = np.where(ok[o : o + n], head[i, h : h + n], -np.inf)
            wanted[i] += logits[int(a[chosen])] - np.logaddexp.reduce(logits)
        for mean, deviation, o, at in ((3, 5, 3, 1), (4, 6, 4, 2), (13, 14, 11, 5)):
            if ok[o]:
                std = math.exp(np.clip(head[i, deviation] - 0.5, -5, 1))
                wanted[i] += stats.norm.logpdf(a[at], head[i, mean], std) - 2 * (math.log(2) - a[at] - np.logaddexp(0, -2 * a[at]))
    np.testing.assert_allclose(SPACE.log_prob(head, mask if masked else None, action), wanted, rtol=2e-4, atol=2e-4)


def test_probabilities_of_choices_and_density_of_numbers_integrate_to_one() -> None:
    space = Composite((Discrete(2), Box(1)))
    u = np.linspace(-12, 12, 20_001)
    a = np.tanh(u)
    inside, total = np.diff(a) > 0, 0.0
    for chosen in (0, 1):
        p = np.exp(space.log_prob(np.tile([0.3, -0.4, 0.2, 0.1], (len(u), 1)), None, np.stack([np.full_like(u, chosen), u], -1)))
        total += (np.diff(a) * (p[1:] + p[:-1]) / 2)[inside].sum()
    assert total == pytest.approx(1, abs=2e-3)


def test_entropy_adds_up_and_is_the_mean_surprise_of_choices() -> None:
    head, legal = drawn(2)
    parts = zip(SPACE.parts, SPACE.by_part(head), SPACE.masks(legal), strict=True)
    np.testing.assert_allclose(SPACE.entropy(head, legal), sum(p.entropy(h, ok) for p, h, ok in parts), rtol=1e-6)
    even = np.zeros((1, SPACE.head), np.float32)
    assert SPACE.entropy(even, None)[0] == pytest.approx(math.log(3 * 2 * 4) + Box(3).entropy(np.zeros(6), None), abs=1e-5)


@pytest.mark.parametrize("temperature", [0.01, 1.0, 30.0])
def test_masks_hold_whatever_is_drawn(temperature: float) -> None:
    head, legal = drawn(3, 4000)
    hot = SPACE.with_temperature(head, temperature)
    z = noise(3, 4000)
    for action in (SPACE.sample(hot, legal, z), SPACE.mode(hot, legal), SPACE.sample(head, legal, temperature * z)):
        assert allowed(action, legal)
    explored = exploration_head("mixed", SPACE, head, legal, np.float32(0.5), 0)
    assert allowed(SPACE.sample(explored, legal, z), legal)
    wish = SPACE.legal_or_default(SPACE.sample(head, None, z), legal, SPACE.mode(head, legal))
    assert allowed(wish, legal)


def test_what_is_legal_stays_and_what_is_not_gives_way_to_the_default() -> None:
    head, legal = drawn(4)
    action, default = SPACE.sample(head, None, noise(4)), SPACE.mode(head, legal)
    kept = SPACE.split(SPACE.legal_or_default(action, legal, default))
    was, other = SPACE.split(action), SPACE.split(default)
    ok = legal[np.arange(ROWS), was["tool"]]
    assert ok.any() and not ok.all()
    np.testing.assert_array_equal(kept["tool"], np.where(ok, was["tool"], other["tool"]))
    for name in ("arm", "throttle"):
        np.testing.assert_array_equal(kept[name], was[name])


def test_jax_and_numpy_agree() -> None:
    head, legal = drawn(5)
    z = noise(5)
    action = SPACE.sample(head, legal, z)
    calls = {"sample": (head, legal, z), "mode": (head, legal), "log_prob": (head, legal, action), "entropy": (head, legal)}
    calls |= {"encode": (action,), "emit": (action,), "points": (head, legal), "legal_or_default": (action, legal, action[::-1])}
    calls |= {"mixed": (head, legal, np.float32(0.3), (2, 0.1, 0.2, 1, 3, 0.4))}
    arrays = {k: [x for x in xs if isinstance(x, np.ndarray)] for k, xs in calls.items()}
    rest = {k: xs[len(arrays[k]) :] for k, xs in calls.items()}
    compiled = quick(lambda given: {k: getattr(SPACE, k)(*xs, *rest[k]) for k, xs in given.items()})(arrays)
    for question, device in compiled.items():
        host = getattr(SPACE, question)(*arrays[question], *rest[question])
        assert isinstance(host, np.ndarray) and host.dtype == device.dtype == np.float32
        np.testing.assert_allclose(host, device, rtol=1e-5, atol=1e-5, err_msg=question)


def test_noise_is_gumbel_for_choices_and_normal_for_numbers() -> None:
    for z in (noise(6, 20_000), SPACE.noise(jax.random.key(6), (20_000,))):
        for column, chosen in zip(np.asarray(z).T, SPACE.chosen, strict=True):
            assert stats.kstest(column, "gumbel_r" if chosen else "norm").pvalue > 1e-4
        assert np.abs(np.corrcoef(np.asarray(z).T) - np.eye(SPACE.width)).max() < 0.04


def test_points_stand_for_the_policy() -> None:
    """A choice's share is off by at most 1/32, no illegal option is among them, and a Box's moments are exact."""
    head, legal = drawn(7)
    points = SPACE.points(head, legal)
    assert points.shape == (32, ROWS, 6) and all(allowed(p, legal) for p in points)
    split, heads, masks = SPACE.split(points), SPACE.by_part(head), SPACE.masks(legal)
    share = (split["tool"][..., None] == np.arange(3)).mean(0)
    odds = np.exp([Discrete(3).log_prob(heads[0], masks[0], np.full(ROWS, k)) for k in range(3)]).T
    assert np.abs(share - odds).max() <= 1 / 32 + 1e-6
    np.testing.assert_allclose(split["arm"].mean(0), heads[1][:, :2], atol=1e-4)
    even = SPACE.points(np.zeros((1, SPACE.head), np.float32))
    assert len({tuple(p) for p in even[:, 0, [0, 3]].tolist()}) == 6, "choices do not move together"


def test_exploring_leaves_numbers_alone_and_draws_the_default_half_the_time() -> None:
    head, legal = drawn(8)
    default = (2, 0.5, 0.5, 1, 3, 0.0)
    explored = SPACE.by_part(exploration_head("mixed", SPACE, head, None, np.float32(1.0), default))
    parts = SPACE.by_part(head)
    for i in (1, 3):
        np.testing.assert_array_equal(explored[i], parts[i])
    np.testing.assert_allclose(np.exp(explored[0]), np.tile([1 / 6, 1 / 6, 1 / 6 + 1 / 2], (ROWS, 1)), atol=1e-6)
    np.testing.assert_allclose(np.exp(explored[2][:, 2:]), np.tile([1 / 8, 1 / 8, 1 / 8, 5 / 8], (ROWS, 1)), atol=1e-6)
    for how in (0, tuple([default] * ROWS)):  # one number for all, or everybody's own
        assert exploration_head("mixed", SPACE, head, legal, np.float32(0.3), how).shape == head.shape


def test_choices_of_several_agents_explore_towards_their_own_defaults() -> None:
    space = MultiDiscrete((2, 3))
    p = np.exp(space.mixed(np.zeros((5, 2, 5), np.float32), None, 1.0, ((0, 2), (1, 0))))
    np.testing.assert_allclose(p[0], [[3 / 4, 1 / 4, 1 / 6, 1 / 6, 2 / 3], [1 / 4, 3 / 4, 2 / 3, 1 / 6, 1 / 6]], atol=1e-6)


def test_sharpening_multiplies_logits_and_divides_deviations() -> None:
    rng = np.random.default_rng(9)
    w, b, x = (rng.normal(size=s).astype(np.float32) for s in ((7, SPACE.head), (SPACE.head,), (50, 7)))
    sharper_w, sharper_b = SPACE.scale_head(w, b, np.float32(3.0))
    before, after = x @ w + b, x @ sharper_w + sharper_b
    old, new = SPACE.by_part(before), SPACE.by_part(after)
    np.testing.assert_allclose(new[0], 3 * old[0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(new[1][:, :2], old[1][:, :2], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(new[1][:, 2:], old[1][:, 2:] - math.log(3), rtol=1e-4, atol=1e-4)


def test_gradients_are_finite_where_nothing_is_legal() -> None:
    head, nothing = jnp.zeros((2, SPACE.head)), np.zeros((2, SPACE.width), bool)
    action = SPACE.mode(np.zeros((2, SPACE.head), np.float32), None)
    both = lambda h: SPACE.log_prob(h, nothing, action).sum() + SPACE.entropy(h, nothing).sum()
    assert np.isfinite(np.asarray(quick(jax.grad(both))(head))).all()


def test_it_is_written_and_read() -> None:
    group = Group("g", ("a", "b"), {"x": Leaf("vector", (2,))}, SPACE, default=(1, 0.5, 0.0, 1, 3, -0.5))
    spec = Spec((group,), 2)
    again = spec_from_json(json.loads(json.dumps(spec_to_json(spec))))
    assert again == spec and again.groups[0].recorded_defaults.dtype == np.float32
    assert group.encoded_default.shape == (2, SPACE.width) and hash(SPACE) == hash(again.groups[0].space)


@pytest.mark.parametrize(
    ("parts", "names", "words"),
    [
        ((Discrete(2), MultiDiscrete((3, 4))), (), "all choices: use MultiDiscrete((2, 3, 4))"),
        ((Box(2), Box(1)), (), "use Box(3)"),
        ((Discrete(2), SPACE), (), "not nested"),
        ((Discrete(2), Box(1)), ("a", "a"), "2 different names"),
        ((Discrete(2), Box(1)), ("a",), "2 different names"),
    ],
)
def test_what_is_no_composite_is_refused(parts: Any, names: Any, words: str) -> None:
    with pytest.raises(ValueError) as error:
        Composite(parts, names)
    assert words in str(error.value) and not enumerable(SPACE)


def test_every_option_is_reached() -> None:
    action = SPACE.sample(np.zeros((4000, SPACE.head), np.float32), None, noise(11, 4000))
    seen = {tuple(int(x) for x in a) for a in action[:, [0, 3, 4]]}
    assert seen == set(itertools.product(range(3), range(2), range(4)))
