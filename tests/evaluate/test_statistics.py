"""The interval covers what it says, by simulation; the IQM is rliable's."""

import numpy as np
import pytest
from scipy import stats

from marlstone.core.errors import UserError
from marlstone.evaluate.statistics import interval, iqm, worst_seed

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
