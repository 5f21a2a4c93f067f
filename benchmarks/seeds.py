"""Eight seeds of one training: a core for each share of them in one program (our default on CPUs), vmapped, in turn, or a process a core.

    python benchmarks/seeds.py [--env ENV] [--seeds 8] [--steps 300000]

Joint steps per second over all seeds, training alone (compiling told apart), rounds in turn in one run. Written to results/seeds.json.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from record import stamp, write

from marlstone.config import RunConfig, load
from marlstone.core.compile_options import CPU_OPTIONS, supported
from marlstone.rollout.placement import prepare
from marlstone.training.fused import Fused
from marlstone.training.loop import runtime_of

FIELDS = {"architecture": "ctde", "credit": "team", "rollout.envs": "32", "rollout.length": "64"}


def timed(make: Any, total: int, steps: int) -> tuple[float, float]:
    """Seconds to compile, and joint steps per second after it."""
    began = time.perf_counter()
    state, advance = make()
    compiled = time.perf_counter() - began
    began = time.perf_counter()
    jax.block_until_ready(advance(state, total))
    return compiled, steps / (time.perf_counter() - began)


def dealt(config: RunConfig, seeds: tuple[int, ...]) -> Any:
    """Ours: seeds dealt out to cores."""
    runtime = runtime_of(config, seeds)
    state = runtime.start()
    return state, runtime.compile(state, runtime.total)


def vmapped(config: RunConfig, seeds: tuple[int, ...]) -> Any:
    """One program, mapped over seeds, with all the threads XLA takes."""
    runtime: Fused = runtime_of(config, seeds)
    state = jax.jit(jax.vmap(runtime.begin))(np.array(seeds, np.uint32))
    run = jax.jit(jax.vmap(lambda s, n: runtime.advance(s, n, runtime.total), (0, None)), donate_argnums=0)
    compiled = run.lower(state, np.int32(0)).compile(supported(CPU_OPTIONS))
    return state, lambda state, n: compiled(state, np.int32(n))


def one_by_one(config: RunConfig, seeds: tuple[int, ...]) -> Any:
    """One program for one seed, run once for each."""
    runtime = runtime_of(config, seeds[:1])
    states = [jax.jit(runtime.placement.map_seeds(runtime.begin))(np.array([s], np.uint32)) for s in seeds]
    advance = runtime.compile(states[0], runtime.total)

    def run(states: Any, n: int) -> Any:
        for state in states:
            jax.block_until_ready(advance(state, n))

    return states, run


def process_a_core(flags: Any, cores: int) -> tuple[float, float]:
    """As many processes as cores, each kept to one, with its share of the seeds, one after another; they begin to train together."""
    each = np.array_split(np.arange(flags.seeds), cores)
    words = [sys.executable, __file__, "--env", flags.env, "--steps", str(flags.steps), "--worker"]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    places = sorted(os.sched_getaffinity(0))
    children = [
        subprocess.Popen([*words, ",".join(map(str, part)), "--core", str(core)], **pipes) for part, core in zip(each, places, strict=True)
    ]
    began = time.perf_counter()
    for child in children:
        assert child.stdout is not None
        child.stdout.readline()  # compiled
    compiled = time.perf_counter() - began
    began = time.perf_counter()
    for child in children:
        child.communicate("go\n")
    return compiled, flags.seeds * flags.steps / (time.perf_counter() - began)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="jaxmarl:MPE_simple_spread_v3")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--core", type=int, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.worker:
        os.sched_setaffinity(0, {flags.core})
        jax.config.update("jax_num_cpu_devices", 1)
        config = load(None, {**FIELDS, "env": flags.env, "steps": str(flags.steps)})
        state, run = one_by_one(config, tuple(1000 + int(s) for s in flags.worker.split(",")))
        print("compiled", flush=True)
        sys.stdin.readline()
        run(state, runtime_of(config, (0,)).total)
        return 0
    prepare()
    config = load(None, {**FIELDS, "env": flags.env, "steps": str(flags.steps)})
    seeds = tuple(range(1000, 1000 + flags.seeds))
    total = runtime_of(config, seeds).total
    rows = total * config.rollout.envs * config.rollout.length
    flags.steps = rows
    found: dict[str, list[tuple[float, float]]] = {
        k: [] for k in ("a core each, one program", "vmapped", "one after another", "a process a core")
    }
    for _ in range(flags.rounds):
        for name, make in (("a core each, one program", dealt), ("vmapped", vmapped), ("one after another", one_by_one)):
            found[name].append(timed(lambda make=make: make(replace(config, steps=rows), seeds), total, flags.seeds * rows))
        found["a process a core"].append(process_a_core(flags, jax.local_device_count()))
        print({k: v[-1] for k, v in found.items()}, file=sys.stderr)
    ways = {
        k: {
            "compile_seconds": statistics.median(c for c, _ in v),
            "steps_per_second": statistics.median(s for _, s in v),
            "all": [s for _, s in v],
        }
        for k, v in found.items()
    }
    print(write("seeds", {"env": flags.env, "seeds": flags.seeds, "steps": rows, "ways": ways, **stamp()}), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
