"""Calendar periods in a time zone: day, week, month, quarter, year. They tile time: every instant lies in exactly one.

A period begins with the first instant of a local date. Where clocks go forward over midnight that is the instant they do; where midnight
comes twice it is the first of both. A day so has 23, 24 or 25 hours (or another number), and one that a zone skipped (Samoa's 30th of
December 2011) has none. Instants are seconds since 1970, UTC, as `time.time()` gives them.
"""

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import Literal, get_args
from zoneinfo import ZoneInfo

Kind = Literal["day", "week", "month", "quarter", "year"]
Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
KINDS: tuple[str, ...] = get_args(Kind)
WEEKDAYS: tuple[str, ...] = get_args(Weekday)
DAY = 86_400
YEARS = (2, 9997)
"""Years that periods may lie in: one on either side of them is still a date."""


@dataclass(frozen=True)
class Period:
    """One period: from `start` until before `end`, in seconds since 1970; `first` is its first local date, `after` the first one after it.

    `name`: as a person reads it, `2026-11` or `quarter from 2026-10-01`.
    """

    start: int
    end: int
    first: date
    after: date
    name: str

    @property
    def days(self) -> float:
        """Its length in days of 24 hours."""
        return (self.end - self.start) / DAY

    def __contains__(self, at: float) -> bool:
        return self.start <= at < self.end


@dataclass(frozen=True)
class Calendar:
    """Which periods there are.

    Args:
      kind: day, week, month, quarter or year.
      zone: an IANA time zone, such as Europe/Berlin.
      week_start: the first day of a week.
      fiscal_start: the month, 1 to 12, in which fiscal years begin; quarters are counted from it.

    Raises: ValueError for an unknown zone or kind.
    """

    kind: Kind
    zone: str = "UTC"
    week_start: Weekday = "monday"
    fiscal_start: int = 1

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"period is {self.kind!r}: choose one of {', '.join(KINDS)}")
        if self.week_start not in WEEKDAYS:
            raise ValueError(f"week_start is {self.week_start!r}: choose one of {', '.join(WEEKDAYS)}")
        if not 1 <= self.fiscal_start <= 12:
            raise ValueError(f"fiscal_start is {self.fiscal_start}: give a month, 1 to 12")
        try:
            _ = self.tz
        except (KeyError, ValueError, OSError) as error:  # no such key, a path, a folder of zones
            raise ValueError(f"zone is {self.zone!r}: there is no such time zone; give an IANA name, such as Europe/Berlin") from error

    @cached_property
    def tz(self) -> ZoneInfo:
        """The time zone."""
        return ZoneInfo(self.zone)

    def period(self, at: float) -> Period:
        """The one that holds an instant, in seconds since 1970. Raises ValueError where no calendar reaches."""
        first = self._first(local_date(at, self.tz))
        while at >= start_of(self._after(first), self.tz):  # clocks went back past midnight, into the date before
            first = self._after(first)
        return self._made(first)

    def after(self, period: Period) -> Period:
        """The next one."""
        return self._made(period.after)

    def before(self, period: Period) -> Period:
        """The one before."""
        return self._made(self._before(period.first))

    def _made(self, first: date) -> Period:
        after = self._after(first)
        return Period(start_of(first, self.tz), start_of(after, self.tz), first, after, self._name(first))

    def _first(self, day: date) -> date:
        """The first date of the period that a date is in."""
        match self.kind:
            case "day":
                return day
            case "week":
                return day - timedelta(days=(day.weekday() - WEEKDAYS.index(self.week_start)) % 7)
            case "month":
                return day.replace(day=1)
        months = {"quarter": 3, "year": 12}[self.kind]
        return _moved(day.replace(day=1), -((day.month - self.fiscal_start) % months))

    def _after(self, first: date) -> date:
        if self.kind in ("day", "week"):
            return first + timedelta(days=1 if self.kind == "day" else 7)
        return _moved(first, {"month": 1, "quarter": 3, "year": 12}[self.kind])

    def _before(self, first: date) -> date:
        return self._first(first - timedelta(days=1))

    def _name(self, first: date) -> str:
        if self.kind == "day":
            return first.isoformat()
        if self.kind == "month":
            return f"{first:%Y-%m}"
        if self.fiscal_start == 1 and self.kind == "quarter":
            return f"{first.year}-Q{(first.month + 2) // 3}"
        return f"{first.year}" if self.fiscal_start == 1 and self.kind == "year" else f"{self.kind} from {first.isoformat()}"


def _moved(first: date, months: int) -> date:
    """The first of the month so many months later."""
    count = 12 * first.year + first.month - 1 + months
    return date(count // 12, count % 12 + 1, 1)


def local_date(at: float, tz: ZoneInfo) -> date:
    """The date of an instant in a zone. Raises ValueError where no calendar reaches."""
    try:
        local = datetime.fromtimestamp(math.floor(at), tz)
    except (OverflowError, OSError, ValueError) as error:
        raise ValueError(f"the instant {at!r} lies in no calendar: give seconds since 1970") from error
    if not YEARS[0] <= local.year <= YEARS[1]:
        raise ValueError(f"the year {local.year} is too far away: give seconds since 1970, between the years {YEARS[0]} and {YEARS[1]}")
    return local.date()


def start_of(day: date, tz: ZoneInfo) -> int:
    """The first instant of a local date."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=tz)
    early = _seconds(midnight)
    if datetime.fromtimestamp(early, tz).replace(tzinfo=None) == midnight.replace(tzinfo=None):
        return early  # fold = 0: the first, where it comes twice
    low, high = sorted((early, _seconds(midnight.replace(fold=1))))  # it never comes: clocks go over it between these two
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if datetime.fromtimestamp(middle, tz).date() >= day else (middle, high)
    return high


def _seconds(local: datetime) -> int:
    return round((local.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())


def days_of(start: int, end: int, tz: ZoneInfo) -> list[Period]:
    """The local days that tile a span between two local midnights, those of no length left out."""
    calendar, found = Calendar("day", str(tz)), list[Period]()
    day = calendar.period(start)
    while day.start < end:
        found.append(day)
        day = calendar.after(day)
        while day.start == day.end:
            day = calendar.after(day)
    return found
