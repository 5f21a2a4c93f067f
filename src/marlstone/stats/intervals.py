"""Returns over few seeds: interquartile mean, differences, and intervals whose coverage was simulated. NumPy and SciPy only.

    r_i  = mean return of training seed i over its evaluation episodes
    IQM  = mean of the r_i without the lowest and highest floor(n / 4)          (Agarwal et al. 2021)
    [lo, hi] = IQM - w (IQM - q_(1-level)/2),  IQM + w (q_(1+level)/2 - IQM),   w = sqrt(n / (n - 1)) t / z

q: percentiles of the IQM under resampling seeds, then episodes of each. w is the small-sample correction: a bootstrap of n
points underestimates the variance by (n - 1) / n and treats it as known, hence t over z (Hesterberg 2015, who moves the
level instead: 93-94% at five seeds here, since the percentiles of five points have no tails to reach into).

Coverage of a nominal 95%, simulated (tests/stats/test_intervals.py, 2,000 experiments each):

| returns over seeds | 5 seeds | 10 seeds | plain percentiles, 5 seeds |
|---|---|---|---|
| normal | 97% | 98% | 91% |
| exponential | 97% | 98% | 90% |
| log-normal | 97% | 98% | 89% |
| one seed in five dead | 99% | 97% | 89% |

Below five seeds it is only a sketch: 90-95% at three; with two nothing is trimmed; one seed has no interval.

The difference of two configurations resamples the seeds of each alone, or both alike where they are paired:

    [lo, hi] = D + t / z (percentiles of  s_a (IQM_a* - IQM_a) - s_b (IQM_b* - IQM_b)),   s = sqrt(n / (n - 1))

t has Welch's degrees of freedom, from the two resampled variances; n - 1 where paired. Coverage of a nominal 95%:

| returns over seeds | 5 and 5 seeds | 10 and 10 | 5 pairs |
|---|---|---|---|
| normal | 98% | 98% | 97% |
| exponential | 99% | 98% | 98% |
| log-normal | 99% | 98% | 98% |
| one seed in five dead | 99% | 99% | 99% |

Two of different kinds (normal against one dead, say) are covered by 95-98%.

`median`, `optimality_gap`, `probability_of_improvement` and `performance_profile` are rliable's definitions (Agarwal et al. 2021,
sections 4.2 and 4.3) over scores `[seeds tasks]`.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import special  # not scipy.stats, which takes a second to import

from marlstone.core.errors import UserError

Bounds = tuple[float, float]
RESAMPLES = 2000
EPISODE_DRAWS = 200
"""Resampled means kept per seed, from which the resampled seeds draw theirs."""
MOST = 1000
"""Above so many more seeds `seeds_needed` returns None: nobody will train them."""


def iqm(values: ArrayLike, axis: int = -1) -> Any:
    """Interquartile mean along an axis: without the lowest and the highest floor(n/4). Below four values it is the mean."""
    values = np.asarray(values, float)
    if values.shape[axis] == 0:
        raise UserError("the IQM of no values is not defined: evaluate at least one seed")
    n, values = values.shape[axis], np.moveaxis(values, axis, -1)
    cut = n // 4
    return np.partition(values, (cut, n - cut - 1), axis=-1)[..., cut : n - cut].mean(-1)


def _trimmed(values: np.ndarray) -> np.ndarray:
    """`iqm` of the last axis, without SciPy's checks: it is called on every resample."""
    n = values.shape[-1]
    cut = n // 4
    return np.sort(values, -1)[..., cut : n - cut].mean(-1)


