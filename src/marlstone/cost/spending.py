"""What an account says of the past: where budgets stand, what was spent by agent, kind and day, and what is to be told."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import numpy as np

from marlstone.cost.account_rows import SLOT
from marlstone.cost.accounts import Account
from marlstone.cost.budgets import Budget
from marlstone.cost.periods import Period, local_date

GROUPS = ("run", "agent", "kind", "day")


@dataclass(frozen=True)
class Balance:
    """Where one budget stands in one period, for one `key` (a run, agent or request; empty for the account); amounts in units.
    `refused`: how often something was."""

    budget: Budget
    key: str
    period: Period
    spent: int
    reserved: int
    overrun: int
    refused: int

    @property
    def left(self) -> int:
        """What may still be spent."""
        return max(0, self.budget.units - self.spent - self.reserved)


@dataclass(frozen=True)
class Alert:
    """Something to be told of a budget in one period, by its beginning: `what` is `soft` (passed), `refused`, `overrun`, or
    `presumed` (begun by a process that died, and counted as spent); `first` at, `times` in all, of `amount` units together."""

    budget: str
    key: str
    period: int
    what: str
    first: float
    times: int
    amount: int


@dataclass(frozen=True)
class Spent:
    """An amount of a kind, and what it is of; what was not asked for is empty."""

    run: str
    agent: str
    kind: str
    day: str
    amount: int


def balances(account: Account, now: float | None = None) -> list[Balance]:
    """Where every budget stands in the period of `now` (None: the clock's); the account's own too where nothing was spent."""
    at, found = account.clock() if now is None else now, []
    for budget in account.budgets:
        period = budget.at(at)
        with account.reading() as db:
            rows = db.execute(
                "SELECT key, spent, reserved, overrun, refused FROM balances WHERE budget = ? AND period = ? ORDER BY key",
                (budget.name, period.start),
            ).fetchall()
        if not rows and budget.scope == "account":
            rows = [("", 0, 0, 0, 0)]
        found += [Balance(budget, key, period, *numbers) for key, *numbers in rows]
    return found


def alerts(account: Account, now: float | None = None) -> list[Alert]:
    """What is to be told of the periods that hold `now`."""
    at = account.clock() if now is None else now
    current = {b.name: b.at(at).start for b in account.budgets}
    with account.reading() as db:
        rows = db.execute("SELECT budget, key, period, what, first, times, amount FROM alerts ORDER BY first").fetchall()
    return [alert for alert in (Alert(*row) for row in rows) if current.get(alert.budget) == alert.period]


def spent(
    account: Account, by: Sequence[str] = ("kind",), *, since: float = -(2.0**62), until: float = 2.0**62, zone: str = "UTC"
) -> list[Spent]:
    """What was spent, summed by some of run, agent, kind and day (in a time zone); amounts of different kinds are never added.

    Raises: ValueError for a word that is none of these.
    """
    if stray := sorted(set(by) - set(GROUPS)):
        raise ValueError(f"by has {stray[0]!r}: choose of {', '.join(GROUPS)}")
    tz, sums = ZoneInfo(zone), defaultdict[tuple[str, str, str, str], int](int)
    days = dict[int, str]()
    with account.reading() as db:
        for slot, run, agent, kind, amount in db.execute(
            "SELECT slot, run, agent, kind, amount FROM spend WHERE slot >= ? AND slot < ?", (int(since), int(until))
        ):
            if slot not in days:
                days[slot] = local_date(slot, tz).isoformat()
            key = {"run": run, "agent": agent, "day": days[slot]}
            sums[(*(key[g] if g in by else "" for g in ("run", "agent")), kind, days[slot] if "day" in by else "")] += amount
    return [Spent(*key, amount) for key, amount in sorted(sums.items(), key=lambda x: (x[0][3], *x[0][:3])) if amount]


def series(account: Account, budget: Budget, key: str, since: float, until: float) -> tuple[np.ndarray, np.ndarray]:
    """What was spent of a budget's kind by those it limits, in slots of 300 s: the beginnings of all from `since` until before
    `until`, and amounts.

    Raises: ValueError for a budget of root requests, which spending is not kept by.
    """
    where, values = {"account": ("", ()), "run": (" AND run = ?", (key,)), "agent": (" AND agent = ?", (key,))}.get(
        budget.scope, ("", None)
    )
    if values is None:
        raise ValueError(f"budget {budget.name!r} is of root requests, and spending is kept by run, agent and kind: it has no history")
    first = int(since // SLOT * SLOT)
    slots = np.arange(first, max(first, int(until)), SLOT)
    amounts = np.zeros(len(slots))
    with account.reading() as db:
        rows = db.execute(
            f"SELECT slot, SUM(amount) FROM spend WHERE kind = ? AND slot >= ? AND slot < ?{where} GROUP BY slot",
            (budget.of, first, int(until), *values),
        )
        for slot, amount in rows:
            amounts[(slot - first) // SLOT] = amount
    return slots, amounts
