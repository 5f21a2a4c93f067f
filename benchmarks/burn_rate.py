"""Is a budget that burns too fast told in time, are clean ones left alone, and do forecasts cover what they say?

    python benchmarks/burn_rate.py [--years 200] [--quarters 1000] [--burns 200]

Simulated spending in slots of 300 s: weekdays and weekends, hours of a day, days that scatter and resemble the day before,
bursts. Clean spending uses up a budget of a quarter exactly, in the mean: the hardest of the clean. A burn multiplies it by 4.33,
so that 13 weeks are spent in three. Beside the shipped rules: the same without seasons and scatter, the Workbook's table of 30
days as it is, and its shares over 91 days alone. Then the same story with a model of cost that leaves tool calls and memory
look-ups out. Written to results/burn_rate.json.
"""

import argparse
import sys
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
from record import stamp, write

from marlstone.cost.account_rows import SLOT
from marlstone.cost.budgets import Budget
from marlstone.cost.burn_rate import PACE, WINDOWS, Rule, above_scatter, alarms, firing, planned, rules
from marlstone.cost.forecast import forecast, learned
from marlstone.cost.outlook import HISTORY, foretold
from marlstone.cost.periods import DAY, Calendar
from marlstone.cost.seasons import Season
from marlstone.cost.seasons import learned as season_of

DAILY = DAY // SLOT
QUARTER = 91
BURN = 13 / 3
QUARTERS = Calendar("quarter")
BEGIN = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())


def days_of(rng: np.random.Generator, n: int, first: int) -> np.ndarray:
    """Mean 1: weekdays, weekends, scatter of relative size 0.1 to 0.35, correlated by 0 to 0.5 from day to day. `first`:
    weekday of the first."""
    week = np.array([1.2, 1.25, 1.2, 1.15, 1.05, 0.35, 0.3]) * rng.lognormal(0, 0.1, 7)
    cv, rho = rng.uniform(0.1, 0.35), rng.uniform(0, 0.5)
    z = rng.standard_normal(n)
    for k in range(1, n):
        z[k] = rho * z[k - 1] + np.sqrt(1 - rho**2) * z[k]
    sigma = np.sqrt(np.log1p(cv**2))
    return np.asarray((week / week.mean())[(first + np.arange(n)) % 7] * np.exp(sigma * z - sigma**2 / 2))


