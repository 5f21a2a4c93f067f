"""Every architecture with every credit method and learner, on two grounds: refused when it is built, with the reason, or it trains.

    python benchmarks/grid.py [--credits team vdn ...] [--envs proving:pair ...] [--steps 20000]

Trains: all figures stay finite, every network moved, and the last quarter's mean return lies above random play's by more than
two standard errors. The gain is where it lies between random play (0) and the ground's best return (1), with exploration on.
Programs are compiled in a hurry, since compiling is nearly all of the work: its seconds say nothing of speed. One seed, small
networks, few steps, three times as many where those do not suffice: the grid says what works, not what is best. The whole grid is
written to results/grid.json; with `--credits` alone, those credits' cells take their place there; any other part is only printed.
`benchmarks/render.py` makes the docs' table from it.
"""

import argparse
import itertools
import json
import sys
import time
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from record import RESULTS, stamp, write

from marlstone.algorithm import Algorithm
from marlstone.architectures import Architecture
from marlstone.config import kinds, load
from marlstone.credit import Credit
from marlstone.envs.make import make
from marlstone.envs.wrappers import wrap_env
from marlstone.evaluation.credit.random_play import quick, rollout
from marlstone.learners import Learner
from marlstone.training.loop import runtime_of

BEST = {"proving:additive": 1.0, "proving:pair": 11.0}
STEPS = 20_000
SEED = 1000
FIELDS = {
    "seeds": "1", "seed": str(SEED), "rollout.envs": "16", "rollout.length": "18", "architecture.body.hidden": "[32]", "learner.lr": "3e-3",
}  # fmt: skip


def random_play(env: str) -> tuple[float, float]:
    """The mean return of playing uniformly among what is legal, and its standard error."""
    made: Any = make(env)
    step, _, _ = rollout(made, 256, made.spec.horizon)
    returns = np.asarray(step.team_reward)[:, 1:].sum(1)  # one whole episode each
    return float(returns.mean()), float(returns.std(ddof=1) / len(returns) ** 0.5)


def networks(nets: Any) -> dict[str, list[Any]]:
    """The arrays of each network, by name, group by group; none without arrays."""
    each = {f"{kind}[{i}]": net for kind in ("actor", "critic", "q") for i, net in enumerate(getattr(nets, kind))} | {"credit": nets.credit}
    return {name: arrays for name, net in each.items() if (arrays := jax.tree.leaves(net))}


def trained(config: Any) -> dict[str, Any]:
    """What became of one combination in its few steps."""
    began, runtime = time.perf_counter(), runtime_of(config)
    state = quick(runtime.begin)(np.uint32(SEED))
    before = networks(jax.device_get(state.train.nets))
    train = quick(lambda state: runtime.advance(state, runtime.total, runtime.total), 1)  # at 0, second derivatives come out as NaN
    after, report = jax.device_get(train(state))
    now = networks(after.train.nets)
    still = [name for name, arrays in before.items() if all(map(np.array_equal, arrays, now[name]))]
    quarter = max(1, runtime.total // 4)
    returns, episodes = (x[-quarter:].sum() for x in (report.finished.team_return, report.finished.episodes))
    return {
        "finite": all(np.isfinite(x).all() for x in jax.tree.leaves((after.train.nets, report))),
        "still": still,
        "return": float(returns / max(episodes, 1)),
        "seconds": round(time.perf_counter() - began, 1),
    }


def cell(env: str, architecture: str, credit: str, learner: str, steps: int, chance: tuple[float, float]) -> dict[str, Any]:
    """One combination: `{"refused": reason}`, or what became of it."""
    config = load(None, {**FIELDS, "env": env, "architecture": architecture, "credit": credit, "learner": learner, "steps": str(steps)})
    parts = {"architecture": config.architecture, "credit": config.credit, "learner": config.learner}
    place = {"env": env, "architecture": architecture, "credit": credit, "learner": learner}
    try:
        Algorithm(wrap_env(make(env), config.architecture.managers(), config.faults).spec, *parts.values())
    except ValueError as refusal:
        reason = str(refusal)
        for role, part in parts.items():
            reason = reason.replace(type(part).__name__, f"the {role}").replace(f"--{role} {getattr(part, 'kind', '')}", f"the {role}")
        return {**place, "refused": reason}
    for steps in (config.steps, 3 * config.steps):
        result = trained(replace(config, steps=steps)) | {"steps": steps}
        result["gain"] = (result["return"] - chance[0]) / (BEST[env] - chance[0])
        result["trains"] = bool(result["finite"] and not result["still"] and result["return"] > chance[0] + 2 * chance[1])
        if result["trains"]:
            break
    return {**place, **result}


def among(cells: list[dict[str, Any]], credits: list[str]) -> dict[str, Any]:
    """The recorded grid with these credits' cells measured anew, each with its own date and commit."""
    record = json.loads((RESULTS / "grid.json").read_text())
    now = {k: v for k, v in stamp().items() if k in ("date", "commit")}
    anew = {tuple(c[k] for k in ("env", "architecture", "credit", "learner")): c | now for c in cells}
    old = [c for c in record["cells"] if c["credit"] not in credits]
    order = {name: i for i, name in enumerate(kinds.names(Credit))}
    return record | {"cells": sorted([*old, *anew.values()], key=lambda c: order[c["credit"]])}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", choices=tuple(BEST), default=tuple(BEST))
    parser.add_argument("--credits", nargs="+", choices=tuple(kinds.names(Credit)), default=tuple(kinds.names(Credit)))
    parser.add_argument("--steps", type=int, default=STEPS)
    flags = parser.parse_args()
    cells, chances = [], {env: random_play(env) for env in flags.envs}
    for credit, architecture, learner, env in itertools.product(flags.credits, kinds.names(Architecture), kinds.names(Learner), flags.envs):
        cells.append(cell(env, architecture, credit, learner, flags.steps, chances[env]))
        c = cells[-1]
        said = f"refused: {c['refused']}" if "refused" in c else f"gain {c['gain']:.2f}, trains {c['trains']}, {c['seconds']} s"
        print(f"{env} {architecture} {credit} {learner}: {said}", file=sys.stderr)
    bad = [c for c in cells if "refused" not in c and not c["trains"]]
    if (flags.envs, flags.steps) == (tuple(BEST), STEPS):
        chance = {env: {"random_return": m, "random_se": e, "best_return": BEST[env]} for env, (m, e) in chances.items()}
        record = {"steps": STEPS, "seed": SEED, "envs": chance, "cells": cells, **stamp()}
        if flags.credits != tuple(kinds.names(Credit)):
            record = among(cells, flags.credits)
        print(write("grid", record), file=sys.stderr)
    print(f"{len(cells)} combinations, {sum('refused' in c for c in cells)} refused, {len(bad)} do not train", file=sys.stderr)
    return 3 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
