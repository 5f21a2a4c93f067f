"""How fast a budget is being spent, against the pace that would last to the end of its period; and when that is worth an alert.

The rate of a window is what it spent over what the budget, spread over its period by the season, grants it: 1 lasts exactly.
An alert wants two windows above one threshold: a long one, so that it means something, and a short one, so that it ends with its cause.

The thresholds are those of the SRE Workbook (Google, 2018, "Alerting on SLOs"): of a budget 2% in an hour, 5% in six, 10% in
three days, as rates `share x period / window`: 14.4, 6 and 1 over 30 days, 43.7, 18.2 and 3.0 over 91. Over long periods that
tells late (a budget of 91 days spent at four times its rate, after two days), so a rule over one day asks for a rate of 2
whatever the period: the budget would be gone in half of it. Over short ones it would tell of every busy hour, so no
threshold lies within the scatter that spending is known to have.

Source: https://sre.google/workbook/alerting-on-slos/, multiwindow, multi-burn-rate alerts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from marlstone.cost.account_rows import SLOT
from marlstone.cost.periods import DAY, Calendar, Period
from marlstone.cost.seasons import Season

HOUR = 3600
TABLE = (("hour", 0.02, HOUR, 300), ("six hours", 0.05, 6 * HOUR, 1800), ("three days", 0.10, 3 * DAY, 6 * HOUR))
"""Name, share of the budget, long and short window."""
PACE = ("day", 2.0, DAY, 2 * HOUR)
"""Name, rate, long and short window, of any period."""
WINDOWS = (3 * DAY, DAY, 6 * HOUR, HOUR)
FALSE_ALARMS = 1.0
"""A year, of all rules together, that spending at exactly the budget's pace may raise."""
YEAR = 365 * DAY
LONGEST = 0.5  # of the period: a longer window says nothing in time


@dataclass(frozen=True)
class Rule:
    """An alert where the rates of the last `long` and of the last `short` seconds both reach `burn`."""

    name: str
    burn: float
    long: int
    short: int


@dataclass(frozen=True)
class Burn:
    """The rates of a rule's windows now, and whether it alerts."""

    rule: Rule
    long: float
    short: float

    @property
    def alert(self) -> bool:
        """Whether both reach its threshold."""
        return min(self.long, self.short) >= self.rule.burn


def rules(days: float) -> tuple[Rule, ...]:
    """Those of a period of so many days, by the share of the budget alone."""
    found = [Rule(name, share * days * DAY / long, long, short) for name, share, long, short in TABLE]
    found.append(Rule(*PACE))
    return tuple(r for r in sorted(found, key=lambda r: r.long) if r.long <= LONGEST * days * DAY)


def above_scatter(table: Sequence[Rule], season: Season, false_alarms: float = FALSE_ALARMS) -> tuple[Rule, ...]:
    """The same rules, none with a threshold that spending at the budget's pace reaches by its usual scatter, more than
    `false_alarms` times a year in all. What a window spends is taken to be gamma distributed, and each one apart as a chance."""
    out = []
    for rule in table:
        shape = 1 / max(season.variance(rule.long), 1e-6)
        chance = false_alarms / len(table) / (YEAR / rule.long)
        out.append(Rule(rule.name, max(rule.burn, float(stats.gamma.isf(chance, shape) / shape)), rule.long, rule.short))
    return tuple(out)


def planned(amount: float, calendar: Calendar, season: Season, slots: np.ndarray) -> np.ndarray:
    """What the budget grants each slot, `[slots]`: its amount, spread over the period of the slot by the season."""
    slots, out = np.asarray(slots), np.zeros(len(slots))
    period: Period | None = None
    while (rest := np.flatnonzero(slots >= (-np.inf if period is None else period.end))).size:
        period = calendar.period(float(slots[rest[0]]))
        first = -(-period.start // SLOT) * SLOT
        whole = season.weights(np.arange(first, period.end, SLOT), calendar.tz).sum()
        mine = (slots >= period.start) & (slots < period.end)
        out[mine] = amount * season.weights(slots[mine], calendar.tz) / whole
    return out


def trailing(values: np.ndarray, seconds: int) -> np.ndarray:
    """Sums over the window that ends with each slot, `[... slots]`; before the first, nothing."""
    width = max(1, seconds // SLOT)
    sums = np.cumsum(values, -1, dtype=float)
    sums[..., width:] = sums[..., width:] - sums[..., :-width].copy()
    return sums


def firing(amounts: np.ndarray, plan: np.ndarray, table: Sequence[Rule]) -> np.ndarray:
    """Whether each rule alerts at the end of each slot, `[rules ... slots]`. `amounts [... slots]` were spent, `plan [slots]` granted."""
    out = np.ones((len(table), *np.shape(amounts)), bool)
    for i, rule in enumerate(table):
        for window in (rule.long, rule.short):
            out[i] &= trailing(amounts, window) >= rule.burn * _whole(plan, window)
    return out


def burns(amounts: np.ndarray, plan: np.ndarray, table: Sequence[Rule]) -> tuple[Burn, ...]:
    """The rates now, at the end of the last slot."""
    rate = lambda seconds: float(trailing(amounts, seconds)[-1] / max(_whole(plan, seconds)[-1], 1e-300))
    return tuple(Burn(rule, rate(rule.long), rate(rule.short)) for rule in table)


def _whole(plan: np.ndarray, seconds: int) -> np.ndarray:
    """What windows are granted; those that begin before the first slot too, at the pace of what is known."""
    width = max(1, seconds // SLOT)
    granted = trailing(plan, seconds)
    granted[:width] *= width / np.minimum(np.arange(1, len(granted) + 1), width)[:width]
    return granted


def alarms(fired: np.ndarray, rest: int = DAY) -> int:
    """How often somebody is called, of `fired [slots]`: alerts less than `rest` seconds apart are one."""
    at = np.flatnonzero(fired)
    return int(at.size and 1 + (np.diff(at) * SLOT > rest).sum())
