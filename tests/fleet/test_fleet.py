"""The fleet with real processes: it trains, survives what kills its members, counts every trajectory, and leaves nothing behind."""

import io
import json
import os
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from marlstone.cli.fleet_status import shown
from marlstone.cli.report import training
from marlstone.config import dump, load
from marlstone.core.errors import Failure, UserError
from marlstone.fleet import supervisor as fleet
from marlstone.fleet.inspection import STATUS, ask_for, dump_stacks, status_of
from marlstone.fleet.supervisor import Supervisor
from marlstone.runs.checkpoint import newest
from marlstone.runs.directory import RunDirectory
from marlstone.training.trained import evaluate
from tests.cli.test_interrupt import SLOW_HOST
from tests.conserved import conserved

pytestmark = pytest.mark.usefixtures("compiled_once")
HOST = str(Path(__file__).parent.parent / "envs" / "host_examples.py")
SMALL = {
    "seeds": "1", "seed": "0", "rollout.envs": "4", "rollout.length": "8", "architecture.body.hidden": "[8]", "learner.epochs": "1",
    "learner.minibatches": "1", "fleet.kind": "local", "fleet.backoff": "0.05", "fleet.longest_backoff": "0.2", "fleet.lineage": "true",
    "evaluate.episodes": "2", "evaluate.logged": "0",
}  # fmt: skip


def supervised(tmp_path: Path, env: str = f"{HOST}:toy?length=6", **fields: str) -> Supervisor:
    config = load(None, {"env": env, "steps": "640", **SMALL, **fields})
    run = RunDirectory.create(tmp_path / "run", dump(config))
    return Supervisor(config, run, None, None, lambda p: None, lambda: False)


def children() -> set[int]:
    """Processes of a fleet that live: below this one, or nobody's any more. Other fleets on this machine are their own affair."""
    parent, members = dict[int, int](), set[int]()
    for p in Path("/proc").iterdir():
        if p.name.isdigit():
            try:
                state, above = (p / "stat").read_text().rpartition(")")[2].split()[:2]
                parent[int(p.name)] = int(above)
                if b"fleet.member" in (p / "cmdline").read_bytes() and state != "Z":
                    members.add(int(p.name))
            except OSError:
                continue

    def below(pid: int) -> bool:
        return pid > 1 and (parent.get(pid, 1) == os.getpid() or below(parent.get(pid, 1)))

    return {pid for pid in members if parent[pid] == 1 or below(pid)}


def balanced(record: dict[str, Any]) -> None:
    """Every accepted trajectory became exactly one thing."""
    became = ("chunks_trained", "chunks_dropped", "chunks_rolled_back", "chunks_left")
    assert record["chunks_accepted"] == sum(record[k] for k in became)


def surviving(run: RunDirectory) -> dict[int, list[tuple[int, ...]]]:
    """The trajectories of every version that the final policy came from."""
    lines = [json.loads(x) for x in run.within("fleet/lineage.jsonl").read_text().splitlines()]
    return {x["version"]: [tuple(c) for c in x["trajectories"]] for x in lines}


def trained_once(record: dict[str, Any], run: RunDirectory) -> None:
    """Twenty updates, of trajectories of both actors, each of which was trained once and is accounted for."""
    balanced(record)
    lineage = surviving(run)
    assert sorted(lineage) == list(range(1, 21))
    assert max(Counter(c for trajectories in lineage.values() for c in trajectories).values()) == 1
    assert {c[0] for trajectories in lineage.values() for c in trajectories} == {0, 1}


def test_a_fleet_trains_and_leaves_nothing_behind(tmp_path: Path) -> None:
    before = children()
    it = supervised(tmp_path)
    record = it.supervise()
    assert evaluate(it.config, newest(it.run.checkpoints), 2)["returns"] == record["returns"]  # without a fleet
    assert record["steps"] == 640
    assert record["actors"] == 2
    assert record["restarts"] == 0
    assert np.isfinite(record["returns"]).all()
    trained_once(record, it.run)
    conserved(record, it.run)
    assert children() == before
    said = status_of(it.run)
    assert [m["name"] for m in said["members"]] == ["learner", "actor-0", "actor-1"]
    readable(said)
    assert record["events"] == {}
    with it.run.store() as store:
        assert {"fleet/staleness_mean", "fleet/queue_depth", "fleet/actor-1/lag", "return"} <= set(store.names())


def readable(said: dict[str, Any]) -> None:
    """The status at 80 columns: no line is longer, no name is cut."""
    console = Console(width=80, file=io.StringIO())
    console.print(shown(said))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(len, lines)) <= 80 and not any("…" in line for line in lines)
    for name in ("process", "seed", "doing", "steps/s", "lag", "lives", *(m["name"] for m in said["members"])):
        assert any(name in line.split() for line in lines), name


