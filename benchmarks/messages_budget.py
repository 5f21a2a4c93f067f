"""Do policies keep their budgets by themselves? Four budgets, a policy each, and one policy that is shown which of the four holds.

    python benchmarks/messages_budget.py traffic_easy --budgets 20 40 80 160 [--seeds 10] [--steps N] [--runs DIR]

With `ours` on a ground (`messages/grounds/`). Final policies play fresh episodes twice: where nobody holds them to the budget
(`unenforced`: bits per joint step, mean and 95th percentile over episodes, seed by seed), and as deployed, where the share of messages that
is refused counts. The one policy plays as many episodes of each budget. Written to results/messages_budget/GROUND.json after every policy;
one that is recorded, of the same configuration, is not trained again without `--again`.
"""

import argparse
import json
import sys
import tomllib
from typing import Any

from messages import arguments_of_runs, settings_of
from messages_config import GROUNDS, configured, same, without_paths
from messages_judge import finished, judged
from record import stamp, write

from marlstone.config import RunConfig, dump
from marlstone.rollout.placement import prepare


def kept_to(found: dict[str, Any], budget: float) -> dict[str, Any]:
    """How the unenforced policies keep a budget: usage over it by seed, and in how many seeds it is at most 1."""
    free = found["unenforced"]
    use = {k: [x / budget for x in free[f"{k}_per_seed"]] for k in ("bits_per_step", "bits_p95")}
    met = {f"{k}_met": sum(x <= 1 for x in v) for k, v in use.items()}
    return {"budget": budget, "of": len(use["bits_p95"]), **{f"{k}_use": v for k, v in use.items()}, **met}


def said(kept: dict[str, Any]) -> str:
    """One line of `kept_to`."""
    mean, p95 = (sum(kept[f"{k}_use"]) / kept["of"] for k in ("bits_per_step", "bits_p95"))
    met = f"{kept['bits_per_step_met']} and {kept['bits_p95_met']} of {kept['of']} seeds"
    return f"{kept['budget']:g} used {mean:.0%} on average, 95th percentile {p95:.0%}, kept in {met}"


def policy(ground: str, config: RunConfig, name: str, flags: argparse.Namespace, episodes: int) -> dict[str, Any]:
    """Train and judge one policy a seed; what the result keeps of it."""
    with finished(config, name, flags.runs) as run:
        found = judged(config, run, GROUNDS[ground], episodes)
        seconds = (run.record() or {}).get("wall_seconds")
    return {"config": without_paths(tomllib.loads(dump(config))), "wall_seconds": seconds, **found}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ground", choices=tuple(GROUNDS), metavar="GROUND", help=f"one of {', '.join(GROUNDS)}")
    parser.add_argument("--budgets", type=float, nargs="+", required=True, metavar="B", help="bits per joint step")
    arguments_of_runs(parser)
    flags = parser.parse_args()
    settings = settings_of(parser, flags)
    if len(flags.budgets) < 2 or len(set(flags.budgets)) < len(flags.budgets):
        parser.error("give at least two budgets, each once: one policy is to serve them all")
    prepare()
    path = flags.out / "messages_budget" / f"{flags.ground}.json"
    result: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"ground": flags.ground, "policies": {}}
    policies = result["policies"]
    for budgets in (*((b,) for b in flags.budgets), tuple(flags.budgets)):
        name = "-".join(f"{b:g}" for b in budgets)
        config = configured(flags.ground, "ours", {"budget_bits": list(budgets)}, settings)
        asked = without_paths(tomllib.loads(dump(config)))
        if not flags.again and same(policies.get(name, {}).get("config"), asked):
            print(f"{flags.ground} {name}: stands", file=sys.stderr)
            continue
        found = policy(flags.ground, config, f"{flags.ground}-budget-{name}", flags, flags.episodes * len(budgets))
        if len(budgets) == 1:
            found["kept"] = kept_to(found, budgets[0])
        else:
            free = found["unenforced"]["levels"]
            found["kept"] = {k: None if x is None else kept_to({"unenforced": x}, float(k)) for k, x in free.items()}
        policies[name] = found
        result |= {"budgets": flags.budgets, **stamp()}
        write(f"messages_budget/{flags.ground}", result, flags.out)
        each = [found["kept"]] if len(budgets) == 1 else [x for x in found["kept"].values() if x is not None]
        words = "; ".join(map(said, each))
        print(
            f"{flags.ground} {name}: success {found['success']:.3f}, refused {found['refused']:.2%}; {words}", file=sys.stderr, flush=True
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
