"""The file that an account is: SQLite in WAL mode, which many processes of one machine share, or memory for the threads of one.

Writers queue on a lock of the system (`flock`) before SQLite's own, whose waiting is a sleep that grows: 64 processes then take turns
without delay. The lock makes nothing right or wrong; SQLite's transaction does. The file must lie on a local disk, as WAL demands.
"""

import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from marlstone.core.errors import UserError

try:
    import fcntl
except ImportError:  # Windows: SQLite's own waiting has to do
    fcntl = None  # type: ignore[assignment]

SCHEMA = 1
WAIT = 60.0  # seconds that a transaction may wait for others
TABLES = """
CREATE TABLE IF NOT EXISTS account (only INTEGER PRIMARY KEY CHECK (only = 0), schema INTEGER NOT NULL, version INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS budgets (name TEXT PRIMARY KEY, declared TEXT NOT NULL, amount INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS balances (
  budget TEXT, key TEXT, period INTEGER, spent INTEGER NOT NULL DEFAULT 0, reserved INTEGER NOT NULL DEFAULT 0,
  overrun INTEGER NOT NULL DEFAULT 0, refused INTEGER NOT NULL DEFAULT 0, touched REAL NOT NULL, PRIMARY KEY (budget, key, period)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS owners (
  id INTEGER PRIMARY KEY AUTOINCREMENT, host TEXT NOT NULL, pid INTEGER NOT NULL, started TEXT NOT NULL, expires REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS reservations (
  id INTEGER PRIMARY KEY AUTOINCREMENT, owner INTEGER NOT NULL, state INTEGER NOT NULL, run TEXT NOT NULL, agent TEXT NOT NULL,
  request TEXT NOT NULL, amounts TEXT NOT NULL, holds TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS held_by ON reservations (owner);
CREATE TABLE IF NOT EXISTS spend (
  slot INTEGER, run TEXT, agent TEXT, kind TEXT, amount INTEGER NOT NULL, PRIMARY KEY (kind, slot, run, agent)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS alerts (
  budget TEXT, key TEXT, period INTEGER, what TEXT, first REAL NOT NULL, times INTEGER NOT NULL, amount INTEGER NOT NULL,
  PRIMARY KEY (budget, key, period, what)
) WITHOUT ROWID;
"""
"""`reservations.state`: 0 held, 1 its spending has begun, 2 its owner died meanwhile, and it was counted as spent in full.
`spend.slot`: the 300 seconds in which it was spent, by their beginning. `account.version` grows with every declaration."""

_OPEN: "weakref.WeakSet[AccountFile]" = weakref.WeakSet()
_INHERITED: list[sqlite3.Connection] = []  # of a process that forked: closing them here would take its locks away


class AccountFile:
    """A connection, opened anew in a forked process. `path`: None for memory. `durable`: whether a transaction is on the disk when
    it ends; without, a power failure (no crash of a process) may lose the last ones."""

    def __init__(self, path: Path | None, durable: bool, create: bool) -> None:
        self.path, self.durable = path, durable
        if path is not None and not path.is_file():
            if not create:
                raise UserError(f"account {path} is not there: name the file that `account` names in a configuration")
            path.parent.mkdir(parents=True, exist_ok=True)
        self._guard = threading.RLock()
        self._handle: int | None = None
        self._pid = os.getpid()
        self._connection: sqlite3.Connection | None = self._connect()
        with self.writing() as db:
            _prepare(db, path)
        _OPEN.add(self)

    def _connect(self) -> sqlite3.Connection:
        name = ":memory:" if self.path is None else str(self.path)
        try:
            db = sqlite3.connect(name, timeout=WAIT, isolation_level=None, check_same_thread=False)
            if self.path is not None:
                db.execute("PRAGMA journal_mode=WAL")
                db.execute(f"PRAGMA synchronous={'FULL' if self.durable else 'NORMAL'}")
                if fcntl is not None:
                    self._handle = os.open(f"{self.path}-turn", os.O_RDWR | os.O_CREAT, 0o666)
        except (sqlite3.DatabaseError, OSError) as error:
            raise UserError(f"account {self.path} cannot be opened: {error}; name a file of its own on a local disk") from error
        return db

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that nobody else's can come between; undone where an exception leaves it."""
        with self._guard:
            db = self._here()
            if self._handle is not None:
                fcntl.flock(self._handle, fcntl.LOCK_EX)
            try:
                db.execute("BEGIN IMMEDIATE")
                try:
                    yield db
                except BaseException:
                    db.execute("ROLLBACK")
                    raise
                db.execute("COMMIT")
            finally:
                if self._handle is not None:
                    fcntl.flock(self._handle, fcntl.LOCK_UN)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Reads that see one state of the account, and wait for no writer."""
        with self._guard:
            db = self._here()
            db.execute("BEGIN")
            try:
                yield db
            finally:
                db.execute("ROLLBACK")

    @property
    def is_inherited(self) -> bool:
        """Whether this process is a fork of the one that opened it, and has not used it yet."""
        return self._pid != os.getpid()

    def _here(self) -> sqlite3.Connection:
        if self.is_inherited:
            if self.path is None:
                raise UserError("an account in memory is of one process, and this is a fork of it: give the account a file")
            self._connection, self._pid = self._connect(), os.getpid()
        if self._connection is None:
            raise ValueError("the account is closed: open it again")
        return self._connection

    def forked(self) -> None:
        """In a fork of this process: let go of what the original holds."""
        self._guard = threading.RLock()
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
        if self._connection is not None:
            _INHERITED.append(self._connection)

    def close(self) -> None:
        """Let go of the file."""
        with self._guard:
            if self._connection is not None and not self.is_inherited:
                self._connection.close()
                if self._handle is not None:
                    os.close(self._handle)
                self._connection = self._handle = None


def _prepare(db: sqlite3.Connection, path: Path | None) -> None:
    there = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if there and "account" not in there:
        raise UserError(f"account {path} is another program's database: name a file of its own")
    for statement in TABLES.split(";"):
        if statement.strip():
            db.execute(statement)
    db.execute("INSERT OR IGNORE INTO account VALUES (0, ?, 0)", (SCHEMA,))
    (schema,) = db.execute("SELECT schema FROM account").fetchone()
    if schema != SCHEMA:
        raise UserError(f"account {path} was written by another version (schema {schema}, here {SCHEMA}): use that one, or a new file")


def _forked() -> None:
    for file in list(_OPEN):
        file.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
