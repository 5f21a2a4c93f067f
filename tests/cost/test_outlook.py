"""A budget that burns is told of in time, a clean one is left alone, and forecasts hold what they say."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from marlstone.cost.account_rows import SLOT
from marlstone.cost.accounts import Account
from marlstone.cost.budgets import Budget
from marlstone.cost.burn_rate import Rule, above_scatter, alarms, burns, firing, planned, rules, trailing
from marlstone.cost.forecast import forecast, learned, said
from marlstone.cost.outlook import foretold, outlook
from marlstone.cost.periods import DAY, Calendar
from marlstone.cost.seasons import Season
from marlstone.cost.seasons import learned as season_of
from marlstone.cost.spending import balances

DAILY = DAY // SLOT
QUARTERS = Calendar("quarter")
BEGIN = int(datetime(2026, 4, 1, tzinfo=UTC).timestamp())
WEEK = np.array([1.2, 1.25, 1.2, 1.15, 1.05, 0.35, 0.3]) / 6.5 * 7
BUDGET = Budget("quarter", 9.1, period="quarter", scope="account")


def spending(days: int, seed: int = 0, begin: int = BEGIN, cv: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Slots and what is spent in them: 0.1 of money a day in the mean, in weeks and hours and bursts."""
    rng = np.random.default_rng(seed)
    slots = begin + SLOT * np.arange(days * DAILY)
    first = datetime.fromtimestamp(begin, UTC).weekday()
    day = WEEK[(first + np.arange(days)) % 7] * rng.lognormal(-(cv**2) / 2, cv, days)
    hour = np.repeat(1 + 0.7 * np.sin(2 * np.pi * np.arange(24) / 24), 12)
    mean = np.outer(day, hour).ravel() / DAILY * 100_000
    return slots, rng.gamma(0.5, 2.0, mean.size) * mean


def test_thresholds_of_30_days_are_the_workbooks_and_others_follow_the_period() -> None:
    burn = lambda days: {r.name: round(r.burn, 2) for r in rules(days) if r.name != "day"}
    assert burn(30) == {"hour": 14.4, "six hours": 6.0, "three days": 1.0}
    assert burn(91) == {"hour": 43.68, "six hours": 18.2, "three days": 3.03}
    assert [r.name for r in rules(1)] == ["hour", "six hours"]  # a window longer than half of the period says nothing in time
    for r in rules(91):
        assert r.short < r.long and (r.long, r.short) != (0, 0)


def test_no_threshold_lies_within_the_scatter() -> None:
    wild, calm = (Season(scatter=tuple((w, v) for w in (3 * DAY, DAY, 21600, 3600))) for v in (1.0, 0.001))
    table = rules(7)
    high, low = above_scatter(table, wild), above_scatter(table, calm)
    assert all(a.burn >= b.burn >= max(c.burn, 1) for a, b, c in zip(high, low, table, strict=True)) and high[0].burn > 3


def test_the_plan_spends_the_budget_exactly_in_each_period() -> None:
    slots = BEGIN + SLOT * np.arange(183 * DAILY)
    season = Season(WEEK, np.linspace(0.5, 1.5, 24))
    plan = planned(7.0, QUARTERS, season, slots)
    assert plan[: 91 * DAILY].sum() == pytest.approx(7) and plan[91 * DAILY :].sum() == pytest.approx(7)
    assert burns(plan, plan, rules(91))[0].long == pytest.approx(1)


def test_windows_are_sums_and_alert_together() -> None:
    amounts = np.array([0.0, 0, 8, 0, 0, 0, 8, 8])
    assert trailing(amounts, 3 * SLOT).tolist() == [0, 0, 8, 8, 8, 0, 8, 16]
    fired = firing(amounts, np.ones(8), [Rule("x", 4.0, 3 * SLOT, SLOT)])
    assert fired[0].tolist() == [False, False, False, False, False, False, False, True]
    assert alarms(np.array([True, True, False, True])) == 1 and alarms(np.array([True, *[False] * DAILY, True])) == 2
    assert alarms(np.zeros(5, bool)) == 0


def test_a_season_is_learned_and_days_of_rest_are_no_burn() -> None:
    slots, amounts = spending(70)
    season = season_of(slots, amounts, QUARTERS.tz, (DAY,))
    assert np.abs(season.weekday - WEEK).max() < 0.25 and season.hour.argmax() in (5, 6, 7) and 0.02 < season.variance(DAY) < 0.1
    assert not season_of(slots, 0 * amounts, QUARTERS.tz).scatter