def slots_of(rng: np.random.Generator, days: np.ndarray) -> np.ndarray:
    """Days by slots, `[days * 288]`: busy by day, quiet by night, and bursts: calls come in jobs of a few at a time."""
    hour = 1 + 0.7 * np.sin(2 * np.pi * (np.arange(24) - rng.uniform(7, 10)) / 24)
    mean = np.outer(days, np.repeat(hour / hour.mean(), DAILY // 24)).ravel() / DAILY
    return rng.gamma(0.5, 2.0, mean.size) * mean


def year(rng: np.random.Generator, before: int) -> tuple[np.ndarray, np.ndarray]:
    """Slots and clean spending of the year 2026, in units of a mean day, after so many days before it."""
    slots = BEGIN - before * DAY + SLOT * np.arange((before + 365) * DAILY)
    first = (date(2026, 1, 1) - timedelta(days=before)).weekday()
    return slots, slots_of(rng, days_of(rng, before + 365, first))


def tables(season: Season) -> dict[str, tuple[tuple[Rule, ...], Season]]:
    """Rules to be compared, and by what season the budget is spread."""
    shares = tuple(r for r in rules(QUARTER) if r.name != PACE[0])
    return {
        "ours": (above_scatter(rules(QUARTER), season), season),
        "ours, without seasons and scatter": (rules(QUARTER), Season()),
        "30-day table as it is": (tuple(r for r in rules(30) if r.name != PACE[0]), Season()),
        "shares of 91 days alone": (shares, Season()),
    }


def clean_years(count: int) -> dict[str, dict[str, float]]:
    """Alarms of each set of rules in years of clean spending."""
    found: dict[str, list[int]] = {}
    before = HISTORY // DAY
    for k in range(count):
        slots, amounts = year(np.random.default_rng([1, k]), before)
        season = season_of(slots[: before * DAILY], amounts[: before * DAILY], QUARTERS.tz, WINDOWS)
        scale = 365 / amounts[before * DAILY :].sum()  # so that the year uses the budgets up exactly
        for name, (table, spread) in tables(season).items():
            plan = planned(365 / 4, QUARTERS, spread, slots)
            fired = firing(amounts * scale, plan, table).any(0)[before * DAILY :]
            found.setdefault(name, []).append(alarms(fired))
    return {
        name: {"per_year": float(np.mean(x)), "worst_year": max(x), "years_with_none": float(np.mean(np.array(x) == 0))}
        for name, x in found.items()
    }


def burnt(count: int) -> dict[str, dict[str, float]]:
    """Hours from the beginning of a burn to the first alert, at random times, and the share of the budget that was gone by then."""
    hours: dict[str, list[float]] = {}
    before = HISTORY // DAY
    for k in range(count):
        rng = np.random.default_rng([2, k])
        slots, amounts = year(rng, before)
        start = before * DAILY + int(rng.integers(0, 70 * DAILY))
        season = season_of(slots[start - before * DAILY : start], amounts[start - before * DAILY : start], QUARTERS.tz, WINDOWS)
        amounts = amounts.copy()
        amounts[start:] *= BURN
        end = start + 21 * DAILY
        for name, (table, spread) in tables(season).items():
            plan = planned(365 / 4, QUARTERS, spread, slots[:end])
            fired = np.flatnonzero(firing(amounts[:end], plan, table).any(0)[start:])
            hours.setdefault(name, []).append(float(fired[0] + 1) * SLOT / 3600 if fired.size else np.inf)
    return {
        name: {"median_hours": float(np.median(x)), "p95_hours": float(np.quantile(x, 0.95, method="higher")), "most_hours": max(x),
               "within_24_hours": float(np.mean(np.array(x) <= 24))}
        for name, x in hours.items()
    }  # fmt: skip


def covered(count: int) -> dict[str, Any]:
    """How often the 80% interval of a forecast, made at a random time of a quarter, holds what was spent in it at last."""
    rows = []
    for k in range(count):
        rng = np.random.default_rng([3, k])
        first, now, part = int(rng.integers(7)), int(rng.integers(7, 84)), rng.uniform(0, 1)
        days = rng.poisson(rng.lognormal(5, 1) * days_of(rng, QUARTER, first)).astype(float)
        known = now + 1 if part >= 0.2 else now
        seen = np.append(days[:now], part * days[now])[:known]
        level = learned(seen, ((first + np.arange(QUARTER)) % 7)[:known], np.append(np.ones(now), part)[:known])
        today = date(2026, 6, 1) + timedelta(days=first + now)
        told = forecast(days.sum(), days[:now].sum() + part * days[now], level, today, 1 - part, QUARTER - now - 1, seed=k)
        rows.append(
            (
                now,
                told.low <= days.sum() <= told.high,
                days.sum() < told.low,
                abs(told.total / days.sum() - 1),
                (told.high - told.low) / days.sum(),
            )
        )
    table = np.array(rows, float)
    early = table[:, 0] < 28
    return {
        "coverage": float(table[:, 1].mean()), "below": float(table[:, 2].mean()), "above": float(1 - table[:, 1].mean() -
        table[:, 2].mean()), "coverage_first_four_weeks": float(table[early, 1].mean()), "coverage_later": float(table[~early, 1].mean()),
        "median_error": float(np.median(table[:, 3])), "median_width": float(np.median(table[:, 4])),
    }  # fmt: skip


PRICES = {"decisions": 0.0004, "tool_calls": 0.002, "memory_reads": 0.00005, "memory_writes": 0.0001}
PER_DECISION = {"decisions": 1.0, "tool_calls": 0.5 * 1.24, "memory_reads": 1.4, "memory_writes": 0.2}
"""Counts of one decision. Half of the decisions call a tool, 1.24 attempts each, retries counted."""


def story() -> dict[str, Any]:
    """13 weeks' budget, made by a model of cost that knows decisions alone; the team goes live on the first day. What each
    model says, day by day."""
    rng, calls = np.random.default_rng(4), 20_000.0
    days = slots_of(rng, days_of(rng, QUARTER, date(2026, 4, 1).weekday())) * calls
    counts = {kind: rng.poisson(days * per) for kind, per in PER_DECISION.items()}
    bill = {kind: counts[kind] * PRICES[kind] for kind in PRICES}
    amount = round(calls * QUARTER * PRICES["decisions"], 2)
    budget = Budget("quarter", amount, period="quarter", scope="account")
    begin = int(datetime(2026, 4, 1, tzinfo=UTC).timestamp())
    slots = begin + SLOT * np.arange(len(days))
    true, model = sum(bill.values()), bill["decisions"]
    gone = int(np.argmax(np.cumsum(true) > amount)) / DAILY
    out: dict[str, Any] = {
        "budget": amount, "true_over_model": float(true.sum() / model.sum()), "gone_after_days": gone,
        "bill_of_the_quarter": float(true.sum()), "shares": {kind: float(x.sum() / true.sum()) for kind, x in bill.items()},
    }  # fmt: skip
    for name, spend in (("with tools and memory", true), ("without", model)):
        told, first = [], None
        for hour in range(1, 22 * 24):
            n = hour * 3600 // SLOT
            if first is not None and hour % 24 != 12:
                continue
            seen = (spend * 1e6).round()
            look = foretold(budget, QUARTERS, slots[:n], seen[:n], float(seen[:n].sum()), float(slots[n]))
            if first is None and look.alert:
                first = hour
            if hour in (36, 7 * 24 + 12, 14 * 24 + 12) and look.forecast is not None:
                told.append(
                    {"day": hour / 24, "said": look.forecast.sentence, "alert": look.alert, "spent": float(seen[:n].sum() / 1e6 / amount)}
                )
        out[name] = {"first_alert_hours": first, "told": told}
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--years", type=int, default=200, metavar="N", help="of clean spending; default: 200")
    parser.add_argument("--quarters", type=int, default=1000, metavar="N", help="that are forecast; default: 1000")
    parser.add_argument("--burns", type=int, default=200, metavar="N", help="that are to be told; default: 200")
    flags = parser.parse_args()
    result = {
        "clean": clean_years(flags.years), "burnt": burnt(flags.burns), "forecasts": covered(flags.quarters), "story": story(),
        "years": flags.years, "burns": flags.burns, "quarters": flags.quarters, "factor": BURN,
    }  # fmt: skip
    for name, value in result.items():
        print(name, value)
    print(write("burn_rate", {**result, **stamp()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
