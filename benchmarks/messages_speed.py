"""What messages cost in speed: training steps/s of a team that talks over the same team that does not, in one process, turn by turn.

    python benchmarks/messages_speed.py [--rounds 5] [--envs spread traffic_medium]

Steps are joint environment steps of training, compiling left out, on one seed. A ratio is the median over rounds of a channel's rate over
that of `none` in the same round, so that a machine that drifts touches both. `targeted, not counted` is `targeted` compiled without the
ledger's counting of messages and bits (`comms.learning.sent_in`), and what is counted is not added up: the ledger's part is
1 - targeted / that. Written to results/messages_speed.json.
"""

import argparse
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import jax
from credit_speed import FIELDS, SECONDS
from record import RESULTS, stamp, write
from turns import in_turn

from marlstone.config import load
from marlstone.rollout.placement import prepare
from marlstone.training import fused
from marlstone.training.callbacks import Sent
from marlstone.training.loop import runtime_of

ENVS = {
    "spread": ("jaxmarl:MPE_simple_spread_v3", "25"),
    "traffic_medium": ("proving:traffic_junction?difficulty=medium", "40"),
    "swarm-16": ("proving:swarm?agents=16", "18"),
}
UNCOUNTED = ", not counted"
CHANNELS: dict[str, dict[str, str]] = {
    "none": {},
    "broadcast": {"comms": "broadcast", "comms.message": "dithered"},
    "targeted": {"comms": "targeted", "comms.message": "dithered"},
}
TURNS = ("none", "broadcast", "targeted", f"targeted{UNCOUNTED}")


class Timed:
    """One channel's compiled training loop, ready to be timed again and again."""

    def __init__(self, env: str, name: str):
        self.counts = not name.endswith(UNCOUNTED)
        channel = CHANNELS[name.removesuffix(UNCOUNTED)]
        config = load(None, {**FIELDS, **channel, "env": ENVS[env][0], "rollout.length": ENVS[env][1]})
        runtime = runtime_of(config)
        counting = fused.sent_in
        if not self.counts:
            fused.sent_in = lambda *_: {}
        try:
            self.state = runtime.start()
            self.run, self.steps = runtime.compile(self.state, 64), config.rollout.envs * config.rollout.length
        finally:
            fused.sent_in = counting
        self.sent = Sent.of(runtime, None) if self.counts else None
        self.updates = 2
        self.rate()
        self.updates = min(64, max(2, int(SECONDS * self.rate() / self.steps)))

    def rate(self) -> float:
        began = time.perf_counter()
        self.state, report = jax.block_until_ready(self.run(self.state, self.updates))
        if self.sent is not None:
            self.sent.add(jax.device_get(report.sent))
        return self.updates * self.steps / (time.perf_counter() - began)


def measure(env: str, rounds: int) -> dict[str, Any]:
    """Rates of every channel, in turn, and their ratios."""
    rates = in_turn({name: Timed(env, name) for name in TURNS}, rounds)
    over = lambda a, b: median(x / y for x, y in zip(rates[a], rates[b], strict=True))
    return {
        "env": ENVS[env][0],
        "rounds": rounds,
        "fields": FIELDS | {"rollout.length": ENVS[env][1]},
        "channels": CHANNELS,
        "rates": {name: median(r) for name, r in rates.items()},
        "over_none": {name: over(name, "none") for name in CHANNELS},
        "ledger_share": 1 - over("targeted", f"targeted{UNCOUNTED}"),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--envs", nargs="+", choices=tuple(ENVS), default=tuple(ENVS), metavar="ENV", help=f"of {', '.join(ENVS)}")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="where the result is written; default: results/")
    flags = parser.parse_args()
    prepare()
    result: dict[str, Any] = {"envs": {}}
    for env in flags.envs:
        r = result["envs"][env] = measure(env, flags.rounds)
        words = ", ".join(f"{k} {x:.2f}" for k, x in r["over_none"].items() if k != "none")
        print(
            f"{env}: {words} of none's {r['rates']['none']:,.0f} steps/s; the ledger takes {r['ledger_share']:.1%}",
            file=sys.stderr,
            flush=True,
        )
    write("messages_speed", result | stamp(), flags.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
