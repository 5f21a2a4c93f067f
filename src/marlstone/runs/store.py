"""The metrics store: what a run measured, in tidy tables that anyone can query while the run goes on.

SQLite in WAL mode by default (readers never wait for the writer); any other database by SQLAlchemy URL. Rows are
keyed by what they measure, so writing one twice changes nothing, and a resumed run leaves no row doubled.
"""

import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import sqlalchemy as sa

from marlstone.core.errors import UserError
from marlstone.core.ledger import Costs

if TYPE_CHECKING:
    from marlstone.core.episodes import WholeEpisodes

SCHEMA = 3
TABLES = sa.MetaData()
VERSION = sa.Table("schema_version", TABLES, sa.Column("version", sa.Integer, primary_key=True))
METRICS = sa.Table(
    "metrics",
    TABLES,
    sa.Column("run", sa.String, primary_key=True),
    sa.Column("seed", sa.Integer, primary_key=True),
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("step", sa.BigInteger, primary_key=True),
    sa.Column("value", sa.Double, nullable=True, doc="NULL stands for NaN"),
    sa.Column("time", sa.Double, nullable=False, doc="seconds since 1970"),
    sqlite_with_rowid=False,
)
EVENTS = sa.Table(
    "events",
    TABLES,
    sa.Column("run", sa.String, primary_key=True),
    sa.Column("seed", sa.Integer, primary_key=True),
    sa.Column("name", sa.String, primary_key=True, doc="what happened, e.g. reward_out_of_bounds"),
    sa.Column("detail", sa.String, primary_key=True, doc="where: an agent, a field, a worker"),
    sa.Column("step", sa.BigInteger, primary_key=True),
    sa.Column("count", sa.BigInteger, nullable=False),
    sa.Column("time", sa.Double, nullable=False),
    sqlite_with_rowid=False,
)
_EPISODE = ("run", "seed", "step", "episode")


def _of_episodes(name: str, *columns: sa.Column) -> sa.Table:
    """A table about logged episodes: which run and seed, after how many joint env steps, and which of those logged then."""
    kinds = sa.String, sa.Integer, sa.BigInteger, sa.Integer
    keys: list[sa.Column] = [sa.Column(k, kind, primary_key=True) for k, kind in zip(_EPISODE, kinds, strict=True)]
    return sa.Table(name, TABLES, *keys, *columns, sqlite_with_rowid=False)


EPISODES = _of_episodes(
    "episodes",
    sa.Column("team_return", sa.Double, nullable=True, doc="undiscounted"),
    sa.Column("length", sa.BigInteger, nullable=False, doc="joint env steps"),
    sa.Column("success", sa.Double, nullable=True, doc="the true metric of that name; NULL where the environment declares none"),
    sa.Column("time", sa.Double, nullable=False),
)
EPISODE_METRICS = _of_episodes(
    "episode_metrics", sa.Column("name", sa.String, primary_key=True), sa.Column("value", sa.Double, nullable=True)
)
EPISODE_AGENTS = _of_episodes(
    "episode_agents",
    sa.Column("agent", sa.String, primary_key=True),
    sa.Column("own_return", sa.Double, nullable=True),
    sa.Column("contribution", sa.Double, nullable=True, doc="what credit says it was worth; NULL where credit does not speak for it"),
)
SUPERVISION = ("learner_restarted", "actor_replaced", "rolled_back", "quarantined", "resized", "error")
"""Events of a fleet's processes, not of what was trained: they happened, whatever step a learner then resumed from."""
COSTS = sa.Table(
    "costs",
    TABLES,
    sa.Column("run", sa.String, primary_key=True),
    sa.Column("seed", sa.Integer, primary_key=True),
    sa.Column("step", sa.BigInteger, primary_key=True),
    sa.Column("phase", sa.String, primary_key=True, doc="train, evaluate or infer"),
    sa.Column("agent", sa.String, primary_key=True, doc="or 'shared'"),
    sa.Column("kind", sa.String, primary_key=True, doc="of core.ledger.KINDS"),
    sa.Column("amount", sa.BigInteger, nullable=False, doc="since the step before, a whole number"),
    sa.Column("time", sa.Double, nullable=False),
    sqlite_with_rowid=False,
)
ROWS = (METRICS, EVENTS, EPISODES, EPISODE_METRICS, EPISODE_AGENTS, COSTS)