@pytest.mark.parametrize("seed", range(3))
def test_a_quarter_burnt_in_three_weeks_is_told_within_a_day_and_clean_ones_hardly_ever_are(seed: int) -> None:
    slots, amounts = spending(56 + 182, seed, BEGIN - 56 * DAY)
    before = 56 * DAILY
    season = season_of(slots[:before], amounts[:before], QUARTERS.tz, (3 * DAY, DAY, 21600, 3600))
    plan, table = planned(9.1e6, QUARTERS, season, slots), above_scatter(rules(91), season)
    start = before + (3 + 20 * seed) * DAILY + 77
    burnt = np.where(np.arange(len(slots)) >= start, 13 / 3, 1.0) * amounts
    naive = firing(amounts, planned(9.1e6, QUARTERS, Season(), slots), [r for r in rules(30) if r.name != "day"])
    assert alarms(firing(amounts, plan, table).any(0)[before:]) <= 2 < 10 < alarms(naive.any(0)[before:])
    assert 0 < np.argmax(firing(burnt, plan, table).any(0)[start:]) + 1 <= DAILY


def test_intervals_cover_what_they_say() -> None:
    rng, held = np.random.default_rng(5), 0
    for k in range(120):
        slots_of_days = rng.lognormal(0, 0.3, 91) * WEEK[np.arange(91) % 7]
        now = int(rng.integers(10, 80))
        level = learned(slots_of_days[:now], np.arange(now) % 7)
        told = forecast(91, slots_of_days[:now].sum(), level, date(2026, 6, 1) + timedelta(days=now), 1.0, 90 - now, seed=k)
        assert told.low < told.total < told.high
        held += told.low <= slots_of_days.sum() <= told.high
    assert 0.7 <= held / 120 <= 0.9  # 80%, and three standard errors


def test_a_forecast_follows_a_change_and_repeats() -> None:
    days = np.concatenate([np.full(30, 1.0), np.full(4, 4.0)]) * WEEK[np.arange(34) % 7]
    days *= np.random.default_rng(0).lognormal(0, 0.1, 34)
    level = learned(days, np.arange(34) % 7)
    assert level.changed == 4 and level.means.mean() == pytest.approx(4, rel=0.15)
    tell = lambda: forecast(91, days.sum(), level, date(2026, 5, 5), 1.0, 56)
    told = tell()
    assert told == tell() and told.gone is not None and told.gone_low is not None and told.gone_low <= told.gone
    assert told.gone < date(2026, 5, 20) and told.sentence.startswith(f"spent by {said(told.gone)} (80% interval: ")


def test_sentences_of_budgets_that_last() -> None:
    level = learned(np.full(21, 1.0), np.arange(21) % 7)
    assert forecast(100, 21, level, date(2026, 5, 5), 1.0, 10).sentence.startswith("lasts: 3")
    assert forecast(32.4, 21, level, date(2026, 5, 5), 1.0, 10).sentence.startswith("probably lasts")
    assert (said(date(2026, 12, 19)), said(date(2026, 1, 1)), said(date(2026, 1, 12))) == (
        "the 19th of December",
        "the 1st of January",
        "the 12th of January",
    )


def test_the_outlook_of_an_account_says_what_its_history_says() -> None:
    slots, amounts = spending(20, 1)
    clock = [0.0]
    with Account(None, [BUDGET, Budget("run", 5, "tool_calls")], clock=lambda: clock[0]) as account:
        burnt = np.where(np.arange(len(slots)) > 18 * DAILY, 13 / 3, 1.0) * amounts
        for at, n in zip(slots[::12], burnt.round().astype(int).reshape(-1, 12).sum(1), strict=True):  # an hour's at a time
            clock[0] = float(at)
            account.settle(account.reserve({"money": int(n)}, run="r"))
        clock[0] = float(slots[-1] + SLOT)
        balance = balances(account)[0]
        look = outlook(account, balance)
        hourly = np.where(np.arange(len(slots)) % 12 == 0, 1, 0) * np.repeat(burnt.round().astype(int).reshape(-1, 12).sum(1), 12)
        assert look == foretold(BUDGET, QUARTERS, slots, hourly.astype(float), float(balance.spent), clock[0])
        assert look.alert and look.forecast is not None and look.forecast.changed and look.forecast.gone is not None
        account.settle(account.reserve({"tool_calls": 1}, run="r"))
        assert [outlook(account, b).burns for b in balances(account) if b.budget.name == "run"] == [()]
