"""How a budget is likely to end: the rates at which it is being spent, the alerts on them, and the forecast, from what was spent so far."""

from dataclasses import dataclass

import numpy as np

from marlstone.cost.account_rows import SLOT
from marlstone.cost.accounts import Account
from marlstone.cost.budgets import Budget
from marlstone.cost.burn_rate import WINDOWS, Burn, above_scatter, burns, planned, rules
from marlstone.cost.forecast import Forecast, forecast, learned
from marlstone.cost.periods import DAY, Calendar, Period, days_of
from marlstone.cost.seasons import Season
from marlstone.cost.seasons import learned as season_of
from marlstone.cost.spending import Balance, series

HISTORY = 56 * DAY
"""Seconds before now that season and level are learned from: eight weeks."""


@dataclass(frozen=True)
class Outlook:
    """Rates and alerts, by rule, and the forecast; None where too little is known to make one."""

    burns: tuple[Burn, ...] = ()
    forecast: Forecast | None = None

    @property
    def alert(self) -> bool:
        """Whether a rule alerts."""
        return any(b.alert for b in self.burns)


def outlook(account: Account, balance: Balance, now: float | None = None) -> Outlook:
    """Of a budget that renews. Of one that never does, or of root requests, whose spending is not kept one by one: nothing."""
    at = account.clock() if now is None else now
    budget = balance.budget
    if budget.calendar is None or budget.scope == "request":
        return Outlook()
    since = min(balance.period.start, at - HISTORY)
    return foretold(budget, budget.calendar, *series(account, budget, balance.key, since, at), balance.spent, at)


def foretold(budget: Budget, calendar: Calendar, slots: np.ndarray, amounts: np.ndarray, spent: float, now: float) -> Outlook:
    """From a history: `slots` of 300 s one after another, the last of which ends before `now`, and what was spent in each;
    `spent`: in the period so far."""
    whole = slots + SLOT <= now
    slots, amounts = slots[whole], amounts[whole]
    some = np.flatnonzero(amounts)
    if not some.size:
        return Outlook()
    slots, amounts = slots[some[0] :], amounts[some[0] :]
    before = slots < now - DAY
    enough = before.sum() * SLOT >= 7 * DAY
    season = season_of(slots[before], amounts[before], calendar.tz, WINDOWS) if enough else Season()
    period = calendar.period(now)
    plan = planned(budget.units, calendar, season, slots)
    rates = burns(amounts, plan, above_scatter(rules(period.days), season))
    return Outlook(rates, _forecast(budget, calendar, season, slots, amounts, period, spent, now))


def _forecast(
    budget: Budget, calendar: Calendar, season: Season, slots: np.ndarray, amounts: np.ndarray, period: Period, spent: float, now: float
) -> Forecast | None:
    days = days_of(Calendar("day", calendar.zone).period(float(slots[0])).start, int(now) + 1, calendar.tz)
    if days[0].start < slots[0] and len(days) > 1:
        days = days[1:]  # only its end is known
    today, starts = days[-1], np.array([d.start for d in days])
    index = np.searchsorted(starts, slots, "right") - 1
    totals = np.bincount(index[index >= 0], amounts[index >= 0], len(days))
    over = season.weights(np.arange(today.start, today.end, SLOT), calendar.tz)
    part = over[: max(0, int(now - today.start) // SLOT)].sum() / over.sum()
    if len(days) - 1 + part < 1:
        return None
    parts, weekdays = np.append(np.ones(len(days) - 1), part), np.array([d.first.weekday() for d in days])
    known = slice(None) if part >= 0.2 else slice(None, -1)
    level = learned(totals[known], weekdays[known], parts[known])
    left = (period.after - today.first).days - 1
    return forecast(budget.units, spent, level, today.first, 1 - float(part), left)
