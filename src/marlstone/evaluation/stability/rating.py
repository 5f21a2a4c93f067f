"""How far the next training run may fall from this one: the stability rating, from curves and final returns. NumPy only.

Everything is in units of what there is to learn, `(return - chance) / (reference - chance)`: chance the random policy's return,
reference a declared one. 0 is perfectly stable on every axis. After Chan et al. 2020 (Measuring the Reliability of RL
Algorithms), y a seed's curve in at most `POINTS` bins, f its final return, all but the first two axes a mean over seeds:

| axis | definition | High up to | Moderate up to |
|---|---|---|---|
| `seed_iqr` | across seeds, upper less lower quartile of f | 0.25 | 0.50 |
| `seed_cvar` | IQM of f over the living seeds, less the mean f of the worst quarter of all seeds | 0.25 | 0.50 |
| `within_run` | IQR over k of d_k - (mean of d_k-2 .. d_k+2), with d_k = y_k - y_k-1 | 0.10 | 0.25 |
| `drawdown` | largest drop below the best so far in the second half, of medians of three | 0.25 | 0.50 |
| `collapse` | best quarter's mean less the mean of the last 1/20 of the budget; at least 0 | 0.10 | 0.25 |
| `rollout` | standard deviation over the final policy's episodes | 0.30 | 0.45 |
| `edge_cases` | loss of return in the case with the greatest pessimistic end | 0.25 | 0.50 |
| `cross_play` | loss of return when agents come from two seeds, mean over pairs | 0.25 | 0.50 |

A cut-off is held against the pessimistic end of the 95% interval: seeds resampled, widened as in `stats.intervals` and by a half more,
since dispersions are skewed (simulated coverage at 5 and 10 seeds: quartile range 97 and 99%, worst quarter 93 and 95% for normal
seeds; the latter 85-90% where bad seeds are the tail of an exponential). The rating is the worst axis; below five seeds nothing is rated.

Why these cut-offs: a quarter or a half of what there is to learn may be lost to the choice of seed, a dip, an edge case or a
partner; a loss that stays (`collapse`) or comes from one bin to the next (`within_run`) may be a tenth or a quarter; `rollout`
0.30 is the dispersion of a policy that fails outright in one episode of ten, 0.45 in more than one of four. By simulation, five
seeds: runs whose seeds and bins vary by 0.02 are High in 98%, seeds that vary by 0.05 High in 60% (ten seeds: 96%), by 0.2 Low in
90%. Of up to 20 seeds, one that died makes `seed_cvar` Low where the others learned half of what there is; a late collapse of one
in five, or of half the return of all, is Low. A fault that strikes one seed in five misses all of five in a third of all draws: no
interval can show it.

Dead seeds, which never learned, count in the first two axes alone, else their flat curves would calm the others: adding one
never improves a rating. Departures from Chan et al.: quartiles of detrended differences over the whole run, not over windows; the
standard deviation over episodes, of which a quarter may fail unseen by quartiles; CVaR from the level of the living, so that the
death of most is no calm.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import special

from marlstone.core.errors import UserError
from marlstone.stats.intervals import around, clipped, iqm, seeds_drawn

Array = Any
Rating = Literal["High", "Moderate", "Low", "unrated"]
Estimate = tuple[float, tuple[float, float]]
UNKNOWN = (float("nan"), float("nan"))
CUTS: dict[str, tuple[float, float]] = {
    "seed_iqr": (0.25, 0.50),
    "seed_cvar": (0.25, 0.50),
    "within_run": (0.10, 0.25),
    "drawdown": (0.25, 0.50),
    "collapse": (0.10, 0.25),
    "rollout": (0.30, 0.45),
    "edge_cases": (0.25, 0.50),
    "cross_play": (0.25, 0.50),
}
FEWEST = 5
SKEW = 1.5  # dispersions are skewed: what their intervals are widened by beyond those of an IQM
POINTS = 40
ALIVE = 0.05  # a seed that never got so far, in its curve's best quarter or at the end, is dead


@dataclass(frozen=True)
class Axis:
    """One axis: 0 is perfectly stable, 1 all there is to learn. `note`: which case, or why there is no number."""

    value: float
    ci95: tuple[float, float]
    rating: Rating
    note: str = ""


@dataclass(frozen=True)
class Stability:
    """The worst axis, and all of them. `off_seed`: position of the seed that fell off the others, if one did."""

    rating: Rating
    axes: dict[str, Axis]
    off_seed: int | None
    note: str


def stability(
    steps: Array,
    curves: Array,
    final: Sequence[Array],
    chance: float,
    reference: float,
    edge_cases: Mapping[str, Any] | None = None,
    cross_play: Array | None = None,
    disagreement: Array | None = None,
) -> Stability:
    """Rate training runs that differ in nothing but their seed.

    `steps [k]`, `curves [seeds k]`: training returns, NaN before a seed's first episode; no axis of them where k is 0.
    `final [seeds][episodes]`: returns of the final policies. `edge_cases`: name -> loss of return per seed `[seeds]`, or
    `(loss, (lo, hi))`. `cross_play`, `disagreement`: per pair of seeds, `[seeds seeds]` (the diagonal is not read) or
    `[seeds (seeds - 1) / 2]` in the order of `np.triu_indices(seeds, 1)`; the former in returns lost, the latter shown as it is.
    A seed without a finite final return counts as one that plays by chance. Raises `UserError` where shapes or levels do not fit.
    """
    rows = [np.atleast_1d(np.asarray(r, float)) for r in final]
    n, span = len(rows), float(reference) - float(chance)
    if not (np.isfinite(span) and span > 0):
        raise UserError(f"reference is {reference} and chance {chance}: declare a reference return above what random play gets")
    if not n or any(r.ndim != 1 or not r.size for r in rows):
        raise UserError("final: give the returns of at least one evaluation episode for each seed, [seeds][episodes]")
    lost = [i for i, r in enumerate(rows) if not np.isfinite(r).all()]
    level = np.array([0.0 if i in lost else (r.mean() - chance) / span for i, r in enumerate(rows)])
    curve = (_grid(steps, curves, n) - chance) / span
    alive = np.fmax(level, [_quarters(y).max(initial=-np.inf) for y in curve]) > ALIVE
    width = [np.std(r, ddof=1) / span if r.size > 1 and i not in lost else np.nan for i, r in enumerate(rows)]

    axes: dict[str, Axis] = {}

    def rate(name: str, value: float, ci95: tuple[float, float], note: str = "") -> None:
        high, moderate = CUTS.get(name, (np.nan, np.nan))
        known = n >= FEWEST and np.isfinite(ci95[1]) and name in CUTS
        word: Rating = "unrated" if not known else "High" if ci95[1] <= high else "Moderate" if ci95[1] <= moderate else "Low"
        axes[name] = Axis(value, ci95, word, note)

    rate("seed_iqr", *_spread(level, alive))
    rate("seed_cvar", *_shortfall(level, alive))
    for name, each in (("within_run", _noise), ("drawdown", _drop), ("collapse", _fall)) if curve.size else ():
        rate(name, *_mean([each(y) for y in curve[alive]]))
    rate("rollout", *_mean(np.array(width)[alive]))
    if edge_cases:
        cases = {name: _case(name, loss, alive, span) for name, loss in edge_cases.items()}
        worst = max(cases, key=lambda name: (np.nan_to_num(cases[name][1][1], nan=-np.inf), name))
        rate("edge_cases", *cases[worst], worst)
    if cross_play is not None:
        rate("cross_play", *_pairs("cross_play", cross_play, alive, span))
    if disagreement is not None:
        value, ends = _pairs("disagreement", disagreement, alive, 1.0)
        rate("disagreement", value, clipped(ends, (0.0, 1.0), value), "shown only: it counts where cross-play loses return")

    order = ("High", "Moderate", "Low")
    rated = [axis.rating for axis in axes.values() if axis.rating != "unrated"]
    rating: Rating = max(rated, key=order.index) if rated else "unrated"
    missing = [name for name in CUTS if name not in axes or not np.isfinite(axes[name].value)]
    words = [
        f"{n} seeds, fewer than {FEWEST}" if n < FEWEST else "",
        f"worst: {', '.join(k for k, a in axes.items() if a.rating == rating)}" if rating in order[1:] else "",
        f"never rose above chance: seeds {', '.join(str(i) for i in np.flatnonzero(~alive))}" if not alive.all() else "",
        f"no finite final return, counted as chance: seeds {', '.join(map(str, lost))}" if lost else "",
        f"not measured: {', '.join(missing)}" if missing else "",
    ]
    return Stability(rating, axes, _off(level), "; ".join(w for w in words if w))


def _grid(steps: Array, curves: Array, n: int) -> np.ndarray:
    """Curves averaged in at most `POINTS` bins of equal steps; an empty bin takes the value before it, NaN before the first."""
    at, y = np.asarray(steps, float), np.asarray(curves, float)
    if not at.size:
        return np.zeros((n, 0))
    if at.ndim != 1 or y.shape != (n, at.size) or not (at[-1] > 0 and (np.diff(at) > 0).all()):
        raise UserError(f"steps {at.shape} and curves {y.shape}: give rising steps [k] and a curve [k] for each of the {n} seeds in final")
    k = min(at.size, POINTS)
    place = np.clip(np.ceil(at / at[-1] * k - 1e-9).astype(int) - 1, 0, k - 1)
    real = np.isfinite(y)
    within = (place[:, None] == np.arange(k)).astype(float)
    count, total = real @ within, np.where(real, y, 0.0) @ within
    last = np.maximum.accumulate(np.where(count > 0, np.arange(k), -1), 1)
    values = np.take_along_axis(total, np.maximum(last, 0), 1) / np.maximum(np.take_along_axis(count, np.maximum(last, 0), 1), 1)
    return np.where(last >= 0, values, np.nan)


def _quarters(y: np.ndarray) -> np.ndarray:
    """The mean of each quarter of the budget that has a value."""
    parts = [part[np.isfinite(part)] for part in np.array_split(y, min(4, max(y.size, 1)))]
    return np.array([part.mean() for part in parts if part.size])


def _iqr(x: np.ndarray) -> np.ndarray:
    low, high = np.quantile(x, [0.25, 0.75], axis=-1)
    return high - low


def _worst_quarter(x: np.ndarray) -> np.ndarray:
    """CVaR at 1/4: the mean of the lowest n / 4 of the last axis, the last of them counting in part."""
    n = x.shape[-1]
    return np.sort(x, -1) @ np.clip(n / 4 - np.arange(n), 0, 1) / (n / 4)


def _spread(level: np.ndarray, alive: np.ndarray) -> Estimate:
    """The IQR of all seeds. Its pessimistic end is the highest with any number of the dead left out: one dead seed more never lowers it."""
    value, (low, high) = _resampled(level, _iqr)
    dead = np.sort(level[~alive])[::-1]
    fewer = [_resampled(np.append(level[alive], dead[:k]), _iqr)[1][1] for k in range(len(dead))]
    return value, (low, float(np.fmax.reduce([high, *fewer])))


def _shortfall(level: np.ndarray, alive: np.ndarray) -> Estimate:
    """What the living have learned, less the worst quarter of all; at worst that quarter learns nothing.

    Resampling can hardly make the worst quarter worse, so the interval reaches as far up as down. Where k of n seeds are dead it
    reaches to as many as could be, by Clopper & Pearson (1934): up to n = 20, one dead seed leaves room for a dead quarter."""
    k, n = int((~alive).sum()), level.size
    learned = float(iqm(level[alive])) if 2 * k <= n else 1.0
    value, (low, high) = _resampled(level, lambda x: learned - _worst_quarter(x), symmetric=True)
    if not k or k == n:
        return value, (low, max(value, min(high, learned)))
    return value, (low, max(value, learned * min(1.0, 4 * float(special.betaincinv(k + 1, n - k, 0.975)))))


def _noise(y: np.ndarray) -> float:
    change = np.diff(y[np.isfinite(y)])
    return float(_iqr(change[2:-2] - np.convolve(change, np.full(5, 0.2), "valid"))) if change.size >= 7 else float("nan")


def _drop(y: np.ndarray) -> float:
    seen = y[np.isfinite(y)]
    if seen.size < 3:
        return float("nan")
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(np.concatenate([seen, seen[-1:]]), 3), -1)
    return float((np.maximum.accumulate(smooth) - smooth)[-max(1, y.size // 2) :].max())


def _fall(y: np.ndarray) -> float:
    quarters = _quarters(y)
    return max(0.0, float(quarters.max() - y[-max(1, round(y.size / 20)) :].mean())) if quarters.size else float("nan")


def _resampled(values: Array, statistic: Any, symmetric: bool = False) -> Estimate:
    """A statistic of the last axis and its interval, values without a number left out. In order, so that seeds may be permuted."""
    x = np.sort(np.asarray(values, float))
    x = x[np.isfinite(x)]
    if x.size < 2:
        return float(statistic(x)) if x.size else float("nan"), UNKNOWN
    center = float(statistic(x))
    low, high = _wider(statistic(x[seeds_drawn(x.size)[0]]), center, x.size)
    high = max(high, 2 * center - low) if symmetric else high
    return center, (max(low, min(0.0, center)), high)


def _wider(resampled: np.ndarray, center: float, n: int) -> tuple[float, float]:
    low, high = around(resampled, center, n, 0.95)
    return center - SKEW * (center - low), center + SKEW * (high - center)


def _mean(values: Array) -> Estimate:
    return _resampled(values, lambda x: x.mean(-1))


def _case(name: str, loss: Any, alive: np.ndarray, span: float) -> Estimate:
    if isinstance(loss, tuple) and len(loss) == 2 and np.size(loss[1]) == 2:
        low, high = loss[1]
        return float(loss[0]) / span, (float(low) / span, float(high) / span)
    each = np.asarray(loss, float)
    if each.shape != alive.shape:
        raise UserError(f"edge_cases[{name!r}] has shape {each.shape}: give one loss per seed, [{alive.size}], or (loss, (lo, hi))")
    return _mean(each[alive] / span)


def _pairs(name: str, values: Array, alive: np.ndarray, span: float) -> Estimate:
    """The mean over pairs of living seeds, and its interval: seeds are resampled, and a seed is no pair with itself."""
    n, given = alive.size, np.asarray(values, float)
    square = np.full((n, n), np.nan)
    if given.shape == (n, n):
        square = given / span
    elif given.shape == (n * (n - 1) // 2,):
        square[np.triu_indices(n, 1)] = given / span
    else:
        raise UserError(f"{name} has shape {given.shape}: give one number per pair of the {n} seeds, [{n} {n}] or [{n * (n - 1) // 2}]")
    square = square[np.ix_(alive, alive)]
    known = np.isfinite(square) & ~np.eye(len(square), dtype=bool)
    if not known.any():
        return float("nan"), UNKNOWN
    value, weight = np.where(known, square, 0.0), known.astype(float)
    order = np.argsort((value + value.T).sum(0))  # so that seeds may be permuted
    value, weight, m = value[np.ix_(order, order)], weight[np.ix_(order, order)], len(order)
    times = (seeds_drawn(m)[0][..., None] == np.arange(m)).sum(1).astype(float)
    total, pairs = (np.einsum("ri,ij,rj->r", times, x, times) for x in (value, weight))
    center = float(value.sum() / weight.sum())
    return center, _wider(np.where(pairs > 0, total / np.maximum(pairs, 1), center), center, m)


def _off(level: np.ndarray) -> int | None:
    """The lowest seed, where it lies off the others: modified z-score above 3.5 (Iglewicz & Hoaglin 1993) and a tenth of the span below."""
    middle = np.median(level)
    below = middle - level.min()
    off = level.size >= 3 and below > 0.1 and 0.6745 * below > 3.5 * np.median(np.abs(level - middle))
    return int(np.argmin(level)) if off else None
