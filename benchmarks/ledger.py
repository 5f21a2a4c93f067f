"""What the ledger costs in speed: training steps/s of the fused loop with its counting over the same loop without, turn by turn.

    python benchmarks/ledger.py [--rounds 60] [--envs spread talking]

Steps are joint environment steps of training, compiling left out, on one seed, in one process. `not counted`: the same program compiled
without `core.usage.used_in` and `comms.learning.sent_in`; nothing is added up on the host either. `share` is 1 less the median over rounds
of the counted rate over the other of the same round, so that a machine that drifts touches both; `share_ci95` its interval by
resampling rounds. Written to results/ledger.json.
"""

import argparse
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import jax
import numpy as np
from credit_speed import FIELDS
from record import RESULTS, stamp, write
from turns import in_turn

from marlstone.config import load
from marlstone.core.ledger import Ledger
from marlstone.rollout.placement import prepare
from marlstone.rollout.unroll import trajectory_shapes
from marlstone.training import fused
from marlstone.training.callbacks import Sent
from marlstone.training.clock import Clock
from marlstone.training.loop import runtime_of
from marlstone.training.spending import Rates, Spending

SECONDS = 0.3  # of a turn: short ones, many of them, so that what else the machine does touches both
ENVS = {
    "spread": {"env": "jaxmarl:MPE_simple_spread_v3", "rollout.length": "25"},
    "talking": {
        "env": "proving:traffic_junction?difficulty=medium",
        "rollout.length": "40",
        "comms": "targeted",
        "comms.message": "dithered",
    },
    "swarm-16": {"env": "proving:swarm?agents=16", "rollout.length": "18"},
}


class Timed:
    """One compiled training loop, ready to be timed again and again; `counts`: with the ledger."""

    def __init__(self, env: str, counts: bool):
        config = load(None, {**FIELDS, **ENVS[env]})
        runtime = runtime_of(config)
        self.agents = runtime.algorithm.spec.agents
        kept = fused.sent_in, fused.used_in
        if not counts:
            fused.sent_in = fused.used_in = lambda *_: {}
        try:
            self.state = runtime.start()
            self.run, self.steps = runtime.compile(self.state, 64), config.rollout.envs * config.rollout.length
        finally:
            fused.sent_in, fused.used_in = kept
        self.spending, self.sent = None, None
        if counts:
            shapes = trajectory_shapes(runtime.algorithm, runtime.placement.first(self.state.acting), config.rollout.length)
            rates = Rates.of(runtime.algorithm, runtime.algorithm.flops(shapes), shapes)
            self.spending = Spending.of(runtime.algorithm, rates, Clock(), runtime.meter, [Ledger()], None)
            self.sent = Sent.of(runtime, None)
        self.updates = 2
        self.rate()
        self.updates = min(64, max(2, int(SECONDS * self.rate() / self.steps)))

    def rate(self) -> float:
        began = time.perf_counter()
        self.state, report = jax.block_until_ready(self.run(self.state, self.updates))
        if self.spending is not None:
            found = jax.device_get(report)
            rows = self.updates * self.steps
            used = {k: v[0] for k, v in found.used.items()}
            self.spending.add(0, int(found.steps.sum()), rows, 0, self.updates, used, self.agents)
            if self.sent is not None:
                self.sent.add(found.sent)
        return self.updates * self.steps / (time.perf_counter() - began)


def measure(env: str, rounds: int) -> dict[str, Any]:
    """Rates with and without, in turn, and the share that counting takes."""
    rates = in_turn({counts: Timed(env, counts) for counts in (True, False)}, rounds)
    ratios = np.array(rates[True]) / np.array(rates[False])
    drawn = np.median(np.random.default_rng(0).choice(ratios, (2000, rounds)), axis=1)
    low, high = np.quantile(1 - drawn, [0.025, 0.975])
    return {
        "settings": {**FIELDS, **ENVS[env]},
        "rounds": rounds,
        "steps_per_second": median(rates[True]),
        "not_counted_steps_per_second": median(rates[False]),
        "share": float(1 - np.median(ratios)),
        "share_ci95": [float(low), float(high)],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--envs", nargs="+", choices=tuple(ENVS), default=tuple(ENVS), metavar="ENV", help=f"of {', '.join(ENVS)}")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="where the result is written; default: results/")
    flags = parser.parse_args()
    prepare()
    result: dict[str, Any] = {"envs": {}}
    for env in flags.envs:
        r = result["envs"][env] = measure(env, flags.rounds)
        low, high = r["share_ci95"]
        print(
            f"{env}: the ledger takes {r['share']:.1%} [{low:.1%}, {high:.1%}] of {r['steps_per_second']:,.0f} steps/s",
            file=sys.stderr,
            flush=True,
        )
    write("ledger", result | stamp(), flags.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
