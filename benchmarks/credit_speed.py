"""What a credit method costs: its steps/s over plain team credit's with the same learner, all in one process, turn by turn.

    python benchmarks/credit_speed.py [--rounds 5]

Steps are joint environment steps of training, compiling left out; a ratio is the median over rounds of the method's rate over
that of team credit in the same round, so that a machine that drifts touches both. One seed on all of the machine's cores.
"""

import argparse
import sys
import time
from statistics import median
from typing import Any

import jax
from record import stamp, write

from marlstone.config import load
from marlstone.rollout.placement import prepare
from marlstone.training.loop import runtime_of

ENVS = {"spread": ("jaxmarl:MPE_simple_spread_v3", "25"), "swarm-64": ("proving:swarm?agents=64", "18")}
LEARNERS = {
    "policy_gradient": (
        "team",
        "individual",
        "counterfactual",
        "difference",
        "measured",
        "attention",
        "shaping",
        "decoupled",
        "vdn",
        "qmix",
    ),
    "pqn": ("team", "vdn", "qmix", "qplex"),
}
FIELDS = {
    "architecture": "ctde", "architecture.body.hidden": "[128,128]", "rollout.envs": "32", "seeds": "1", "steps": "1000000000",
    "learner.epochs": "4", "learner.minibatches": "4",
}  # fmt: skip
SECONDS = 2.0


class Timed:
    """One method's compiled training loop, ready to be timed again and again."""

    def __init__(self, env: str, rows: str, learner: str, credit: str):
        config = load(None, {**FIELDS, "env": env, "rollout.length": rows, "learner": learner, "credit": credit})
        runtime = runtime_of(config)
        self.state = runtime.start()
        self.run, self.steps = runtime.compile(self.state, 10_000), config.rollout.envs * config.rollout.length
        self.updates = 2
        self.rate()
        self.updates = max(2, int(SECONDS * self.rate() / self.steps))

    def rate(self) -> float:
        began = time.perf_counter()
        self.state, _ = jax.block_until_ready(self.run(self.state, self.updates))
        return self.updates * self.steps / (time.perf_counter() - began)


def measure(env: str, learner: str, rounds: int) -> dict[str, Any]:
    methods, refused = {}, {}
    for credit in LEARNERS[learner]:
        try:
            methods[credit] = Timed(*ENVS[env], learner, credit)
        except ValueError as why:
            refused[credit] = str(why)
    rates = {credit: [] for credit in methods}
    for _ in range(rounds):
        for credit, timed in methods.items():
            rates[credit].append(timed.rate())
    over = {c: [a / b for a, b in zip(r, rates["team"], strict=True)] for c, r in rates.items()}
    return {
        "env": ENVS[env][0], "learner": learner, "fields": FIELDS | {"rollout.length": ENVS[env][1]}, "rounds": rounds, "refused": refused,
        "rates": {c: median(r) for c, r in rates.items()}, "over_team": {c: median(r) for c, r in over.items()},
        "over_team_range": {c: [min(r), max(r)] for c, r in over.items()}, **stamp(),
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    flags = parser.parse_args()
    prepare()
    for env in ENVS:
        for learner in LEARNERS:
            result = measure(env, learner, flags.rounds)
            write(f"credit_speed/{env}-{learner}", result)
            print(env, learner, {c: round(r, 2) for c, r in result["over_team"].items()}, result["refused"], file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
