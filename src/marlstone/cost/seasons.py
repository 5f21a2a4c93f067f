"""What spending usually looks like over a week: factors of weekdays and hours, and how far it scatters about them, learned
from a history."""

from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np

from marlstone.cost.account_rows import SLOT
from marlstone.cost.periods import DAY

WEEK = 7 * DAY // SLOT
PRIOR_WEEKS = 2.0
"""Weeks without a season that a history is mixed with: one week is no season yet."""
PRIOR_WINDOWS = 5.0
PRIOR_SCATTER = 0.1
"""Variance, relative, that a day's spending is taken to have before `PRIOR_WINDOWS` days were seen."""
CLIPPED = 5.0  # times its mean: what lies above says less of the usual scatter than of an exception


@dataclass(frozen=True)
class Season:
    """Factors with mean 1, of each weekday from Monday, `[7]`, and of each hour, `[24]`. `scatter`: relative variance of
    spending in a window, by seconds of the window."""

    weekday: np.ndarray = field(default_factory=lambda: np.ones(7))
    hour: np.ndarray = field(default_factory=lambda: np.ones(24))
    scatter: tuple[tuple[float, float], ...] = ()

    def weights(self, slots: np.ndarray, tz: ZoneInfo) -> np.ndarray:
        """The factor of each slot, `[slots]`."""
        weekday, hour = local(slots, tz)
        return np.asarray(self.weekday[weekday] * self.hour[hour])

    def variance(self, window: float) -> float:
        """Relative variance of what a window of so many seconds spends, about what the season says."""
        return dict(self.scatter).get(window, prior(window))


def prior(window: float) -> float:
    """The variance that is assumed where nothing is known: bursts of minutes, and days that have something in common."""
    return float(PRIOR_SCATTER * np.sqrt(DAY / window))


def local(slots: np.ndarray, tz: ZoneInfo) -> tuple[np.ndarray, np.ndarray]:
    """Weekday (Monday is 0) and hour of each slot, in a time zone."""
    hours, back = np.unique(np.asarray(slots) // 900, return_inverse=True)  # clocks differ by whole quarters of an hour
    read = np.array([_local(int(h), tz) for h in hours], int).reshape(-1, 2)
    return read[back, 0], read[back, 1]


@lru_cache(200_000)
def _local(quarter: int, tz: ZoneInfo) -> tuple[int, int]:
    at = datetime.fromtimestamp(quarter * 900, tz)
    return at.weekday(), at.hour


def learned(slots: np.ndarray, amounts: np.ndarray, tz: ZoneInfo, windows: tuple[float, ...] = ()) -> Season:
    """The season of a history: `slots` one after another, and what was spent in each. Shrunk towards none by `PRIOR_WEEKS`.

    Args: `windows`: seconds of those whose scatter is asked for.
    """
    total, weeks = float(np.sum(amounts)), len(slots) / WEEK
    if total <= 0:
        return Season()
    weekday, hour = local(slots, tz)
    factor = lambda index, size: _shrunk(np.bincount(index, amounts, size), np.bincount(index, minlength=size), total / len(slots), weeks)
    season = Season(factor(weekday, 7), factor(hour, 24))
    weights = season.weights(slots, tz)
    return Season(season.weekday, season.hour, tuple((w, _scatter(amounts, weights, w)) for w in windows))


def _shrunk(sums: np.ndarray, counts: np.ndarray, mean: float, weeks: float) -> np.ndarray:
    """Means of each class over the mean of all, as though `PRIOR_WEEKS` without a season had been seen besides."""
    means = np.where(counts > 0, sums / np.maximum(counts, 1), mean) / mean
    found = (means * weeks + PRIOR_WEEKS) / (weeks + PRIOR_WEEKS)
    return np.asarray(found / found.mean())


def _scatter(amounts: np.ndarray, weights: np.ndarray, window: float) -> float:
    """Relative variance of what whole windows spent."""
    width = max(1, round(window / SLOT))
    n = len(amounts) // width
    sums, expected = (np.asarray(x)[len(x) - n * width :].reshape(n, width).sum(1) for x in (amounts, weights))
    if not n or not sums.sum():
        return prior(window)
    share = expected / expected.sum()
    ratio = np.minimum(sums / np.maximum(share * sums.sum(), 1e-300), CLIPPED)
    own = float((share * (ratio - 1) ** 2).sum())
    return (own * n + prior(window) * PRIOR_WINDOWS) / (n + PRIOR_WINDOWS)
