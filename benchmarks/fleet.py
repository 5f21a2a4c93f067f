"""The fleet on real simulators: training throughput over what bare environment processes step with random actions.

    python benchmarks/fleet.py [--envs lbforaging mpe2 cologne8] [--seconds 60]

    ratio = joint steps trained per second / (bare steps per second and core x cores that the learner leaves)

Bare: one process a core, the package's own interface, random actions, nothing of ours. The cores that the learner leaves: all,
less the processor time its process takes per second. `first_update_seconds` is from the command's first moment to the first
published update, on local processes and on Ray, compiled programs kept from an earlier run. The synchronous host runtime is
measured beside it.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

from record import HERE, stamp, write

from marlstone.config import dump, load
from marlstone.fleet.inspection import STATUS
from marlstone.fleet.supervisor import Supervisor
from marlstone.runs.directory import RunDirectory

BARE = {
    "lbforaging": """
import gymnasium, lbforaging
env = gymnasium.make("Foraging-8x8-2p-2f-coop-v3").unwrapped
def reset(): env.reset()
def step(): return bool(env.step(env.action_space.sample())[2])
""",
    "mpe2": """
from mpe2 import simple_spread_v3
env = simple_spread_v3.parallel_env()
def reset(): env.reset()
def step():
    env.step({a: env.action_space(a).sample() for a in env.agents})
    return not env.agents
""",
    "cologne8": """
import os, sumo
os.environ["SUMO_HOME"] = sumo.SUMO_HOME
import sumo_rl
root = os.path.join(os.path.dirname(sumo_rl.__file__), "nets/RESCO/cologne8/cologne8")
env = sumo_rl.SumoEnvironment(net_file=root + ".net.xml", route_file=root + ".rou.xml", begin_time=25200, num_seconds=3600, delta_time=5,
                              sumo_warnings=False)
def reset(): env.reset()
def step(): return env.step({a: env.action_spaces(a).sample() for a in env.ts_ids})[2]["__all__"]
""",
}
LOOP = """
import time, sys
reset(); began = time.perf_counter(); steps = 0
while time.perf_counter() - began < float(sys.argv[1]):
    if step(): reset()
    steps += 1
print(steps / (time.perf_counter() - began))
"""
ENVS = {
    "lbforaging": ("gymnasium:lbforaging?id=Foraging-8x8-2p-2f-coop-v3", {"fleet.envs": "8", "rollout.envs": "16", "rollout.length": "50"}),
    "mpe2": ("pettingzoo:mpe2.simple_spread_v3", {"fleet.envs": "8", "rollout.envs": "16", "rollout.length": "50"}),
    "cologne8": ("sumo:cologne8", {"fleet.envs": "1", "rollout.envs": "4", "rollout.length": "60"}),
}
FIELDS = {"architecture": "ctde", "credit": "team", "seeds": "1", "steps": "1000000000", "evaluate.logged": "0"}


def bare(name: str, seconds: float) -> float:
    """Steps per second and core of the package alone, a process on every core at once."""
    words = [sys.executable, "-c", BARE[name] + LOOP, str(seconds)]
    environment = {**os.environ, "LIBSUMO_AS_TRACI": "1", "OMP_NUM_THREADS": "1"}
    cores = len(os.sched_getaffinity(0))
    runs = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment) for _ in range(cores)]
    return sum(float(r.communicate()[0].strip().splitlines()[-1]) for r in runs) / cores


def used(pid: int) -> float:
    """Processor seconds of a process so far."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def fleet(name: str, actors: int, seconds: float) -> dict[str, Any]:
    """One fleet for a while: its rate once it runs, and what its learner takes."""
    env, fields = ENVS[name]
    config = load(None, {"env": env, **FIELDS, **fields, "fleet.kind": "local", "fleet.actors": str(actors)})
    said: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        run, over = RunDirectory.create(Path(folder) / "run", dump(config)), threading.Event()
        it = Supervisor(config, run, None, None, lambda p: None, over.is_set)

        def watch() -> None:
            while it.broker.facts()[0]["version"] < 1:
                time.sleep(0.01)
            time.sleep(5.0)
            pid, page = it.learner.child.pid, it.learner.child.page  # type: ignore[union-attr]
            t, steps, cpu = time.perf_counter(), page.facts().steps, used(pid)
            time.sleep(seconds)
            took = time.perf_counter() - t
            said.update(
                rate=(page.facts().steps - steps) / took, learner_cores=(used(pid) - cpu) / took, queue=it.broker.facts()[0]["depth"],
                actor_rates=[m.rate for m in it.actors],
            )  # fmt: skip
            over.set()

        watcher = threading.Thread(target=watch)
        watcher.start()
        record = it.supervise()
        watcher.join()
    assert record["stopped"]
    return said


