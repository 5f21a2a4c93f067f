"""Four hundred light actors, well and ill, and a barrier beside them.

    python benchmarks/many.py [--actors 400] [--seconds 45] [--nap 0.25]

Every actor is a process with one environment whose step takes a while, `nap`, and no processor. Ill: at any time a tenth of all actors hang
in a step that never returns, until the supervisor ends them, upon which others hang; and 5% of all are killed each minute. The
barrier: the same actors and learner, but nobody may begin an unroll before everybody has delivered the last one; it is left
without deadlines, as such loops are. Throughput: joint steps trained per second, once all actors step. With a nap of 50 ms an actor's
own 0.15 to 0.4 ms a step, four hundred times, already fill two cores; that fleet is measured in health only.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from record import HERE, stamp, write

from marlstone.config import dump, load
from marlstone.fleet.broker import NOW, Broker
from marlstone.fleet.payload import Parcel
from marlstone.fleet.supervisor import Supervisor
from marlstone.runs.directory import RunDirectory

FIELDS = {
    "architecture": "ctde", "credit": "team", "seeds": "1", "steps": "1000000000", "checkpoint_every": "1000000000",
    "evaluate.logged": "0", "evaluate.episodes": "1", "architecture.body.hidden": "[32]",
    "rollout.length": "20", "fleet.kind": "local", "fleet.envs": "1",
    "fleet.restarts": "100000", "fleet.max_staleness": "64", "fleet.queue": "20",
    "guards.restarts": "100000", "learner.epochs": "1", "learner.minibatches": "1",
}  # fmt: skip


class Barrier(Broker):
    """Takes nobody's trajectories before it has everybody's earlier ones."""

    def __init__(self, capacity: int, actors: int) -> None:
        super().__init__(1, capacity)
        self.actors, self.delivered = actors, defaultdict[int, int](int)

    def put(self, parcel: Parcel, patience: float) -> str:
        ahead = lambda: len(self.delivered) < self.actors or self.delivered[parcel.actor] > min(self.delivered.values())
        with self.changed:
            until = NOW() + patience
            while self.delivered[parcel.actor] and ahead():
                if NOW() >= until:
                    return "full"
                self.changed.wait(until - NOW())
        became = super().put(parcel, patience)
        with self.changed:
            self.delivered[parcel.actor] += became == "accepted"
            self.changed.notify_all()
        return became


def busy() -> tuple[float, float]:
    """Seconds that all processors have worked, and have been there."""
    t = [int(x) / os.sysconf("SC_CLK_TCK") for x in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return sum(t) - t[3] - t[4], sum(t)


def cpu() -> float:
    return sum(os.times()[:2])


def fleet(actors: int, seconds: float, nap: float, ill: bool = False, barrier: bool = False) -> dict[str, Any]:
    """One fleet for a while."""
    said: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder, over = Path(name), threading.Event()
        for k in range(actors // 10):
            (folder / str(k)).touch()
        limit = "1000000" if barrier else "60"
        fields = {
            "env": f"{HERE / 'napping.py'}:make?folder={folder}&nap={nap}",
            "fleet.actors": str(actors),
            "rollout.envs": str(max(1, actors // 20)),
        }
        config = load(None, {**FIELDS, **fields, "guards.timeout": limit})
        it = Supervisor(config, RunDirectory.create(folder / "run", dump(config)), None, None, lambda p: None, over.is_set)
        if barrier:
            it.broker = Barrier(it.broker.channels[0].capacity, actors)
        version = lambda: it.broker.facts()[0]["version"]
        stepping = lambda: sum(m.facts().steps > 0 for m in it.actors)

        def watch() -> None:
            began = time.perf_counter()
            while stepping() < actors:
                time.sleep(0.2)
            said["all_step_after_seconds"] = time.perf_counter() - began
            time.sleep(10)
            if ill:
                (folder / "ill").touch()
                time.sleep(20)
            at, t, (work, there), own, restarts = version(), time.perf_counter(), busy(), cpu(), it.restarts
            rng, seen, moved = random.Random(0), version(), t
            killed, every = 0, 60 / (actors * 0.05)
            while (now := time.perf_counter()) - t < seconds:
                if version() != seen:
                    seen, moved = version(), now
                if ill and not barrier and now - t > killed * every:
                    m, killed = rng.choice(it.actors), killed + 1
                    if m.child is not None and m.child.pid is not None:
                        os.kill(m.child.pid, signal.SIGKILL)
                time.sleep(0.05)
            took, (work2, there2) = time.perf_counter() - t, busy()
            trained = (seen - at) * config.rollout.envs * config.rollout.length
            said.update(
                steps_per_second=trained / took, updates=seen - at, still_seconds=now - moved,
                machine_busy=(work2 - work) / (there2 - there), supervisor_cores=(cpu() - own) / took, killed=killed,
                restarts=it.restarts - restarts, stalled=sum(m.facts().seconds > 2 and m.facts().doing == "stepping" for m in it.actors),
                down=sum(m.child is None for m in it.actors), median_rate=float(np.median([m.rate for m in it.actors])),
            )  # fmt: skip
            over.set()
            if barrier:
                it.failure = {"kind": "over"}

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            it.supervise()
        except KeyError:
            assert barrier
        watcher.join()
    return said


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--actors", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=45)
    parser.add_argument("--nap", type=float, default=0.25, help="seconds that a step takes")
    parser.add_argument("--rows", nargs="+", help="measure these again and keep the others")
    flags = parser.parse_args()
    hows: dict[str, dict[str, Any]] = {
        "fleet, well": {}, "fleet, ill": {"ill": True}, "barrier, well": {"barrier": True}, "barrier, ill": {"barrier": True, "ill": True},
        "fleet, well, 50 ms": {"nap": 0.05},
    }  # fmt: skip
    path = HERE / "results" / "many.json"
    rows = json.loads(path.read_text())["rows"] if flags.rows and path.exists() else {}
    for name in flags.rows or hows:
        how = {"nap": flags.nap, **hows[name]}
        alone = flags.actors / how["nap"]
        rows[name] = {
            "nap": how["nap"],
            "envs_steps_per_second": alone,
            "seconds": flags.seconds,
            **fleet(flags.actors, flags.seconds, **how),
        }
        print(name, rows[name], file=sys.stderr, flush=True)
    ratio = rows["fleet, ill"]["steps_per_second"] / rows["fleet, well"]["steps_per_second"]
    write("many", {"actors": flags.actors, "config": FIELDS, "rows": rows, "ratio": ratio, **stamp()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
