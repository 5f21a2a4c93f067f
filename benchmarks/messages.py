"""Ways of talking, side by side: train a method on a ground, judge its final policies as deployed, and keep what came out.

    python benchmarks/messages.py traffic_easy commnet ours --seeds 10
    python benchmarks/messages.py traffic_easy ddcl --price 0.001 0.003
    python benchmarks/messages.py traffic_easy ours --budget 40 --loss --runs /tmp/runs
    python benchmarks/messages.py traffic_medium ours --seed 0 --seeds 2 --set learner.lr=2e-3 --out /tmp/tuned

Grounds (`messages/grounds/`) hold the settings that all methods share, methods (`messages/methods/`) their channel. Each result,
`results/messages/GROUND-METHOD[-VARIANT].json`, holds the configuration, success and return of the final policies over fresh episodes (IQM,
95% interval, worst seed), messages and bits per joint step as deployed, with a budget the share of messages that it refuses and the bits
where it is not enforced, the learning curve of success, seconds, machine, date and commit. A result that stands is not made again without
`--again`. Seeds below 1000 are for tuning: their results are not recorded beside the others, so they need `--out`. `benchmarks/render.py`
makes the tables of docs/messages.md from the results.
"""

import argparse
import json
import sys
import tomllib
from pathlib import Path
from typing import Any

from messages_config import GROUNDS, HOLD, LOSSY, METHODS, configured, kept_share, named, prices, same, without_paths
from messages_judge import EPISODES, curve, finished, judged
from record import RESULTS, stamp, write

from marlstone.config import RunConfig, dump
from marlstone.core.seeds import REPORTING
from marlstone.rollout.placement import prepare


def measure(ground: str, config: RunConfig, name: str, runs: Path | None, episodes: int) -> dict[str, Any]:
    """Train and judge one configuration; its result."""
    metric = GROUNDS[ground]
    with finished(config, name, runs) as run:
        found = judged(config, run, metric, episodes)
        record, along = run.record() or {}, curve(run, metric)
    kept = ("steps", "seeds", "purpose", "steps_per_second", "wall_seconds")
    return {
        "ground": ground,
        "config": without_paths(tomllib.loads(dump(config))),
        "metric": metric,
        **{k: record[k] for k in kept},
        **found,
        "curve": along,
        **stamp(),
    }


def variants(ground: str, method: str, flags: argparse.Namespace) -> list[dict[str, Any]]:
    """The fields of `[comms]` of each run that is asked for."""
    more: dict[str, Any] = {"link": LOSSY, "hold": HOLD} if flags.loss else {}
    if flags.budget:
        return [{**more, "budget_bits": [b]} for b in flags.budget]
    if method == "thinned":
        return [{**more, "keep": flags.keep or kept_share(ground)}]
    return [{**more, "price": p} for p in flags.price or prices(method)] or [more]


def said(r: dict[str, Any]) -> str:
    """One line of a result."""
    ci = "" if r["success_ci95"][0] is None else f" ({r['success_ci95'][0]:.3f} to {r['success_ci95'][1]:.3f})"
    text = f"success {r['success']:.3f}{ci} worst {r['success_worst_seed']:.3f}, return {r['return']:.3g}, "
    text += f"{r['messages_per_step']:.3g} messages and {r['bits_per_step']:.4g} bits a step"
    if "unenforced" in r:
        text += (
            f", refused {r['refused']:.1%}, not enforced {r['unenforced']['bits_per_step']:.4g} bits, p95 {r['unenforced']['bits_p95']:.4g}"
        )
    return f"{text}; {r['acting']}, {r['steps_per_second'] or 0:,.0f} steps/s, {r['wall_seconds']:.0f} s"


def arguments_of_runs(parser: argparse.ArgumentParser) -> None:
    """The options of every benchmark of messages that trains."""
    parser.add_argument("--seeds", type=int, metavar="K", help="training seeds; default: the ground's")
    parser.add_argument("--seed", type=int, metavar="S", help=f"the first; default: {REPORTING}")
    parser.add_argument("--steps", type=int, metavar="N", help="steps per seed; default: the ground's")
    parser.add_argument("--episodes", type=int, default=EPISODES, metavar="N", help=f"of each final policy; default: {EPISODES}")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="any other field of the configuration")
    parser.add_argument("--runs", type=Path, metavar="DIR", help="keep runs there; one that was interrupted goes on; default: nowhere")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="where results are written; default: results/")
    parser.add_argument("--again", action="store_true", help="also where a result stands")


def settings_of(parser: argparse.ArgumentParser, flags: argparse.Namespace) -> dict[str, str]:
    """The fields of a configuration that were given. Tuning seeds without `--out` are refused."""
    if any("=" not in x for x in flags.set):
        parser.error("--set takes FIELD=VALUE")
    given = {k: str(v) for k in ("seeds", "seed", "steps") if (v := getattr(flags, k)) is not None}
    settings = given | dict(x.split("=", 1) for x in flags.set)
    if int(settings.get("seed", REPORTING)) < REPORTING and flags.out == RESULTS:
        parser.error(f"seeds below {REPORTING} are for tuning and are not recorded in results/: give --out DIR")
    return settings


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ground", choices=tuple(GROUNDS), metavar="GROUND", help=f"one of {', '.join(GROUNDS)}")
    parser.add_argument("methods", nargs="+", choices=METHODS, metavar="METHOD", help=f"of {', '.join(METHODS)}")
    parser.add_argument("--price", type=float, nargs="+", metavar="P", help="of a bit, one run each (ddcl); default: the method's")
    parser.add_argument("--budget", type=float, nargs="+", metavar="B", help="bits per joint step, one run each (ours)")
    parser.add_argument(
        "--keep", type=float, metavar="SHARE", help="of messages (thinned); default: what ours sends of commnet's, as recorded"
    )
    parser.add_argument("--loss", action="store_true", help="over links that lose 30%% and delay by 0 to 3 steps")
    parser.add_argument("--print", action="store_true", help="only print the configuration, TOML that `marlstone train` takes")
    arguments_of_runs(parser)
    flags = parser.parse_args()
    settings = settings_of(parser, flags)
    if flags.keep and "thinned" not in flags.methods:
        parser.error("--keep is for thinned, which is not among the methods")
    if flags.price and flags.budget:
        parser.error("--price and --budget are both given: a budget finds its own price")
    for method in flags.methods:
        if method == "none" and (flags.price or flags.budget or flags.loss):
            parser.error("none sends nothing: leave --price, --budget and --loss out")
    prepare()
    for method in flags.methods:
        for comms in variants(flags.ground, method, flags):
            config, name = configured(flags.ground, method, comms, settings), named(flags.ground, method, comms)
            if flags.print:
                print(f"# {name}\n{dump(config)}")
                continue
            path = flags.out / "messages" / f"{name}.json"
            if path.exists() and not flags.again:
                stands = json.loads(path.read_text())
                other = "" if same(stands["config"], without_paths(tomllib.loads(dump(config)))) else ", of ANOTHER CONFIGURATION"
                print(f"{name}: stands{other} ({stands['date']}); --again makes it anew", file=sys.stderr)
                continue
            result = measure(flags.ground, config, name, flags.runs, flags.episodes)
            path = write(f"messages/{name}", {"method": method, **result}, flags.out)
            print(f"{name}: {said(result)} -> {path.name}", file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
