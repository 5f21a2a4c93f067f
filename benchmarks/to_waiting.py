"""Real city traffic to the same waiting time, in wall-clock seconds: the fleet against the synchronous host runtime.

    python benchmarks/to_waiting.py [--target 0.5] [--seeds 5] [--steps 36000]

`benchmarks/learning/sumo-cologne8.toml`, one seed at a time, four simulators each way: worker processes that step in time with
the learner, or four actors that do not. Reached: the mean waiting time of two consecutive reports of training, actions
sampled, is at most the target. Seconds are from the first moment of the command.
"""

import argparse
import itertools
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from record import HERE, stamp, write

WAYS = {"synchronous": {}, "fleet": {"fleet.kind": "local", "fleet.actors": "4", "fleet.envs": "1"}}


def one(way: str, seed: int, steps: int, target: float) -> dict[str, Any]:
    given = {
        "seed": seed,
        "seeds": 1,
        "steps": steps,
        "evaluate.logged": 0,
        "evaluate.episodes": 4,
        "checkpoint_every": 1440,
        **WAYS[way],
    }
    with tempfile.TemporaryDirectory() as folder:
        config = str(HERE / "learning" / "sumo-cologne8.toml")
        words = [sys.executable, "-m", "marlstone", "train", config, "--out", f"{folder}/run"]
        began = time.time()
        subprocess.run(words + [w for k, v in given.items() for w in ("--set", f"{k}={v}")], check=True, stdout=subprocess.DEVNULL)
        seconds = time.time() - began
        (store,) = Path(folder).glob("run/*.sqlite*")
        with sqlite3.connect(store) as db:
            rows = db.execute("select step, value, time from metrics where name = 'metric/mean_waiting_time' order by step").fetchall()
    curve = [{"step": s, "waiting": v, "seconds": t - began} for s, v, t in rows]
    reached = [b for a, b in itertools.pairwise(curve) if max(a["waiting"], b["waiting"]) <= target]
    return {"seed": seed, "reached": reached[0] if reached else None, "whole_seconds": seconds, "curve": curve}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", type=float, default=0.5, help="seconds of mean waiting time")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=36_000)
    flags = parser.parse_args()
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for seed in range(1000, 1000 + flags.seeds):
        for way in WAYS:
            runs[way].append(one(way, seed, flags.steps, flags.target))
            print(way, seed, runs[way][-1]["reached"], round(runs[way][-1]["whole_seconds"], 1), file=sys.stderr)
    times = {way: median(r["reached"]["seconds"] if r["reached"] else float("inf") for r in rs) for way, rs in runs.items()}
    write("to_waiting", {"target": flags.target, "steps": flags.steps, "runs": runs, "median_seconds": times, **stamp()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