def test_a_fleet_that_is_stopped_keeps_what_it_trained(tmp_path: Path) -> None:
    """Within seconds, whatever its learner is at: here it waits for trajectories of environments that take for ever."""
    before, slow = children(), tmp_path / "slow"
    (tmp_path / "host.py").write_text(SLOW_HOST.format(examples=str(Path(HOST).parent), slow=str(slow)))
    it = supervised(tmp_path, f"{tmp_path}/host.py:make", steps="64000")
    asked: list[float] = []

    def ask() -> None:
        while it.broker.facts()[0]["version"] < 5:
            time.sleep(0.02)
        slow.touch()
        time.sleep(1.0)
        asked.append(time.monotonic())

    it.stop = lambda: bool(asked)
    asking = threading.Thread(target=ask)
    asking.start()
    record = it.supervise()
    asking.join()
    assert record["stopped"] and record["steps"] == newest(it.run.checkpoints).step >= 32  # whole contacts, of up to 1.5 s each
    assert children() == before


@pytest.mark.slow
def test_chaos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Members are killed and held at random, the learner too, while training goes on to its end."""
    monkeypatch.setattr(fleet, "STOPPED", 0.3)
    it = supervised(tmp_path, f"{HOST}:toy?length=6&sleep=0.002", steps="3200", checkpoint_every="320")
    rng, over, blows = random.Random(1), threading.Event(), Counter[str]()

    def strike() -> None:
        while not over.wait(0.25):
            living = [m for m in (it.learner, *it.actors) if m.child is not None]
            version = it.broker.facts()[0]["version"]
            if not living or version < 10 or it.trained or blows.total() >= 25:
                continue
            m = rng.choice([x for x in living if x is not it.learner or blows["learner"] < 2] or living)
            how = rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP))
            try:
                os.kill(m.child.pid, how)
                blows["learner" if m is it.learner else "actor"] += 1
            except (ProcessLookupError, AttributeError):
                continue

    before, striker = children(), threading.Thread(target=strike)
    striker.start()
    try:
        record = it.supervise()
    finally:
        over.set()
        striker.join()
    assert blows["actor"] >= 3
    assert record["restarts"] >= 3
    assert record["events"]["actor_replaced"] == sum(m.life for m in it.actors)
    assert record["events"].get("learner_restarted", 0) == it.learner.life
    assert record["steps"] == 3200
    assert np.isfinite(record["returns"]).all()
    balanced(record)
    lineage = surviving(it.run)
    assert sorted(lineage) == list(range(1, 101))
    assert max(Counter(c for trajectories in lineage.values() for c in trajectories).values()) == 1
    assert children() == before


def test_a_killed_learner_goes_on_from_its_checkpoint_and_actors_stay(tmp_path: Path) -> None:
    it = supervised(tmp_path, f"{HOST}:toy?length=6&sleep=0.002", steps="1920", checkpoint_every="320")
    pids: list[set[int]] = []

    def strike() -> None:
        while it.broker.facts()[0]["version"] < 15:
            time.sleep(0.02)
        pids.append({m.child.pid for m in it.actors if m.child})
        it.learner.child.end()  # type: ignore[union-attr]
        while it.broker.facts()[0]["version"] < 30:
            time.sleep(0.02)
        pids.append({m.child.pid for m in it.actors if m.child})

    striker = threading.Thread(target=strike)
    striker.start()
    record = it.supervise()
    striker.join()
    assert record["resumed_from_step"] >= 320
    assert record["restarts"] == 1
    assert record["chunks_rolled_back"] > 0
    balanced(record)
    assert pids[0] == pids[1]
    # It happened after the step that the learner resumed from, and is known nevertheless: to the store, the record and the table.
    assert record["events"] == {"learner_restarted": 1, "rolled_back": 1}
    with it.run.store() as store:
        assert sum(n for (name, detail), n in store.counts().items() if name == "learner_restarted" and "status -9" in detail) == 1
    assert "learner_restarted 1" in dict(training(record))["events"]
    assert record["wall_seconds"] >= sum(record["phases"].values())


FAILING = str(Path(__file__).parent / "failing_credit.py")


@pytest.mark.parametrize(("how", "said"), [("hang", "updating for"), ("raise", "a cosmic ray")])
@pytest.mark.slow
def test_a_learner_that_hangs_or_raises_goes_on_from_its_checkpoint(tmp_path: Path, how: str, said: str) -> None:
    """Once, in an update: by itself neither its process nor anybody else's would end."""
    failing = {"credit": f"{FAILING}:Failing", "credit.mark": str(tmp_path / "mark"), "credit.how": how, "fleet.patience": "2"}
    it = supervised(tmp_path, f"{HOST}:toy?length=6&sleep=0.002", steps="960", checkpoint_every="160", **failing)
    record = it.supervise()
    assert (tmp_path / "mark").exists()
    assert any(said in x and "learner" in x for x in it.events.lines)
    assert (it.learner.life, record["restarts"]) == (1, 1), it.events.lines
    assert 160 <= record["resumed_from_step"] < 960
    assert record["steps"] == 960
    assert record["chunks_rolled_back"] > 0
    balanced(record)
    lineage = surviving(it.run)
    assert sorted(lineage) == list(range(1, 31))
    assert max(Counter(c for trajectories in lineage.values() for c in trajectories).values()) == 1
    assert all(m.life == 0 for m in it.actors)


