"""Intervals cover what they say, by simulation; aggregates are rliable's, whose values lie in rliable.json."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from marlstone.core.errors import UserError
from marlstone.stats.intervals import (
    clipped,
    difference,
    interval,
    iqm,
    median,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
    seeds_needed,
    share,
    worst_seed,
)

ORACLE = json.loads((Path(__file__).parent / "rliable.json").read_text())["cases"]

DRAWS = {
    "normal": lambda r, s: r.normal(size=s),
    "exponential": lambda r, s: r.exponential(size=s),
    "lognormal": lambda r, s: r.lognormal(size=s),
    "one_dead": lambda r, s: (r.uniform(size=s) < 0.8) + 0.05 * r.normal(size=s),
}


@pytest.mark.parametrize("n", [5, 10])
@pytest.mark.parametrize("name", DRAWS)
def test_coverage(name: str, n: int) -> None:
    """At least 93% of 2,000 intervals hold the population's IQM, episodes' noise included; none is vacuously wide."""
    random = np.random.default_rng(n)
    truth = float(iqm(DRAWS[name](random, 1_000_000)))
    seeds = DRAWS[name](random, (2000, n, 1))
    episodes = seeds + 0.5 * random.normal(size=(2000, n, 4))
    found = np.array([interval(list(e))[1] for e in episodes])
    covered = np.mean((found[:, 0] <= truth) & (truth <= found[:, 1]))
    print(f"{name}, {n} seeds: coverage {covered:.1%}")
    assert 0.93 <= covered <= 0.995


@pytest.mark.parametrize("n", [5, 10])
@pytest.mark.parametrize("name", DRAWS)
def test_coverage_of_a_difference(name: str, n: int) -> None:
    """Of two configurations with returns of one kind, one of them shifted; seeds and episodes drawn apart."""
    random = np.random.default_rng(n)
    seeds = DRAWS[name](random, (2, 2000, n, 1))
    a, b = seeds + 0.5 * random.normal(size=(2, 2000, n, 4))
    found = np.array([difference(list(x + 0.3), list(y))[1] for x, y in zip(a, b)])
    covered = np.mean((found[:, 0] <= 0.3) & (0.3 <= found[:, 1]))
    print(f"{name}, {n} seeds each: coverage of a difference {covered:.1%}")
    assert 0.93 <= covered <= 0.995


@pytest.mark.parametrize("name", ["normal", "one_dead"])
def test_coverage_of_a_paired_difference(name: str) -> None:
    """Half of what seeds differ in, and all of what episodes do, is common to both; five seeds."""
    random = np.random.default_rng(7)
    common = random.normal(size=(2000, 5, 1)) + 0.5 * random.normal(size=(2000, 5, 4))
    a, b = common + DRAWS[name](random, (2, 2000, 5, 1))
    found = np.array([difference(list(x + 0.3), list(y), paired=True)[1] for x, y in zip(a, b)])
    covered = np.mean((found[:, 0] <= 0.3) & (0.3 <= found[:, 1]))
    print(f"{name}, 5 pairs of seeds: coverage {covered:.1%}")
    assert 0.93 <= covered <= 0.995


def test_a_difference_is_antisymmetric_up_to_its_draws_and_of_the_iqms() -> None:
    random = np.random.default_rng(0)
    a, b = list(random.normal(1, 1, (6, 4))), list(random.normal(0, 1, (9, 4)))
    center, (low, high) = difference(a, b)
    assert center == pytest.approx(interval(a)[0] - interval(b)[0]) and low < center < high
    there, (least, most) = difference(b, a)
    assert there == pytest.approx(-center) and least == pytest.approx(-high, abs=0.3) and most == pytest.approx(-low, abs=0.3)


def test_pairing_uses_what_is_common() -> None:
    """What all pairs share vanishes: the same returns plus a constant differ by it exactly."""
    a = list(np.random.default_rng(1).normal(size=(5, 8)))
    center, (low, high) = difference([x + 0.25 for x in a], a, paired=True)
    assert [center, low, high] == pytest.approx([0.25] * 3)
    loose = difference([x + 0.25 for x in a], a)[1]
    assert loose[0] < 0 < loose[1]


def test_a_difference_without_spread_or_seeds() -> None:
    assert difference([[1.0]] * 5, [[0.0]] * 5) == (1.0, (1.0, 1.0))
    for few in ([[1.0]], [[1.0], [float("nan")]]):
        assert np.isnan(difference(few, [[0.0]] * 5)[1]).all()
    with pytest.raises(UserError, match="paired"):
        difference([[1.0]] * 5, [[1.0]] * 4, paired=True)
    with pytest.raises(UserError, match="level"):
        difference([[1.0]], [[1.0]], level=0)


@pytest.mark.parametrize("paired", [False, True])
def test_seeds_needed_are_about_enough(paired: bool) -> None:
    """With as many more seeds as the median experiment asks for, about half of new experiments separate."""
    random = np.random.default_rng(5)
    draw = lambda n: (list(random.normal(1, 1, (n, 1))), list(random.normal(0, 1, (n, 1))))
    asked = [seeds_needed(*draw(5), paired) for _ in range(200)]
    more = int(np.median([np.inf if x is None else x for x in asked]))
    separate = np.mean([seeds_needed(*draw(5 + more), paired) == 0 for _ in range(200)])
    print(f"paired {paired}: {more} more seeds, then {separate:.0%} separate")
    assert 3 <= more <= 15 and 0.3 <= separate <= 0.75


def test_seeds_needed_says_when_it_is_no_use() -> None:
    a = [[0.0], [1.0], [2.0], [3.0], [4.0]]
    assert seeds_needed(a, a) is None
    assert seeds_needed(a, [[x[0] + 1e-6] for x in a]) is None
    assert seeds_needed(a, [[1.0]]) is None
    assert seeds_needed([[9.0]] * 5, [[0.0]] * 5) == 0
    far, near = ([[x[0] + d] for x in a] for d in (2.0, 1.0))
    assert 0 < seeds_needed(far, a) < seeds_needed(near, a)  # type: ignore[operator]


@pytest.mark.parametrize("case", ORACLE, ids=[c["name"] for c in ORACLE])
def test_aggregates_are_rliables(case: dict) -> None:
    x, expected = case["x"], case["expected"]
    assert median(x) == pytest.approx(expected["median"])
    assert iqm(np.ravel(x)) == pytest.approx(expected["iqm"])
    for target, gap in expected["optimality_gap"].items():
        assert optimality_gap(x, float(target)) == pytest.approx(gap)
    assert probability_of_improvement(x, case["y"]) == pytest.approx(expected["probability_of_improvement"])
    assert performance_profile(x, case["thresholds"]) == pytest.approx(expected["performance_profile"])


def test_improvement_is_complementary_and_one_task_may_be_a_row() -> None:
    random = np.random.default_rng(2)
    x, y = random.integers(0, 4, (7, 3)), random.integers(0, 4, (5, 3))
    assert probability_of_improvement(x, y) + probability_of_improvement(y, x) == pytest.approx(1)
    assert probability_of_improvement(x[:, 0], y[:, 0]) == probability_of_improvement(x[:, :1], y[:, :1])


@pytest.mark.parametrize("bad", [[], [[[1.0]]]])
def test_aggregates_refuse(bad: list) -> None:
    for f in (median, optimality_gap, lambda x: performance_profile(x, 0), lambda x: probability_of_improvement(x, x)):
        with pytest.raises(UserError, match="seeds tasks"):
            f(bad)
    with pytest.raises(UserError, match="tasks"):
        probability_of_improvement([[1.0, 2.0]], [[1.0]])


@pytest.mark.parametrize("n", range(1, 13))
def test_iqm_is_the_trimmed_mean(n: int) -> None:
    values = np.random.default_rng(n).normal(size=n)
    center, _ = interval([[v] for v in values])
    assert iqm(values) == pytest.approx(stats.trim_mean(values, 0.25))
    assert center == pytest.approx(stats.trim_mean(values, 0.25))


def test_small_counts() -> None:
    assert np.isnan(interval([[1.0, 2.0]])[1]).all()
    center, (low, high) = interval([[1.0], [3.0]])
    assert low < center == 2.0 < high
    assert interval([[1.0]] * 5) == (1.0, (1.0, 1.0))
    assert np.isnan(interval([[1.0], [float("nan")]])[0])


def test_deterministic_and_ordered() -> None:
    returns = [np.random.default_rng(i).normal(size=4 + i) for i in range(5)]
    assert interval(returns) == interval(returns)
    (_, wide), (_, narrow) = interval(returns, 0.99), interval(returns, 0.5)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_worst_seed() -> None:
    assert worst_seed([[1.0, 3.0], [0.0, 1.0], [9.0]]) == 0.5


@pytest.mark.parametrize("returns", [[], [[]], [[[1.0]]]])
def test_refuses(returns: list) -> None:
    with pytest.raises(UserError):
        interval(returns)


def test_refuses_level() -> None:
    with pytest.raises(UserError, match="level"):
        interval([[1.0]], 95)


# ---- what is possible
@pytest.mark.parametrize("name", ["uniform", "mostly the best", "correlations"])
def test_a_bounded_interval_stays_within_its_bounds_and_covers_as_before(name: str) -> None:
    random, shape = np.random.default_rng(3), (1000, 5, 1)
    draws = {
        "uniform": lambda s: random.uniform(0, 1, s),
        "mostly the best": lambda s: np.minimum(random.exponential(1, s), 1.0),
        "correlations": lambda s: np.clip(random.normal(0.7, 0.4, s), -1, 1),
    }
    bounds, draw = (-1.0 if name == "correlations" else 0.0, 1.0), draws[name]
    truth, seeds = float(iqm(draw((1_000_000,)))), draw(shape)
    tight = np.array([interval(list(x), bounds=bounds)[1] for x in seeds])
    loose = np.array([interval(list(x))[1] for x in seeds])
    assert tight.min() >= bounds[0] and tight.max() <= bounds[1] and loose.max() > 1
    held = lambda ends: (ends[:, 0] <= truth) & (truth <= ends[:, 1])
    assert (held(tight) == held(loose)).all() and held(tight).mean() >= 0.93


def test_bounds_that_were_disproved_cut_nothing() -> None:
    assert clipped((-1.0, 3.0), (0.0, 1.0), 0.5) == (0.0, 1.0)
    assert clipped((-1.0, 3.0), (0.0, 1.0), 1.5) == (-1.0, 3.0) and clipped((-1.0, 3.0), None, 0.5) == (-1.0, 3.0)
    assert clipped((-1.0, 3.0), (0.0, float("inf")), 0.5) == (0.0, 3.0)
    assert clipped((0.5, 1.5), (0.0, 1.0), 1.0 + 1e-7) == (0.5, pytest.approx(1.0))  # rounding disproves nothing
    assert np.isnan(clipped((float("nan"), float("nan")), (0.0, 1.0), 1.0)).all()


@pytest.mark.parametrize(("name", "spread"), [("normal", 0.15), ("one_dead", 1.0), ("exponential", 0.2)])
def test_coverage_of_a_share_whose_whole_is_uncertain(name: str, spread: float) -> None:
    """A third of what was learned is lost, give or take; what was learned varies over seeds, and so does chance. Five seeds."""
    random, count = np.random.default_rng(11), 300
    draw = lambda s: spread * DRAWS[name](random, s)
    big = draw((1_000_000,))
    middle = float(iqm(big))
    learned = (lambda s: draw(s)) if name == "one_dead" else (lambda s: 1 + draw(s) - middle)
    whole = middle if name == "one_dead" else 1.0
    top = learned((count, 5, 1)) + 0.1 * random.normal(size=(count, 5, 8))
    part = 0.33 * whole + 0.1 * spread * random.normal(size=(count, 5, 1)) + 0.1 * random.normal(size=(count, 5, 8))
    bottom = 0.02 * random.normal(size=(count, 5, 8))
    found = [share(list(p), list(t), list(b))[1] for p, t, b in zip(part, top, bottom)]
    known = [ends for ends in found if np.isfinite(ends).all()]
    covered = np.mean([low <= 0.33 <= high for low, high in known])
    print(f"{name}: {len(known)} of {count} have an interval, coverage {covered:.1%}")
    assert len(known) > count / 3 and covered >= 0.93


def test_a_share_of_what_may_be_nothing_has_no_interval_and_a_certain_whole_gives_the_plain_one() -> None:
    part, top = [[0.1], [0.2], [0.15], [0.3], [0.2]], [[0.9], [0.2], [1.0], [-0.4], [0.8]]
    value, ends = share(part, top, [[0.0]] * 5)
    assert value == pytest.approx(iqm([0.1, 0.2, 0.15, 0.3, 0.2]) / iqm([0.9, 0.2, 1.0, -0.4, 0.8])) and np.isnan(ends).all()
    assert np.isnan(share(part, [[0.0]] * 5, [[1.0]] * 5)[0])
    assert np.isnan(share(part[:1], [[2.0]], [[0.0]])[1]).all() and share(part[:1], [[2.0]], [[0.0]])[0] == pytest.approx(0.05)
    value, ends = share(part, [[2.0]] * 5, [[0.0]] * 5)
    plain = interval(part)
    assert value == pytest.approx(plain[0] / 2) and ends == pytest.approx([x / 2 for x in plain[1]], rel=1e-3)
    with pytest.raises(UserError, match="same seeds"):
        share(part, top[:4], [[0.0]] * 5)
