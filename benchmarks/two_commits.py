"""Training speed and compile time of `peers.py`'s races at two commits, in turn on one machine: the fastest of each side counts.

    git worktree add --detach OTHER COMMIT
    python benchmarks/two_commits.py OTHER [--races jaxmarl-ippo-ff ...] [--turns 2]

Every measurement is a process of its own with an empty cache of compiled programs. Results go to results/two_commits.json, a line of the
table in docs/design.md each (`benchmarks/render.py`).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from record import HERE, stamp, write

RACES = ("jaxmarl-ippo-ff", "jaxmarl-ippo-gru", "jaxmarl-mappo-gru", "jaxmarl-qmix-gru")
CODE = """
import json, sys
sys.path.insert(0, {benchmarks!r})
try:
    from marlstone.rollout.placement import prepare
except ModuleNotFoundError:  # as it was called before the folders were renamed
    from marlstone.runtime.spread import prepare
prepare({cores})
from peers import ours
found = ours({race!r}, 2, {cores})
print(json.dumps({{"rate": max(found["rates"]), "compile_seconds": found["compile_seconds"]}}))
"""


def measured(root: Path, race: str) -> dict[str, float]:
    """The faster of two timings at the checkout `root`, and how long compiling took."""
    code = CODE.format(benchmarks=str(root / "benchmarks"), race=race, cores=len(os.sched_getaffinity(0)))
    with tempfile.TemporaryDirectory() as cache:
        env = {**os.environ, "PYTHONPATH": str(root / "src"), "XDG_CACHE_HOME": cache}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd=cache)
    if done.returncode:
        raise RuntimeError(f"{race} at {root} failed\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def best(found: list[dict[str, float]]) -> dict[str, Any]:
    """Another program can only make a measurement slower."""
    return {"rate": max(x["rate"] for x in found), "compile_seconds": min(x["compile_seconds"] for x in found), "measured": found}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="a checkout of the commit before")
    parser.add_argument("--races", nargs="*", choices=RACES, default=list(RACES))
    parser.add_argument("--turns", type=int, default=2, help="measurements of each side")
    flags = parser.parse_args()
    git = ["git", "rev-parse", "--short=12", "HEAD"]
    before = subprocess.run(git, cwd=flags.other, capture_output=True, text=True, check=True).stdout.strip()
    sides = {"before": flags.other.resolve(), "after": HERE.parent}
    races: dict[str, Any] = {}
    for race in flags.races:
        found: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
        for _ in range(flags.turns):
            for side, root in sides.items():
                found[side].append(measured(root, race))
        races[race] = {side: best(x) for side, x in found.items()}
        print(race, *(f"{side} {x['rate']:,.0f} steps/s, compiled in {x['compile_seconds']:.1f} s;" for side, x in races[race].items()))
    write("two_commits", {"races": races, "before": before, **stamp()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
