"""Calendar periods tile time, in every time zone and over every change of clocks."""

from datetime import UTC, date, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marlstone.cost.periods import KINDS, WEEKDAYS, Calendar, days_of, start_of

ZONES = sorted(available_timezones() - {"localtime", "Factory"})
CALENDARS = st.builds(Calendar, st.sampled_from(KINDS), st.sampled_from(ZONES), st.sampled_from(WEEKDAYS), st.integers(1, 12))
INSTANTS = st.floats(-5e9, 1e10) | st.integers(-5_000_000_000, 10_000_000_000)
# Clocks that went forward over midnight, back over midnight, back past it, forward before it, and a day that was skipped.
ODD = [
    ("America/Sao_Paulo", 2018, 11, 4), ("Asia/Beirut", 2022, 3, 27), ("America/Havana", 2022, 11, 6), ("America/St_Johns", 2010, 11, 7),
    ("America/Toronto", 1919, 3, 31), ("Pacific/Apia", 2011, 12, 30), ("Africa/Monrovia", 1972, 1, 7), ("Europe/Berlin", 2026, 3, 29),
]  # fmt: skip


def utc(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp())


@settings(max_examples=150, deadline=None)
@given(CALENDARS, INSTANTS)
def test_every_instant_is_in_exactly_one_period_and_periods_tile(calendar: Calendar, at: float) -> None:
    here = calendar.period(at)
    before, after = calendar.before(here), calendar.after(here)
    assert at in here and at not in before and at not in after
    assert before.end == here.start and here.end == after.start and before.after == here.first and here.after == after.first
    assert here.start < here.end
    assert calendar.period(here.start) == here and calendar.period(here.end) != here


@pytest.mark.parametrize(("zone", "year", "month", "day"), ODD)
def test_odd_changes_of_clocks_tile_too(zone: str, year: int, month: int, day: int) -> None:
    calendar, around = Calendar("day", zone), utc(year, month, day)
    at, seen = around - 3 * 86_400, []
    while at < around + 3 * 86_400:
        here = calendar.period(at)
        assert at in here
        seen.append(here)
        at += 599
    starts = list(dict.fromkeys((p.start, p.end) for p in seen))
    assert all(a[1] == b[0] for a, b in pairwise(starts))
    tz = ZoneInfo(zone)
    for here in seen:  # no instant before its beginning has its date, unless midnight came twice
        assert datetime.fromtimestamp(here.start - 1, tz).date() < here.first <= datetime.fromtimestamp(here.start, tz).date()


def test_days_have_23_or_25_hours_where_clocks_change() -> None:
    berlin = Calendar("day", "Europe/Berlin")
    assert (berlin.period(utc(2026, 3, 29, 12)).days * 24, berlin.period(utc(2026, 10, 25, 12)).days * 24) == (23, 25)
    year = Calendar("year", "Europe/Berlin").period(utc(2026, 6, 1))
    assert year.days == 365 and sum(d.end - d.start for d in days_of(year.start, year.end, berlin.tz)) == year.end - year.start


def test_a_skipped_midnight_begins_when_clocks_change() -> None:
    assert start_of(date(2018, 11, 4), ZoneInfo("America/Sao_Paulo")) == utc(2018, 11, 4, 3)
    assert start_of(date(1919, 3, 31), ZoneInfo("America/Toronto")) == utc(1919, 3, 31, 4, 30)  # from 23:30 to 0:30
    apia = ZoneInfo("Pacific/Apia")
    assert start_of(date(2011, 12, 30), apia) == start_of(date(2011, 12, 31), apia) == utc(2011, 12, 30, 10)


def test_offsets_of_weeks_and_fiscal_years() -> None:
    at = utc(2026, 11, 28, 12)  # a Saturday
    name = lambda *given: Calendar(*given).period(at).name
    assert name("week") == "week from 2026-11-23" and name("week", "UTC", "sunday") == "week from 2026-11-22"
    assert name("quarter") == "2026-Q4" and name("quarter", "UTC", "monday", 2) == "quarter from 2026-11-01"
    assert name("year", "UTC", "monday", 4) == "year from 2026-04-01" and name("month") == "2026-11" and name("year") == "2026"


def test_what_is_no_calendar_is_refused() -> None:
    for odd, word in (
        (("day", "Mars/Olympus"), "IANA"),
        (("day", "../etc"), "IANA"),
        (("fortnight",), "choose"),
        (("year", "UTC", "monday", 13), "month"),
    ):
        with pytest.raises(ValueError, match=word):
            Calendar(*odd)
    with pytest.raises(ValueError, match="1970"):
        Calendar("year").period(1e18)
