"""Speed beside the peers, as ratios in one run: the same hyperparameters, network and environment, ours and theirs in turn.

    python benchmarks/peers.py [--races jaxmarl-ippo-ff ...] [--rounds 3]

A peer is run where it is installed and skipped with a word where it is not:
  JAXMARL_PYTHON   an interpreter with jaxmarl, distrax, omegaconf and flashbax
  JAXMARL_SRC      a checkout of its repository (the wheel lacks its scripts)
Where a peer cannot be installed, its recorded rate (`RECORDED`, measured on the project's kind of machine) stands in and
the record says so. Rates are joint environment steps per second of training, compile time left out. One seed on each side: ours
uses every core by sharing the seed's environments out (`rollout.shards`), where the environment is written in JAX.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from statistics import median
from typing import Any

from record import HERE, stamp, write

from marlstone.architectures import Ctde, Decentralized, Gru, Mlp
from marlstone.architectures.contract import Architecture
from marlstone.credit import Credit, Individual, Qmix, Team
from marlstone.learners import Learner, PolicyGradient, QLearning, Replay

PLAIN = {"normalize_values": False, "normalize_observations": False}
SPREAD = "jaxmarl:MPE_simple_spread_v3"
LBF = "jumanji:LevelBasedForaging?task=8x8-2p-2f-coop"


@dataclass(frozen=True)
class Race:
    """One comparison. `peer`: what to run beside us, (script, steps); `recorded`: the peer's rate if it cannot be; `aim`: ratio wanted."""

    env: str
    architecture: Architecture
    credit: Credit
    learner: Learner
    envs: int
    length: int
    aim: float
    updates: int
    peer: tuple[str, int] | None = None
    recorded: float | None = None
    about: str = ""


RACES = {
    "jaxmarl-ippo-ff": Race(
        SPREAD,
        Decentralized(Mlp((64, 64), "tanh"), agent_ids=False),
        Individual(),
        PolicyGradient(lr=2.5e-4, epochs=4, minibatches=4, clip=0.2, **PLAIN),
        16,
        128,
        1.25,
        400,
        ("ippo_ff", 1_000_000),
        about="JaxMARL IPPO feed-forward 64-64, MPE spread",
    ),
    "jaxmarl-ippo-gru": Race(
        SPREAD,
        Decentralized(Gru(128, 128, (128,)), agent_ids=False, trunk="shared"),
        Individual(),
        PolicyGradient(lr=5e-4, epochs=4, minibatches=2, clip=0.3, value=1.0, **PLAIN),
        16,
        128,
        1.6,
        60,
        ("ippo_rnn", 150_000),
        about="JaxMARL IPPO GRU-128, MPE spread",
    ),
    "jaxmarl-mappo-gru": Race(
        SPREAD,
        Ctde(Gru(128, 128, (128,)), agent_ids=False, critic_sees="state"),
        Individual(),
        PolicyGradient(lr=2e-3, epochs=4, minibatches=4, clip=0.2, **PLAIN),
        16,
        128,
        1.6,
        30,
        ("mappo_rnn", 75_000),
        about="JaxMARL MAPPO GRU-128, MPE spread",
    ),
    "jaxmarl-qmix-gru": Race(
        SPREAD,
        Ctde(Gru(64, 64, ()), agent_ids=False),
        Qmix(32, 128),
        QLearning(lr=5e-3, gamma=0.9, lam=0.0, max_grad_norm=25.0, normalize_observations=False, replay=Replay(5000, 32, 1)),
        8,
        26,
        1.3,
        200,
        ("qmix_rnn", 200_000),
        about="JaxMARL QMIX GRU-64, replay of 5,000, batch 32, MPE spread",
    ),
    "mava-ff-ippo": Race(
        LBF,
        Decentralized(Mlp((128, 128))),
        Team(),
        PolicyGradient(lr=2.5e-4, epochs=4, minibatches=2, anneal=False, **PLAIN),
        32,
        128,
        1.7,
        200,
        recorded=19_100,
        about="Mava ff_ippo 128-128, Jumanji LBF 8x8-2p-2f-coop",
    ),
    "mava-ff-mappo": Race(
        LBF,
        Ctde(Mlp((128, 128)), critic_sees="state"),
        Team(),
        PolicyGradient(lr=2.5e-4, epochs=4, minibatches=2, anneal=False, **PLAIN),
        32,
        128,
        1.7,
        200,
        recorded=23_700,
        about="Mava ff_mappo 128-128, Jumanji LBF 8x8-2p-2f-coop",
    ),
    "mava-rec-mappo": Race(
        LBF,
        Ctde(Gru(128, 128, (128,)), critic_sees="state"),
        Team(),
        PolicyGradient(lr=2.5e-4, epochs=4, minibatches=2, anneal=False, **PLAIN),
        32,
        128,
        3.0,
        30,
        recorded=1_500,
        about="Mava rec_mappo GRU-128, Jumanji LBF 8x8-2p-2f-coop",
    ),
    "epymarl-mappo": Race(
        "gymnasium:lbforaging?id=Foraging-8x8-2p-2f-coop-v3",
        Ctde(Gru(128, 128, (128,))),
        Team(),
        PolicyGradient(epochs=4, minibatches=4),
        32,
        50,
        5.0,
        20,
        recorded=1_050,
        about="EPyMARL MAPPO, host package lbforaging 8x8-2p-2f-coop",
    ),
}


