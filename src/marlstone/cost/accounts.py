"""Admission by reservation: what could be spent is reserved before it is, and settled after with the true amount.

    reserve     refuse, or hold; one transaction, so that no two callers are admitted to the same money
    begin       the spending starts: should the caller die, all of it counts as spent, since nobody knows
    settle      the true amount takes the place of what was held; more than that is an overrun, counted and told
    release     nothing was spent

What a dead process held and had not begun is returned, and what it had begun is counted as spent in full: `kill -9` leaks
nothing, and hides nothing. Never over: the sum of spent and reserved passes a hard budget only by overruns, spending beyond
what was asked for.
"""

import contextlib
import json
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from marlstone.core.errors import UserError
from marlstone.cost.account_file import AccountFile
from marlstone.cost.account_rows import Hold, Shared, Shares, alert, change, record
from marlstone.cost.budgets import LARGEST, Budget, BudgetRefused, Refusal
from marlstone.cost.owners import Owner
from marlstone.cost.periods import Period

REMEMBERED = 7 * 86_400  # seconds that the balance of a root request stays after it was last touched
SWEEPING = 0.1  # at most the share of its time that a process looks for dead owners, while it is refused again and again
HELD, BEGUN, PRESUMED = 0, 1, 2


@dataclass(frozen=True)
class Reservation:
    """What is held for one caller: `amounts` by kind, and for whom. `over`: soft budgets that this passes."""

    number: int
    amounts: Mapping[str, int]
    run: str = ""
    agent: str = ""
    request: str = ""
    over: tuple[str, ...] = ()


@dataclass
class Call:
    """Spending that goes on, of `Account.charged`: `actual` is what it really was, by kind, to be set; None: all that was reserved."""

    reservation: Reservation
    actual: Mapping[str, int] | None = None


