"""Budgets while a run trains or is judged: what the next updates or episodes may cost is reserved before, and settled with what
the ledger counts.

Before an update nobody knows all that it will cost. Steps, decisions, FLOPs and bytes are known; of the rest as much is reserved as
the most that an update took so far, and a tenth more. What then was spent beyond is admitted afterwards, if the budget has it; if
not, it is an overrun, and training ends there. Evaluations are reserved by the lengths of episodes so far.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from marlstone.config import RunConfig
from marlstone.core.errors import BudgetUsedUp, UserError, suggest
from marlstone.core.ledger import KINDS, MICRO, SHARED, Amounts, Costs
from marlstone.cost.accounts import Account, Reservation
from marlstone.cost.budgets import MONEY, Refusal
from marlstone.cost.prices import PriceTable
from marlstone.cost.spending import alerts, balances
from marlstone.runs.directory import ACCOUNT, RunDirectory
from marlstone.training.spending import Rates

MORE = 1.1
"""Of what an update took so far is reserved for the next."""
LONGER = 2.0
"""Times the mean length of episodes so far is reserved for each that is played to judge."""


def steps_to_judge(episodes: int, seeds: int, rows: int, ended: int, most: int) -> int:
    """Joint steps that are reserved for `episodes` of each seed: by the mean length so far, of `ended` episodes in `rows` steps; where
    none ended, of the longest that is played (`most`)."""
    return math.ceil((LONGER * rows / ended if ended else most) * episodes) * seeds


@dataclass
class Budgeting:
    """The account of a run. `now`: what was spent so far, over all its lives; `settled`: what of it the account knows. By
    agent, of this life: `owed`, what it is priced at, each part at the prices of its day, and `money`, the millionths that were
    settled. `most`: what an update took at most, by agent and kind; `refusal`: what ended the run."""

    account: Account
    table: PriceTable
    run: str
    now: Callable[[], Costs]
    settled: Costs
    owed: dict[str, float] = field(default_factory=dict)
    money: Amounts = field(default_factory=dict)
    most: dict[str, dict[str, float]] = field(default_factory=dict)
    refusal: Refusal | None = None
    held: tuple[Reservation, dict[str, Amounts]] | None = None

    @classmethod
    def of(cls, config: RunConfig, run: RunDirectory, now: Callable[[], Costs], settled: Costs, begins: bool) -> "Budgeting | None":
        """As configured; None where nothing is. `settled`: what earlier lives of the run did; `begins`: whether it begins, so that its
        budgets are declared as configured: one that goes on takes them as the account has them. Raises `UserError` for a kind that is
        not counted."""
        if config.account is None and not config.budgets:
            return None
        kinds = (MONEY, *KINDS)
        if odd := next((b for b in config.budgets if b.of not in kinds), None):
            raise UserError(f"budget {odd.name!r}: of = {odd.of!r}, which is not counted; {suggest(odd.of, kinds)}")
        table = PriceTable.shipped() if config.prices is None else PriceTable.read(config.prices)
        account = Account(run.within(ACCOUNT) if config.account is None else config.account)
        account.declare(config.budgets, replace=begins)
        return cls(account, table, str(run.path), now, settled)

    # ---- training
    def segment(self, updates: int, rates: Rates, rows: int, measured: int, seeds: int) -> int:
        """How many of so many updates may be made, reserved until `spent`; 0: none, and `refusal` says why.

        Args: `rates`: what a joint step costs; `rows`, `measured`: joint steps of one update and seed, and those that are measured besides.
        """
        if not self.spent():  # what was played since
            return 0
        while updates:
            wanted = self._estimate(updates, rates, rows, measured, seeds)
            found = self.account.ask(_totals(wanted), run=self.run, begun=True, by=wanted)
            if isinstance(found, Reservation):
                self.held, self.refusal = (found, wanted), None
                return updates
            self.refusal, updates = found, min(updates // 2, updates * found.left // found.wanted)
        return 0

    def _estimate(self, updates: int, rates: Rates, rows: int, measured: int, seeds: int) -> dict[str, Amounts]:
        costs = Costs()
        for agent in {*rates.acting, *rates.learning, *rates.handed} - {SHARED}:
            costs.add("train", agent, "decisions", updates * (rows + measured) * seeds)
        costs.add("train", SHARED, "steps", updates * (rows + measured) * seeds)
        for agent, flops in rates.acting.items():
            costs.add("train", agent, "flops", flops * (rows + measured) * updates * seeds)
        for agent, flops in rates.learning.items():
            costs.add("train", agent, "flops", flops * rows * updates * seeds)
        for agent, size in rates.handed.items():
            costs.add("train", agent, "bytes", size * updates * seeds)
        for agent, kinds in self.most.items():
            for kind, amount in kinds.items():
                wanted, known = math.ceil(MORE * amount * updates), costs.of("train", agent, kind)
                costs.add("train", agent, kind, max(0, wanted - known) if kind not in ("steps", "decisions", "flops", "bytes") else 0)
        return self._most(costs)

    def spent(self, updates: int = 0) -> bool:
        """Settle what was reserved, and admit what was spent besides; whether the budget still holds. `updates`: that it was
        reserved for."""
        now = self.now()
        more = now.less(self.settled)
        for agent, price in self._prices(more).items():
            self.owed[agent] = self.owed.get(agent, 0.0) + price
        money = {agent: math.floor(price * MICRO) for agent, price in self.owed.items()}
        shares = self._shares(more, {a: m - self.money.get(a, 0) for a, m in money.items()})
        self.settled, self.money = now, money
        if updates:
            for agent, kinds in more.agents("train").items():
                mine = self.most.setdefault(agent, {})
                for kind, amount in kinds.items():
                    mine[kind] = max(mine.get(kind, 0.0), amount / updates)
        rest = shares
        if self.held is not None:
            held, wanted = self.held
            within = {a: {k: min(n, wanted.get(a, {}).get(k, 0)) for k, n in kinds.items()} for a, kinds in shares.items()}
            rest = {a: {k: n - within[a][k] for k, n in kinds.items()} for a, kinds in shares.items()}
            self.account.settle(held, _totals(within), within)
            self.held = None
        rest = {a: left for a, kinds in rest.items() if (left := {k: n for k, n in kinds.items() if n})}
        if not rest:
            return True
        found = self.account.ask(_totals(rest), run=self.run, begun=True, by=rest)
        if isinstance(found, Refusal):  # it is spent all the same
            self.refusal, found = found, Reservation(0, {}, self.run)
            self.account.settle(found, _totals(rest), rest)
            return False
        self.account.settle(found, _totals(rest), rest)
        return True

    # ---- judging
    @contextmanager
    def judging(self, acting: Amounts, steps: int) -> Iterator[None]:
        """Play so many joint steps within. Raises `BudgetUsedUp` before anything is played that the budget has not."""
        if self.held is None:
            costs = Costs()
            costs.add("evaluate", SHARED, "steps", steps)
            for agent, flops in acting.items():
                costs.add("evaluate", agent, "flops", flops * steps)
                costs.add("evaluate", agent, "decisions", 0 if agent == SHARED else steps)
            wanted = self._most(costs)
            found = self.account.ask(_totals(wanted), run=self.run, begun=True, by=wanted)
            if isinstance(found, Refusal):
                self.refusal = found
                raise BudgetUsedUp(found.message)
            self.held = found, wanted
        yield
        self.spent()

    # ---- amounts
    def _prices(self, costs: Costs) -> dict[str, float]:
        """In currency, by agent, at today's prices."""
        today, out = datetime.now(UTC).date(), dict[str, float]()
        for phase, agent, kind, amount in costs.entries():
            out[agent] = out.get(agent, 0.0) + amount * (self.table.unit(kind, agent, phase, today) or 0.0)
        return out

    def _most(self, costs: Costs) -> dict[str, Amounts]:
        """What is reserved for them, by agent as accounts have it: money rounded up."""
        return self._shares(costs, {agent: math.ceil(price * MICRO) for agent, price in self._prices(costs).items()})

    @staticmethod
    def _shares(costs: Costs, money: Mapping[str, int]) -> dict[str, Amounts]:
        """By agent, as accounts have it: what is shared is of nobody."""
        agents = costs.agents()
        names = {*agents, *money}
        return {"" if a == SHARED else a: {**agents.get(a, {}), MONEY: money.get(a, 0)} for a in names}

    def record(self) -> dict[str, Any]:
        """What the record says: where budgets stand, and what is to be told."""
        here = [
            {"name": b.budget.name, "of": b.budget.of, "amount": b.budget.units, "period": b.period.name, "spent": b.spent, "left": b.left,
             "overrun": b.overrun}
            for b in balances(self.account) if b.key in ("", self.run) or b.budget.scope == "agent"
        ]  # fmt: skip
        told = [{"budget": a.budget, "what": a.what, "times": a.times, "amount": a.amount} for a in alerts(self.account)]
        return {"account": str(self.account.path), "prices": self.table.identity, "budgets": here, "alerts": told}

    def close(self) -> None:
        """End; what was reserved and not settled is taken to be spent."""
        self.account.close()


def _totals(by: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    out: dict[str, int] = {}
    for kinds in by.values():
        for kind, amount in kinds.items():
            out[kind] = out.get(kind, 0) + amount
    return out
