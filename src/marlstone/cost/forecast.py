"""What will have been spent at the end of a period, with an interval, and when the budget will be gone: "spent by the 19th".

Days are the unit. A weekday's mean is learned from the days that are known, later ones weighing more (half as much after four
weeks), shrunk towards the level of all while few are known; days scatter about it log-normally, each like the one before by the
correlation that is found. The rest of the period is drawn many times, with means as uncertain as so many days leave them. Where
the last days lie far from what went before, the level is theirs: something has changed.
"""

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

HALF_LIFE = 28.0
"""Days after which what was spent counts half."""
PRIOR_DAYS = 1.0  # of the common level that each weekday is mixed with
PRIOR_CV = 0.4
"""Relative scatter of a day before `PRIOR_CV_DAYS` are known."""
PRIOR_CV_DAYS = 4.0
CHANGED = 4.5  # standard errors that the last days lie from those before, which are then forgotten
LATEST = 14  # days at most among which a change is looked for
DRAWS = 4000
LEAST = 0.2  # of today must be over to tell anything


@dataclass(frozen=True)
class Forecast:
    """What will be spent by the end: `total`, within `low` and `high` with probability `level`; of `amount` granted. `gone`:
    the last date on which the budget still lasts, as likely earlier as later, and the `level` interval of it; None: beyond the
    period. `changed`: days since when spending is another, 0: none."""

    amount: float
    spent: float
    total: float
    low: float
    high: float
    level: float
    gone: date | None
    gone_low: date | None
    gone_high: date | None
    over: float
    changed: int

    @property
    def sentence(self) -> str:
        """In words."""
        share = f"{self.total / self.amount:.0%} of it by the end ({self.low / self.amount:.0%} to {self.high / self.amount:.0%})"
        if self.gone_low is None:
            return f"lasts: {share}"
        end = "later" if self.gone_high is None else said(self.gone_high)
        when = f"{self.level:.0%} interval: {said(self.gone_low)} to {end}"
        if self.gone is None:
            return f"probably lasts ({1 - self.over:.0%}): {share}"
        return f"spent by {said(self.gone)} ({when})"


def said(day: date) -> str:
    """`the 19th of December`."""
    ending = "th" if 11 <= day.day <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(day.day % 10, "th")
    return f"the {day.day}{ending} of {day:%B}"


@dataclass(frozen=True)
class Level:
    """What is known of a day's spending: `means [7]` of weekdays from Monday, their relative errors `errors [7]`, what the
    errors have in common (`shared`), relative scatter `cv`, correlation of a day with the one before, degrees of freedom, and
    days since a `changed` level."""

    means: np.ndarray
    errors: np.ndarray
    shared: float
    cv: float
    correlation: float
    freedom: float
    changed: int


def learned(amounts: np.ndarray, weekdays: np.ndarray, parts: np.ndarray | None = None) -> Level:
    """The level of days one after another, the last of them now: what each spent, its weekday, and how much of it is over (None: all)."""
    amounts, weekdays = np.asarray(amounts, float), np.asarray(weekdays, int)
    parts = np.ones(len(amounts)) if parts is None else np.asarray(parts, float)
    weight = parts * 0.5 ** (np.arange(len(amounts))[::-1] / HALF_LIFE)
    scaled = amounts / np.maximum(parts, 1e-9)
    level, factors = _factors(scaled, weekdays, weight)
    if level <= 0:
        return Level(np.zeros(7), np.zeros(7), 0.0, PRIOR_CV, 0.0, 2.0, 0)
    days = _changed(scaled, weekdays, parts, weight)
    if days:
        before, mine = slice(None, len(amounts) - days), slice(len(amounts) - days, None)
        _, factors = _factors(scaled[before], weekdays[before], weight[before])
        cv, correlation = _scatter(_ratio(scaled[before], factors[weekdays[before]]), weight[before])
        level = float((parts[mine] * scaled[mine]).sum() / np.maximum((parts[mine] * factors[weekdays[mine]]).sum(), 1e-9))
        weight = np.where(np.arange(len(amounts)) >= len(amounts) - days, weight, 0.0)
    else:
        cv, correlation = _scatter(_ratio(scaled / level, factors[weekdays]), weight)
    count = np.bincount(weekdays, weight, 7)
    effective = float(weight.sum() ** 2 / (weight**2).sum())
    spread = np.sqrt((1 + correlation) / (1 - correlation))
    errors = np.sqrt(cv**2 / (count + PRIOR_DAYS)) * (0.0 if days else 1.0)
    shared = cv * (spread if days else np.sqrt(max(spread**2 - 1, 0.0))) / np.sqrt(effective)
    return Level(level * factors, errors, float(shared), cv, correlation, max(2.0, len(amounts) - 7.0), days)