def ours(name: str, rounds: int, shards: int) -> dict[str, Any]:
    """Our rate, `rounds` timings of `updates` updates each, and the share of the limit; run in a process of its own."""
    import jax
    import numpy as np

    from marlstone.config import Rollout, RunConfig
    from marlstone.envs.make import is_jax
    from marlstone.rollout.unroll import trajectory_shapes
    from marlstone.training.loop import runtime_of

    race = RACES[name]
    rows = race.envs * race.length
    config = RunConfig(
        race.env,
        race.architecture,
        race.credit,
        race.learner,
        rollout=Rollout(race.envs, race.length, shards=shards if is_jax(race.env) and race.learner.replay is None else 1),
        steps=rows * race.updates * (rounds + 1),
        seeds=1,
    )
    runtime = runtime_of(config)
    try:
        state = runtime.start()
        began = time.perf_counter()
        run = runtime.compile(state, race.updates)
        compile_seconds, rates = time.perf_counter() - began, []
        state, _ = run(state, max(1, race.updates // 10))
        for _ in range(rounds):
            began = time.perf_counter()
            state, report = jax.block_until_ready(run(state, race.updates))
            rates.append(float(np.asarray(report.steps)[0].sum()) / (time.perf_counter() - began))
        acting = runtime.placement.first(state.acting)
        limit = runtime.limit(runtime.algorithm.flops(trajectory_shapes(runtime.algorithm, acting, race.length)))
    finally:
        runtime.close()
    return {
        "rates": rates,
        "compile_seconds": compile_seconds,
        "limit": (said := limit.record(median(rates)))["limit_steps_per_second"],
        "share_of_limit": said["share_of_limit"],
        "random_rate": limit.random_rate,
        "flops_per_step": limit.flops_per_step,
        "matrix_rate": limit.matrix_rate,
        "shards": config.rollout.shards,
    }


def alone(name: str, rounds: int, shards: int) -> dict[str, Any]:
    """`ours` in a fresh process, so that neither side's threads or caches touch the other's."""
    code = (
        f"import sys, json; sys.path.insert(0, {str(HERE)!r})\n"
        f"from marlstone.rollout.placement import prepare; prepare({shards})\n"
        f"from peers import ours; print(json.dumps(ours({name!r}, {rounds}, {shards})))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if out.returncode:
        raise RuntimeError(f"{name}: our side failed\n{out.stderr[-2000:]}")
    return json.loads(out.stdout.strip().splitlines()[-1])


JAXMARL_DRIVER = """
import sys, time, types, os, json, importlib
events = []
wandb = types.ModuleType("wandb"); wandb.init = wandb.finish = lambda *a, **k: None; wandb.config = {}
wandb.log = lambda *a, **k: events.append(time.perf_counter())
sys.modules["wandb"] = wandb
hydra = types.ModuleType("hydra"); hydra.main = lambda *a, **k: lambda f: f; sys.modules["hydra"] = hydra
src, module, config, steps = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
sys.path.insert(0, src)
import jax
from omegaconf import OmegaConf
cfg = OmegaConf.to_container(OmegaConf.load(os.path.join(src, "baselines", config)))
values, module = "QLearning" in config, importlib.import_module(module)
# value-based scripts report only where wandb is not disabled, and stop to test
cfg.update(TOTAL_TIMESTEPS=steps, NUM_SEEDS=1, WANDB_MODE="offline" if values else "disabled", TEST_DURING_TRAINING=False)
cfg.setdefault("ENV_KWARGS", {}); cfg.setdefault("SEED", 0)
train = module.make_train(cfg, module.env_from_config(dict(cfg))[0]) if values else module.make_train(cfg)
key = jax.random.PRNGKey(0)
began = time.perf_counter(); run = jax.jit(train).lower(key).compile(); compiled = time.perf_counter() - began
rates = []
for _ in range(int(sys.argv[5])):
    events.clear(); jax.block_until_ready(run(key)); time.sleep(0.3)
    skip = max(1, len(events) // 10); done = len(events) - 1 - skip
    rates.append(cfg["NUM_ENVS"] * cfg["NUM_STEPS"] * done / (events[-1] - events[skip]))
print(json.dumps({"rates": rates, "compile_seconds": compiled}))
"""
JAXMARL = {
    "ippo_ff": ("baselines.IPPO.ippo_ff_mpe", "IPPO/config/ippo_ff_mpe.yaml"),
    "ippo_rnn": ("baselines.IPPO.ippo_rnn_mpe", "IPPO/config/ippo_rnn_mpe.yaml"),
    "mappo_rnn": ("baselines.MAPPO.mappo_rnn_mpe", "MAPPO/config/mappo_homogenous_rnn_mpe.yaml"),
    "qmix_rnn": ("baselines.QLearning.qmix_rnn", "QLearning/config/alg/ql_rnn_mpe.yaml"),
}


def theirs(script: str, steps: int, rounds: int) -> dict[str, Any] | str:
    """JaxMARL's own script at its own configuration, or why it was not run."""
    python, src = os.environ.get("JAXMARL_PYTHON"), os.environ.get("JAXMARL_SRC")
    if not python or not src:
        return "not installed: set JAXMARL_PYTHON and JAXMARL_SRC"
    out = subprocess.run([python, "-c", JAXMARL_DRIVER, src, *JAXMARL[script], str(steps), str(rounds)], capture_output=True, text=True)
    if out.returncode:
        return "failed: " + (out.stderr.strip().splitlines() or ["without a word"])[-1]
    return json.loads(out.stdout.strip().splitlines()[-1])


def race(name: str, rounds: int, shards: int) -> dict[str, Any]:
    r = RACES[name]
    mine = alone(name, rounds, shards)
    other: dict[str, Any] | str = theirs(*r.peer, rounds) if r.peer else "cannot be installed beside this JAX: its recorded rate stands in"
    rate, beside = (median(other["rates"]), True) if isinstance(other, dict) else (r.recorded, False)
    again = alone(name, rounds, shards)  # ours, theirs, ours: a machine that drifts shows
    mine["rates"] += again["rates"]
    speed = median(mine["rates"])
    return {
        "about": r.about,
        "ours": mine,
        "peer": other,
        "peer_rate": rate,
        "beside": beside,
        "rate": speed,
        "ratio": speed / rate if rate else None,
        "aim": r.aim,
        "rounds": rounds,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--races", nargs="*", choices=list(RACES), default=list(RACES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shards", type=int, default=len(os.sched_getaffinity(0)), help="cores that share our seed's environments")
    flags = parser.parse_args()
    for name in flags.races:
        result = race(name, flags.rounds, flags.shards)
        write(f"peers/{name}", {**result, **stamp()})
        word = "beside" if result["beside"] else "recorded"
        ratio = f"{result['ratio']:.2f}x (aim {result['aim']}x)" if result["ratio"] else "no peer figure"
        print(
            f"{name}: ours {result['rate']:,.0f} steps/s, peer ({word}) {result['peer_rate'] or float('nan'):,.0f}: {ratio}; "
            f"share of limit {result['ours']['share_of_limit']:.2f}",
            file=sys.stderr,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
