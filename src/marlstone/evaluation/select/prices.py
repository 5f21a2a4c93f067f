"""What candidates cost: counted quantities at the prices of the package's table (`cost.prices`), or of `[price]`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import cache, cached_property
from typing import Any

from marlstone.core.errors import UserError, suggest
from marlstone.core.ledger import SHARED, Ledger
from marlstone.cost.prices import Price, PriceTable
from marlstone.cost.pricing import crossover

KINDS = {"step": "steps", "flop": "flops", "byte": "bytes", "message": "messages", "bit": "bits"}
"""What `[price]` calls one of each kind."""


@cache
def _shipped(kind: str) -> float:
    return PriceTable.shipped().unit(kind, SHARED, "train", datetime.now(UTC).date()) or 0.0


def _default(kind: str) -> Any:
    return field(default_factory=lambda: _shipped(kind))


@dataclass(frozen=True)
class Prices:
    """Of one unit each, in `currency`. Defaults are those of the package's `prices.toml`, which only give a scale: put your own bill in
    `[price]`.

    `step`: one joint step of the environment; `flop`: one operation of the networks, in acting or learning; `byte`: handed from actors
    to learners; `message`: between agents, one for each recipient; `bit`: of these.
    """

    currency: str = "USD"
    step: float = _default("steps")
    flop: float = _default("flops")
    byte: float = _default("bytes")
    message: float = _default("messages")
    bit: float = _default("bits")

    @classmethod
    def read(cls, table: Mapping[str, Any], where: str) -> "Prices":
        """Of a TOML table. Raises `UserError`."""
        known = [f.name for f in fields(cls)]
        for key, value in table.items():
            if key not in known:
                raise UserError(f"{where}: price.{key} is unknown; {suggest(key, known)}")
            if key != "currency" and (isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9):
                raise UserError(f"{where}: price.{key} = {value!r}: give a price of at least 0")
        return cls(**table)

    @cached_property
    def table(self) -> PriceTable:
        """The same as a table, which is hashed as any other."""
        entries = tuple(Price(kind, float(getattr(self, name))) for name, kind in KINDS.items())
        return PriceTable("select", self.currency, entries, "[price]")

    def of(self, spent: Ledger) -> float:
        """What was spent."""
        return sum(float(getattr(self, name)) * getattr(spent, kind) for name, kind in KINDS.items())


@dataclass(frozen=True)
class Cost:
    """What one candidate costs: `train`, all its seeds; `train_per_seed`; `per_1k_decisions` of one agent, acting alone, without the
    environment; `per_agent`, the training of one seed over its agents; `crossover_decisions`, after how many decisions acting has cost more
    than its training, all seeds of it (None: a decision costs nothing)."""

    currency: str
    train: float
    train_per_seed: float
    per_1k_decisions: float
    per_agent: float
    crossover_decisions: int | None = None

    @classmethod
    def of(
        cls, prices: Prices, ledgers: list[Mapping[str, int]], act_flops: int, agents: int, messages: float = 0.0, bits: float = 0.0
    ) -> "Cost":
        """The cost of one candidate from its seeds' ledgers, `act_flops` (FLOPs of acting, per joint step), its number of agents, and the
        `messages` and `bits` that the policy sends per joint step as it is deployed."""
        spent = [prices.of(Ledger(**x)) for x in ledgers]
        total, each = sum(spent), sum(spent) / len(spent)
        decision = (prices.flop * act_flops + prices.message * messages + prices.bit * bits) / agents
        return cls(prices.currency, total, each, 1000 * decision, each / agents, crossover(total, decision))
