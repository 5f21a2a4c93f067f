"""The metrics store: nothing doubled, nothing lost, read while written."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marlstone.core.errors import UserError
from marlstone.runs.store import Store


def rows(path: Path, table: str = "metrics") -> list[tuple]:
    with sqlite3.connect(path) as connection:
        found = connection.execute(f"SELECT * FROM {table}").fetchall()
    connection.close()
    return found


def test_series(tmp_path: Path) -> None:
    with Store(tmp_path / "m.sqlite", "r") as store:
        for seed in (1001, 1000):
            for step in (200, 100):
                store.add(step, seed, {"return": step + seed / 1e6, "bad": float("nan"), "big": float("inf")})
        series = store.series("return")
        assert [s.seed for s in series] == [1000, 1001]
        assert series[0].step.tolist() == [100, 200] and series[0].value.tolist() == [100.001, 200.001]
        assert np.isnan(store.series("bad")[0].value).all() and np.isinf(store.series("big")[0].value).all()
        assert store.names() == ("bad", "big", "return") and store.series("none") == ()
    with Store(tmp_path / "m.sqlite", "another") as store:
        assert store.names() == ()


def test_events_are_counted(tmp_path: Path) -> None:
    with Store(tmp_path / "m.sqlite", "r") as store:
        store.event(1, 0, "nan_observation", "agent_0/obs", 3)
        store.event(2, 0, "nan_observation", "agent_0/obs", 4)
        store.event(2, 1, "timeout")
        assert store.counts() == {("nan_observation", "agent_0/obs"): 7, ("timeout", ""): 1}
        assert store.truncate(1) == 2
        assert store.counts() == {("nan_observation", "agent_0/obs"): 3}


@settings(max_examples=25, deadline=None)
@given(stop=st.integers(0, 9), checkpoint=st.integers(0, 9), batch=st.integers(1, 30))
def test_resume_is_as_if_never_stopped(tmp_path_factory: pytest.TempPathFactory, stop: int, checkpoint: int, batch: int) -> None:
    """Record ten reports; or stop after some, go back to an earlier checkpoint, and record the rest: the same rows."""
    folder = tmp_path_factory.mktemp("store")

    def report(store: Store, step: int) -> None:
        store.add(step, 0, {"return": step**2, "loss": -step})
        store.event(step, 0, "timeout", "", step)

    back = min(stop, checkpoint)
    with Store(folder / "a", "r", batch) as whole:
        for step in range(1, 11):
            report(whole, step)
    with Store(folder / "b", "r", batch) as first:
        for step in range(1, stop + 1):
            report(first, step)
    with Store(folder / "b", "r", batch) as second:
        second.truncate(back)
        for step in range(back + 1, 11):
            report(second, step)
    for table in ("metrics", "events"):
        strip = lambda found: sorted(row[:-1] for row in found)  # all but the time
        assert strip(rows(folder / "a", table)) == strip(rows(folder / "b", table))


def test_writing_twice_changes_nothing(tmp_path: Path) -> None:
    with Store(tmp_path / "m", "r") as store:
        for value in (1.0, 2.0):
            store.add(5, 0, {"x": value})
            store.flush()
        assert store.series("x")[0].value.tolist() == [2.0]


def test_readers_do_not_wait(tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite"
    with Store(path, "r") as store:
        store.add(1, 0, {"x": 1.0})
        store.flush()
        reader = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('select value from metrics').fetchall())"
        done = subprocess.run([sys.executable, "-c", reader, str(path)], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[(1.0,)]"


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite"
    path.write_bytes(b"not a database, at any rate not one of SQLite's" * 50)
    with pytest.raises(UserError, match=r"m\.sqlite does not open"):
        Store(path, "r")
    with Store(tmp_path / "n", "r"):
        pass
    with sqlite3.connect(tmp_path / "n") as connection:
        connection.execute("UPDATE schema_version SET version = 99")
    connection.close()
    with pytest.raises(UserError, match="schema 99"):
        Store(tmp_path / "n", "r")
