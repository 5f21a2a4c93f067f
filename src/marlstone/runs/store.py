"""The metrics store: what a run measured, one tidy table that anyone can query while the run goes on.

SQLite in WAL mode by default (readers never wait for the writer); any other database by SQLAlchemy URL. Rows are
keyed by what they measure, so writing one twice changes nothing, and a resumed run leaves no row doubled.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import sqlalchemy as sa

from marlstone.core.errors import UserError

SCHEMA = 1
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


@dataclass(frozen=True)
class Series:
    """One metric of one seed: joint env steps `[k]`, ascending, and values `[k]`."""

    seed: int
    step: np.ndarray
    value: np.ndarray


def _pragmas(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")  # a crash of the process loses nothing; a power cut may lose the last commits
    cursor.execute("PRAGMA busy_timeout=10000")
    cursor.close()


class Store:
    """The store of one run. Appends are gathered and written together; `flush` before saying that they are there.

    A context manager: leaving it flushes and closes. `where`: a file, or an SQLAlchemy URL. `run`: the run's name in a
    database that many share. `batch`: rows gathered before they are written.
    """

    def __init__(self, where: Path | str, run: str, batch: int = 2000) -> None:
        self._run, self._batch = run, batch
        self._metrics: list[dict[str, Any]] = []
        self._events: list[dict[str, Any]] = []
        url = where if isinstance(where, str) and "://" in where else sa.URL.create("sqlite", database=str(where))
        self._engine = sa.create_engine(url, poolclass=sa.NullPool) if isinstance(url, str) else sa.create_engine(url)
        if self._engine.dialect.name == "sqlite":
            sa.event.listen(self._engine, "connect", _pragmas)
        try:
            self._prepare()
        except sa.exc.DatabaseError as error:
            self._engine.dispose()
            raise UserError(f"metrics store {where} does not open: {error.orig}: move it away, or name another") from error

    def _prepare(self) -> None:
        with self._engine.begin() as connection:
            TABLES.create_all(connection)
            found = connection.execute(sa.select(VERSION.c.version)).scalar()
            if found is None:
                connection.execute(VERSION.insert().values(version=SCHEMA))
            elif found != SCHEMA:
                raise UserError(
                    f"metrics store {self._engine.url.database} has schema {found}, this version {SCHEMA}: use the version that wrote it"
                )

    def add(self, step: int, seed: int, values: Mapping[str, float]) -> None:
        """Append one row per metric. `step`: joint env steps of this seed. Adding the same key again replaces its value."""
        now = time.time()
        for name, value in values.items():
            number = float(value)
            row = {"run": self._run, "seed": int(seed), "name": name, "step": int(step), "time": now}
            self._metrics.append({**row, "value": None if np.isnan(number) else number})
        if len(self._metrics) >= self._batch:
            self.flush()

    def event(self, step: int, seed: int, name: str, detail: str = "", count: int = 1) -> None:
        """Append a counted event: `count` of `name` since the last report, at `step`."""
        row = {"run": self._run, "seed": int(seed), "name": name, "detail": detail, "step": int(step)}
        self._events.append({**row, "count": int(count), "time": time.time()})
        if len(self._events) >= self._batch:
            self.flush()

    def flush(self) -> None:
        """Write what was gathered, in one transaction."""
        if not self._metrics and not self._events:
            return
        with self._engine.begin() as connection:
            for table, rows in ((METRICS, self._metrics), (EVENTS, self._events)):
                if rows:
                    connection.execute(self._upsert(table), rows)
        self._metrics, self._events = [], []

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
        """Forget this run's rows after `step`, where it resumes, written or gathered. Returns how many rows went."""
        kept = [[r for r in rows if r["step"] <= step] for rows in (self._metrics, self._events)]
        gone = len(self._metrics) + len(self._events) - len(kept[0]) - len(kept[1])
        self._metrics, self._events = kept
        with self._engine.begin() as connection:
            for table in (METRICS, EVENTS):
                gone += connection.execute(table.delete().where(table.c.run == self._run, table.c.step > step)).rowcount
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

    def close(self) -> None:
        """Flush and let go of the file."""
        self.flush()
        self._engine.dispose()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
