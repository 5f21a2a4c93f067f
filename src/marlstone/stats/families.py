"""Several comparisons at once: what is reported of a family of candidates, agents, checkpoints or cases holds for all of it together.

With 95% for every pair, seven equal candidates give 21 chances of a false "worse", and one selection in four had one. Here the
chance that anything false is reported of a family is at most `ALPHA`.

**Pairs of configurations** (`pairwise`), after Games and Howell (1976, Pairwise multiple comparison procedures with unequal n's and/or
variances), of two figures of each, the IQM over seeds and the mean:

    T_ij = (x_i - x_j) / sqrt(v_i + v_j),    significant where |T_ij| > q(k, df_ij) / sqrt(2)  for both figures

q: quantile of the studentized range of k candidates; df: Welch's degrees of freedom. v_i: the variance of the figure (of an IQM under
resampling of seeds and episodes, times n / (n - 1); of a mean s^2 / n), and at least the median v of all k, with (k - 1) / 2 times
its degrees of freedom. Both departures are for few seeds. Five that agree by chance (all dead, or none) have no variance of their own,
but their rivals' seeds show how much luck there is. And the IQM of five drops the one that learned beside four that did not. The
intervals, which cover those of both figures, hold jointly.

With seven candidates, five seeds each and returns that are normal, skewed, of heavy tails, of unequal variances or with dead seeds, fewer
than 5% of 1,000 selections report anything false; one planted 10% worse is found in 8 of 10 where seeds vary by 3%, nearly always where
they vary by less (docs/results.md, recorded by `benchmarks/families.py`; tests repeat a smaller version).

**Anything else** (agents, checkpoints, metrics): `alpha_each`, Bonferroni's equal shares. NumPy and SciPy only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import floor

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special

from marlstone.core.errors import UserError
from marlstone.stats.intervals import MOST, Bounds, clipped, iqm_and_variance

ALPHA = 0.05
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(80)
_NORMAL = 8 * _NODES
_BELOW = special.ndtr(_NORMAL)


def alpha_each(count: int, alpha: float = ALPHA) -> float:
    """The error that each of `count` statements may have, so that all of them together have at most `alpha` (Bonferroni)."""
    return alpha / max(count, 1)


@lru_cache(maxsize=4096)
def studentized_range(k: int, freedom: float, alpha: float = ALPHA) -> float:
    """The `1 - alpha` quantile of the range of `k` standard normals over s, `s^2` an independent chi-square over its `freedom`.

    By quadrature (s by its quantiles, the least of the normals by its value); `scipy.stats.studentized_range` agrees to four digits and
    takes a hundred times as long.
    """
    s = np.sqrt(special.chdtri(freedom, (1 - _NODES) / 2) / freedom)[:, None]
    density = k * np.exp(-(_NORMAL**2) / 2) * 8 * _WEIGHTS / np.sqrt(2 * np.pi)
    excess = lambda q: _WEIGHTS / 2 @ ((special.ndtr(_NORMAL + q * s) - _BELOW) ** (k - 1) @ density) - (1 - alpha)
    high = 4.0
    while excess(high) < 0:
        high *= 2
    return float(optimize.brentq(excess, 0.0, high, rtol=1e-5))


@dataclass(frozen=True)
class Estimate:
    """One figure of one candidate.

    Attributes:
      value: the figure.
      variance: of the figure; NaN where it is not known.
      freedom: degrees of freedom of the variance.
    """

    value: float
    variance: float
    freedom: float


@dataclass(frozen=True)
class Pairwise:
    """All pairs of a family, by name.

    Attributes:
      figures: each candidate's IQM and mean.
      seeds: how many each has.
      alpha: the probability that any interval is wrong.
      bounds: within which returns can lie (None: unknown).
    """

    figures: Mapping[str, tuple[Estimate, Estimate]]
    seeds: Mapping[str, int]
    alpha: float = ALPHA
    bounds: Bounds | None = None

    def difference(self, a: str, b: str) -> tuple[float, tuple[float, float]]:
        """`(IQM(a) - IQM(b), (lo, hi))`; the intervals of all pairs hold jointly with `1 - alpha`. NaN where either has one seed."""
        ends = np.array([self._interval(x, y) for x, y in zip(self.figures[a], self.figures[b], strict=True)])
        center = self.figures[a][0].value - self.figures[b][0].value
        widest = None if self.bounds is None else (self.bounds[0] - self.bounds[1], self.bounds[1] - self.bounds[0])
        return center, clipped((float(ends[:, 0].min()), float(ends[:, 1].max())), widest, center)

    def significant(self, a: str, b: str) -> bool:
        """Whether the interval of their difference leaves out 0: the same in either order."""
        _, (low, high) = self.difference(a, b)
        return bool(low > 0 or high < 0)

    def more_seeds(self, a: str, b: str) -> int | None:
        """About how many more seeds of each would make the difference significant if it stays what it is: 0 if it is already; None where
        there is no interval or no difference to speak of, or where it would take more than `MOST`."""

        def enough(more: int) -> bool:
            grown = (tuple(_grown(x, self.seeds[name], more) for x in self.figures[name]) for name in (a, b))
            ends = [self._interval(x, y) for x, y in zip(*grown, strict=True)]
            return all(low > 0 for low, _ in ends) or all(high < 0 for _, high in ends)

        if min(self.seeds[a], self.seeds[b]) < 2 or not enough(MOST):
            return None
        low, high = -1, MOST
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if enough(middle) else (middle, high)
        return high

    def _interval(self, x: Estimate, y: Estimate) -> tuple[float, float]:
        center, variance = x.value - y.value, x.variance + y.variance
        if not np.isfinite(variance):
            return float("nan"), float("nan")
        parts = x.variance**2 / x.freedom + y.variance**2 / y.freedom
        freedom = variance**2 / parts if parts > 0 else min(x.freedom, y.freedom)
        coarse = floor(freedom * 4) / 4 if freedom < 30 else float(min(floor(freedom), 1000))  # downwards, for the cache's sake
        half = studentized_range(len(self.figures), max(coarse, 1.0), self.alpha) * np.sqrt(variance / 2)
        return float(center - half), float(center + half)


def _grown(x: Estimate, seeds: int, more: int) -> Estimate:
    """The same figure, of `more` seeds."""
    return Estimate(x.value, x.variance * seeds / (seeds + more), x.freedom * (seeds + more - 1) / (seeds - 1))


def pairwise(returns: Mapping[str, Sequence[ArrayLike]], alpha: float = ALPHA, bounds: Bounds | None = None) -> Pairwise:
    """Compare every pair of a family; `returns[name][i]` are the evaluation episodes of seed i. `bounds`: within which returns can lie.

    A family is all that something is reported of, so name it before looking. Raises `UserError` for returns of no seed, or no alpha.
    """
    if not 0 < alpha < 1:
        raise UserError(f"alpha is {alpha}: give the probability of error, such as {ALPHA}")
    seeds = {name: len(each) for name, each in returns.items()}
    means = {name: np.array([np.mean(np.asarray(r)) for r in each]) for name, each in returns.items()}
    own = [iqm_and_variance(each) for each in returns.values()]
    unknown = [not np.isfinite(v) for _, v in own]
    plain = [(float(m.mean()), float("nan") if bad else float(m.var(ddof=1) / m.size)) for m, bad in zip(means.values(), unknown)]
    both = [_floored(figures, list(seeds.values())) for figures in (own, plain)]
    return Pairwise(dict(zip(returns, zip(*both, strict=True), strict=True)), seeds, alpha, bounds)


def _floored(figures: Sequence[tuple[float, float]], seeds: Sequence[int]) -> list[Estimate]:
    """Estimates from values and variances, none taken for more certain than the median one."""
    known = [v for _, v in figures if np.isfinite(v)]
    least, more = float(np.median(known)) if known else 0.0, max(1.0, (len(known) - 1) / 2)
    return [
        Estimate(x, v if np.isnan(v) else max(v, least), max(n - 1, 1) * (more if v < least else 1.0))
        for (x, v), n in zip(figures, seeds, strict=True)
    ]
