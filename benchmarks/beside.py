"""A peer's own script on its own terms, over seeds: what our learning figures stand beside.

    JAXMARL_PYTHON=... JAXMARL_SRC=... python benchmarks/beside.py [--steps 2e6] [--seeds 10]

JaxMARL's IPPO feed-forward script on MPE simple_spread, its own configuration, annealed over the stated steps: per seed the
mean training return (actions sampled) over the last 5% of updates. Ours, trained for as many steps, is given by the same
rule from the recorded learning curve, so that both are judged alike.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from typing import Any

import numpy as np
from record import RESULTS, stamp, write

from marlstone.stats.intervals import interval, worst_seed

DRIVER = """
import sys, types, os, json, importlib
said = []
wandb = types.ModuleType("wandb"); wandb.init = wandb.finish = lambda *a, **k: None; wandb.config = {}
wandb.log = lambda d, *a, **k: said.append(float(d["returned_episode_returns"]))
sys.modules["wandb"] = wandb
src, steps, seeds = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
sys.path.insert(0, src)
import jax, time
from omegaconf import OmegaConf
cfg = OmegaConf.to_container(OmegaConf.load(os.path.join(src, "baselines/IPPO/config/ippo_ff_mpe.yaml")))
cfg.update(TOTAL_TIMESTEPS=steps, NUM_SEEDS=1, WANDB_MODE="disabled"); cfg.setdefault("ENV_KWARGS", {})
train = importlib.import_module("baselines.IPPO.ippo_ff_mpe").make_train(cfg)
run = jax.jit(train).lower(jax.random.PRNGKey(0)).compile()
out, seconds = [], []
for seed in range(seeds):
    said.clear(); began = time.perf_counter()
    jax.block_until_ready(run(jax.random.PRNGKey(seed))); seconds.append(time.perf_counter() - began)
    time.sleep(0.5); tail = said[-max(1, len(said) // 20):]; out.append(sum(tail) / len(tail))
    print("seed", seed, out[-1], file=sys.stderr, flush=True)
print(json.dumps({"returns": out, "seconds": seconds}))
"""


def summary(what: str, steps: float, returns: list[float], **more: Any) -> dict[str, Any]:
    center, bounds = interval([np.array([r]) for r in returns])
    return {
        "what": what,
        "env": "MPE simple_spread",
        "steps": steps,
        "seeds": len(returns),
        "returns": returns,
        "return_iqm": center,
        "return_ci95": list(bounds),
        "return_worst_seed": worst_seed([np.array([r]) for r in returns]),
        **more,
        **stamp(),
    }


def ours(steps: float) -> dict[str, Any] | None:
    """The last 5% of our recorded curve, per seed."""
    file = RESULTS / "learning" / "mpe-simple-spread.json"
    if not file.exists():
        return None
    r = json.loads(file.read_text())
    at = np.array(r["curve"]["steps"])
    if abs(at[-1] - steps) > 0.05 * steps:
        return None
    late = [float(np.mean(np.array(v)[at > 0.95 * at[-1]])) for v in r["curve"]["returns"]]
    return summary("ours, training return over the last 5%", steps, late)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=float, default=2e6)
    parser.add_argument("--seeds", type=int, default=10)
    flags = parser.parse_args()
    if (mine := ours(flags.steps)) is not None:
        write("beside/spread-ours", mine)
    python, src = os.environ.get("JAXMARL_PYTHON"), os.environ.get("JAXMARL_SRC")
    if not python or not src:
        print("JaxMARL is not installed here: set JAXMARL_PYTHON and JAXMARL_SRC; skipped", file=sys.stderr)
        return 0
    began = time.perf_counter()
    out = subprocess.run([python, "-c", DRIVER, src, str(flags.steps), str(flags.seeds)], stdout=subprocess.PIPE, text=True, check=True)
    said = json.loads(out.stdout.strip().splitlines()[-1])
    more = {"seconds": said["seconds"], "wall_seconds": time.perf_counter() - began}
    write(
        "beside/spread-jaxmarl-ippo-ff",
        summary("JaxMARL IPPO feed-forward, training return over the last 5%", flags.steps, said["returns"], **more),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
