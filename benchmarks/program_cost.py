"""What one update of training makes a device execute, ours beside JaxMARL's own scripts: kernels, bytes and products, counted, not timed.

    python benchmarks/program_cost.py [--cases ippo-ff-2048 ...] [--top 12]

One update (rollout and learning) of each side is compiled with the same hyperparameters and counted from its optimized HLO (`hlo_counts`).
Both are compiled for the CPU, so the boundaries of kernels are those of the CPU's compiler: a proxy for what an accelerator launches and
moves, which fuses more and lays out otherwise, and no measurement. Ours is one device's program (no shards).

How often resets are made depends on the data. All environments of simple_spread end together, after 26 steps, and the next step resets
them: so ours, made only where somebody needs one, count 1/27 of a reset of all on every step. JaxMARL computes a reset on every step.

JAXMARL_PYTHON and JAXMARL_SRC as in `peers.py`; without them, or where its script fails, the run stops and writes nothing.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hlo_counts import Counts, Program, Update, split
from peers import JAXMARL, RACES
from record import stamp, write

EPISODE = 27  # steps from reset to reset in simple_spread, the reset included
CASES = {
    "ippo-ff-2048": ("jaxmarl-ippo-ff", 2048),
    "ippo-ff-16384": ("jaxmarl-ippo-ff", 16384),
    "mappo-gru-1024": ("jaxmarl-mappo-gru", 1024),
}
FIGURES = {
    "rollout_kernels_per_step": "rollout, kernels/step",
    "learning_kernels": "learning, kernels",
    "kernels": "update, kernels",
    "waits": "update, waits",
    "rollout_bytes": "rollout, bytes/step",
    "learning_bytes": "learning, bytes/step",
    "bytes": "bytes/step",
    "flops": "FLOPs/step",
}

JAXMARL_DRIVER = """
import sys, types, os, importlib
wandb = types.ModuleType("wandb"); wandb.init = wandb.finish = wandb.log = lambda *a, **k: None; wandb.config = {}
sys.modules["wandb"] = wandb
hydra = types.ModuleType("hydra"); hydra.main = lambda *a, **k: lambda f: f; sys.modules["hydra"] = hydra
src, module, config, envs, out = sys.argv[1:]
sys.path.insert(0, src)
import jax
from omegaconf import OmegaConf
cfg = OmegaConf.to_container(OmegaConf.load(os.path.join(src, "baselines", config)))
cfg["NUM_ENVS"] = int(envs)
cfg.update(TOTAL_TIMESTEPS=float(2 * cfg["NUM_ENVS"] * cfg["NUM_STEPS"]), NUM_SEEDS=1, WANDB_MODE="disabled")
cfg.setdefault("ENV_KWARGS", {}); cfg.setdefault("SEED", 0)
train = importlib.import_module(module).make_train(cfg)
open(out, "w").write(jax.jit(train).lower(jax.random.PRNGKey(0)).compile().as_text())
print(jax.__version__)
"""


def branches(op_name: str, count: int) -> Sequence[float]:
    """How often our resets take each branch, a few's or everybody's, where there are any."""
    if count != 2:
        raise ValueError(f"a conditional of {count} branches ({op_name}): say here how often each is taken")
    return (0.0, 1.0)


def ours(race_name: str, envs: int) -> Update:
    """One update of ours, counted."""
    import jax
    import numpy as np

    from marlstone.config import Rollout, RunConfig
    from marlstone.core.compile_options import CPU_OPTIONS, supported
    from marlstone.training.fused import Fused
    from marlstone.training.loop import runtime_of

    race = RACES[race_name]
    rollout = Rollout(envs, race.length, shards=1)
    config = RunConfig(race.env, race.architecture, race.credit, race.learner, rollout=rollout, steps=envs * race.length * 10, seeds=1)
    runtime = runtime_of(config)
    assert isinstance(runtime, Fused)
    state = jax.eval_shape(runtime.begin, np.uint32(0))
    text = jax.jit(runtime.cycle, donate_argnums=0).lower(state).compile(supported(CPU_OPTIONS)).as_text()
    program = Program(text, branches, 1 / EPISODE)
    return split(program, program.entry, race.length)


def theirs(race_name: str, envs: int) -> Update:
    """One update of JaxMARL's script, counted: the body of its loop over two updates. Raises RuntimeError where it cannot be run."""
    race, python, src = RACES[race_name], os.environ.get("JAXMARL_PYTHON"), os.environ.get("JAXMARL_SRC")
    if not python or not src or race.peer is None:
        raise RuntimeError("JaxMARL is not installed: set JAXMARL_PYTHON and JAXMARL_SRC")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "hlo.txt"
        words = [python, "-c", JAXMARL_DRIVER, src, *JAXMARL[race.peer[0]], str(envs), str(file)]
        done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "JAX_PLATFORMS": "cpu"})
        if done.returncode:
            raise RuntimeError(f"JaxMARL's {race.peer[0]} failed: {done.stderr[-2000:]}")
        program = Program(file.read_text())
    loops = [x for x in program.find(program.entry).values() if x.opcode == "while" and x.trips == 2]
    return split(program, max((x.called("body")[0] for x in loops), key=lambda body: program.count(body).kernels), race.length)


