"""What counted quantities cost. The ledger counts; a table, written down beside the answer, prices."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from marlstone.core.errors import UserError, suggest
from marlstone.core.ledger import Ledger


@dataclass(frozen=True)
class Prices:
    """Of one unit each, in `currency`. Defaults are a processor's: 0.05 an hour of one core, which makes 50 GFLOP/s of such networks'
    products, or 50,000 steps/s of a light simulator; bytes at 0.01 per GB. They only give a scale: put your own bill in `[price]`.

    `step`: one joint step of the environment; `flop`: one operation of the networks, in acting or learning; `byte`: handed from actors
    to learners; `message`: between agents, one for each recipient; `bit`: of these (an eighth of a byte's).
    """

    currency: str = "USD"
    step: float = 2.8e-10
    flop: float = 2.8e-16
    byte: float = 1e-11
    message: float = 1e-9
    bit: float = 1.25e-12

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

    def of(self, spent: Ledger) -> float:
        """What was spent."""
        sent = self.message * spent.messages + self.bit * spent.bits
        return self.step * spent.steps + self.flop * spent.flops + self.byte * spent.bytes + sent


@dataclass(frozen=True)
class Cost:
    """What one candidate costs: `train`, all its seeds; `train_per_seed`; `per_1k_decisions` of one agent, acting alone, without the
    environment; `per_agent`, the training of one seed over its agents."""

    currency: str
    train: float
    train_per_seed: float
    per_1k_decisions: float
    per_agent: float

    @classmethod
    def of(
        cls, prices: Prices, ledgers: list[Mapping[str, int]], act_flops: int, agents: int, messages: float = 0.0, bits: float = 0.0
    ) -> "Cost":
        """The cost of one candidate from its seeds' ledgers, `act_flops` (FLOPs of acting, per joint step), its number of agents, and the
        `messages` and `bits` that the policy sends per joint step as it is deployed."""
        spent = [prices.of(Ledger(**x)) for x in ledgers]
        total, each = sum(spent), sum(spent) / len(spent)
        decision = (prices.flop * act_flops + prices.message * messages + prices.bit * bits) / agents
        return cls(prices.currency, total, each, 1000 * decision, each / agents)
