"""Links that lose and delay: policies trained over ideal links and over bad ones, each judged over both.

    python benchmarks/messages_links.py traffic_easy [--method ours] [--seeds 10] [--steps N] [--runs DIR]

A bad link is Gilbert-Elliott, bad 30% of the time for four steps at a time, and delays what arrives by 0 to 3 steps. Messages stay in the
inbox for three more steps in all four cases, so that nothing but the link differs. Written to results/messages_links/GROUND-METHOD.json
after every training; one that is recorded, of the same configuration, is not trained again without `--again`.
"""

import argparse
import dataclasses
import json
import sys
import tomllib
from typing import Any

from messages import arguments_of_runs, settings_of
from messages_config import GROUNDS, HOLD, LOSSY, METHODS, configured, same, without_paths
from messages_judge import finished, judged
from record import stamp, write

from marlstone.comms import Link
from marlstone.config import dump
from marlstone.rollout.placement import prepare

LINKS: dict[str, dict[str, Any]] = {"ideal": {}, "bad": LOSSY}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ground", choices=tuple(GROUNDS), metavar="GROUND", help=f"one of {', '.join(GROUNDS)}")
    parser.add_argument("--method", choices=[m for m in METHODS if m not in ("none", "thinned")], default="ours")
    arguments_of_runs(parser)
    flags = parser.parse_args()
    settings = settings_of(parser, flags)
    prepare()
    name = f"{flags.ground}-{flags.method}"
    path = flags.out / "messages_links" / f"{name}.json"
    empty = {"ground": flags.ground, "method": flags.method, "bad": LOSSY, "hold": HOLD, "trained": {}}
    result: dict[str, Any] = json.loads(path.read_text()) if path.exists() else empty
    for link, fields in LINKS.items():
        config = configured(flags.ground, flags.method, {"link": fields, "hold": HOLD}, settings)
        asked = without_paths(tomllib.loads(dump(config)))
        if not flags.again and same(result["trained"].get(link, {}).get("config"), asked):
            print(f"{name} {link}: stands", file=sys.stderr)
            continue
        found: dict[str, Any] = {"config": asked, "over": {}}
        with finished(config, f"{name}-links-{link}", flags.runs) as run:
            for other, theirs in LINKS.items():
                there = dataclasses.replace(config, comms=dataclasses.replace(config.comms, link=Link(**theirs)))
                found["over"][other] = judged(there, run, GROUNDS[flags.ground], flags.episodes)
            found["wall_seconds"] = (run.record() or {}).get("wall_seconds")
        result["trained"][link] = found
        result |= stamp()
        write(f"messages_links/{name}", result, flags.out)
        words = ", ".join(f"success over {k} ones {x['success']:.3f}" for k, x in found["over"].items())
        print(f"{name} trained over {link} links: {words}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
