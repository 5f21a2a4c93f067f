"""City traffic, recorded: our policies and a greedy longest-queue controller on simulator seeds, jams told apart.

    python benchmarks/traffic.py sumo-cologne3 sumo-cologne8 [--episodes 8] [--greedy 20]

sumo-rl switches teleporting off, so a junction that blocks itself stays blocked for the rest of the hour, whoever
controls the lights: the greedy controller meets this too. An hour with a mean waiting time above `JAM` seconds is
called jammed. Given are the share of jammed hours, the mean waiting time of the others, and the plain mean over all.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from learning import trained
from record import HERE, stamp, write

from marlstone.config import dump, load
from marlstone.rollout.placement import prepare
from marlstone.runs.directory import RunDirectory
from marlstone.stats.intervals import interval

JAM = 10.0

GREEDY = """
import sys
import numpy as np
from marlstone.envs.make import make
name, low, high = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
env = make(name)
lights = next(v for v in vars(env).values() if type(v).__name__ == "SumoEnvironment").traffic_signals
real, sys.stdout = sys.stdout, sys.stderr

def choose(light):
    queue = dict(zip(light.lanes, light.get_lanes_queue()))
    links = light.sumo.trafficlight.getControlledLinks(light.id)
    served = lambda phase: {l[0][0] for l, color in zip(links, phase.state) if l and color in "Gg"}
    return int(np.argmax([sum(queue.get(lane, 0) for lane in served(phase)) for phase in light.green_phases]))

for seed in range(low, high):
    row, waits = env.reset(seed), []
    while not row.last:
        actions, k = [choose(lights[a]) for a in env.spec.agents], 0
        grouped = []
        for g in env.spec.groups:
            grouped.append(np.array(actions[k : k + g.count], np.int32))
            k += g.count
        row = env.step(tuple(grouped))
        waits.append(float(row.metrics["mean_waiting_time"]))
    print(float(np.mean(waits)), file=real, flush=True)
"""


def greedy(env: str, episodes: int) -> list[float]:
    """The mean waiting time of each hour under the controller that serves the phase with the longest queue, on simulator seeds 0, 1, ..."""
    half = episodes // 2
    run = lambda low, high: subprocess.Popen([sys.executable, "-c", GREEDY, env, str(low), str(high)], stdout=subprocess.PIPE, text=True)
    halves = [run(0, half), run(half, episodes)]
    return [float(line) for p in halves for line in p.communicate()[0].split()]


def figures(hours: np.ndarray) -> dict[str, Any]:
    """Of hours `[seeds episodes]`."""
    jammed = hours > JAM
    free = [row[row <= JAM] for row in hours]
    center, bounds = interval([f for f in free if f.size])
    return {
        "free_iqm": center,
        "free_ci95": [None if np.isnan(b) else float(b) for b in bounds],
        "jammed_share": float(jammed.mean()),
        "mean_of_all": float(hours.mean()),
        "median": float(np.median(hours)),
        "hours": hours.tolist(),
    }


def measure(name: str, episodes: int, greedy_episodes: int) -> tuple[dict[str, Any], dict[str, Any]]:
    import jax

    from marlstone.play.judging import judge
    from marlstone.runs.checkpoint import load as load_checkpoint
    from marlstone.runs.checkpoint import newest
    from marlstone.training.loop import runtime_of

    config = load(HERE / "learning" / f"{name}.toml", {"evaluate.episodes": str(episodes)})
    with tempfile.TemporaryDirectory() as folder:
        run = RunDirectory.create(Path(folder) / name, dump(config))
        learned = trained(config, run)
        runtime = runtime_of(config)
        try:
            state, _ = load_checkpoint(newest(run.checkpoints).path, jax.device_get(runtime.start()))
            judged = judge(runtime, state, episodes, learned["record"]["acting"])
        finally:
            runtime.close()
    by_acting = {act: figures(np.asarray(e.metrics["mean_waiting_time"], float)) for act, e in judged.played.items()}
    ours = by_acting[judged.act]
    theirs = figures(np.array(greedy(config.env, greedy_episodes))[None])
    return learned, {
        "env": config.env,
        "ours": ours,
        "acting": judged.act,
        "by_acting": by_acting,
        "greedy": theirs,
        "ratio": ours["free_iqm"] / np.mean([h for h in theirs["hours"][0] if h <= JAM]),
        "jam_above": JAM,
        "seeds": learned["record"]["seeds"],
        "steps": learned["record"]["steps"],
        **stamp(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=[p.stem for p in (HERE / "learning").glob("sumo-*.toml")])
    parser.add_argument("--episodes", type=int, default=8)
    parser.add_argument("--greedy", type=int, default=20)
    flags = parser.parse_args()
    prepare(2)
    for name in flags.names:
        learned, traffic = measure(name, flags.episodes, flags.greedy)
        write(f"learning/{name}", learned)
        write(f"traffic/{name}", traffic)
        o, g = traffic["ours"], traffic["greedy"]
        print(
            f"{name}: waiting {o['free_iqm']:.3f} s (jammed {o['jammed_share']:.0%}), greedy {g['free_iqm']:.3f} s "
            f"(jammed {g['jammed_share']:.0%}), ratio {traffic['ratio']:.2f}",
            file=sys.stderr,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