@lru_cache(maxsize=16)
def seeds_drawn(n: int, stream: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Which seeds each resample takes, `[RESAMPLES n]`, and which of their resampled means. Fixed: same returns, same interval."""
    random = np.random.default_rng(stream)
    return random.integers(0, n, (RESAMPLES, n)), random.integers(0, EPISODE_DRAWS, (RESAMPLES, n))


@lru_cache(maxsize=32)
def _episodes_drawn(e: int) -> np.ndarray:
    """How often each resample takes each of `e` episodes, over e: `[EPISODE_DRAWS e]`, rows sum to 1."""
    return np.random.default_rng(1).multinomial(e, np.full(e, 1 / e), EPISODE_DRAWS) / e


def _per_seed(returns: Sequence[ArrayLike]) -> list[np.ndarray]:
    rows = [np.atleast_1d(np.asarray(r, float)) for r in returns]
    if not rows:
        raise UserError("returns of no seed: evaluate at least one")
    for i, row in enumerate(rows):
        if row.ndim != 1 or row.size == 0:
            raise UserError(f"returns of seed number {i} have shape {row.shape}: give one number per evaluation episode, at least one")
    return rows


def _resampled(rows: list[np.ndarray], stream: int = 0) -> np.ndarray:
    """The IQM under resampling of seeds, then of each one's episodes, `[RESAMPLES]`."""
    pools = np.stack([_episodes_drawn(row.size) @ row for row in rows])  # [n draws]
    seeds, draws = seeds_drawn(len(rows), stream)
    return _trimmed(pools.ravel().take(seeds * EPISODE_DRAWS + draws))


def around(resampled: np.ndarray, center: float, n: int, level: float) -> tuple[float, float]:
    """The interval at `level` about a statistic of `n` seeds, from its values under resampling: percentiles, widened by w."""
    tail = (1 - level) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    widen = np.sqrt(n / (n - 1)) * special.stdtrit(n - 1, 1 - tail) / special.ndtri(1 - tail)
    return float(center - widen * (center - min(low, center))), float(center + widen * (max(high, center) - center))


def clipped(ends: tuple[float, float], bounds: Bounds | None, center: float) -> tuple[float, float]:
    """An interval without what is impossible. Unchanged where no `bounds` are known, or where `center`, which was observed, lies outside
    by more than rounding and so disproves them. Coverage stays: what is cut off cannot be the truth."""
    if bounds is None or not np.isfinite(ends).all():
        return ends
    slack = 1e-5 * max(1.0, abs(center))
    if not bounds[0] - slack <= center <= bounds[1] + slack:
        return ends
    low, high = np.clip(ends, min(bounds[0], center), max(bounds[1], center))
    return float(low), float(high)


def iqm_and_variance(returns: Sequence[ArrayLike]) -> tuple[float, float]:
    """The IQM over seeds, and its variance under resampling of seeds, then episodes, times n / (n - 1); NaN for one seed."""
    rows = _per_seed(returns)
    n, means = len(rows), np.array([row.mean() for row in rows])
    center = float(_trimmed(means))
    if n < 2 or not np.isfinite(means).all():
        return center, float("nan")
    return center, float(_resampled(rows).var() * n / (n - 1))


def _check(level: float) -> None:
    if not 0 < level < 1:
        raise UserError(f"interval level is {level}: give a probability between 0 and 1, such as 0.95")


def interval(returns: Sequence[ArrayLike], level: float = 0.95, bounds: Bounds | None = None) -> tuple[float, tuple[float, float]]:
    """`(IQM, (lo, hi))` over training seeds; `returns[i]` are seed i's evaluation episodes, `[e_i]`.

    With one seed, or where a return is not finite, the interval is (nan, nan): the seeds cannot tell how far another would
    fall. `bounds`: the least and the greatest value that is possible, where they are known (-1 and 1 of a correlation); the interval
    is cut to them. Deterministic. Raises `UserError` for no or empty returns.
    """
    _check(level)
    rows = _per_seed(returns)
    n = len(rows)
    means = np.array([row.mean() for row in rows])
    center = float(_trimmed(means))
    if n < 2 or not np.isfinite(means).all():
        return center, (float("nan"), float("nan"))
    return center, clipped(around(_resampled(rows), center, n, level), bounds, center)


def worst_seed(returns: Sequence[ArrayLike]) -> float:
    """The mean return of the worst seed. Shown beside every IQM, which hides one dead seed of five."""
    return float(min(row.mean() for row in _per_seed(returns)))


def difference(
    a: Sequence[ArrayLike], b: Sequence[ArrayLike], paired: bool = False, level: float = 0.95
) -> tuple[float, tuple[float, float]]:
    """`(IQM(a) - IQM(b), (lo, hi))`; `a[i]` are the evaluation episodes of a's seed i, `b[i]` of b's.

    `paired`: seed i of one belongs to seed i of the other (same keys), and they are resampled together. The interval is
    (nan, nan) where either has one seed, or a return that is not finite. Deterministic. Raises `UserError` as `interval` does,
    and where paired ones differ in number.
    """
    _check(level)
    rows, others = _per_seed(a), _per_seed(b)
    n, m = len(rows), len(others)
    if paired and n != m:
        raise UserError(f"paired is True for {n} seeds and {m}: give as many of each, or compare them unpaired")
    ours, theirs = (float(_trimmed(np.array([r.mean() for r in x]))) for x in (rows, others))
    center = ours - theirs
    if min(n, m) < 2 or not all(np.isfinite(r).all() for r in [*rows, *others]):
        return center, (float("nan"), float("nan"))
    up = np.sqrt(n / (n - 1)) * (_resampled(rows) - ours)
    down = np.sqrt(m / (m - 1)) * (_resampled(others, 0 if paired else 1) - theirs)
    low, high = np.quantile(up - down, [(1 - level) / 2, (1 + level) / 2])
    v, u = up.var(), down.var()
    if paired or v + u == 0:
        freedom = float(min(n, m) - 1)
    else:
        freedom = float((v + u) ** 2 / (v**2 / (n - 1) + u**2 / (m - 1)))
    widen = special.stdtrit(freedom, (1 + level) / 2) / special.ndtri((1 + level) / 2)
    return center, (float(center + widen * min(low, 0.0)), float(center + widen * max(high, 0.0)))


def share(
    part: Sequence[ArrayLike], top: Sequence[ArrayLike], bottom: Sequence[ArrayLike], level: float = 0.95
) -> tuple[float, tuple[float, float]]:
    """`IQM(part) / (IQM(top) - IQM(bottom))` and its interval, in which the denominator is as uncertain as it is (Fieller 1954):

        all x for which the interval of  IQM(part) - x (IQM(top) - IQM(bottom))  holds 0,

    seeds and episodes resampled jointly, so entry i of all three is one training seed's. (nan, nan) where the denominator's own interval
    reaches down to 0, since then no bound on the share exists, and with one seed; the share is nan where the denominator is not positive.
    """
    _check(level)
    rows, tops, bottoms = _per_seed(part), _per_seed(top), _per_seed(bottom)
    n, unknown = len(rows), (float("nan"), float("nan"))
    if not n == len(tops) == len(bottoms):
        raise UserError(f"a share needs the same seeds in all its parts, not {n}, {len(tops)} and {len(bottoms)}")
    center = lambda x: float(_trimmed(np.array([r.mean() for r in x])))
    above, below = center(rows), center(tops) - center(bottoms)
    value = above / below if below > 0 else float("nan")
    if n < 2 or not np.isfinite(value):
        return value, unknown
    parts, wholes = _resampled(rows), _resampled(tops) - _resampled(bottoms)
    if not around(wholes, below, n, level)[0] > 0:
        return value, unknown

    def end(up: bool) -> float:
        def outside(x: float) -> bool:
            low, high = around(parts - x * wholes, above - x * below, n, level)
            return high < 0 if up else low > 0

        step = max(abs(value), 1e-3)
        while not outside(value + step if up else value - step):
            step *= 2
        inner, outer = value, value + step if up else value - step
        while abs(outer - inner) > 1e-6 * (abs(value) + step):
            middle = (inner + outer) / 2
            inner, outer = (inner, middle) if outside(middle) else (middle, outer)
        return outer

    return value, (end(False), end(True))


def seeds_needed(a: Sequence[ArrayLike], b: Sequence[ArrayLike], paired: bool = False, level: float = 0.95) -> int | None:
    """About how many more seeds of each would separate them, if the difference stays what it is: 0 if they are separate already.

    The half-width towards 0 falls as `w(n) / sqrt(n)`, n the smaller number of seeds. None where there is no interval or no difference
    to speak of, or where it would take more than `MOST`.
    """
    center, (low, high) = difference(a, b, paired, level)
    reach = center - low if center > 0 else high - center
    if not np.isfinite(reach):
        return None
    n = min(len(a), len(b))
    more = np.arange(MOST + 1)
    freedom = (1 if paired else 2) * (n + more - 1)
    width = special.stdtrit(freedom, (1 + level) / 2) / np.sqrt(n + more - 1)  # as w / sqrt(n), but for constants
    enough = reach * width < abs(center) * width[0]
    return int(np.argmax(enough)) if enough.any() else None


def _scores(scores: ArrayLike, name: str = "scores") -> np.ndarray:
    """`[seeds tasks]`; a row of numbers is one task."""
    values = np.asarray(scores, float)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or values.size == 0:
        raise UserError(f"{name} have shape {values.shape}: give one number per seed and task, [seeds tasks]")
    return values


def median(scores: ArrayLike) -> float:
    """The median over tasks of the mean over seeds; `scores [seeds tasks]`. With one task it is that task's mean."""
    return float(np.median(_scores(scores).mean(0)))


def optimality_gap(scores: ArrayLike, target: float = 1.0) -> float:
    """How far the mean falls short of `target`, what is above it counting as `target`: `target - mean min(score, target)`."""
    return float(target - np.minimum(_scores(scores), target).mean())


def probability_of_improvement(x: ArrayLike, y: ArrayLike) -> float:
    """`P(X > Y)`: for each task the share of all pairs of seeds in which x is above y, ties counting half; then the mean over tasks."""
    x, y = _scores(x, "scores of x"), _scores(y, "scores of y")
    if x.shape[1] != y.shape[1]:
        raise UserError(f"scores of x have {x.shape[1]} tasks, those of y {y.shape[1]}: compare them on the same tasks")
    above = x[:, None] - y[None]
    return float(((above > 0) + 0.5 * (above == 0)).mean())


def performance_profile(scores: ArrayLike, thresholds: ArrayLike) -> np.ndarray:
    """The share of all runs, over seeds and tasks, strictly above each threshold: `[thresholds]`, falling from 1 to 0."""
    return (_scores(scores).ravel()[None] > np.atleast_1d(np.asarray(thresholds, float))[:, None]).mean(1)
