"""The fleet with its actors on Ray: a real cluster of one node, real processes, and what becomes of them."""

import os
import random
import re
import signal
import socket
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from marlstone.config import load
from marlstone.core.errors import UserError
from marlstone.fleet import frames
from marlstone.fleet import supervisor as fleet
from marlstone.fleet.inspection import STATUS, dump_stacks, status_of
from marlstone.fleet.on_ray import OnRay
from marlstone.fleet.supervisor import Supervisor
from tests.fleet.test_fleet import HOST, balanced, children, supervised, surviving, trained_once

pytestmark = pytest.mark.usefixtures("compiled_once")


def called(name: bytes) -> set[int]:
    """Processes of this test process of which the command line says so: the tests beside it have clusters of their own."""
    me = os.environ.get("PYTEST_XDIST_WORKER", "")
    mine = f"PYTEST_XDIST_WORKER={me}".encode() if me else b""
    found = set()
    for p in Path("/proc").iterdir():
        if p.name.isdigit():
            try:
                parent = re.search(rb"\nPPid:\t(\d+)", (p / "status").read_bytes())
                above = Path("/proc", parent[1].decode()) if parent else p
                # Ray's workers write their titles over their environments; the raylet above them keeps its own.
                if name in (p / "cmdline").read_bytes() and any(mine in (q / "environ").read_bytes() for q in (p, above)):
                    found.add(int(p.name))
            except OSError:
                continue
    return found


def strangers(it: Supervisor) -> list[bytes]:
    """What those hear after the challenge who answer it without the token."""
    assert isinstance(it.there, OnRay)
    heard = []
    who = {"name": "actor-0", "life": 0}
    for words in (
        frames.encode({"nonce": "0" * 32, "who": who, "digest": "0" * 64}),
        frames.encode({"who": who}),
        frames.HEADER.pack(frames.MAGIC, 2, frames.MOST_BYTES, 0),
        b"GET / HTTP/1.1\r\n" * 9,
    ):
        with socket.create_connection(it.there.listener.getsockname()[:2], 5) as link:
            assert set(frames.receive(link)[0]) == {"nonce"}
            link.sendall(words)
            try:
                heard.append(link.recv(100))
            except ConnectionResetError:
                heard.append(b"")
    return heard


def test_a_fleet_on_ray_trains_is_seen_and_leaves_nothing_behind(tmp_path: Path) -> None:
    import ray  # noqa: F401  # a program may have imported it before: the cluster listens to this machine alone all the same

    handler = signal.getsignal(signal.SIGTERM)
    it = supervised(tmp_path, f"{HOST}:toy?length=6&sleep=0.01", **{"fleet.kind": "ray"})
    assert signal.getsignal(signal.SIGTERM) is handler
    found: list[str] = []
    ended: list[bool] = []
    nodes: list[list[str | None]] = []
    heard: list[bytes] = []

    def look() -> None:
        while it.broker.facts()[0]["version"] < 3 or not it.run.within(STATUS).is_file():
            time.sleep(0.05)
        heard.extend(strangers(it))
        time.sleep(1.2)
        nodes.append([m["node"] for m in status_of(it.run)["members"]])
        while not ended and not (found and "fleet/learner.py" in found[-1]):  # a look may find it evaluating: not in its own file
            found.append(dump_stacks(it.run).read_text())

    looker = threading.Thread(target=look)
    looker.start()
    record = it.supervise()
    ended.append(True)
    looker.join()
    assert record["steps"] == 640
    assert record["restarts"] == 0
    assert np.isfinite(record["returns"]).all()
    trained_once(record, it.run)
    assert heard == [b""] * 4
    assert nodes == [[None, "127.0.0.1", "127.0.0.1"]]
    assert found[0].count("fleet/actor.py") >= 2
    assert "supervisor.py" in found[0]
    assert "fleet/learner.py" in found[-1]
    assert not children()
    assert not called(b"raylet")


@pytest.mark.slow
def test_chaos_on_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Members and Ray's own processes on the node are killed and held at random, while training goes on to its end."""
    monkeypatch.setattr(fleet, "STOPPED", 0.3)
    it = supervised(
        tmp_path, f"{HOST}:toy?length=6&sleep=0.002", steps="3200", checkpoint_every="320", **{"fleet.kind": "ray", "fleet.patience": "5"}
    )
    rng, over, blows = random.Random(1), threading.Event(), Counter[str]()

    def strike() -> None:
        while not over.wait(0.3):
            if it.broker.facts()[0]["version"] < 10 or it.trained or blows.total() >= 20:
                continue
            nodes = called(b"ray::Node")
            what = "node" if nodes and blows["node"] < 2 and blows["actor"] >= 2 else "learner" if blows["learner"] < 1 else "actor"
            how = (
                (signal.SIGKILL, signal.SIGSTOP)[blows["node"]]
                if what == "node"
                else rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP))
            )
            pids = nodes if what == "node" else {m.child and m.child.pid for m in ((it.learner,) if what == "learner" else it.actors)}
            if alive := sorted(p for p in pids if p):
                try:
                    os.kill(rng.choice(alive), how)
                    blows[what] += 1
                except ProcessLookupError:
                    continue

    striker = threading.Thread(target=strike)
    striker.start()
    try:
        record = it.supervise()
    finally:
        over.set()
        striker.join()
    assert blows["node"] == 2
    assert blows["actor"] >= 2
    assert record["restarts"] >= 3
    assert record["steps"] == 3200
    assert np.isfinite(record["returns"]).all()
    balanced(record)
    lineage = surviving(it.run)
    assert sorted(lineage) == list(range(1, 101))
    assert max(Counter(c for trajectories in lineage.values() for c in trajectories).values()) == 1
    assert not children()
    assert not called(b"raylet")


def test_a_cluster_that_is_not_there_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"127\.0\.0\.1:1'.*no Ray cluster"):
        supervised(tmp_path, **{"fleet.kind": "ray", "fleet.address": "127.0.0.1:1"})
    with pytest.raises(UserError, match="add --fleet ray"):
        load(None, {"env": "proving:pair", "fleet.kind": "local", "fleet.address": "127.0.0.1:1"})
