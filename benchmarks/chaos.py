"""A fleet under fire: members killed and held at random, the learner too, beside the same fleet left in peace.

    python benchmarks/chaos.py [--fleet local|ray] [--blows 200] [--steps 200000]

Every blow is a kill -9 or a SIGSTOP of a random member; every tenth, on average, hits the learner, and on Ray every twentieth
kills the supervisor of the node with all that lives there. Beside the blows, environments raise. Kept: what became of every
trajectory, whether any version was trained twice from the same one, what was left of processes and memory, and the final returns.
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
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from record import HERE, stamp, write

from marlstone.config import dump, load
from marlstone.fleet.supervisor import Supervisor
from marlstone.runs.directory import RunDirectory

FIELDS = {
    "architecture": "ctde", "credit": "team", "rollout.envs": "8", "rollout.length": "25",
    "seeds": "3", "learner.lr": "1e-3", "evaluate.logged": "0", "evaluate.episodes": "64", "fleet.actors": "2",
    "fleet.backoff": "0.1", "fleet.longest_backoff": "1.0", "fleet.lineage": "true", "architecture.body.hidden": "[64,64]",
}  # fmt: skip


MARK = f"MARLSTONE_CHAOS={os.getpid()}"


def living() -> list[int]:
    """Members of the fleets that this benchmark started."""
    found = []
    for p in Path("/proc").iterdir():
        if p.name.isdigit():
            try:
                if MARK.encode() in (p / "environ").read_bytes() and b"fleet.member" in (p / "cmdline").read_bytes():
                    found.append(int(p.name))
            except OSError:
                continue
    return found


def nodes() -> list[int]:
    """Ray's processes that hold actors."""
    found = [p for p in Path("/proc").iterdir() if p.name.isdigit()]
    return [int(p.name) for p in found if (p / "cmdline").is_file() and b"ray::Node" in _read(p / "cmdline")]


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""


def strike(it: Supervisor, blows: int, over: threading.Event, hit: Counter[str], every: float) -> None:
    """Hit one member every so often, once training runs."""
    rng = random.Random(0)
    while not over.wait(every) and hit.total() < blows:
        if it.trained or min(f["version"] for f in it.broker.facts()) < 3:
            continue
        if it.config.fleet.kind == "ray" and rng.random() < 0.05 and (found := nodes()):
            os.kill(found[0], signal.SIGKILL)
            hit["node SIGKILL"] += 1
            continue
        m = it.learner if rng.random() < 0.1 else rng.choice(it.actors)
        if m.child is None or m.child.pid is None:
            continue
        how = rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP))
        try:
            os.kill(m.child.pid, how)
        except (ProcessLookupError, AttributeError):
            continue
        hit[("learner " if m is it.learner else "actor ") + how.name] += 1


def train(kind: str, steps: int, blows: int, every: float) -> dict[str, Any]:
    env = f"{HERE / 'shaky.py'}:make?every={4000 if blows else 0}"
    config = load(None, {**FIELDS, "env": env, "fleet.kind": kind, "steps": str(steps), "checkpoint_every": str(max(1, steps // 40))})
    shared = len(list(Path("/dev/shm").iterdir()))
    with tempfile.TemporaryDirectory() as folder:
        run, over, hit = RunDirectory.create(Path(folder) / "run", dump(config)), threading.Event(), Counter[str]()
        it, began = Supervisor(config, run, None, None, lambda p: None, lambda: False), time.perf_counter()
        striker = threading.Thread(target=strike, args=(it, blows, over, hit, every))
        striker.start()
        record = it.supervise()
        seconds = time.perf_counter() - began
        over.set()
        striker.join()
        lineage: dict[tuple[int, int], list[list[int]]] = {}
        for line in run.within("fleet/lineage.jsonl").read_text().splitlines():
            said = json.loads(line)
            lineage[said["seed"], said["version"]] = said["trajectories"]
        used = Counter((seed, *c) for (seed, _), trajectories in lineage.items() for c in trajectories)
        with run.store() as store:
            finite = all(np.isfinite(s.value).all() for name in store.names() for s in store.series(name))
    faults = sum((Counter(f) for f in record["faults"]), Counter[str]())
    became = {k: record[f"chunks_{k}"] for k in ("trained", "dropped", "rolled_back", "left", "refused", "accepted")}
    return {
        "blows": dict(hit), "raised": faults["raised"], "seconds": seconds, "returns": record["returns"],
        "return_iqm": record["return_iqm"],
        "return_ci95": record["return_ci95"], "restarts": record["restarts"], "chunks": became, "versions": len(lineage),
        "trained_twice": sum(n > 1 for n in used.values()),
        "unaccounted": became["accepted"] - sum(became[k] for k in ("trained", "dropped", "rolled_back", "left")), "all_finite": finite,
        "orphans": len(living()), "shared_memory_left": len(list(Path("/dev/shm").iterdir())) - shared,
        "staleness_p99": record["staleness_p99"], "quarantined": record["quarantined"],
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blows", type=int, default=200)
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--every", type=float, default=0.8, help="seconds between blows")
    parser.add_argument("--fleet", choices=("local", "ray"), default="local")
    flags = parser.parse_args()
    os.environ.update([MARK.split("=")])
    peace, chaos = (train(flags.fleet, flags.steps, blows, flags.every) for blows in (0, flags.blows))
    write(
        f"chaos/{flags.fleet}", {"fleet": flags.fleet, "config": FIELDS | {"steps": flags.steps}, "peace": peace, "chaos": chaos, **stamp()}
    )
    print(json.dumps({"peace": peace, "chaos": chaos}, indent=1), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
