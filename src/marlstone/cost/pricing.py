"""Counted quantities as money: what each amount costs at the prices of its day, sums of it, and when acting has cost more than training."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date

from marlstone.core.ledger import Costs
from marlstone.cost.prices import PriceTable

Entry = tuple[date, str, str, str, int]
"""Day, phase, agent, kind and amount."""


@dataclass(frozen=True)
class Item:
    """One amount and what it costs; `unit`: the price of one, None where the table has none."""

    day: date
    phase: str
    agent: str
    kind: str
    amount: int
    unit: float | None
    cost: float


def priced(entries: Iterable[Entry], table: PriceTable) -> list[Item]:
    """Every amount at the price of its day. Raises `UserError` for a day before a price's first."""
    out = []
    for day, phase, agent, kind, amount in entries:
        unit = table.unit(kind, agent, phase, day)
        out.append(Item(day, phase, agent, kind, amount, unit, 0.0 if unit is None else amount * unit))
    return out


def on_day(costs: Costs, day: date) -> list[Entry]:
    """All that was counted, as of one day."""
    return [(day, *entry) for entry in costs.entries()]


def total(items: Iterable[Item]) -> float:
    """What they cost together: float64, added without loss."""
    return math.fsum(x.cost for x in items)


def summed(items: Iterable[Item], by: Callable[[Item], str]) -> dict[str, float]:
    """What they cost by anything that is said of each, in the order in which it comes."""
    parts: dict[str, list[Item]] = {}
    for x in items:
        parts.setdefault(by(x), []).append(x)
    return {key: total(mine) for key, mine in parts.items()}


def unpriced(items: Iterable[Item]) -> list[str]:
    """Kinds of which the table has no price; decisions have none unless a table gives one."""
    return list(dict.fromkeys(x.kind for x in items if x.unit is None and x.kind != "decisions"))


def crossover(training: float, per_decision: float) -> int | None:
    """After how many decisions acting has cost more than training did; None where a decision costs nothing."""
    return None if per_decision <= 0 else math.floor(training / per_decision) + 1
