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
from credit_tasks import TASKS
from jax import lax
from record import stamp, write

from marlstone.config import RunConfig, dump, load
from marlstone.core.distributions import draw_group_noise
from marlstone.core.records import replace
from marlstone.evaluation.credit import audit
from marlstone.evaluation.credit.reliability import noise_ceiling, spearman
from marlstone.play.episodes import acting_by
from marlstone.play.judging import choose
from marlstone.rollout.counterfactuals import state_values, without
from marlstone.rollout.placement import prepare
from marlstone.runs.checkpoint import newest
from marlstone.runs.directory import RunDirectory
from marlstone.training.trained import trained

WINDOWS = (1, 2, 4, 8, 16)
DECISIONS, CONTINUATIONS, AGAIN = 512, 16, 8


def bootstrapped(a: Any, policy: Any, train: Any, chosen: Any, window: int, key: Any) -> Any:
    """What the team's agents did in the `chosen` decisions was worth by `window` steps of play and the critic's value then, `[s n]`."""
    algorithm, env, s = a.algorithm, a.env.env, chosen.at.shape[0]
    spec, gamma, act = algorithm.spec, algorithm.learner.gamma, acting_by(algorithm, a.act)
    variants = np.concatenate([np.zeros((1, spec.n), bool), np.eye(spec.n, dtype=bool)[: spec.team.n]])
    share = lambda x: jnp.repeat(x, len(variants), 0)
    state, step, memory, action = jax.tree.map(share, (chosen.state, chosen.step, chosen.memory, chosen.action))
    first = without(spec, action, jnp.tile(variants, (s, 1)))

    def tick(t: Any, carry: Any) -> Any:
        state, step, memory, total, over = carry
        k1, k2 = jax.random.split(jax.random.fold_in(key, t))
        noise = jax.tree.map(share, draw_group_noise([g.space for g in spec.groups], [g.count for g in spec.groups], k1, (s,)))
        taken, _, _, memory = act(policy, step, memory, noise)
        taken = tuple(jnp.where(t == 0, x, y) for x, y in zip(first, taken, strict=True))
        state, step = jax.vmap(env.step)(state, algorithm.emit(taken), share(jax.random.split(k2, s)))
        return state, step, memory, total + jnp.where(over, 0, gamma**t * step.team_reward), over | step.last

    begun = state, step, memory, jnp.zeros(s * len(variants)), jnp.zeros(s * len(variants), bool)
    _, after, _, total, over = lax.fori_loop(0, window, tick, begun)
    ahead = state_values(algorithm, train, jax.tree.map(lambda x: x[:, None], after), algorithm.memory(len(total)))[:, 0]
    returns = (total + jnp.where(over, 0, gamma**window * ahead)).reshape(s, -1)
    return jnp.where((chosen.step.present & chosen.step.deciding)[:, : spec.team.n], returns[:, :1] - returns[:, 1:], 0)


def measure(task: str, steps: str) -> dict[str, Any]:
    from marlstone.training.loop import train

    own = {k: v for k, v in TASKS[task].items() if k not in ("audit", "planted")}
    config: RunConfig = load(None, {"architecture": "ctde", "credit": "counterfactual", **own, "seeds": "1", "steps": steps})
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
            once = jax.jit(bootstrapped, static_argnums=(0, 4))
            rows = {}
            for window in WINDOWS:
                found = np.stack([np.asarray(once(a, mine.policy, mine, chosen, window, jax.random.key(7 + k))) for k in range(AGAIN)])
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
