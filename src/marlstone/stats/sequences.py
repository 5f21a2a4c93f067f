"""Means one may look at after every observation: confidence sequences, and the baseline alarm built on them. NumPy only.

    lambda_t = min(1/2, sqrt(2 log(2/alpha) / (s2_{t-1} t log(t + 1)))),      psi(l) = -log(1 - l) - l
    sum_t lambda_t x_t / sum_t lambda_t  +-  (log(2/alpha) + sum_t (x_t - m_{t-1})^2 psi(lambda_t)) / sum_t lambda_t

for x in [0, 1], with m_t = (1/2 + sum x) / (t + 1), s2_t = (1/4 + sum (x_i - m_i)^2) / (t + 1), and the running intersection over t:
the predictable plug-in empirical-Bernstein sequence of Waudby-Smith & Ramdas 2024 (Estimating means of bounded random
variables by betting, theorem 2). P(the mean is ever outside) <= alpha for any bounded observations with one conditional mean,
however skewed, at however many looks. It is wide for few: with alpha 0.05, half-widths in parts of the bounds:

| observations | t = 30 | t = 100 | t = 1000 | ever wrong by t = 1000 |
|---|---|---|---|---|
| uniform | 0.28 | 0.10 | 0.032 | 1.0% |
| Bernoulli 0.5 | 0.34 | 0.17 | 0.061 | 1.5% |
| Bernoulli 0.01 | 0.13 | 0.04 | 0.011 | 0.2% |
| beta(1, 20), skewed | 0.15 | 0.06 | 0.008 | 0.0% |

(2,000 simulations each, tests/stats/test_sequences.py.) Bounds cost episodes: at a standard deviation of 0.1, a half-width
of 0.02 takes 460 of them within bounds 1 apart and 3,800 within bounds 10 apart. Declare what can occur, not what is conceivable.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from marlstone.core.errors import UserError

Bounds = tuple[float, float]
HORIZON = 10_000_000
"""Above so many `observations_needed` returns None: nobody waits for them."""


def confidence_sequence(x: ArrayLike, bounds: Bounds, alpha: float = 0.05) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`(center, lo, hi)`, each as long as `x` along its last axis: after `x[..., :t]` the mean lies in `[lo[t-1], hi[t-1]]`.

    `bounds` are declared before looking, and hold for every x. Intervals only shrink; `lo > hi`: no single mean fits, the mean has
    moved (or the 1 in 1/alpha came true). Raises `UserError` for nothing observed, or an observation that is not within the bounds.
    """
    values, (low, high) = np.asarray(x, float), check_bounds(bounds, alpha)
    if values.ndim == 0 or not values.size:
        raise UserError("x has no observation: give at least one")
    if not (np.isfinite(values).all() and values.min() >= low and values.max() <= high):
        worst = values[~np.isfinite(values) | (values < low) | (values > high)][0]
        raise UserError(f"x holds {worst}, outside the bounds ({low}, {high}): declare what can occur, or clip to the bounds")
    unit = (values - low) / (high - low)
    t = np.arange(1, unit.shape[-1] + 1)
    mean = (0.5 + unit.cumsum(-1)) / (t + 1)
    before = np.concatenate([np.full_like(mean[..., :1], 0.5), mean[..., :-1]], -1)
    variance = (0.25 + ((unit - mean) ** 2).cumsum(-1)) / (t + 1)
    bet = _bet(np.concatenate([np.full_like(variance[..., :1], 0.25), variance[..., :-1]], -1), t, alpha)
    total = bet.cumsum(-1)
    center = (bet * unit).cumsum(-1) / total
    half = (np.log(2 / alpha) + ((unit - before) ** 2 * _psi(bet)).cumsum(-1)) / total
    least = np.maximum.accumulate(np.maximum(center - half, 0.0), -1)
    most = np.minimum.accumulate(np.minimum(center + half, 1.0), -1)
    return tuple(low + (high - low) * v for v in (center, least, most))  # type: ignore[return-value]


