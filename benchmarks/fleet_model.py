"""Is the simulated fleet the real one? Real fleets of 2, 8 and 32 actors beside the model, fed with the times that each measured.

    python benchmarks/fleet_model.py [--actors 2 8 32] [--seconds 20]

The environment sleeps 20 ms a step, so that 32 actors fit on two cores; with few trajectories to an update the actors are the limit,
with a slow update the learner is. `error`: simulated over real steps/s, less 1.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from record import HERE, stamp, write

from marlstone.config import dump, load
from marlstone.fleet.scenario import Scenario, Service
from marlstone.fleet.simulate import simulate
from marlstone.fleet.supervisor import Supervisor
from marlstone.runs.directory import RunDirectory

LENGTH, ENVS = 16, 1
FIELDS = {
    "env": f"{HERE.parent / 'tests' / 'envs' / 'host_examples.py'}:toy?length=50&sleep=0.02", "architecture": "ctde", "credit": "team",
    "seeds": "1", "steps": "1000000000", "rollout.length": str(LENGTH), "fleet.kind": "local", "fleet.envs": str(ENVS),
    "evaluate.logged": "0", "learner.minibatches": "1",
}  # fmt: skip
LIMITS = {"actors": {"learner.epochs": "1"}, "learner": {"learner.epochs": "200", "architecture.body.hidden": "[256,256]"}}


def real(actors: int, batch: int, fields: dict[str, str], seconds: float) -> tuple[float, dict[str, Any], float]:
    """Steps trained per second once the fleet runs, its service times, and how stale trajectories were."""
    config = load(None, {**FIELDS, **fields, "fleet.actors": str(actors), "rollout.envs": str(batch)})
    found: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        run, over = RunDirectory.create(Path(folder) / "run", dump(config)), threading.Event()
        it = Supervisor(config, run, None, None, lambda p: None, over.is_set)

        def watch() -> None:
            while any(m.page.facts().trajectories == 0 for m in it.actors) or it.broker.facts()[0]["version"] < 5:
                time.sleep(0.1)
            time.sleep(3.0)
            began, steps = time.perf_counter(), it.learner.page.facts().steps
            time.sleep(seconds)
            found.append((it.learner.page.facts().steps - steps) / (time.perf_counter() - began))
            over.set()

        watcher = threading.Thread(target=watch)
        watcher.start()
        record = it.supervise()
        watcher.join()
        service = json.loads(run.within("fleet.json").read_text())
    return found[0], service, record["staleness_mean"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--actors", type=int, nargs="+", default=[2, 8, 32])
    parser.add_argument("--seconds", type=float, default=20)
    flags = parser.parse_args()
    rows = []
    for limit, fields in LIMITS.items():
        for actors in flags.actors:
            batch = max(2, actors // 2)
            rate, service, stale = real(actors, batch, fields, flags.seconds)
            scenario = Scenario(actors=actors, envs=ENVS, length=LENGTH, batch=batch, queue=2 * batch, max_staleness=8)
            model = simulate(Service(**service), scenario, 600.0).steps_per_second * (49 / 50)  # every fiftieth row is a reset
            rows.append({"limit": limit, "actors": actors, "batch": batch, "real": rate, "model": model, "error": model / rate - 1,
                         "service": service, "staleness_mean": stale})  # fmt: skip
            print({k: rows[-1][k] for k in ("limit", "actors", "real", "model", "error", "staleness_mean")}, service, file=sys.stderr)
    write("fleet_model", {"fields": {k: v for k, v in FIELDS.items() if k != "env"}, "rows": rows, **stamp()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
