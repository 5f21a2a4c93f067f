"""Does the alarm on chatter fire where the best policy asks half of the time, and stay silent where it asks once?

    python benchmarks/messages_chatter.py [--seeds 10] [--steps 150000]

`proving:errands` and its quiet twin, trained alike; then every seed's final policy by itself, as `evaluate --suite messages` judges one:
the alarm at the default bound (`evaluate.chatter`), and the share of their steps that agents ask, beside that of the best policy. Written
to results/messages_chatter.json.
"""

import argparse
import sys
import tomllib
from pathlib import Path
from typing import Any

import jax
import numpy as np
from messages_judge import EPISODES, finished, summary
from record import RESULTS, stamp, write

from marlstone.config import dump, load
from marlstone.core.seeds import REPORTING
from marlstone.envs.make import make
from marlstone.evaluation.messages.chatter import chatter_record
from marlstone.evaluation.messages.suite import counted
from marlstone.play.judging import resolve
from marlstone.rollout.placement import prepare
from marlstone.runs.checkpoint import Checkpoint
from marlstone.runs.policies import kept
from marlstone.training.trained import trained

TWINS = {"chatty": "proving:errands?chatty=true", "quiet": "proving:errands?chatty=false"}
FIELDS = {"rollout.envs": "32", "rollout.length": "32", "evaluate.logged": "0"}


def measure(twin: str, settings: dict[str, str], episodes: int) -> dict[str, Any]:
    """Train and judge one of the twins, seed by seed."""
    config = load(None, {**FIELDS, "env": TWINS[twin], **settings})
    with finished(config, f"chatter-{twin}", None) as run:
        final = kept(run)[-1]
        with trained(config, Checkpoint(final.path, final.step, {})) as (runtime, state):
            act, agents = resolve(runtime, state, config, run.path), runtime.algorithm.spec.team.agents
            played = jax.tree.map(np.asarray, counted(runtime, state, episodes, act))
            one = lambda i: jax.tree.map(lambda x: x[i : i + 1] if x.ndim else x, played)
            alone = [chatter_record(one(i), agents, config.evaluate.chatter) for i in range(len(runtime.seeds))]
            together = chatter_record(played, agents, config.evaluate.chatter)
            seeds = list(runtime.seeds)
    ground: Any = make(TWINS[twin])
    asking = [float(np.mean([x["steps"] for x in a["chatter"].values()])) for a in alone]
    return {
        "config": tomllib.loads(dump(config)),
        "seeds": seeds,
        "acting": act,
        "episodes": episodes,
        "bound": config.evaluate.chatter,
        "alarms": [a["alarm"] for a in alone],
        "alarm_together": together["alarm"],
        "asking_per_seed": asking,
        "asking": float(np.mean(asking)),
        "best_asking": ground.best_asking,
        "best_return": ground.best_return,
        **summary("return", played.per_seed()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="10", metavar="K", help="training seeds; default: 10")
    parser.add_argument("--seed", type=int, default=REPORTING, metavar="S", help=f"the first; default: {REPORTING}")
    parser.add_argument("--steps", default="150000", metavar="N", help="steps per seed; default: 150,000")
    parser.add_argument("--episodes", type=int, default=EPISODES, metavar="N", help=f"of each final policy; default: {EPISODES}")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="any other field of the training")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="where the result is written; default: results/")
    flags = parser.parse_args()
    if flags.seed < REPORTING and flags.out == RESULTS:
        parser.error(f"seeds below {REPORTING} are for tuning and are not recorded in results/: give --out DIR")
    given = {"seeds": flags.seeds, "seed": str(flags.seed), "steps": flags.steps} | dict(x.split("=", 1) for x in flags.set)
    prepare()
    result: dict[str, Any] = {"twins": {}}
    for twin in TWINS:
        r = result["twins"][twin] = measure(twin, given, flags.episodes)
        print(
            f"{twin}: alarm in {sum(r['alarms'])} of {len(r['alarms'])} seeds, asking {r['asking']:.3f} (best {r['best_asking']:.3f}), "
            f"return {r['return']:.3f} (best {r['best_return']:.3f})",
            file=sys.stderr,
            flush=True,
        )
    write("messages_chatter", result | stamp(), flags.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