def paired_sequence(a: ArrayLike, b: ArrayLike, bounds: Bounds, alpha: float = 0.05) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The sequence of the mean of `a - b`, pair by pair, clipped to `bounds`: beyond them it speaks of the clipped difference."""
    ours, theirs = np.asarray(a, float), np.asarray(b, float)
    if ours.shape != theirs.shape:
        raise UserError(f"a has shape {ours.shape} and b {theirs.shape}: pairs need as many of each, in the same order")
    return confidence_sequence(np.clip(ours - theirs, *check_bounds(bounds, alpha)), bounds, alpha)


def observations_needed(variance: float, half: float, bounds: Bounds, alpha: float = 0.05) -> int | None:
    """About how many observations of this variance until the half-width is `half`; None beyond `HORIZON`."""
    low, high = check_bounds(bounds, alpha)
    t = np.geomspace(1, HORIZON, 500)
    spread = max(variance / (high - low) ** 2, 1e-12)
    bet = _bet((0.25 + spread * (t - 1)) / t, t, alpha)
    summed = lambda f: f[0] + np.concatenate([[0.0], np.cumsum(np.diff(t) * (f[1:] + f[:-1]) / 2)])
    width = (np.log(2 / alpha) + spread * summed(_psi(bet))) / summed(bet)
    enough = width * (high - low) <= half
    return int(np.ceil(t[np.argmax(enough)])) if enough.any() else None


@dataclass(frozen=True)
class BaselineAlarm:
    """What a live mean is against its baseline.

    Attributes:
      state: `alert`, `fine` or `unresolved`.
      words: the same as a sentence, with both means and intervals.
      baseline, baseline_ci: mean and confidence interval of the baseline.
      live, live_ci: mean and confidence interval of the live episodes.
      more_live, more_baseline: about how many more episodes until the tolerance is resolved; None where it is already, or never will be.
    """

    state: Literal["alert", "fine", "unresolved"]
    words: str
    baseline: float
    baseline_ci: tuple[float, float]
    live: float
    live_ci: tuple[float, float]
    more_live: int | None = None
    more_baseline: int | None = None


def baseline_alarm(
    baseline: ArrayLike, live: ArrayLike, bounds: Bounds, tolerance: float = 0.03, scale: float | None = None, alpha: float = 0.05
) -> BaselineAlarm:
    """Alert only when live and baseline are proven apart by more than the tolerance; fine only when proven within it.

    `baseline`, `live`: returns of episodes, each `[e]`. `tolerance` is a share of `scale`, by default of the baseline's own
    |mean| (whatever it may be, within its interval). Each mean has a sequence at alpha / 2, so one may ask after every episode:
    P(ever a false alert) <= alpha. Raises `UserError` as `confidence_sequence` does.
    """
    if not 0 < tolerance < 1 or (scale is not None and not scale > 0):
        raise UserError(f"tolerance is {tolerance}, scale {scale}: give a share between 0 and 1, such as 0.03, of a positive scale")
    series = [np.asarray(x, float) for x in (baseline, live)]
    found = [[float(v[-1]) for v in confidence_sequence(x, bounds, alpha / 2)] for x in series]
    (was, was_low, was_high), (now, now_low, now_high) = found
    low, high = bounds
    room = tolerance * (abs(was) if scale is None else scale)
    if room < 1e-9 * (high - low):
        raise UserError(f"tolerance {tolerance} is a share of the baseline's mean, which is {was:g}: give the scale it is a share of")
    off = lambda mean: tolerance * (abs(mean) if scale is None else scale)
    much = f"{100 * tolerance:.3g}%" + ("" if scale is None else f" of {scale:.4g}")
    figures = f"live {now:.4g} [{now_low:.4g}, {now_high:.4g}], baseline {was:.4g} [{was_low:.4g}, {was_high:.4g}]"
    verdict = lambda state, words, *more: BaselineAlarm(
        state, f"{words}: {figures}", was, (was_low, was_high), now, (now_low, now_high), *more
    )

    if now_high < was_low - off(was_low):
        return verdict("alert", f"live is below the baseline by more than {much}")
    if now_low > was_high + off(was_high):
        return verdict("alert", f"live is above the baseline by more than {much}")
    for name, least, most in (("live", now_low, now_high), ("baseline", was_low, was_high)):
        if least > most:
            return verdict("unresolved", f"the mean of {name} moved while it was watched and no single one fits, begin a fresh window")
    if now_low >= was_high - off(was_high) and now_high <= was_low + off(was_low):
        return verdict("fine", f"live is within {much} of the baseline")
    half = (was_high - was_low) / 2
    enough = half <= room / 2  # else the baseline needs episodes too, and each mean gets half of the room
    more_live = _more(series[1], room - half if enough else room / 2, bounds, alpha / 2)
    more_baseline = 0 if enough else _more(series[0], room / 2, bounds, alpha / 2)
    if more_live is None or more_baseline is None:
        return verdict("unresolved", f"cannot resolve {much} within these bounds, widen the tolerance or narrow the bounds")
    more_live = more_live or int(not more_baseline)
    parts = [f"{k:,} more {name} episodes" for k, name in ((more_live, "live"), (more_baseline, "baseline")) if k]
    return verdict("unresolved", f"cannot yet resolve {much}, about {' and '.join(parts)} needed", more_live or None, more_baseline or None)


def check_bounds(bounds: Bounds, alpha: float) -> Bounds:
    """The bounds as numbers; raises `UserError` where they, or alpha, make no sense."""
    low, high = bounds
    if not (np.isfinite([low, high]).all() and low < high):
        raise UserError(f"bounds are ({low}, {high}): give the least and the greatest value that can occur, finite, the least first")
    if not 0 < alpha < 1:
        raise UserError(f"alpha is {alpha}: give the probability of error, such as 0.05")
    return float(low), float(high)


def _bet(variance: np.ndarray, t: np.ndarray, alpha: float) -> np.ndarray:
    return np.minimum(0.5, np.sqrt(2 * np.log(2 / alpha) / (variance * t * np.log(t + 1))))


def _psi(bet: np.ndarray) -> np.ndarray:
    return -np.log1p(-bet) - bet


def _more(x: np.ndarray, half: float, bounds: Bounds, alpha: float) -> int | None:
    """How many more than there are, at the variance seen (a prior 1/4 of the span counting as one observation)."""
    prior = 0.25 * (bounds[1] - bounds[0]) ** 2
    total = observations_needed(float((prior + x.size * x.var()) / (x.size + 1)), half, bounds, alpha)
    return None if total is None else max(total - x.size, 0)
