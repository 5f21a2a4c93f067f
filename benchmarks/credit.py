"""Credit, audited: train each method on each proving ground, on reporting seeds, and keep what it said beside what was true.

    python benchmarks/credit.py [--grounds additive dummy ...] [--methods counterfactual vdn ...]

Each result holds the configuration, the audit's record, the final policy's return, machine, date and commit.
`benchmarks/render.py` makes the docs' table from them.
"""

import argparse
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from record import stamp, write

from marlstone.cli.display import Display
from marlstone.config import dump, load
from marlstone.runs.checkpoint import newest
from marlstone.runs.directory import RunDirectory
from marlstone.runtime.spread import prepare

GROUNDS = ("additive", "dummy", "saboteur", "redundant")
METHODS = {
    "team": "policy_gradient",
    "counterfactual": "policy_gradient",
    "difference": "policy_gradient",
    "attention": "policy_gradient",
    "vdn": "pqn",
    "qmix": "pqn",
    "qplex": "pqn",
}
FIELDS = {"architecture": "ctde", "steps": "300000", "seeds": "10", "rollout.envs": "32", "rollout.length": "36"}
DECISIONS = 512


def measure(ground: str, method: str) -> dict[str, Any]:
    from marlstone.evaluate.credit_audit import audit_run
    from marlstone.runtime.train import train

    config = load(None, {**FIELDS, "env": f"proving:{ground}", "credit": method, "learner": METHODS[method]})
    with tempfile.TemporaryDirectory() as folder:
        run = RunDirectory.create(Path(folder) / "run", dump(config))
        with Display() as show:
            trained = train(config, run, progress=show)
        audit = audit_run(config, newest(run.checkpoints), DECISIONS, run.path / "audit.png")
    for path in ("run", "picture"):
        audit.pop(path)
    kept = ("return_iqm", "return_ci95", "return_worst_seed", "steps_per_second")
    return {"config": tomllib.loads(dump(config)), "audit": audit, **{k: trained[k] for k in kept}, **stamp()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grounds", nargs="+", choices=GROUNDS, default=GROUNDS)
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=tuple(METHODS))
    flags = parser.parse_args()
    prepare()
    for ground in flags.grounds:
        for method in flags.methods:
            result = measure(ground, method)
            path = write(f"credit/{ground}-{method}", result)
            a = result["audit"]
            print(
                f"{ground} {method}: rank correlation {a['rank_correlation']} {a['rank_correlation_ci95']}, decisions "
                f"{a['decision_rank_correlation']}, idle {a['dummy_ci95']}, return {result['return_iqm']:.3f} -> {path.name}",
                file=sys.stderr,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
