"""Looking after every observation is allowed: the truth hardly ever leaves the sequence, and the baseline alarm is hardly ever false."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from marlstone.core.errors import UserError
from marlstone.stats.sequences import baseline_alarm, confidence_sequence, observations_needed, paired_sequence

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
DRAWS: dict[str, tuple[Draw, float]] = {
    "uniform": (lambda r, s: r.uniform(size=s), 0.5),
    "fair": (lambda r, s: (r.uniform(size=s) < 0.5) * 1.0, 0.5),
    "rare": (lambda r, s: (r.uniform(size=s) < 0.01) * 1.0, 0.01),
    "skewed": (lambda r, s: r.beta(1, 20, size=s), 1 / 21),
}


@pytest.mark.parametrize("name", DRAWS)
def test_the_truth_is_ever_outside_in_at_most_alpha(name: str) -> None:
    """Over t <= 1000, of 2,000 simulations; the intervals shrink, and to where something can be decided."""
    draw, mean = DRAWS[name]
    center, low, high = confidence_sequence(10 * draw(np.random.default_rng(0), (2000, 1000)) - 3, (-3, 7))
    ever = np.mean(((low > 10 * mean - 3) | (high < 10 * mean - 3)).any(1))
    half = (high - low).mean(0) / 20
    print(f"{name}: ever outside {ever:.2%}, half-widths {half[29]:.3f} {half[99]:.3f} {half[999]:.4f}")
    assert ever <= 0.05
    assert (np.diff(low) >= 0).all() and (np.diff(high) <= 0).all() and half[999] < 0.4 * half[99] < 0.2
    assert abs(center[:, -1].mean() - (10 * mean - 3)) < 0.05


def test_it_decides_a_true_difference_and_a_t_test_one_peeks_at_is_wrong() -> None:
    random = np.random.default_rng(1)
    base = random.uniform(size=(300, 1000))
    better = np.clip(base + 0.1 + 0.2 * random.normal(size=base.shape), 0, 1)
    _, low, _ = paired_sequence(better, base, (-1, 1))
    assert np.mean(low[:, -1] > 0) > 0.95
    same = base + 0.2 * random.normal(size=base.shape)
    _, low, high = paired_sequence(same, base, (-1, 1))
    assert np.mean(((low > 0) | (high < 0)).any(1)) <= 0.05
    t = np.arange(10, 1001)
    total, squares = (((same - base) ** p).cumsum(1)[:, 9:] for p in (1, 2))
    peeked = np.abs(total) / np.sqrt(squares - total**2 / t) > stats.t.ppf(0.975, t - 1)
    assert peeked.any(1).mean() > 0.3


def test_units_and_order_of_a_pair_do_not_matter() -> None:
    x = np.random.default_rng(2).uniform(size=50)
    center, low, high = confidence_sequence(x, (0, 1))
    assert np.stack(confidence_sequence(8 * x - 2, (-2, 6))) == pytest.approx(8 * np.stack([center, low, high]) - 2)
    there, back = paired_sequence(x, x[::-1], (-1, 1)), paired_sequence(x[::-1], x, (-1, 1))
    assert there[0] == pytest.approx(-back[0]) and there[1] == pytest.approx(-back[2])


def test_it_is_predictable() -> None:
    """What comes later changes nothing of what was said: else peeking would not be allowed."""
    x = np.random.default_rng(3).uniform(size=900)
    whole, part = confidence_sequence(x, (0, 1)), confidence_sequence(x[:400], (0, 1))
    assert np.stack(whole)[:, :400] == pytest.approx(np.stack(part))


def test_a_mean_that_moved_fits_no_interval() -> None:
    _, low, high = confidence_sequence(np.repeat([0.1, 0.9], 2000), (0, 1))
    assert low[1999] <= 0.1 <= high[1999] and low[-1] > high[-1]


def test_clipped_to_the_bounds() -> None:
    x = np.array([0.0, 5.0, -5.0, 1.0])
    assert np.stack(paired_sequence(x, 0 * x, (-1, 1))) == pytest.approx(np.stack(confidence_sequence(np.clip(x, -1, 1), (-1, 1))))


@pytest.mark.parametrize("variance", [0.25, 0.01])
def test_needed_is_about_what_it_takes(variance: float) -> None:
    x = 0.5 + np.sqrt(variance) * np.where(np.random.default_rng(0).uniform(size=40_000) < 0.5, 1, -1)
    _, low, high = confidence_sequence(x, (0, 1))
    for half in (0.2, 0.05, 0.02):
        assert observations_needed(variance, half, (0, 1)) == pytest.approx(np.argmax((high - low) / 2 <= half) + 1, rel=0.2)
    assert observations_needed(0.25, 1e-5, (0, 1)) is None


def returns(random: np.random.Generator, mean: float, count: int, sd: float = 0.1) -> np.ndarray:
    return np.clip(mean + sd * random.normal(size=count), 0, 1)


@pytest.mark.parametrize("share", [1.0, 0.97])
def test_false_alarms_of_the_baseline(share: float) -> None:
    """Looked at to the end of 1,000 episodes: at most alpha alert, with means alike and with means just at the tolerance."""
    random = np.random.default_rng(7)
    found = [baseline_alarm(returns(random, 0.6, 1000), returns(random, 0.6 * share, 1000), (0, 1)).state for _ in range(2000)]
    print(f"live at {share} of the baseline: {found.count('alert') / 2000:.2%} alert")
    assert found.count("alert") <= 0.05 * 2000


def test_an_alarm_lasts() -> None:
    """An alert is proven: episodes that come later do not take it back."""
    random = np.random.default_rng(1)
    base, live = returns(random, 0.6, 2000), returns(random, 0.52, 3000)
    states = [baseline_alarm(base, live[:e], (0, 1)).state for e in range(10, 3000, 30)]
    first = states.index("alert")
    assert set(states[:first]) == {"unresolved"} and set(states[first:]) == {"alert"}


def test_it_says_which_and_how_many_more() -> None:
    random = np.random.default_rng(2)
    base, live = returns(random, 0.6, 9000), returns(random, 0.6, 9000)
    assert baseline_alarm(base, live, (0, 1)).state == "fine"
    above = baseline_alarm(base, returns(random, 0.7, 3000), (0, 1))
    assert above.state == "alert" and "above the baseline by more than 3%" in above.words and above.more_live is None
    early = baseline_alarm(base, live[:200], (0, 1))
    assert early.state == "unresolved" and "cannot yet resolve 3%, about" in early.words and early.more_baseline is None
    assert early.live_ci[0] < early.live < early.live_ci[1] and early.more_live is not None
    wide = lambda a: sum(high - low for low, high in (a.live_ci, a.baseline_ci)) / 2
    assert wide(baseline_alarm(base, live[: 200 + early.more_live], (0, 1))) == pytest.approx(0.03 * 0.6, rel=0.15)
    both = baseline_alarm(base[:100], live[:200], (0, 1))
    assert both.more_live and both.more_baseline and "more baseline episodes" in both.words
    resolved = baseline_alarm(base[: 100 + both.more_baseline], live[: 200 + both.more_live], (0, 1))
    assert wide(resolved) == pytest.approx(0.03 * 0.6, rel=0.15)


def test_a_scale_of_ones_own() -> None:
    """Returns about zero have no percent."""
    random = np.random.default_rng(3)
    base, live = (returns(random, 0.5, 4000) - 0.5 for _ in range(2))
    assert baseline_alarm(base, live, (-0.5, 0.5), scale=1.0).state == "fine"
    assert baseline_alarm(base, live - 0.0, (-0.5, 0.5), tolerance=0.001, scale=1.0).state == "unresolved"
    assert "of 1" in baseline_alarm(base, live, (-0.5, 0.5), scale=1.0).words
    assert baseline_alarm(base - 0.4, live - 0.4, (-1, 0.2), tolerance=0.1).state == "fine"
    negative = baseline_alarm(base - 0.4, np.maximum(live - 0.45, -1), (-1, 0.2))
    assert negative.state == "alert" and "below" in negative.words
    with pytest.raises(UserError, match="scale"):
        baseline_alarm([0.0, 0.0], [0.0], (-1, 1))


def test_a_moved_mean_or_a_hopeless_tolerance_is_said() -> None:
    base = np.full(4000, 0.5)
    moved = baseline_alarm(base, np.repeat([0.5, 0.52], 9000), (0, 1), tolerance=0.2)
    assert moved.state == "unresolved" and "moved while it was watched" in moved.words
    assert "widen the tolerance" in baseline_alarm(base[:10], base[:10], (-1e5, 1e5)).words


@pytest.mark.parametrize(
    ("fault", "x", "bounds", "alpha"),
    [
        ("no observation", [], (0, 1), 0.05),
        ("outside the bounds", [0.5, 1.5], (0, 1), 0.05),
        ("outside the bounds", [float("nan")], (0, 1), 0.05),
        ("bounds", [0.5], (1, 0), 0.05),
        ("alpha", [0.5], (0, 1), 5.0),
    ],
)
def test_refuses(fault: str, x: list, bounds: tuple, alpha: float) -> None:
    with pytest.raises(UserError, match=fault):
        confidence_sequence(x, bounds, alpha)


def test_refuses_pairs_and_tolerances() -> None:
    with pytest.raises(UserError, match="pairs"):
        paired_sequence([0.0], [0.0, 1.0], (-1, 1))
    with pytest.raises(UserError, match="tolerance"):
        baseline_alarm([0.5], [0.5], (0, 1), tolerance=3)