@dataclass(frozen=True)
class Point:
    """One figure of one seed: the metric `name` was `value` (NaN: unknown) after `step` joint env steps, measured at `time`, in seconds
    since 1970."""

    seed: int
    step: int
    name: str
    value: float
    time: float


@dataclass(frozen=True)
class Series:
    """One metric of one seed: joint env steps `[k]`, ascending, and values `[k]`."""

    seed: int
    step: np.ndarray
    value: np.ndarray


@dataclass(frozen=True)
class Logged:
    """Episodes logged, by seed, step and number, `[e]` each; `own_return` and `contribution` `[e n]` of `agents`, in the order of their
    names; true `metrics` by name. NaN where nothing is known."""

    seed: np.ndarray
    step: np.ndarray
    episode: np.ndarray
    team_return: np.ndarray
    length: np.ndarray
    success: np.ndarray
    metrics: dict[str, np.ndarray]
    agents: tuple[str, ...]
    own_return: np.ndarray
    contribution: np.ndarray


@dataclass(frozen=True)
class Spending:
    """What a seed spent on a `day` (UTC, as of the checkpoint that followed): `amount` of a `kind`, for an `agent` in a `phase`."""

    day: str
    seed: int
    phase: str
    agent: str
    kind: str
    amount: int


def _known(x: float) -> float | None:
    """`x` as the store has it: NULL stands for NaN."""
    return None if np.isnan(x) else float(x)


PATIENCE = 10  # seconds that a connection waits for another's lock


def _pragmas(connection: Any, _record: Any) -> None:
    try:
        _set_up(connection.cursor())
    except BaseException:
        connection.close()  # SQLAlchemy lets go of a connection that it could not set up, without closing it
        raise


def _set_up(cursor: Any) -> None:
    """A connection that waits for others' locks, and writes ahead."""
    cursor.execute(f"PRAGMA busy_timeout={1000 * PATIENCE}")
    until = time.monotonic() + PATIENCE
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            break
        except sqlite3.OperationalError:  # SQLite waits for no lock here: processes that open a new store at once must
            if time.monotonic() > until:
                raise
            time.sleep(0.01)
    cursor.execute("PRAGMA synchronous=NORMAL")  # a crash of the process loses nothing; a power cut may lose the last commits
    cursor.close()


