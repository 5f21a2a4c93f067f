"""What `marlstone select` says, and how far to believe it.

    python benchmarks/selection.py lbf | quick | folklore | reliability

lbf, quick: the default and the quick selection on level-based foraging, with the seconds they took.
folklore: three families (close cooperation, many independent actors, planning with a sparse reward): what is said of CTDE,
decentralized and hierarchical training, measured. reliability: ten selections with disjoint seeds in one cheap environment, with
a planted candidate that reaches a tenth less: how often is the same candidate recommended or named inseparable, how often is
the planted one named worse? Results go to results/select/; `benchmarks/render.py` makes the docs' tables from them.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from record import HERE, stamp, write

from marlstone.cli.select import asked, parser
from marlstone.evaluation.select.executors import Beside
from marlstone.evaluation.select.question import DEFAULTS, SHORTEST, Budget, Candidate, Question
from marlstone.evaluation.select.study import Study
from marlstone.rollout.placement import prepare
from marlstone.runs.json_line import plain

LBF = "jumanji:LevelBasedForaging?task=8x8-2p-2f-coop"
FAMILIES = {  # what is asked, in words of the command; small networks and short rollouts where the defaults would be slow
    "close cooperation": ("--env", "jaxmarl:MPE_simple_spread_v3", "--budget", "1e6"),
    "many independent actors": ("--env", "proving:swarm?agents=256", "--budget", "2e4",
                                "--set", "rollout.envs=16", "--set", "rollout.length=18", "--set", "architecture.body.hidden=[32]"),
    "planning, sparse reward": ("--env", "proving:plan", "--budget", "4e5",
                                "--set", "rollout.length=64", "--set", "architecture.body.hidden=[64,64]"),
}  # fmt: skip
SETTLED = {
    "rollout.envs": "32", "rollout.length": "18", "architecture.body.hidden": "[16]", "learner.epochs": "1", "learner.lr": "1e-3",
}  # fmt: skip
LOSS = 0.09  # of its actions the planted candidate loses, which costs it a tenth of its return


def command(*words: str) -> dict[str, Any]:
    """The record of a selection, by the command line, in a folder of its own."""
    with tempfile.TemporaryDirectory() as spare:
        where = [sys.executable, "-m", "marlstone", "select", *words, "--out", f"{spare}/selection", "--json"]
        began = time.perf_counter()
        done = subprocess.run(where, stdout=subprocess.PIPE, text=True, cwd=HERE, check=True)
        record = json.loads(done.stdout)
    return lasting(record) | {"command": " ".join(words), "seconds_with_start": round(time.perf_counter() - began, 1)}


def lasting(record: dict[str, Any]) -> dict[str, Any]:
    """A record without the places of files that are gone."""
    rows = [{k: v for k, v in row.items() if k != "run"} for row in record["candidates"]]
    return {k: v for k, v in record.items() if k not in ("config", "report")} | {"candidates": rows}


def answered(question: Question, folder: Path) -> dict[str, Any]:
    """The record of a question that no command puts."""
    do = Beside(lambda text: None, lambda: nullcontext(lambda progress, name: None), lambda: False, len(os.sched_getaffinity(0)))
    return Study(question, folder, do, lambda text: print(text, file=sys.stderr)).run()


def family(words: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """The record of a family's question: all are stressed; the winner has no fresh seeds and no soak."""
    question = dataclasses.replace(asked(parser().parse_args(words)), survivors=len(DEFAULTS), confirm=False, soak=0)
    return lasting(answered(question, folder)) | {"command": " ".join(words)}


def reliability(repeats: int, steps: int) -> dict[str, Any]:
    """Selections whose seeds do not meet, with the planted candidate among them."""
    best = next(c for c in DEFAULTS if c.name == SHORTEST[0])
    planted = Candidate("planted", {**best.settings, "faults": [{"kind": "action_loss", "rate": LOSS}]}, best.tries)
    candidates = (*(c for c in DEFAULTS if c.name in SHORTEST), planted)
    out = []
    for k in range(repeats):
        question = Question(
            "proving:additive", Budget(steps=steps), candidates, seed=1000 + 100 * k, tuning=0.0, survivors=0, soak=0, confirm=False,
            common=tuple(sorted(SETTLED.items())),
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as spare:
            record = answered(question, Path(spare) / "selection")
        rows = {r["name"]: r for r in record["candidates"]}
        out.append(
            {
                "seed": question.seed,
                "recommended": record["recommended"],
                "inseparable_from": record["inseparable_from"],
                "returns": {k: r["return_iqm"] for k, r in rows.items()},
                "planted": rows["planted"]["verdict"],
            }
        )
        print(out[-1], file=sys.stderr)
    level = [{r["recommended"], *r["inseparable_from"]} for r in out]
    same = {c.name: sum(c.name in x for x in level) for c in candidates}
    return {
        "env": "proving:additive", "steps": steps, "repeats": out, "seeds": 5, "within": same,
        "planted_named_worse": sum(r["planted"] not in ("recommended", "no significant difference") for r in out),
        "prices": plain(dataclasses.asdict(question.prices)),
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("lbf", "quick", "folklore", "reliability"))
    parser.add_argument("--families", nargs="+", choices=tuple(FAMILIES), default=tuple(FAMILIES))
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--steps", type=int, default=1_000_000)
    flags = parser.parse_args()
    prepare()
    if flags.what == "folklore":
        for name in flags.families:
            with tempfile.TemporaryDirectory() as spare:
                record = family(FAMILIES[name], Path(spare) / "selection") | {"family": name, **stamp()}
            print(write(f"select/folklore-{name.split(',')[0].replace(' ', '-')}", record), file=sys.stderr)
        return 0
    if flags.what == "reliability":
        record = reliability(flags.repeats, flags.steps)
    else:
        record = command("--env", LBF, *(("--quick",) if flags.what == "quick" else ()))
    print(write(f"select/{flags.what}", record | stamp()), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
