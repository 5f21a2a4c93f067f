"""What policies lose by doing without something: paired episodes, as a share of what was learned.

    d_e = mean over seeds of (R_se - R'_se),   s_e = mean over seeds of (R_se - C_se)         R as deployed, R' without, C by chance
    loss = mean(d) / mean(s),                  all x for which the interval of mean(d - x s) holds 0         (Fieller 1954)

A new run holds these very policies, so its episodes are the unit, not training seeds: what is said holds for them, with one seed too, and
not for those of another training. A mean over seeds could hide one that is harmed: nothing goes that some seed alone is shown to need.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from marlstone.stats.families import ALPHA, alpha_each

Ends = tuple[float, float]
UNKNOWN = (float("nan"), float("nan"))


@dataclass(frozen=True)
class Loss:
    """What is lost without something.

    Fields: `value` and `ci`, as a share of the span; `difference` and `difference_ci`, as deployed less without, in returns; `by_seed`,
    each training seed's share; `harmed`: which seeds, by number, are shown to lose more than the bound.
    """

    value: float
    ci: Ends
    difference: float
    difference_ci: Ends
    by_seed: tuple[float, ...]
    harmed: tuple[int, ...]

    def within(self, bound: float) -> bool:
        """Whether the whole interval lies at or below the bound, and no seed is shown to lose more."""
        return self.ci[1] <= bound and not self.harmed

    def record(self) -> dict[str, Any]:
        """As JSON has it: None where there is no figure."""
        plain = lambda x: float(x) if np.isfinite(x) else None
        return {
            "loss": plain(self.value),
            "loss_ci95": [plain(x) for x in self.ci],
            "return_difference": plain(self.difference),
            "return_difference_ci95": [plain(x) for x in self.difference_ci],
            "loss_by_seed": [plain(x) for x in self.by_seed],
        }


def loss_of(whole: np.ndarray, without: np.ndarray, chance: np.ndarray, bound: float, count: int = 1, alpha: float = ALPHA) -> Loss:
    """What is lost, of returns `[seeds episodes]` of the same episodes; NaN where one did not end. `count`: statements that hold together
    with probability 1 - `alpha`. Unknown, NaN, where less than two episodes ended or the span is not shown to be above 0."""
    each = alpha_each(count, alpha)
    paired = np.isfinite(whole) & np.isfinite(without) & np.isfinite(chance)
    lost, learned = (np.where(paired, whole - x, np.nan) for x in (without, chance))
    seeds = [(lost[i][paired[i]], learned[i][paired[i]]) for i in range(len(whole))]
    d, s = (_over_seeds(x, paired) for x in (lost, learned))
    value, ci = _ratio(d, s, each)
    shares = [_ratio(*x, alpha_each(len(seeds), each)) for x in seeds]
    harmed = tuple(i for i, (_, ends) in enumerate(shares) if ends[0] > bound)
    difference, around = _mean(d, each)
    return Loss(value, ci, difference, around, tuple(x for x, _ in shares), harmed)


def _over_seeds(x: np.ndarray, paired: np.ndarray) -> np.ndarray:
    """The mean over seeds of each episode that ended for any, `[episodes]`."""
    count = paired.sum(0)
    mean: np.ndarray = np.where(paired, x, 0).sum(0)[count > 0] / count[count > 0]
    return mean


def _quantile(n: int, alpha: float) -> float:
    return float(special.stdtrit(n - 1, 1 - alpha / 2))


def _mean(d: np.ndarray, alpha: float) -> tuple[float, Ends]:
    if d.size < 2:
        return float("nan"), UNKNOWN
    half = _quantile(d.size, alpha) * float(d.std(ddof=1)) / np.sqrt(d.size)
    return float(d.mean()), (float(d.mean() - half), float(d.mean() + half))


def _ratio(d: np.ndarray, s: np.ndarray, alpha: float) -> tuple[float, Ends]:
    """`mean(d) / mean(s)` and its interval; exactly 0 where nothing changed, as long as the span is known."""
    if d.size < 2:
        return float("nan"), UNKNOWN
    t, n = _quantile(d.size, alpha), d.size
    a = s.mean() ** 2 - t**2 * s.var(ddof=1) / n
    if not (a > 0 and s.mean() > 0):
        return float("nan"), UNKNOWN
    if not d.any():
        return 0.0, (0.0, 0.0)
    b = d.mean() * s.mean() - t**2 * float(np.cov(d, s, ddof=1)[0, 1]) / n
    c = d.mean() ** 2 - t**2 * d.var(ddof=1) / n
    root = np.sqrt(max(b * b - a * c, 0.0))
    return float(d.mean() / s.mean()), (float((b - root) / a), float((b + root) / a))
