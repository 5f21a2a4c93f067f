"""Learning, recorded: train a configuration of `benchmarks/learning/` on its reporting seeds and keep what came out.

    python benchmarks/learning.py lbf-8x8-2p-2f-coop [more names ...]

Each result holds the configuration, the seeds, the final policy's return (IQM, 95% interval, worst seed), true metrics,
the learning curve, seconds, machine, date and commit. `benchmarks/render.py` makes the docs' tables from them.
"""

import argparse
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from record import HERE, stamp, write

from marlstone.api.display import Display
from marlstone.config import RunConfig, dump, load
from marlstone.rollout.placement import prepare
from marlstone.runs.curve import on_grid
from marlstone.runs.directory import RunDirectory

POINTS = 40


def trained(config: RunConfig, run: RunDirectory) -> dict[str, Any]:
    """Train into `run`; what is kept of it: configuration, record and curve, without this machine's paths."""
    from marlstone.training.loop import train

    with Display() as show:
        record = train(config, run, progress=show)
    with run.store() as store:
        steps, returns = on_grid(store.series("return"), POINTS)
    for path in ("run", "curve", "policy"):
        record.pop(path)
    return {
        "config": tomllib.loads(dump(config)),
        "record": record,
        "curve": {"steps": steps.tolist(), "returns": returns.tolist()},
        **stamp(),
    }


def measure(name: str) -> dict[str, Any]:
    config = load(HERE / "learning" / f"{name}.toml", {})
    with tempfile.TemporaryDirectory() as folder:
        return trained(config, RunDirectory.create(Path(folder) / name, dump(config)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = sorted(p.stem for p in (HERE / "learning").glob("*.toml"))
    parser.add_argument("names", nargs="+", choices=known, metavar="NAME", help=f"one of {', '.join(known)}")
    prepare(2)
    for name in parser.parse_args().names:
        result = measure(name)
        path = write(f"learning/{name}", result)
        r = result["record"]
        print(
            f"{name}: IQM {r['return_iqm']:.3f} {r['return_ci95']} worst {r['return_worst_seed']:.3f} {r['true_metrics']} "
            f"{r['steps_per_second']:.0f} steps/s -> {path.relative_to(HERE.parent)}",
            file=sys.stderr,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
