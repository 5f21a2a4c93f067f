"""How far a measured truth agrees with itself, and how a method's claims compare with it: in NumPy, of one training seed.

What a decision was worth is measured by K paired continuations (`truth`), w_sik for decision s, agent i, continuation k. Their mean has a
standard error, so that not even a perfect claim would correlate with it by 1:

    reliability  rho = 2 r / (1 + r)     r: correlation of the means over even and over odd k (Spearman 1910, Brown 1910)
    noise ceiling    = sqrt(rho)         the correlation with the measured worth that the true worth would have

Of shares the unit is an episode, K plays of one beginning. A claim is made of the very play whose truth is measured, and varies with it,
so claims of half of the plays are compared with the truth of the others; claims that are right of every play reach the halves' own r.

A claim c is calibrated where regressing measured worth on claims, w = bias + slope c, gives slope 1 and bias 0: noise in w moves neither.
"""

from dataclasses import dataclass

import numpy as np

ENOUGH = 0.2  # of the spread between decisions, that the standard error of their means is to reach
LEAST = 0.3  # noise ceiling below which nothing is said about claims


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation; NaN where either does not vary. Differences in the last bits are ties: much is worth exactly nothing."""
    if a.size < 3:
        return float("nan")
    a, b = (np.round(x / max(np.abs(x).max(), 1e-12), 5) for x in (a, b))
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    from scipy import stats  # a second to import

    return float(np.corrcoef(stats.rankdata(a), stats.rankdata(b))[0, 1])


def standard_error(worth: np.ndarray) -> float:
    """Of the means over continuations, `worth [s a k]`: its root mean square over decisions and agents, relative to how much
    these differ in truth (their variance less that of the error). NaN with one continuation; infinite where all that was measured is noise.
    """
    k = worth.shape[-1]
    if k < 2:
        return float("nan")
    error = float(worth.var(-1, ddof=1).mean()) / k
    if error == 0:
        return 0.0
    spread = float(worth.mean(-1).var()) - error
    return float(np.sqrt(error / spread)) if spread > 0 else float("inf")


def noise_ceiling(worth: np.ndarray) -> float:
    """The rank correlation with the means over continuations, `worth [s a k]`, that a perfect claim would have; 0 where halves disagree.
    NaN with one continuation, or where all is worth the same."""
    if worth.shape[-1] < 2:
        return float("nan")
    return _ceiling(worth[..., 0::2].mean(-1).ravel(), worth[..., 1::2].mean(-1).ravel())


def across_halves(a: np.ndarray, b: np.ndarray) -> float:
    """The rank correlation of the means over even k of `a [s a k]` with those over odd k of `b`, and the other way round, on average: what
    both owe to the same play cannot make them agree. NaN with one play, or where all is worth the same."""
    if a.shape[-1] < 2:
        return float("nan")
    half = lambda x, at: x[..., at::2].mean(-1).ravel()
    return float(np.mean([spearman(half(a, at), half(b, 1 - at)) for at in (0, 1)]))


def ceiling_of_means(worth: np.ndarray) -> float:
    """The same for the means over units, `worth [s a]`, ranked across agents: halves are every other unit."""
    return _ceiling(worth[0::2].mean(0), worth[1::2].mean(0)) if len(worth) > 1 else float("nan")


def _ceiling(one: np.ndarray, other: np.ndarray) -> float:
    r = spearman(one, other)
    return r if np.isnan(r) else float(np.sqrt(max(2 * r / (1 + r), 0.0))) if r > -1 else 0.0


@dataclass(frozen=True)
class Calibration:
    """Of claims against measured worth: `slope` and `bias` of w = bias + slope c; NaN where claims do not vary."""

    slope: float
    bias: float


def calibration(claimed: np.ndarray, true: np.ndarray) -> Calibration:
    """By least squares over decisions, `[s]` each."""
    c = claimed - claimed.mean()
    spread = float((c * c).sum())
    if claimed.size < 3 or spread <= 1e-12 * max(float((claimed * claimed).sum()), 1e-30):
        return Calibration(float("nan"), float("nan"))
    slope = float((c * (true - true.mean())).sum()) / spread
    return Calibration(slope, float(true.mean() - slope * claimed.mean()))


def quarters(time: np.ndarray) -> list[np.ndarray]:
    """Which decisions were made in the first to the last quarter of all, by the step of the episode, `time [s]`; four masks `[s]`."""
    order = np.argsort(time, kind="stable")
    out = []
    for part in np.array_split(order, 4):
        mask = np.zeros(len(time), bool)
        mask[part] = True
        out.append(mask)
    return out
