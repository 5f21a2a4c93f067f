"""Who holds what and waits for whom is seen while it happens, by nobody's leave; and who may be silent for how long."""

import io
import math
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from marlstone.cli.fleet_status import shown
from marlstone.config import load
from marlstone.fleet.actor import ROOM
from marlstone.fleet.broker import Broker
from marlstone.fleet.deadlines import COMPILING, SLOWER, deadline
from marlstone.fleet.inspection import status_of
from marlstone.fleet.observable_lock import Lock
from marlstone.fleet.status_page import BEFORE, Page
from marlstone.rollout.shared_memory import anonymous
from tests.fleet.test_fleet import HOST, supervised


def until(true: Any, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_lock_tells_who_holds_it_and_who_waits() -> None:
    lock, go = Lock("trajectories"), threading.Event()

    def take() -> None:
        with lock:
            go.wait(10)

    holder, *waiters = (threading.Thread(target=take, name=n) for n in ("actor-0", "actor-1", "learner"))
    holder.start()
    until(lambda: lock.facts()["holder"] == "actor-0")
    for t in waiters:
        t.start()
    until(lambda: len(lock.facts()["waiters"]) == 2)
    assert not lock.acquire(timeout=0.05)
    said = lock.facts()
    assert {w["name"] for w in said["waiters"]} == {"actor-1", "learner"}
    assert all(0 < w["seconds"] <= said["held_seconds"] for w in said["waiters"])
    assert said["waited_seconds"] >= 0.05
    go.set()
    for t in (holder, *waiters):
        t.join(10)
    after = lock.facts()
    assert after["holder"] is None
    assert not after["waiters"]
    assert after["waited_seconds"] > said["waited_seconds"]


def test_waiting_for_a_change_is_not_holding_the_lock() -> None:
    broker = Broker(1, 4)
    waiting = threading.Thread(target=lambda: broker.take(0, 0.5))
    waiting.start()
    until(lambda: broker.facts()[0]["learner_waiting_seconds"] is not None)
    assert broker.lock.facts()["holder"] is None
    waiting.join()


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_once")
def test_a_stuck_lock_is_seen_through(tmp_path: Path) -> None:
    """The status goes on while a thread keeps everybody from the queue, and names it."""
    it = supervised(tmp_path, f"{HOST}:toy?length=6&sleep=0.002")
    found: list[dict[str, Any]] = []

    def keep() -> None:
        until(lambda: it.broker.facts()[0]["version"] >= 3, 60)
        with it.broker.lock:
            time.sleep(7.5)
            found.append(status_of(it.run))

    keeper = threading.Thread(target=keep, name="keeper")
    keeper.start()
    record = it.supervise()
    keeper.join()
    (said,) = found
    assert said["alive"]
    lock = said["locks"][0]
    assert (lock["name"], lock["holder"]) == ("trajectories and weights", "keeper")
    assert lock["held_seconds"] > 5
    assert {w["name"] for w in lock["waiters"]} & {"learner", "actor-0", "actor-1"}
    assert "keeper holds the lock of trajectories and weights" in said["because"]
    console = Console(width=200, file=io.StringIO())
    console.print(shown(said))
    assert "keeper" in console.file.getvalue()  # type: ignore[attr-defined]
    assert record["restarts"] == 0
    with it.run.store() as store:
        assert {"fleet/lock_waiters", "fleet/lock_held_seconds", "fleet/lock_waited_seconds"} <= set(store.names())


def test_a_heartbeat_is_not_a_new_beginning() -> None:
    page = Page(anonymous(), create=True)
    page.doing("waiting for trajectories")
    time.sleep(0.05)
    page.still("waiting for trajectories")
    facts = page.facts()
    assert facts.silent < 0.05 <= facts.seconds
    page.still("updating")
    assert page.facts().doing == "updating"
    assert page.facts().seconds < 0.05


@pytest.mark.parametrize(
    ("doing", "trajectories", "allowed"),
    [
        ("waiting for trajectories", 0, math.inf),
        ("evaluating", 0, math.inf),
        ("checkpointing", 0, math.inf),
        ("compiling", 0, 7 * COMPILING),
        ("updating", 7, 7 * COMPILING),
        ("updating", 40, 7 + SLOWER * 900 / 5),
        ("publishing", 40, 7),
        ("sending", 0, 7 + ROOM),
    ],
)
def test_a_learner_is_given_the_time_that_it_needs(doing: str, trajectories: int, allowed: float) -> None:
    """Two seeds of four trajectories an update, after 900 s."""
    config = load(
        None,
        {"env": "proving:pair", "seeds": "2", "rollout.envs": "4", "fleet.kind": "local", "fleet.patience": "7"},
    )
    facts = BEFORE.later(900.0)
    facts = type(facts)(**{**facts.json, "doing": doing, "trajectories": trajectories})
    assert deadline(config, facts, None, False) == allowed