def _factors(scaled: np.ndarray, weekdays: np.ndarray, weight: np.ndarray) -> tuple[float, np.ndarray]:
    """The level of a day, and factors of weekdays, `[7]`."""
    count, sums = np.bincount(weekdays, weight, 7), np.bincount(weekdays, weight * scaled, 7)
    seen = count > 0
    level = float((sums[seen] / count[seen]).mean()) if seen.any() else 0.0
    if level <= 0:
        return 0.0, np.ones(7)
    return level, (sums / level + PRIOR_DAYS * 0.1) / (count + PRIOR_DAYS * 0.1)


def _scatter(ratio: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """Relative scatter of days about their weekday, and the correlation of a day with the one before."""
    n = len(ratio)
    mean = float((weight * ratio).sum() / weight.sum())
    ratio = ratio / max(mean, 1e-9)
    fitted = min(7, n)
    freedom = max(n - fitted, 0.0)
    own = float((weight * (ratio - 1) ** 2).sum() / weight.sum()) * n / max(freedom, 1.0) if freedom else 0.0
    variance = (own * freedom + PRIOR_CV**2 * PRIOR_CV_DAYS) / (freedom + PRIOR_CV_DAYS)
    beside = float(((ratio[1:] - 1) * (ratio[:-1] - 1)).sum() / max(((ratio - 1) ** 2).sum(), 1e-12)) if n > 2 else 0.0
    return float(np.sqrt(variance)), float(np.clip((beside + 1 / max(n, 1)) * n / (n + 10), 0.0, 0.8))


def _ratio(scaled: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Days over their weekdays; days of rest, on which next to nothing is spent, say nothing of the scatter."""
    return np.where(factors > 0.02, scaled / np.maximum(factors, 0.02), 0.0 * scaled + (scaled.sum() / max(factors.sum(), 1e-9)))


def _changed(scaled: np.ndarray, weekdays: np.ndarray, parts: np.ndarray, weight: np.ndarray) -> int:
    """Of the last days the number that lie farthest from what those before say of them, where that is far; else 0."""
    found, far = 0, CHANGED
    for k in range(1, min(LATEST, len(scaled) - 7) + 1):
        old, new = slice(None, len(scaled) - k), slice(len(scaled) - k, None)
        level, factors = _factors(scaled[old], weekdays[old], weight[old])
        if level <= 0:
            continue
        cv, correlation = _scatter(_ratio(scaled[old], factors[weekdays[old]]), weight[old])
        share = parts[new] * factors[weekdays[new]]
        if share.sum() < LEAST:
            continue
        ratio = float((parts[new] * scaled[new]).sum() / (level * share.sum()))
        days = share.sum() ** 2 / (share**2).sum()
        error = cv * np.sqrt((1 + correlation) / (1 - correlation) * (1 / days + 1 / parts[old].sum()))
        apart = abs(np.log(max(ratio, 1e-3))) / np.sqrt(np.log1p(error**2))
        if apart > far:
            found, far = k, apart
    return found


def forecast(
    amount: float, spent: float, level: Level, today: date, rest: float, days: int, probability: float = 0.8, seed: int = 0
) -> Forecast:
    """From what is known to the end of the period.

    Args: `amount`: granted; `spent`: so far in the period; `today` and `rest`: how much of it is left; `days`: after today;
    `probability`: of the interval; `seed`: of the draws, equal ones give equal forecasts.
    """
    rng = np.random.default_rng(seed)
    dates = [today + timedelta(days=k) for k in range(days + 1)]
    weekdays = np.array([d.weekday() for d in dates])
    wide = np.sqrt(level.freedom / rng.chisquare(level.freedom, DRAWS))[:, None]
    means = level.means * np.maximum(1 + wide * level.errors * rng.standard_normal((DRAWS, 7)), 0.0)
    shared = np.exp(wide * level.shared * rng.standard_normal((DRAWS, 1)) - 0.5 * level.shared**2)
    sigma = np.sqrt(np.log1p(level.cv**2))
    noise = rng.standard_normal((DRAWS, days + 1))
    for k in range(1, days + 1):
        noise[:, k] = level.correlation * noise[:, k - 1] + np.sqrt(1 - level.correlation**2) * noise[:, k]
    drawn = means[:, weekdays] * shared * np.exp(sigma * noise - 0.5 * sigma**2)
    drawn[:, 0] *= rest
    path = spent + np.cumsum(drawn, 1)
    total, low, high = np.quantile(path[:, -1], [0.5, (1 - probability) / 2, (1 + probability) / 2])
    gone = np.where(path[:, -1] > amount, (path <= amount).sum(1), days + 1)  # the first day on which it is passed
    first, middle, last = (int(x) for x in np.quantile(gone, [(1 - probability) / 2, 0.5, (1 + probability) / 2], method="inverted_cdf"))
    when = lambda k: dates[k] if k <= days else None
    over = float((path[:, -1] > amount).mean())
    return Forecast(
        amount, spent, float(total), float(low), float(high), probability, when(middle), when(first), when(last), over, level.changed
    )
