"""How far must a counterfactual be played? What a difference that is bootstrapped after H steps says, beside what decisions were worth.

    python benchmarks/credit_windows.py [--tasks lbf-8x8-2p-2f-coop mpe-spread] [--steps 1000000]

A policy is trained with `counterfactual`; then decisions are continued 16 times to the end of their episodes (their worth, discounted), and
from the same states for H steps, after which the critic's value stands for the rest: once, as `credit = "measured"` measures, and 8 times.
H = 1 is what a critic of one step's bootstrap, r + g v(s') - v(s), would say had it learned that exactly. One seed; results lie in
`results/credit_windows/`.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from credit_tasks import TASKS, configured
from record import stamp, write

from marlstone.config import dump
from marlstone.core.records import replace
from marlstone.evaluation.credit import audit
from marlstone.evaluation.credit.reliability import noise_ceiling, spearman
from marlstone.evaluation.credit.truth import difference, with_and_without
from marlstone.play.judging import choose
from marlstone.rollout.counterfactuals import step_values
from marlstone.rollout.placement import prepare
from marlstone.runs.checkpoint import newest
from marlstone.runs.directory import RunDirectory
from marlstone.training.trained import trained

WINDOWS = (1, 2, 4, 8, 16)
DECISIONS, CONTINUATIONS, AGAIN = 512, 16, 8


def bootstrapped(a: Any, train: Any, chosen: Any, window: int, key: Any) -> Any:
    """What the agents audited did in the `chosen` decisions was worth by `window` steps of play and the critic's value then, `[s k]`."""
    played = with_and_without(a.env.env, a.algorithm, train.policy, chosen, a.who, key, act=a.act, window=window)
    ahead = a.algorithm.discount**window * step_values(a.algorithm, train, played.last)
    return difference(chosen, a.who, played.discounted + jnp.where(played.over, 0, ahead))


def measure(task: str, steps: str) -> dict[str, Any]:
    from marlstone.training.loop import train

    config = configured(task, "counterfactual", {"seeds": "1", "steps": steps})
    with tempfile.TemporaryDirectory() as folder:
        run = RunDirectory.create(Path(folder) / "run", dump(config))
        train(config, run)
        with trained(config, newest(run.checkpoints)) as (runtime, state):
            act = choose(runtime, state, config)
            horizon = runtime.algorithm.spec.horizon or 0
            env = replace(runtime.env, b=64)
            a = audit.Auditor(env, runtime.algorithm, max(config.rollout.length, 2 * (horizon + 1)), DECISIONS, act=act)
            mine = jax.tree.map(lambda x: x[0], runtime.placement.trim(state.train))
            it, claimed, _ = audit._gathered(a, mine, jax.random.key(1))
            chosen = audit._chosen(it, jax.random.key(2), DECISIONS)
            play = lambda k: np.asarray(audit._continued(a, mine.policy, chosen, jax.random.key(100 + k), None).discounted)
            each = np.stack([play(k) for k in range(CONTINUATIONS)], -1)
            true, said = each.mean(-1), np.asarray(claimed).reshape(-1, claimed.shape[-1])[np.asarray(chosen.at)][:, a.who]
            once = jax.jit(bootstrapped, static_argnums=(0, 3))
            rows = {}
            for window in WINDOWS:
                found = np.stack([np.asarray(once(a, mine, chosen, window, jax.random.key(7 + k))) for k in range(AGAIN)])
                rows[str(window)] = {
                    "once": spearman(found[0].ravel(), true.ravel()),
                    "mean": spearman(found.mean(0).ravel(), true.ravel()),
                }
    whole = spearman(each[..., 0].ravel(), each[..., 1:].mean(-1).ravel())
    return {
        "env": config.env, "steps": config.whole_steps, "seed": config.seed, "acting": act, "noise_ceiling": noise_ceiling(each),
        "claimed": spearman(said.ravel(), true.ravel()), "whole_episode_once": whole, "windows": rows, **stamp(),
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=tuple(TASKS), default=("lbf-8x8-2p-2f-coop", "mpe-spread"))
    parser.add_argument("--steps", default="1000000")
    flags = parser.parse_args()
    prepare()
    for task in flags.tasks:
        result = measure(task, flags.steps)
        print(f"{task}: {result['windows']} -> {write(f'credit_windows/{task}', result).name}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
