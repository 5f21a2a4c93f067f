"""What is reported of a family holds for all of it: simulated selections through the real ranking, and the quantile behind them."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from marlstone.core.errors import UserError
from marlstone.stats.families import alpha_each, pairwise, studentized_range

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from families import SHAPES, centered, drawn, reported

WORST = ("every other seed dead", "unequal variances", "normal, skewed either way, dead seeds", "normal")


@pytest.mark.parametrize("shape", WORST)
def test_of_seven_equal_candidates_hardly_ever_one_is_reported_as_worse(shape: str) -> None:
    """At most 5%: more than 9 of 75 selections would have less than half a percent of probability then."""
    random, draws = np.random.default_rng(1), tuple(centered(d) for d in SHAPES[shape])
    wrong = sum(bool(reported(drawn(random, draws, 7, 5))[0]) for _ in range(75))
    assert wrong <= stats.binom.ppf(0.995, 75, 0.05)


def test_one_planted_a_tenth_below_the_others_is_reported_as_worse_in_eight_of_ten() -> None:
    random = np.random.default_rng(2)
    for spread in (0.01, 0.03):
        found = [reported(drawn(random, (lambda r, s, spread=spread: spread * r.normal(size=s),), 7, 5, 0.1)) for _ in range(40)]
        named = sum("c6" in worse for worse, _ in found)
        assert named >= stats.binom.ppf(0.01, 40, 0.8) and all(chosen != "c6" for worse, chosen in found if "c6" in worse)


@pytest.mark.parametrize(("k", "freedom"), [(2, 8.0), (3, 4.25), (7, 1.0), (7, 30.0), (40, 6.0)])
def test_the_quantile_is_scipys(k: int, freedom: float) -> None:
    assert studentized_range(k, freedom) == pytest.approx(stats.studentized_range.ppf(0.95, k, freedom), rel=1e-3)


def test_more_comparisons_never_narrow_an_interval_and_two_are_compared_by_welch() -> None:
    random = np.random.default_rng(0)
    returns = {str(i): list(random.normal(i / 10, 0.1, (5, 8))) for i in range(8)}
    widths = []
    for count in (2, 4, 8):
        low, high = pairwise({k: returns[k] for k in list(returns)[:count]}).difference("0", "1")[1]
        widths.append(high - low)
    assert widths[0] < widths[1] < widths[2]
    a, b = (np.mean(returns[k], 1) for k in "01")
    low, high = stats.ttest_ind(a, b, equal_var=False).confidence_interval()
    least, most = pairwise({k: returns[k] for k in "01"}).difference("0", "1")[1]
    assert least <= low + 0.01 and most >= high - 0.01


def test_seeds_that_agree_by_luck_are_not_certain_beside_rivals_that_vary() -> None:
    """All dead against all alive: proof among steady candidates, none among those whose seeds die at random."""
    random = np.random.default_rng(4)
    steady = {f"s{i}": list(0.5 + 0.01 * random.normal(size=(5, 1))) for i in range(5)}
    gamble = {f"g{i}": list((random.uniform(size=(5, 1)) < 0.5) * 1.0) for i in range(5)}
    two = {"dead": [[0.0]] * 5, "alive": [[1.0]] * 5}
    assert pairwise(two | steady).significant("dead", "alive") and not pairwise(two | gamble).significant("dead", "alive")


def test_differences_stay_within_what_bounds_allow_and_seeds_needed_are_enough() -> None:
    random = np.random.default_rng(5)
    returns = {k: list(np.clip(random.normal(at, 0.3, (5, 1)), 0, 1)) for k, at in (("a", 0.9), ("b", 0.2), ("c", 0.5))}
    _, (low, high) = pairwise(returns, bounds=(0.0, 1.0)).difference("a", "b")
    assert -1 <= low and high <= 1 and pairwise(returns).difference("a", "b")[1][1] > 1
    more = pairwise(returns).more_seeds("a", "c")
    assert more is not None and 0 < more < 60 and pairwise(returns).more_seeds("a", "a") is None
    assert pairwise({"a": [[9.0]] * 5, "b": [[0.0]] * 5}).more_seeds("a", "b") == 0
    for few in ([[1.0]], [[1.0], [float("nan")]]):
        alone = pairwise({"a": few, "b": [[0.0]] * 5})
        assert np.isnan(alone.difference("a", "b")[1]).all() and not alone.significant("a", "b") and alone.more_seeds("a", "b") is None
    with pytest.raises(UserError, match="alpha"):
        pairwise(returns, 0.0)
    assert alpha_each(4) == 0.0125 and alpha_each(0) == 0.05