class Account:
    """Budgets and what was spent of them, shared by all that name the same file.

    Args:
      path: the file, made where it is not there; None: in memory, for the threads of this process.
      budgets: declared limits; another declaration under the same name replaces it, for everybody. Those declared before hold too.
      clock: seconds since 1970.
      lease: seconds after which what a process holds that cannot be seen from here is taken to be dead, unless it says otherwise meanwhile.
      durable: wait for the disk at every transaction.
      create: whether the file may be new.

    Raises: UserError for a file that is no account.
    """

    def __init__(
        self, path: str | Path | None = None, budgets: Sequence[Budget] = (), *, clock: Callable[[], float] = time.time,
        lease: float = 60.0, durable: bool = False, create: bool = True,
    ) -> None:  # fmt: skip
        self.path = None if path is None else Path(path).expanduser().absolute()
        self.clock, self.lease = clock, lease
        self._file = AccountFile(self.path, durable, create)
        self._owner, self._process, self._renewed, self._rested = 0, 0, 0.0, 0.0
        self._version, self._budgets = -1, dict[str, Budget]()
        self._current: dict[str, Period] = {}
        self._closing = threading.Event()
        if budgets:
            self.declare(budgets)

    # ---- declarations
    def declare(self, budgets: Sequence[Budget], replace: bool = True) -> None:
        """Limits that hold from now on, for everybody; those of a name that is there are replaced, or, without `replace`, left as they are.
        A new one, or one whose kind, periods or scope change, counts what was spent in its period before. Raises ValueError where two have
        one name."""
        names = [b.name for b in budgets]
        if twice := sorted({n for n in names if names.count(n) > 1}):
            raise ValueError(f"budget {twice[0]!r} is declared twice: give each a name of its own")
        with self._file.writing() as db:
            there = dict(db.execute("SELECT name, declared FROM budgets"))
            rows = [(b.name, json.dumps(asdict(b)), b.units) for b in budgets]
            if new := [row for row in rows if there.get(row[0]) != row[1] and (replace or row[0] not in there)]:
                db.executemany("INSERT OR REPLACE INTO budgets VALUES (?, ?, ?)", new)
                db.execute("UPDATE account SET version = version + 1")
                changed = {name for name, *_ in new}
                for b in budgets:
                    before = there.get(b.name)
                    if b.name in changed and (before is None or _counts(Budget(**json.loads(before))) != _counts(b)):
                        self._count(db, b)

    def _count(self, db: sqlite3.Connection, budget: Budget) -> None:
        """Take what was spent so far in the period into a budget's balance; of root requests that is not kept."""
        now, sums = self.clock(), dict[str, int]()
        period = budget.at(now)
        key = {"account": "''", "run": "run", "agent": "agent", "request": "NULL"}[budget.scope]
        rows = db.execute(f"SELECT {key}, amount FROM spend WHERE kind = ? AND slot >= ?", (budget.of, period.start))
        for name, amount in rows:
            if name or budget.scope == "account":
                sums[name] = sums.get(name, 0) + amount
        for name, amount in sums.items():
            db.execute(
                "INSERT INTO balances VALUES (?1, ?2, ?3, ?4, 0, 0, 0, ?5) ON CONFLICT DO UPDATE SET spent = ?4",
                (budget.name, name, period.start, amount, now),
            )

    def withdraw(self, name: str) -> None:
        """A limit holds no more; what was spent stays known. Raises `UserError` where there is none of that name."""
        with self._file.writing() as db:
            if not db.execute("DELETE FROM budgets WHERE name = ?", (name,)).rowcount:
                raise UserError(f"account {self.path} has no budget {name!r}: it has {', '.join(self._known(db)) or 'none'}")
            db.execute("UPDATE account SET version = version + 1")

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """All that are declared."""
        with self._file.reading() as db:
            return tuple(self._known(db).values())

    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """One state of the account, to be read."""
        return self._file.reading()

    def _known(self, db: sqlite3.Connection) -> dict[str, Budget]:
        (version,) = db.execute("SELECT version FROM account").fetchone()
        if version != self._version:
            rows = db.execute("SELECT name, declared FROM budgets ORDER BY name")
            self._budgets = {name: Budget(**json.loads(text)) for name, text in rows}
            self._version, self._current = version, {}
        return self._budgets

    def _period(self, budget: Budget, now: float) -> Period:
        known = self._current.get(budget.name)
        if known is None or now not in known:
            known = self._current[budget.name] = budget.at(now)
        return known

    # ---- spending
    def reserve(
        self,
        amounts: Mapping[str, int],
        *,
        run: str = "",
        agent: str = "",
        request: str = "",
        begun: bool = False,
        by: Shares | None = None,
    ) -> Reservation:
        """`ask`, for callers that go on only if they may. Raises `BudgetRefused`."""
        found = self.ask(amounts, run=run, agent=agent, request=request, begun=begun, by=by)
        if isinstance(found, Refusal):
            raise BudgetRefused(found)
        return found

    def ask(
        self,
        amounts: Mapping[str, int],
        *,
        run: str = "",
        agent: str = "",
        request: str = "",
        begun: bool = False,
        by: Shares | None = None,
    ) -> Reservation | Refusal:
        """Hold what could be spent, of every budget that limits it, or of none: then why not.

        Args:
          amounts: at most how much, by kind (`money` in millionths).
          run, agent, request: for whom.
          begun: that spending begins at once.
          by: the part of it that each of several agents could spend, in place of `agent`.
        """
        for kind, amount in amounts.items():
            if not isinstance(amount, int) or not 0 <= amount <= LARGEST:
                raise ValueError(f"amounts has {kind} = {amount!r}: give a whole number of at least 0, money in millionths")
        wanted = Shared(amounts, {agent: amounts} if by is None else by, run, request)
        with self._file.writing() as db:
            owner, now = self._alive(db), self.clock()
            found = self._holds(db, wanted, now)
            if isinstance(found, Refusal) and time.monotonic() > self._rested:
                self._sweep(db, now)
                found = self._holds(db, wanted, now)
            if isinstance(found, Refusal):
                alert(db, found.budget.name, found.key, found.period.start, "refused", found.wanted, now)
                change(db, found.budget.name, found.key, found.period.start, now, refused=1)
                return found
            holds, over = found
            for name, key, period, amount in holds:
                change(db, name, key, period, now, reserved=amount)
            for name, key, period, amount in over:
                alert(db, name, key, period, "soft", amount, now)
            number = db.execute(
                "INSERT INTO reservations (owner, state, run, agent, request, amounts, holds) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (owner, BEGUN if begun else HELD, run, agent, request, json.dumps(wanted.by), json.dumps(holds)),
            ).lastrowid
        assert number is not None
        return Reservation(number, dict(amounts), run, agent, request, tuple(name for name, *_ in over))

    def _holds(self, db: sqlite3.Connection, wanted: Shared, now: float) -> tuple[list[Hold], list[Hold]] | Refusal:
        """What is held of each budget, and of those the soft ones that it passes; or the first refusal."""
        holds, over = list[Hold](), list[Hold]()
        for name, budget in self._known(db).items():
            period = self._period(budget, now)
            for key, amount in wanted.of(budget):
                row = db.execute(
                    "SELECT spent, reserved FROM balances WHERE budget = ? AND key = ? AND period = ?", (name, key, period.start)
                )
                spent, reserved = row.fetchone() or (0, 0)
                if amount and spent + reserved + amount > budget.units:
                    if budget.limit == "hard":
                        return Refusal(budget, key, period, amount, spent, reserved)
                    over.append((name, key, period.start, amount))
                holds.append((name, key, period.start, amount))
        return holds, over

    def begin(self, reservation: Reservation) -> None:
        """Its spending starts. Raises `UserError` where it was returned meanwhile, its owner being taken for dead: spend nothing then."""
        with self._file.writing() as db:
            if not db.execute("UPDATE reservations SET state = ? WHERE id = ? AND state = ?", (BEGUN, reservation.number, HELD)).rowcount:
                raise UserError(
                    f"reservation {reservation.number} is not held any more: reserve again (its lease of {self.lease:g} s ran out)"
                )

    def settle(self, reservation: Reservation, actual: Mapping[str, int] | None = None, by: Shares | None = None) -> dict[str, int]:
        """Put what was really spent in the place of what was held; the overrun of each budget where that is more.

        Args: `actual`: by kind; None: all that was reserved. `by`: the part of it that each of several agents spent.
        """
        spent = dict(reservation.amounts if actual is None else actual)
        shares = {reservation.agent: spent} if by is None else by
        with self._file.writing() as db:
            self._alive(db)
            return self._settle(db, reservation.number, Shared(spent, shares, reservation.run, reservation.request))

    def _settle(self, db: sqlite3.Connection, number: int, actual: Shared) -> dict[str, int]:
        now = self.clock()
        row = db.execute("DELETE FROM reservations WHERE id = ? RETURNING state, amounts, holds", (number,)).fetchone()
        state, before, holds = (None, {}, []) if row is None else (row[0], json.loads(row[1]), json.loads(row[2]))
        held = {(name, key): (period, amount) for name, key, period, amount in holds}
        spent = {(b.name, key): n for b in self._known(db).values() for key, n in actual.of(b) if n or (b.name, key) in held}
        overruns = dict[str, int]()
        for name, key in {**held, **spent}:
            period, amount = held.get((name, key)) or (self._period(self._budgets[name], now).start, 0)
            mine = spent.get((name, key), 0)
            over = max(0, mine - amount)
            freed, counted = (0, amount) if state == PRESUMED else (amount, 0)
            change(db, name, key, period, now, spent=mine - counted, reserved=-freed, overrun=over)
            if over:
                overruns[name] = overruns.get(name, 0) + over
                alert(db, name, key, period, "overrun", over, now)
        record(db, now, actual.run, actual.by)
        if state == PRESUMED:  # what was recorded then
            record(db, now, actual.run, {a: {k: -n for k, n in kinds.items()} for a, kinds in before.items()})
        return overruns

    def release(self, reservation: Reservation) -> None:
        """Nothing was spent."""
        self.settle(reservation, {})

    @contextmanager
    def charged(self, amounts: Mapping[str, int], *, run: str = "", agent: str = "", request: str = "") -> Iterator[Call]:
        """Reserve, spend within, settle: `with account.charged({"tool_calls": 1}) as call: ...`, and `call.actual = {...}` where it
        was less. Raises `BudgetRefused`."""
        call = Call(self.reserve(amounts, run=run, agent=agent, request=request, begun=True))
        try:
            yield call
        finally:
            self.settle(call.reservation, call.actual)

    # ---- the dead
    def _alive(self, db: sqlite3.Connection) -> int:
        """This process among the owners, its lease renewed; registered where it is new."""
        if self._file.path is None:
            return 0
        now = self.clock()
        if self._process != os.getpid():  # the first time, or a fork of the one that opened it
            me = Owner.me()
            values = (me.host, me.pid, me.started, now + self.lease)
            number = db.execute("INSERT INTO owners (host, pid, started, expires) VALUES (?, ?, ?, ?)", values).lastrowid
            assert number is not None
            self._owner, self._process, self._renewed = number, os.getpid(), now
            self._closing = threading.Event()
            threading.Thread(target=_renew, args=(weakref.ref(self), self._closing, self.lease / 3), daemon=True).start()
        elif now - self._renewed > self.lease / 3 or now < self._renewed:
            db.execute("UPDATE owners SET expires = ? WHERE id = ?", (now + self.lease, self._owner))
            self._renewed = now
        return self._owner

    def sweep(self) -> int:
        """Return what dead processes held, and count as spent what they had begun; how many such processes there were."""
        with self._file.writing() as db:
            return self._sweep(db, self.clock())

    def _sweep(self, db: sqlite3.Connection, now: float) -> int:
        begun, dead = time.monotonic(), 0
        for number, host, pid, started, expires in db.execute("SELECT id, host, pid, started, expires FROM owners").fetchall():
            alive = Owner(host, pid, started).alive
            if number != self._owner and not (now <= expires if alive is None else alive):
                self._bury(db, number, now)
                dead += 1
        asked = [name for name, budget in self._known(db).items() if budget.scope == "request"]
        for name in asked:
            db.execute("DELETE FROM balances WHERE budget = ? AND reserved = 0 AND touched < ?", (name, now - REMEMBERED))
        self._rested = time.monotonic() + (time.monotonic() - begun) / SWEEPING
        return dead

    def _bury(self, db: sqlite3.Connection, owner: int, now: float) -> None:
        rows = db.execute("SELECT id, state, run, amounts, holds FROM reservations WHERE owner = ?", (owner,)).fetchall()
        for number, state, run, amounts, holds in rows:
            for name, key, period, amount in json.loads(holds):
                change(db, name, key, period, now, reserved=-amount, spent=amount if state == BEGUN else 0)
                if state == BEGUN and amount:
                    alert(db, name, key, period, "presumed", amount, now)
            if state == BEGUN:
                record(db, now, run, json.loads(amounts))
                db.execute("UPDATE reservations SET state = ?, owner = 0 WHERE id = ?", (PRESUMED, number))
            else:
                db.execute("DELETE FROM reservations WHERE id = ?", (number,))
        db.execute("DELETE FROM owners WHERE id = ?", (owner,))

    def close(self) -> None:
        """End: what this process still holds is returned, and what it had begun and not settled is counted as spent."""
        self._closing.set()
        if self._process == os.getpid():
            with self._file.writing() as db:
                self._bury(db, self._owner, self.clock())
            self._process = 0
        self._file.close()

    def __enter__(self) -> "Account":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _counts(budget: Budget) -> tuple[object, ...]:
    """What says which spending a budget counts."""
    return budget.of, budget.scope, budget.period, budget.zone, budget.week_start, budget.fiscal_start


def _renew(account: "weakref.ref[Account]", closing: threading.Event, every: float) -> None:
    """Keep the lease of a process that waits long for what it spends on."""
    process = os.getpid()
    while not closing.wait(every):
        this = account()
        if this is None or this._process != process:
            return
        with contextlib.suppress(sqlite3.Error, ValueError), this._file.writing() as db:  # closed meanwhile, or busy: the next time
            this._alive(db)
        del this