@pytest.mark.slow
def test_a_poisoned_episode_is_put_in_quarantine_and_named(tmp_path: Path) -> None:
    """Episodes whose seed is divisible by 9 end the process that meets them."""
    it = supervised(
        tmp_path,
        f"{Path(__file__).parent / 'poisoned.py'}:make?divisor=9",
        **{"fleet.envs": "2", "fleet.poison_after": "2", "steps": "288"},
    )
    record = it.supervise()
    assert record["quarantined"]
    assert all(q["scenario"] % 9 == 0 and q["deaths"] == 2 for q in record["quarantined"])
    with it.run.store() as store:
        assert any(name == "quarantined" for name, _ in store.counts())


@pytest.mark.slow
def test_an_environment_that_hangs_costs_its_actor_a_life(tmp_path: Path) -> None:
    it = supervised(
        tmp_path,
        f"{Path(__file__).parent / 'poisoned.py'}:make?divisor=11&how=hang",
        **{"guards.timeout": "0.5", "fleet.poison_after": "1", "steps": "320"},
    )
    record = it.supervise()
    assert any("stepping for" in q["last"] for q in record["quarantined"])
    assert all(q["scenario"] % 11 == 0 for q in record["quarantined"])


@pytest.mark.slow
def test_stacks_of_every_process_in_one_file(tmp_path: Path) -> None:
    """Those of the workers too, by which the learner logs episodes at checkpoints."""
    logged = {"evaluate.logged": "1", "checkpoint_every": "64"}
    it = supervised(tmp_path, f"{HOST}:toy?length=6&sleep=0.01", **logged)
    found: list[str] = []
    ended: list[bool] = []

    def look() -> None:
        while it.broker.facts()[0]["version"] < 6 or not it.run.within(STATUS).is_file():
            time.sleep(0.05)
        time.sleep(1.2)
        while not ended and not (found and "fleet/learner.py" in found[-1]):  # a look may find it evaluating: not in its own file
            found.append(dump_stacks(it.run).read_text())

    looker = threading.Thread(target=look)
    looker.start()
    it.supervise()
    ended.append(True)
    looker.join()
    assert all(name in found[0] for name in ("== learner", "== actor-0", "== actor-1"))
    assert "fleet/actor.py" in found[0]
    assert "fleet/learner.py" in found[-1]
    assert "== learner's worker" in found[0]
    assert "rollout/worker_process.py" in found[0]


@pytest.mark.slow
def test_what_a_fleet_trained_in_a_jax_environment_is_read_without_one(tmp_path: Path) -> None:
    it = supervised(tmp_path, "proving:additive", steps="96")
    record = it.supervise()
    assert evaluate(it.config, newest(it.run.checkpoints), 2)["returns"] == record["returns"]


@pytest.mark.slow
def test_actors_join_and_leave_while_training_runs(tmp_path: Path) -> None:
    """Whoever joins is trained from, whoever left is not; none but the leavers are ended."""
    it = supervised(tmp_path, f"{HOST}:toy?length=6&sleep=0.01", steps="1280")
    sizes: list[set[str]] = []

    def resize() -> None:
        for actors, version in ((3, 4), (1, 20)):
            while it.broker.facts()[0]["version"] < version or not it.run.within(STATUS).is_file():
                time.sleep(0.05)
            ask_for(it.run, actors)
            while len(it.actors) != actors or any(m.child is None for m in it.actors):
                time.sleep(0.05)
            sizes.append({m.name for m in it.actors})

    resizer = threading.Thread(target=resize)
    resizer.start()
    record = it.supervise()
    resizer.join()
    assert sizes == [{"actor-0", "actor-1", "actor-2"}, {"actor-0"}]
    assert record["restarts"] == 0
    balanced(record)
    lineage = surviving(it.run)
    assert {c[0] for c in lineage[40]} == {0}
    assert 2 in {c[0] for trajectories in lineage.values() for c in trajectories}
    with pytest.raises(UserError, match="has ended"):
        ask_for(it.run, 2)


def test_mistakes_and_hopeless_fleets_end_with_one_message(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        supervised(tmp_path / "a", f"{HOST}:nowhere").supervise()
    with pytest.raises(UserError, match="licence server"):
        supervised(tmp_path / "c", f"{Path(__file__).parent / 'poisoned.py'}:make?how=unbuildable").supervise()
    with pytest.raises(Failure, match=r"fleet\.restarts = 1"):
        supervised(tmp_path / "b", f"{HOST}:toy?length=6&fault=exit&at=2", **{"fleet.restarts": "1"}).supervise()
    assert not children()


def test_fields_of_a_fleet_that_is_not_there_are_refused() -> None:
    with pytest.raises(UserError, match="add --fleet local"):
        load(None, {"env": "proving:pair", "fleet.actors": "8"})
    with pytest.raises(UserError, match=r"set fleet\.envs"):
        load(None, {"env": "proving:pair", "fleet.kind": "local", "fleet.envs": "3"})