class Store:
    """The store of one run. Appends are gathered and written together; `flush` before saying that they are there.

    A context manager: leaving it flushes and closes. `where`: a file, or an SQLAlchemy URL. `run`: the run's name in a
    database that many share. `batch`: rows gathered before they are written.
    """

    def __init__(self, where: Path | str, run: str, batch: int = 2000) -> None:
        self._run, self._batch = run, batch
        self._rows: dict[sa.Table, list[dict[str, Any]]] = {table: [] for table in ROWS}
        url = where if isinstance(where, str) and "://" in where else sa.URL.create("sqlite", database=str(where))
        self._engine = sa.create_engine(url, poolclass=sa.NullPool) if isinstance(url, str) else sa.create_engine(url)
        if self._engine.dialect.name == "sqlite":
            sa.event.listen(self._engine, "connect", _pragmas)
        try:
            self._prepare()
        except BaseException as error:
            self._engine.dispose()
            if not isinstance(error, sa.exc.DatabaseError):
                raise
            raise UserError(f"metrics store {where} does not open: {error.orig}: move it away, or name another") from error

    def _prepare(self) -> None:
        """Make the tables. Schema 1 lacked those of episodes, schema 2 that of costs, and nothing else, so adding them is all it takes."""
        with self._engine.begin() as connection:
            if sa.inspect(connection).has_table(VERSION.name) and connection.execute(sa.select(VERSION.c.version)).scalar() == SCHEMA:
                return
            if self._engine.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")  # several processes may open it at once: who looks next finds all tables
            VERSION.create(connection, checkfirst=True)
            found = connection.execute(sa.select(VERSION.c.version)).scalar()
            if found not in (None, 1, 2, SCHEMA):
                raise UserError(
                    f"metrics store {self._engine.url.database} has schema {found}, this version {SCHEMA}: use the version that wrote it"
                )
            if found != SCHEMA:
                TABLES.create_all(connection)
                change = VERSION.insert() if found is None else VERSION.update()
                connection.execute(change.values(version=SCHEMA))

    def add(self, step: int, seed: int, values: Mapping[str, float]) -> None:
        """Append one row per metric. `step`: joint env steps of this seed. Adding the same key again replaces its value."""
        now = time.time()
        for name, value in values.items():
            row = {"run": self._run, "seed": int(seed), "name": name, "step": int(step), "time": now}
            self._rows[METRICS].append({**row, "value": _known(float(value))})
        self._full()

    def event(self, step: int, seed: int, name: str, detail: str = "", count: int = 1) -> None:
        """Append a counted event: `count` of `name` since the last report, at `step`."""
        row = {"run": self._run, "seed": int(seed), "name": name, "detail": detail, "step": int(step)}
        self._rows[EVENTS].append({**row, "count": int(count), "time": time.time()})
        self._full()

    def log(self, step: int, seed: int, episodes: "WholeEpisodes", agents: Sequence[str]) -> None:
        """Append episodes, numbered from 0, that were played at `step`. `agents`: names along the agent axis, of which what was claimed
        may cover the first few. Logging one again replaces it."""
        now = time.time()
        for e in range(len(episodes.env)):
            key = {"run": self._run, "seed": int(seed), "step": int(step), "episode": e}
            metrics = {k: _known(v[e]) for k, v in episodes.metrics.items()}
            figures = {"team_return": _known(episodes.team_return[e]), "length": int(episodes.length[e])}
            self._rows[EPISODES].append({**key, **figures, "success": metrics.get("success"), "time": now})
            self._rows[EPISODE_METRICS] += [{**key, "name": k, "value": v} for k, v in metrics.items()]
            claimed = [*map(_known, episodes.agent_sums[e]), *[None] * (len(agents) - episodes.agent_sums.shape[1])]
            own = map(_known, episodes.agent_return[e])
            each = zip(agents, own, claimed, strict=True)
            self._rows[EPISODE_AGENTS] += [{**key, "agent": a, "own_return": r, "contribution": c} for a, r, c in each]
        self._full()

    def spend(self, step: int, seed: int, costs: Costs) -> None:
        """Append what a seed spent up to `step` since the steps before it. Adding the same step again replaces what it spent."""
        row = {"run": self._run, "seed": int(seed), "step": int(step), "time": time.time()}
        self._rows[COSTS] += [
            {**row, "phase": phase, "agent": agent, "kind": kind, "amount": amount} for phase, agent, kind, amount in costs.entries()
        ]
        self._full()

    def spent(self, below: int | None = None) -> dict[int, Costs]:
        """What was spent in all, or at steps `below` one, by seed."""
        out: dict[int, Costs] = {}
        for spending in self.spending(below):
            costs = out.setdefault(spending.seed, Costs())
            costs.add(spending.phase, spending.agent, spending.kind, spending.amount)
        return out

    def spending(self, below: int | None = None) -> "list[Spending]":
        """What was spent by day (UTC), seed, phase, agent and kind, days in order; `below`: at steps below this one."""
        self.flush()
        c = COSTS.c
        query = sa.select(c.time, c.seed, c.phase, c.agent, c.kind, c.amount).where(c.run == self._run).order_by(c.step, c.time)
        if below is not None:
            query = query.where(c.step < below)
        sums: dict[tuple[str, int, str, str, str], int] = {}
        with self._engine.connect() as connection:
            for when, *key, amount in connection.execute(query):
                day = datetime.fromtimestamp(when, UTC).date().isoformat()
                at = (day, *key)
                sums[at] = sums.get(at, 0) + amount
        return [Spending(*key, amount) for key, amount in sorted(sums.items(), key=lambda x: x[0][0])]

    def _full(self) -> None:
        if any(len(rows) >= self._batch for rows in self._rows.values()):
            self.flush()

    def flush(self) -> None:
        """Write what was gathered, in one transaction."""
        if not any(self._rows.values()):
            return
        with self._engine.begin() as connection:
            for table, rows in self._rows.items():
                if rows:
                    connection.execute(self._upsert(table), rows)
        self._rows = {table: [] for table in ROWS}

    def _upsert(self, table: sa.Table) -> Any:
        dialect = self._engine.dialect.name
        if dialect == "sqlite":
            return table.insert().prefix_with("OR REPLACE")
        if dialect == "postgresql":
            from sqlalchemy.dialects.postgresql import insert

            statement = insert(table)
            keys = [c.name for c in table.primary_key]
            return statement.on_conflict_do_update(
                index_elements=keys, set_={c.name: statement.excluded[c.name] for c in table.c if c.name not in keys}
            )
        raise UserError(f"metrics store on {dialect!r}: use SQLite or PostgreSQL")

    def truncate(self, step: int) -> int:
        """Forget this run's rows after `step`, where it resumes, written or gathered, but for events of `SUPERVISION`. Returns how many
        rows went."""
        stays = lambda r: r["step"] <= step or r["name"] in SUPERVISION if "count" in r else r["step"] <= step
        kept = {table: [r for r in rows if stays(r)] for table, rows in self._rows.items()}
        gone = sum(len(rows) - len(kept[table]) for table, rows in self._rows.items())
        self._rows = kept
        with self._engine.begin() as connection:
            for table in ROWS:
                late = (table.c.run == self._run) & (table.c.step > step)
                gone += connection.execute(
                    table.delete().where(late & table.c.name.not_in(SUPERVISION) if table is EVENTS else late)
                ).rowcount
        return gone

    def series(self, name: str) -> tuple[Series, ...]:
        """A metric over steps, per seed in ascending order; empty where nothing of that name was recorded."""
        self.flush()
        query = (
            sa.select(METRICS.c.seed, METRICS.c.step, METRICS.c.value)
            .where(METRICS.c.run == self._run, METRICS.c.name == name)
            .order_by(METRICS.c.seed, METRICS.c.step)
        )
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
        by_seed: dict[int, list[tuple[int, float]]] = {}
        for seed, step, value in rows:
            by_seed.setdefault(seed, []).append((step, np.nan if value is None else value))
        return tuple(Series(s, np.array([r[0] for r in v], np.int64), np.array([r[1] for r in v])) for s, v in by_seed.items())

    def names(self) -> tuple[str, ...]:
        """The metrics recorded, sorted."""
        self.flush()
        with self._engine.connect() as connection:
            query = sa.select(METRICS.c.name).where(METRICS.c.run == self._run).distinct().order_by(METRICS.c.name)
            return tuple(connection.execute(query).scalars())

    def after(self, step: int, each: int, newest: bool = True) -> list[Point]:
        """Points beyond `step`, in order of step and seed, all of each step; at most `each` of a seed and metric are read, and what that
        leaves incomplete is left out. `newest`: with the last step there is, to which more may still be added. Reads no older points,
        however many there are."""
        self.flush()
        keys, found = METRICS.c, list[Point]()
        limit: int | None = None
        with self._engine.connect() as connection:
            for seed, name in self._keys(connection):
                query = (
                    sa.select(keys.step, keys.value, keys.time)
                    .where(keys.run == self._run, keys.seed == seed, keys.name == name, keys.step > step)
                    .order_by(keys.step)
                    .limit(each)
                )
                mine = [Point(seed, s, name, np.nan if v is None else v, t) for s, v, t in connection.execute(query)]
                if len(mine) == each:
                    limit = mine[-1].step if limit is None else min(limit, mine[-1].step)
                found += mine
        last = max((p.step for p in found), default=step)
        whole = [p for p in found if (limit is None or p.step <= limit) and (newest or p.step < last)]
        return sorted(whole, key=lambda p: (p.step, p.seed))

    def count_after(self, step: int) -> int:
        """How many points lie beyond `step`, those not flushed yet too."""
        self.flush()
        with self._engine.connect() as connection:
            query = sa.select(sa.func.count()).where(METRICS.c.run == self._run, METRICS.c.step > step)
            return int(connection.execute(query).scalar_one())

    def _keys(self, connection: Any) -> list[tuple[int, str]]:
        """Every seed and metric there is: one step down the index each, whatever the number of points."""
        seed, name, mine, out = METRICS.c.seed, METRICS.c.name, METRICS.c.run == self._run, list[tuple[int, str]]()
        s = connection.execute(sa.select(sa.func.min(seed)).where(mine)).scalar()
        while s is not None:
            n = connection.execute(sa.select(sa.func.min(name)).where(mine, seed == s)).scalar()
            while n is not None:
                out.append((s, n))
                n = connection.execute(sa.select(sa.func.min(name)).where(mine, seed == s, name > n)).scalar()
            s = connection.execute(sa.select(sa.func.min(seed)).where(mine, seed > s)).scalar()
        return out

    def counts(self) -> dict[tuple[str, str], int]:
        """Events counted over all seeds and steps: `(name, detail) -> count`."""
        self.flush()
        query = (
            sa.select(EVENTS.c.name, EVENTS.c.detail, sa.func.sum(EVENTS.c.count))
            .where(EVENTS.c.run == self._run)
            .group_by(EVENTS.c.name, EVENTS.c.detail)
            .order_by(EVENTS.c.name, EVENTS.c.detail)
        )
        with self._engine.connect() as connection:
            return {(name, detail): int(count) for name, detail, count in connection.execute(query)}

    def episodes(self, since: int = 0) -> Logged:
        """The episodes logged at `since` joint env steps or later, with what is known of every agent."""
        self.flush()
        order = [EPISODES.c[k] for k in _EPISODE[1:]]
        mine = lambda table: (table.c.run == self._run) & (table.c.step >= since)
        with self._engine.connect() as connection:
            figures = [EPISODES.c[k] for k in ("team_return", "length", "success")]
            rows = connection.execute(sa.select(*order, *figures).where(mine(EPISODES)).order_by(*order)).all()
            keyed = lambda table, *columns: sa.select(*(table.c[k] for k in (*_EPISODE[1:], *columns))).where(mine(table))
            measured = connection.execute(keyed(EPISODE_METRICS, "name", "value")).all()
            acted = connection.execute(keyed(EPISODE_AGENTS, "agent", "own_return", "contribution")).all()
        place = {tuple(row[:3]): e for e, row in enumerate(rows)}

        def table(found: Sequence[Any], names: Sequence[str], column: int) -> np.ndarray:
            at, out = {name: j for j, name in enumerate(names)}, np.full((len(rows), len(names)), np.nan)
            for row in found:
                out[place[tuple(row[:3])], at[row[3]]] = np.nan if row[column] is None else row[column]
            return out

        metrics, agents = (sorted({row[3] for row in found}) for found in (measured, acted))
        seed, step, episode, team, length, success = np.array(rows, float).reshape(-1, 6).T
        whole = lambda x: x.astype(np.int64)
        values = dict(zip(metrics, table(measured, metrics, 4).T, strict=True))
        own, claimed = table(acted, agents, 4), table(acted, agents, 5)
        return Logged(whole(seed), whole(step), whole(episode), team, whole(length), success, values, tuple(agents), own, claimed)

    def close(self) -> None:
        """Flush and let go of the file."""
        self.flush()
        self._engine.dispose()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