def figures(update: Update, envs: int) -> dict[str, float]:
    """The record's numbers of one side: kernels and waits of an update, bytes and FLOPs per joint environment step."""
    before, step, learning, t = update.before, update.step, update.learning, update.steps
    rollout = Counts()
    rollout.add(before)
    rollout.add(step, t)
    whole, joint = rollout.kernels + learning.kernels, envs * t
    return {
        "rollout_kernels_per_step": rollout.kernels / t,
        "learning_kernels": learning.kernels,
        "kernels": whole,
        "waits": rollout.waits + learning.waits,
        "rollout_bytes": rollout.bytes / joint,
        "learning_bytes": learning.bytes / joint,
        "bytes": (rollout.bytes + learning.bytes) / joint,
        "flops": (rollout.flops + learning.flops) / joint,
    }


def contributors(update: Update, envs: int, top: int) -> dict[str, list[tuple[str, float]]]:
    """What runs and moves most: kernels per step of the rollout and per update of learning, bytes per joint step."""
    parts = {"rollout": (update.step, 1, envs), "learning": (update.learning, 1, envs * update.steps)}
    return {
        f"{part} {what}": [(name[-110:], x / (joint if what == "bytes" else one)) for name, x in counts.by_name[what].most_common(top)]
        for part, (counts, one, joint) in parts.items()
        for what in ("kernels", "bytes")
    }


def text_table(cases: dict[str, Any]) -> str:
    """80 columns: each case's figures of both sides and the ratio of ours to theirs."""
    lines = [f"{'':28}{'':22}{'ours':>10}{'JaxMARL':>11}{'ratio':>8}"]
    for name, sides in cases.items():
        for i, (key, label) in enumerate(FIGURES.items()):
            a, b = sides["ours"][key], sides["jaxmarl"][key]
            ratio = f"{a / b:.2f}" if b else "-"
            lines.append(f"{name if i == 0 else '':22}{label:28}{a:>10,.0f}{b:>11,.0f}{ratio:>8}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--top", type=int, default=0, help="print so many of the largest contributors of our side, and record nothing")
    parser.add_argument("--alone", action="store_true", help="count our side only, and record nothing")
    flags = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu"
    cases: dict[str, Any] = {}
    for name in flags.cases:
        race, envs = CASES[name]
        mine = ours(race, envs)
        if flags.alone or flags.top:
            print(name, json.dumps({k: round(v, 1) for k, v in figures(mine, envs).items()}))
            for what, rows in contributors(mine, envs, flags.top).items():
                print(*(f"{x:12,.1f}  {what:16} {source}" for source, x in rows), sep="\n")
            continue
        cases[name] = {"envs": envs, "about": RACES[race].about, "ours": figures(mine, envs), "jaxmarl": figures(theirs(race, envs), envs)}
    if cases:
        print(text_table(cases))
        write("program_cost", {"cases": cases, "episode": EPISODE, **stamp()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