def hosted(name: str, seconds: float) -> float:
    """The synchronous host runtime's rate, in a process of its own."""
    env, fields = ENVS[name]
    fields = {k: v for k, v in fields.items() if not k.startswith("fleet")}
    code = (
        "import sys, time\nfrom marlstone.rollout.placement import prepare; prepare()\nimport jax, numpy as np\n"
        "from marlstone.config import load\nfrom marlstone.training.loop import runtime_of\n"
        f"r = runtime_of(load(None, { ({'env': env, **FIELDS, **fields})!r}))\ns = r.start(); run = r.compile(s, 4); s, _ = run(s, 2)\n"
        f"began, steps = time.perf_counter(), 0\nwhile time.perf_counter() - began < {seconds}:\n"
        "    s, out = jax.block_until_ready(run(s, 2)); steps += int(np.asarray(out.steps).sum())\n"
        "print(steps / (time.perf_counter() - began)); r.close()\n"
    )
    out = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    return float(out.stdout.strip().splitlines()[-1])


def first_update(name: str, kind: str, actors: int) -> float:
    """Seconds from the start of the command to its first update, told by its status file."""
    env, fields = ENVS[name]
    given = {**FIELDS, **fields, "env": env, "fleet.kind": kind, "fleet.actors": actors}
    with tempfile.TemporaryDirectory() as folder:
        status, began = Path(folder) / "run" / STATUS, time.perf_counter()
        words = ["-m", "marlstone", "train", "--out", f"{folder}/run", *(w for k, v in given.items() for w in ("--set", f"{k}={v}"))]
        command = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not status.is_file() or json.loads(status.read_text())["seeds"][0]["version"] < 1:
            if command.poll() is not None:
                raise RuntimeError(f"the command ended with {command.returncode} before its first update")
            time.sleep(0.02)
        seconds = time.perf_counter() - began
        command.send_signal(signal.SIGINT)
        command.wait()
    return seconds


def starts(name: str, actors: int) -> dict[str, float]:
    """The better of two starts, on local processes and on Ray."""
    return {kind: min(first_update(name, kind, actors) for _ in range(2)) for kind in ("local", "ray")}


def measure(name: str, actors: int, seconds: float, rounds: int) -> dict[str, Any]:
    """Bare and fleet in turn, so that a machine that drifts touches both."""
    cores, rows = len(os.sched_getaffinity(0)), []
    for _ in range(rounds):
        alone = bare(name, seconds / 2)
        rows.append({"bare_per_core": alone, **fleet(name, actors, seconds)})
    for r in rows:
        r["ratio"] = r["rate"] / (r["bare_per_core"] * (cores - r["learner_cores"]))
    return {
        "env": ENVS[name][0], "fields": FIELDS | ENVS[name][1], "actors": actors, "cores": cores, "rounds": rows,
        "ratio": median(r["ratio"] for r in rows), "rate": median(r["rate"] for r in rows),
        "first_update_seconds": starts(name, actors),
        "synchronous": hosted(name, seconds / 2), **stamp(),
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", choices=list(ENVS), default=list(ENVS))
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--starts", action="store_true", help="measure only the start-up again, and keep the rest")
    flags = parser.parse_args()
    if flags.starts:
        for name in flags.envs:
            path = HERE / "results" / "fleet" / f"{name}.json"
            kept = json.loads(path.read_text())
            write(f"fleet/{name}", kept | {"first_update_seconds": starts(name, flags.actors), "starts_measured": stamp()})
            print(name, json.loads(path.read_text())["first_update_seconds"], file=sys.stderr)
        return 0
    for name in flags.envs:
        r = measure(name, flags.actors, flags.seconds, flags.rounds)
        write(f"fleet/{name}", r)
        print(
            f"{name}: {r['rate']:.0f} steps/s, {r['ratio']:.2f} of bare processes on the cores left, synchronous {r['synchronous']:.0f}, "
            f"first update after {r['first_update_seconds']} s; {r['rounds']}",
            file=sys.stderr,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
