"""The metrics store: nothing doubled, nothing lost, read while written."""

import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marlstone.core.episodes import WholeEpisodes
from marlstone.core.errors import UserError
from marlstone.core.ledger import Costs
from marlstone.runs.store import ROWS, Store

TABLES = [t.name for t in ROWS]


def rows(path: Path, table: str = "metrics") -> list[tuple]:
    with sqlite3.connect(path) as connection:
        found = connection.execute(f"SELECT * FROM {table}").fetchall()
    connection.close()
    return found


def whole(step: int, count: int = 2, success: bool = True) -> WholeEpisodes:
    """Episodes of three agents, of which something is said of two; their figures are their step's and number's."""
    figure = 10.0 * step + np.arange(count)
    metrics = {"success": figure % 2, "score": -figure} if success else {"score": -figure}
    each = figure[:, None] + np.arange(3) / 10
    return WholeEpisodes(np.arange(count), np.zeros(count, int), np.full(count, 7), figure, each, 100 * each[:, :2], metrics)


def spent(flops: int) -> Costs:
    costs = Costs()
    costs.add("train", "a", "flops", flops)
    costs.add("evaluate", "shared", "steps", 2)
    return costs


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
        store.event(5, 1, "timeout")
        assert store.truncate(1) == 1, "what was gathered and not written yet goes too"
        assert store.counts() == {("nan_observation", "agent_0/obs"): 3}


@settings(max_examples=25, deadline=None)
@given(stop=st.integers(0, 9), checkpoint=st.integers(0, 9), batch=st.integers(1, 30))
def test_resume_is_as_if_never_stopped(tmp_path_factory: pytest.TempPathFactory, stop: int, checkpoint: int, batch: int) -> None:
    """Record ten reports; or stop after some, go back to an earlier checkpoint, and record the rest: the same rows."""
    folder = tmp_path_factory.mktemp("store")

    def report(store: Store, step: int) -> None:
        store.add(step, 0, {"return": step**2, "loss": -step})
        store.event(step, 0, "timeout", "", step)
        store.log(step, 0, whole(step), "abc")
        store.spend(step, 0, spent(step))

    back = min(stop, checkpoint)
    with Store(folder / "a", "r", batch) as undisturbed:
        for step in range(1, 11):
            report(undisturbed, step)
    with Store(folder / "b", "r", batch) as first:
        for step in range(1, stop + 1):
            report(first, step)
    with Store(folder / "b", "r", batch) as second:
        second.truncate(back)
        for step in range(back + 1, 11):
            report(second, step)
    for table in TABLES:
        timed = table in ("metrics", "events", "episodes", "costs")
        strip = lambda found: sorted(row[:-1] if timed else row for row in found)  # noqa: B023
        assert strip(rows(folder / "a", table)) == strip(rows(folder / "b", table)) != []


def test_writing_twice_changes_nothing(tmp_path: Path) -> None:
    with Store(tmp_path / "m", "r") as store:
        for value in (1.0, 2.0):
            store.add(5, 0, {"x": value})
            store.log(5, 0, whole(int(value)), "abc")
            store.flush()
        assert store.series("x")[0].value.tolist() == [2.0]
        assert store.episodes().team_return.tolist() == [20.0, 21.0] and len(rows(tmp_path / "m", "episode_agents")) == 6


def test_episodes_come_back_as_they_were_logged(tmp_path: Path) -> None:
    """By seed, step and number; NaN where credit does not speak for an agent, and where no success is declared."""
    with Store(tmp_path / "m", "r") as store:
        assert store.episodes().agents == () and store.episodes().contribution.shape == (0, 0)
        for seed, step in ((2, 1), (1, 3), (1, 1)):
            store.log(step, seed, whole(step), "bca")
        found = store.episodes()
        assert found.seed.tolist() == [1, 1, 1, 1, 2, 2] and found.step.tolist() == [1, 1, 3, 3, 1, 1]
        assert found.episode.tolist() == [0, 1] * 3 and (found.length == 7).all()
        assert found.team_return.tolist() == [10, 11, 30, 31, 10, 11] and found.success.tolist() == [0, 1] * 3
        assert (found.metrics["score"] == -found.team_return).all() and list(found.metrics) == ["score", "success"]
        assert found.agents == ("a", "b", "c")
        np.testing.assert_allclose(found.own_return - found.team_return[:, None], np.tile([0.2, 0, 0.1], (6, 1)), atol=1e-9)
        np.testing.assert_allclose(found.contribution, found.own_return * [np.nan, 100, 100])
        assert store.episodes(2).step.tolist() == [3, 3]
        assert store.truncate(1) == 2 * (1 + 2 + 3) and store.episodes().step.tolist() == [1] * 4
    with Store(tmp_path / "n", "r") as store:
        store.log(1, 0, whole(1, success=False), "abc")
        assert np.isnan(store.episodes().success).all()
    with Store(tmp_path / "m", "another") as store:
        assert store.episodes().seed.size == 0


def test_what_was_spent_adds_up(tmp_path: Path) -> None:
    """Whole numbers beyond those that a float holds; a step told again is replaced; by day, and by seed up to a step."""
    many = 2**53 + 1
    with Store(tmp_path / "m", "r") as store:
        store.spend(1, 7, spent(5))
        store.spend(1, 7, spent(many))
        store.spend(2, 7, spent(1))
        store.spend(2, 8, spent(3))
        assert store.spent()[7].plain() == {"train": {"a": {"flops": many + 1}}, "evaluate": {"shared": {"steps": 4}}}
        assert store.spent(below=2) == {7: spent(many)}
        today = store.spending()
        assert sum(x.amount for x in today if x.kind == "flops") == many + 4 and len({x.day for x in today}) <= 2
        assert store.truncate(1) == 4 and store.spent() == {7: spent(many)}


@pytest.mark.parametrize(("version", "lacks"), [(1, ("episodes", "episode_metrics", "episode_agents", "costs")), (2, ("costs",))])
def test_a_store_of_an_earlier_schema_is_brought_up_to_date(tmp_path: Path, version: int, lacks: tuple[str, ...]) -> None:
    """The first had metrics and events, the second episodes too; what was in it stays."""
    with Store(tmp_path / "m", "r") as store:
        store.add(1, 0, {"x": 1.0})
    with sqlite3.connect(tmp_path / "m") as connection:
        for table in lacks:
            connection.execute(f"DROP TABLE {table}")
        connection.execute(f"UPDATE schema_version SET version = {version}")
    connection.close()
    with Store(tmp_path / "m", "r") as store:
        store.log(2, 0, whole(2), "abc")
        store.spend(2, 0, spent(4))
        assert store.series("x")[0].value.tolist() == [1.0] and store.episodes().step.tolist() == [2, 2]
        assert store.spent() == {0: spent(4)}
    assert rows(tmp_path / "m", "schema_version") == [(3,)]


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


def test_many_may_open_a_new_store_at_once(tmp_path: Path) -> None:
    """As a fleet's supervisor and its learner do: one makes the tables, the others find them all."""
    together = threading.Barrier(8)

    def opened(where: Path) -> None:
        together.wait()
        Store(where, "run").close()

    with ThreadPoolExecutor(8) as threads:
        for i in range(20):
            list(threads.map(opened, [tmp_path / f"{i}.sqlite"] * 8))
