"""Knowing at a price: what policies lose against the optimum by dynamic programming, and how many episodes are exactly optimal.

    python benchmarks/tools.py tools|memory [--seeds 10] [--first-seed K] [--steps N] [--episodes 256] [--runs DIR] [--out DIR] [--again]

Trains `benchmarks/tools/priced_*.toml`, in which prices stay as an episode's beginning drew them, and judges every seed three times,
without training it again: where it was trained; where prices change in mid-episode (each with probability 0.15 a step), of the episodes in
which one did; and as the policy is deployed, by NumPy from its own folder, which then holds pending calls and the memory. A run that is
already in `--runs` is judged anew, not trained, without `--again`.
"""

import argparse
import dataclasses
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from record import RESULTS, stamp, write

from marlstone.config import RunConfig, dump, load
from marlstone.envs.make import make
from marlstone.evaluation.priced_grounds import PricedJudge, PricedPlay
from marlstone.policy.deployed import PolicyMemory
from marlstone.policy.policy import Policy
from marlstone.rollout.placement import prepare
from marlstone.runs.checkpoint import newest
from marlstone.runs.directory import RunDirectory
from marlstone.training.loop import train
from marlstone.training.trained import trained

HERE = Path(__file__).parent
CHANGES = 0.15  # the probability per step of another price, where prices change
GROUNDS = {"tools": HERE / "tools" / "priced_tools.toml", "memory": HERE / "tools" / "priced_memory.toml"}


def changing(config: RunConfig, changes: float = CHANGES) -> RunConfig:
    """The same with prices that change in mid-episode, where there are several."""
    tools = tuple(dataclasses.replace(t, changes=changes if isinstance(t.price, tuple) else 0.0) for t in config.tools)
    memory = dataclasses.replace(config.memory, changes=changes) if config.memory.slots else config.memory
    return dataclasses.replace(config, tools=tools, memory=memory)


def judged(config: RunConfig, run: RunDirectory, episodes: int) -> list[dict[str, Any]]:
    """Every seed's verdict, of policies that act by mode."""
    judge = PricedJudge(config)
    with trained(config, newest(run.checkpoints)) as (runtime, state):
        return [judge.verdict(judge.plays(batch)) for batch in runtime.player(episodes, "mode")(state)]


def deployed(config: RunConfig, path: str, episodes: int) -> dict[str, Any]:
    """The verdict of a policy's folder: `Policy.act` on what the environment gives."""
    import jax

    judge, policy = PricedJudge(config), Policy.load(path)
    env: Any = make(config.env)
    group, rng = env.spec.groups[0], np.random.default_rng(0)
    begin, go = jax.jit(env.init), jax.jit(env.step)
    plays: list[PricedPlay] = []
    for e in range(episodes):
        state, step = begin(jax.random.key(10_000 + e))
        memory: PolicyMemory | None = None
        rows: list[Any] = []
        while not bool(step.last):
            obs = {a: {k: np.asarray(x)[i] for k, x in step.obs[0].items()} for i, a in enumerate(group.agents)}
            asked = {a: o for (a, o), acts in zip(obs.items(), np.asarray(step.deciding), strict=True) if acts}
            before = None if memory is None else memory.tools
            actions, memory = policy.act(asked, memory, rng)
            said = np.array([actions.get(a, 0) for a in group.agents], np.int32)
            state, step = go(state, (said,), jax.random.key(e * 100 + len(rows)))
            rows.append((obs, said, before, memory.tools, float(step.team_reward)))
        plays.append(judge.deployed_play(rows))
    return judge.verdict(plays)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ground", choices=tuple(GROUNDS))
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--first-seed", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--episodes", type=int, default=256)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--again", action="store_true")
    flags = parser.parse_args()
    prepare()
    given = {"seeds": flags.seeds, "seed": flags.first_seed, "steps": flags.steps}
    config = load(str(GROUNDS[flags.ground]), {k: str(v) for k, v in given.items() if v is not None})
    path = flags.runs / f"priced-{flags.ground}"
    if flags.again:
        shutil.rmtree(path, ignore_errors=True)
    if path.exists() and RunDirectory(path).record() is None:
        shutil.rmtree(path)  # it was stopped
    run = RunDirectory(path) if path.exists() else RunDirectory.create(path, dump(config))
    if (record := run.record()) is None:
        record = train(config, run, limited=False)
        run.finish(record)
    found: dict[str, Any] = {"ground": flags.ground, "env": config.env, "seeds": record["seeds"], "steps": record["steps"]}
    found["usual"], found["changing"] = judged(config, run, flags.episodes), judged(changing(config), run, flags.episodes)
    found["deployed"] = [deployed(config, str(run.artifacts / f"seed-{seed}"), flags.episodes) for seed in record["seeds"]]
    found |= {"wall_seconds": record.get("wall_seconds")} | stamp()
    write(f"tools-{flags.ground}", found, flags.out)
    mean = lambda rows, key: float(np.mean([r[key] for r in rows]))
    changed = [r["changed"] for r in found["changing"] if r["changed"]]
    for name, rows in (("as trained", found["usual"]), ("after prices changed", changed), ("deployed", found["deployed"])):
        exact, lost = [round(r["exact"], 3) for r in rows], mean(rows, "regret_share")
        print(f"{flags.ground}, {name}: regret {lost:.2%} of the optimum, exact {mean(rows, 'exact'):.1%}, by seed {exact}")
    print(json.dumps({k: v for k, v in found.items() if not isinstance(v, list)}), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
