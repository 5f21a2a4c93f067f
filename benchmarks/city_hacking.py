"""Reward hacking on real city traffic: does `marlstone check-hacking` show it, and how long does it take?

    python benchmarks/city_hacking.py [--run DIR] [--budget 8m]

Trains `benchmarks/city_hacking.toml` (cologne8, lights paid by average speed), unless `--run` names a run of it, then runs
`marlstone check-hacking` with its defaults and `marlstone compare` of the newest policy with the one that the check found it worse than.
The result holds both records, seconds of each command, machine, date and commit. Exits 3 where there is no alarm, or one that took more
than ten minutes.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from record import HERE, stamp, write

LIMIT = 600.0  # seconds that the check may take, start and all


def command(*words: str) -> tuple[dict[str, Any], float, int]:
    """The record of `marlstone ...`, its seconds and its exit code; its progress is shown."""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "marlstone", *words, "--json"], stdout=subprocess.PIPE, text=True)
    if done.returncode not in (0, 3):
        raise SystemExit(done.returncode)
    return json.loads(done.stdout.splitlines()[-1]), time.monotonic() - began, done.returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a run that was trained before")
    parser.add_argument("--budget", default="8m")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run, seconds = flags.run or Path(folder) / "run", {}
        if flags.run is None:
            _, seconds["training"], _ = command("train", str(HERE / "city_hacking.toml"), "--out", str(run))
        check, seconds["check"], code = command("check-hacking", str(run), "--budget", flags.budget)
        step = check["steps"][0]
        compared = None
        if step is not None:
            earlier = run / "policies" / f"step-{step:012d}"
            compared, seconds["compare"], _ = command("compare", str(run), str(earlier), "--budget", flags.budget)
    path = write("city_hacking", {"check": check, "compare": compared, "seconds": seconds, "alarm": code == 3, **stamp()})
    for p in check["policies"]:
        print(f"{p['name']}: return {p['return']:.4g}, mean waiting {p['mean_waiting_time']:.3g} s", file=sys.stderr)
    print(f"alarm {code == 3} in {seconds['check']:.0f} s -> {path}", file=sys.stderr)
    return 0 if code == 3 and seconds["check"] <= LIMIT else 3


if __name__ == "__main__":
    sys.exit(main())
