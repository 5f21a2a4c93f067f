"""What an account writes within a transaction: balances, what was spent, and what is to be told."""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from marlstone.cost.budgets import Budget

SLOT = 300
"""Seconds by which spending is kept."""
Shares = Mapping[str, Mapping[str, int]]
"""Amounts by agent and kind; those of no agent in particular under an empty name."""
Hold = tuple[str, str, int, int]
"""What is held of a budget: its name, the key it limits, the beginning of the period, the amount."""


@dataclass(frozen=True)
class Shared:
    """What is wanted or was spent: `amounts` in all, and `by` agent, for whom."""

    amounts: Mapping[str, int]
    by: Shares
    run: str
    request: str

    def of(self, budget: Budget) -> list[tuple[str, int]]:
        """How much of it each key of a budget bears; nothing where it is of another kind, or names nobody that the budget limits."""
        if budget.scope == "agent":
            return [(agent, kinds[budget.of]) for agent, kinds in self.by.items() if agent and budget.of in kinds]
        key = {"account": "", "run": self.run, "request": self.request}[budget.scope]
        return [(key, self.amounts[budget.of])] if budget.of in self.amounts and (key or budget.scope == "account") else []


def change(
    db: sqlite3.Connection, name: str, key: str, period: int, now: float, *, spent: int = 0, reserved: int = 0, overrun: int = 0,
    refused: int = 0,
) -> None:  # fmt: skip
    """Add to a budget's balance."""
    db.execute(
        "INSERT INTO balances VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO UPDATE SET spent = spent + ?4, "
        "reserved = reserved + ?5, overrun = overrun + ?6, refused = refused + ?7, touched = ?8",
        (name, key, period, spent, reserved, overrun, refused, now),
    )


def record(db: sqlite3.Connection, now: float, run: str, by: Shares) -> None:
    """Add to what was spent, by agent and kind."""
    slot = int(now // SLOT * SLOT)
    rows = [(slot, run, agent, kind, n) for agent, kinds in by.items() for kind, n in kinds.items() if n]
    db.executemany("INSERT INTO spend VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO UPDATE SET amount = amount + ?5", rows)


def alert(db: sqlite3.Connection, name: str, key: str, period: int, what: str, amount: int, now: float) -> None:
    """Something to be told, once more."""
    db.execute(
        "INSERT INTO alerts VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6) ON CONFLICT DO UPDATE SET times = times + 1, amount = amount + ?6",
        (name, key, period, what, now, amount),
    )
