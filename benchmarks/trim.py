"""`trim` on runs in which four of five calls and links are of no use: how many of these go, and what is lost.

    python benchmarks/trim.py [--seeds 10] [--steps N] [--episodes N] [--quick] [--runs DIR]

Trains on `trim_ground.py:Desks`, where everybody speaks and asks, trims links and calls, then once more everything else from what is left.
Written to results/trim/desks.json.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from record import HERE, RESULTS, stamp, write
from trim_ground import Desks

import marlstone as ms
from marlstone.api.finding import find_policies, reopened
from marlstone.evaluation.trim.trim import trim
from marlstone.rollout.placement import prepare

SETTINGS: dict[str, Any] = {
    "architecture": {"body": {"hidden": [64, 64]}},
    "credit": "team",
    "comms": {"kind": "broadcast", "size": 4, "open": 0.5},
    "acting": "sample",
    "rollout": {"envs": 32, "length": 60},
    "learner": {"lr": 1e-3},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1000, help="the first; those below 1000 are for tuning")
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--episodes", type=int, default=256)
    parser.add_argument("--quick", action="store_true", help="links and calls alone, not everything else from what is left")
    parser.add_argument("--runs", type=Path, help="where runs lie while they are of use; default: a folder that goes with them")
    parser.add_argument("--out", type=Path, default=RESULTS)
    flags = parser.parse_args()
    prepare()
    env, runs = f"jax:{HERE / 'trim_ground.py'}:Desks", flags.runs or Path(tempfile.mkdtemp(prefix="trim-"))
    for name in ("desks", "desks-trimmed", "desks-smaller"):
        shutil.rmtree(runs / name, ignore_errors=True)
    run = ms.train(env, steps=flags.steps, seeds=flags.seeds, seed=flags.seed, out=runs / "desks", **SETTINGS)
    first = trimmed(run.path, runs / "desks-trimmed", flags.episodes, ("links", "calls"))
    result: dict[str, Any] = {"env": "trim_ground.py:Desks", "settings": SETTINGS, "steps": flags.steps, "links_and_calls": summary(first)}
    write("trim/desks", result | stamp(), flags.out)
    if first["out"] and not flags.quick:
        more = trimmed(runs / "desks-trimmed", runs / "desks-smaller", flags.episodes, ("leaves", "messages", "units"))
        result["the_rest"] = {k: more.get(k) for k in FIELDS}
    write("trim/desks", result | stamp(), flags.out)
    if flags.runs is None:
        shutil.rmtree(runs)
    shown = result["links_and_calls"]
    print(
        f"useless links gone {shown['useless_links_gone']:.0%}, calls {shown['useless_calls_gone']:.0%}, loss {shown['loss_ci95']}",
        file=sys.stderr,
    )
    return 0


FIELDS = (
    "seeds", "bound", "episodes", "loss", "loss_ci95", "loss_by_seed", "return_difference", "return_difference_ci95", "saved_share",
    "saved_shares", "before", "after", "returns_after", "why",
)  # fmt: skip


def trimmed(where: Path, out: Path, episodes: int, kinds: tuple[str, ...]) -> dict[str, Any]:
    """The record of `marlstone trim`."""
    directory, checkpoint = find_policies(str(where))
    config, _ = reopened(directory, {})
    tell = lambda line: print(f"trim: {line}", file=sys.stderr, flush=True)
    return trim(config, checkpoint, bound=0.01, episodes=episodes, out=out, kinds=kinds, tell=tell)


def summary(record: dict[str, Any]) -> dict[str, Any]:
    """How many of the useless links and calls there were went, and of the useful ones."""
    ground = Desks()
    gone: dict[str, set[str]] = {"link": set(), "call": set()}
    for x in record["removed"]:
        if x["kind"] == "call":
            gone["call"].add(x["name"])
        elif x["kind"] == "link":
            gone["link"].add(x["name"])
        elif x["kind"] == "sender":
            sender = x["name"].partition(">")[0]
            gone["link"] |= {f"{sender}>{a}" for a in ground.names if a != sender}
    there = {kind: {x["name"] for x in record["candidates"] if x["kind"] == kind} for kind in gone}
    useful = {"link": ground.useful_links, "call": ground.useful_calls}
    out: dict[str, Any] = {k: record.get(k) for k in FIELDS}
    for kind, found in there.items():
        useless = found - useful[kind]
        amount = lambda names, kind=kind: sum(
            x["saved"]["calls" if kind == "call" else "messages"] for x in record["candidates"] if x["kind"] == kind and x["name"] in names
        )
        out |= {
            f"{kind}s": len(found),
            f"useless_{kind}s": len(useless),
            f"useless_{kind}s_share": amount(useless) / max(amount(found), 1e-9),
            f"useless_{kind}s_gone": len(gone[kind] & useless) / max(len(useless), 1),
            f"useful_{kind}s_gone": sorted(gone[kind] & useful[kind]),
        }
    return out


if __name__ == "__main__":
    sys.exit(main())
