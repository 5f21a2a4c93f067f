"""Declared limits: how much of what may be spent, by whom, until when, and what is done once it is used up.

Amounts are integers where they are kept: of money millionths of the currency, of a counted kind (`core.ledger`) the count.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from functools import cached_property
from typing import Literal
from zoneinfo import ZoneInfo

from marlstone.core.ledger import MICRO
from marlstone.cost.periods import Calendar, Period, Weekday

MONEY = "money"
"""Units of one unit of currency."""
LARGEST = 2**62
"""Of what is kept: two of them still fit 64 bits."""
SCOPES = ("account", "run", "agent", "request")
FOREVER = Period(-(2**62), 2**62, datetime.min.date(), datetime.max.date(), "ever")
"""The period of a budget that never renews."""


def units(of: str, amount: int | float | str | Decimal) -> int:
    """An amount as it is kept, exactly: 2.5 of money is 2,500,000, 100 tool calls are 100. Raises ValueError for anything finer."""
    try:
        exact = Decimal(repr(amount) if isinstance(amount, float) else amount) * (MICRO if of == MONEY else 1)
    except InvalidOperation as error:
        raise ValueError(f"amount is {amount!r}: give a number") from error
    if not exact.is_finite() or not 0 <= exact <= LARGEST:
        raise ValueError(f"amount is {amount!r}: give a number of at least 0, up to {words(of, LARGEST)} of {of}")
    if exact != int(exact):
        raise ValueError(f"amount is {amount!r}: {'give whole millionths of the currency' if of == MONEY else f'{of} are counted whole'}")
    return int(exact)


def words(of: str, kept: int) -> str:
    """An amount as a person reads it."""
    if of != MONEY:
        return f"{kept:,}"
    text = f"{Decimal(kept) / MICRO:,.6f}"
    whole, _, part = text.partition(".")
    return f"{whole}.{part.rstrip('0').ljust(2, '0')}"


@dataclass(frozen=True)
class Budget:
    """One limit.

    Args:
      name: what it is called; an account has one budget of a name.
      amount: how much may be spent in each period: money in the currency of the price table, to the millionth; of a kind a whole number.
      of: `money`, or a kind that the ledger counts, such as `tool_calls` or `steps`.
      period: `day`, `week`, `month`, `quarter` or `year`, at whose end it renews; `none`: it never does.
      scope: whom it limits: the `account` as a whole, each `run`, each `agent` or each root `request` by itself. What is spent
        without naming one (an agent, say) is not limited by such a budget.
      limit: `hard` refuses what would pass it; `soft` admits it and alerts.
      fallback: what whoever is refused does instead: `stop` ends the work in order, to be resumed; any other word is the
        caller's own (`default`: the declared default action), and training and evaluation know only `stop`.
      zone: the IANA time zone in which periods begin. week_start, fiscal_start: see `Calendar`.

    Raises: ValueError naming field, value and remedy.
    """

    name: str
    amount: float
    of: str = MONEY
    period: Literal["none", "day", "week", "month", "quarter", "year"] = "none"
    scope: Literal["account", "run", "agent", "request"] = "run"
    limit: Literal["hard", "soft"] = "hard"
    fallback: str = "stop"
    zone: str = "UTC"
    week_start: Weekday = "monday"
    fiscal_start: int = 1

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ValueError("name is empty: give the budget a name")
        if not re.fullmatch(r"[a-z][a-z_]*", self.of):
            raise ValueError(f"of is {self.of!r}: give {MONEY}, or a kind that is counted, such as steps or tool_calls")
        if self.scope not in SCOPES:
            raise ValueError(f"scope is {self.scope!r}: choose one of {', '.join(SCOPES)}")
        if self.limit not in ("hard", "soft"):
            raise ValueError(f"limit is {self.limit!r}: choose hard or soft")
        if not self.fallback.strip():
            raise ValueError("fallback is empty: say what is done instead, such as stop")
        try:
            _ = self.units, self.calendar
        except ValueError as error:
            raise ValueError(f"budget {self.name!r}: {error}") from error

    @cached_property
    def units(self) -> int:
        """The amount as it is kept."""
        return units(self.of, self.amount)

    @cached_property
    def calendar(self) -> Calendar | None:
        """Its periods; None where it never renews."""
        days = Calendar("day" if self.period == "none" else self.period, self.zone, self.week_start, self.fiscal_start)
        return None if self.period == "none" else days

    def at(self, now: float) -> Period:
        """The period that holds an instant."""
        return FOREVER if self.calendar is None else self.calendar.period(now)


@dataclass(frozen=True)
class Refusal:
    """Why something may not be spent: `budget` would be passed. `key`: the run, agent or request that it limits, else empty;
    `wanted`, `left`, `spent`, `reserved` in units; `period`: in which it is used up; `fallback`: what to do instead."""

    budget: Budget
    key: str
    period: Period
    wanted: int
    spent: int
    reserved: int

    @property
    def left(self) -> int:
        """What may still be spent."""
        return max(0, self.budget.units - self.spent - self.reserved)

    @property
    def fallback(self) -> str:
        """What was declared to be done instead."""
        return self.budget.fallback

    @property
    def renews(self) -> int | None:
        """When, in seconds since 1970; None: never."""
        return None if self.budget.calendar is None else self.period.end

    @property
    def message(self) -> str:
        """In words: what was wanted, what is left, when it renews, and what would have to change."""
        of, b = self.budget.of, self.budget
        say = lambda x: words(of, x)
        whose = f" of {b.scope} {self.key}" if self.key else ""
        when = "it never renews"
        if self.renews is not None:
            when = f"it renews on {datetime.fromtimestamp(self.renews, ZoneInfo(b.zone)):%Y-%m-%d %H:%M} ({b.zone})"
        per = "" if b.calendar is None else f" in {self.period.name}"
        remedy = f"raise it by {say(self.wanted - self.left)} or more"
        remedy += ", or ask for less" if self.left else ""
        return (
            f"budget {b.name!r}{whose} ({say(b.units)} {of}{per}) would be passed: {say(self.wanted)} wanted, {say(self.left)} left "
            f"({say(self.spent)} spent, {say(self.reserved)} reserved); {when}; {remedy}"
        )

    def record(self) -> dict[str, object]:
        """As JSON."""
        return {
            "budget": self.budget.name, "of": self.budget.of, "key": self.key, "period": self.period.name, "wanted": self.wanted,
            "left": self.left, "spent": self.spent, "reserved": self.reserved, "renews": self.renews, "fallback": self.fallback,
            "message": self.message,
        }  # fmt: skip


class BudgetRefused(RuntimeError):
    """A hard budget would be passed; `refusal` says by what, and the caller takes its declared fallback."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal
