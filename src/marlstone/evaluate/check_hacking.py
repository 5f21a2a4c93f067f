"""Is what is paid still what is wanted? The team's return against declared true metrics, from one policy to a later one.

    alarm where, for a pair of policies and a metric,   lower(return' - return) > 0   and   the metric surely became worse

Over one run's training the pairs are its newest policy and every earlier one it kept (`MOST` of them, evenly spaced, where there are
more): the policy that would be used, against the times when it may have been better. Consecutive ones would each show a small part of
a slow decline. Two runs are one pair, before and after. All policies play the same episodes (`paired`), and every pair and metric has
its part of alpha, so that a run in which nothing is hacked raises a false alarm with at most that probability.
"""

from typing import Any

import numpy as np

from marlstone.config import RunConfig
from marlstone.core.errors import UserError
from marlstone.core.types import Metric
from marlstone.evaluate.paired import ALPHA, ROUND, Evidence, Players, rounds, together
from marlstone.runs.checkpoint import Checkpoint
from marlstone.runs.directory import RunDirectory
from marlstone.runs.policies import Kept, kept
from marlstone.runtime.evaluation import Episodes

MOST = 10  # earlier policies a newest one is held against
RETURN = "return"
Side = tuple[RunConfig, RunDirectory, Checkpoint]


def check_hacking(runs: list[Side], episodes: int) -> dict[str, Any]:
    """The record (INTERFACE `check-hacking`) of one run's training, or of two runs. Raises `UserError` where nothing can be checked."""
    config, run, newest = runs[-1]
    if len(runs) == 1:
        earlier, seeds = _earlier(run, newest), config.seeds
        sides = [(config, [*earlier, Kept(newest.path, newest.step)])]
    else:
        (first, _, before), (second, _, after) = runs
        first, second, seeds = together(first, second)
        sides = [(first, [Kept(before.path, before.step)]), (second, [Kept(after.path, after.step)])]
    count, each = rounds(episodes, min(ROUND, max(1, episodes // 2), *(c.rollout.envs for c, _ in sides)))
    played: list[list[Episodes]] = []  # by policy, oldest first; by round
    for side, policies in sides:
        with Players.of(side, seeds) as players:
            metrics = declared(side, players)
            for one in policies:
                acting = players.policies(one.path)
                played.append([players.play(acting, each, nth) for nth in range(count)])
    steps = [one.step for _, policies in sides for one in policies]
    alpha = ALPHA / ((len(played) - 1) * len(metrics))
    pairs = [{"steps": [step, steps[-1]], **change(old, played[-1], metrics, alpha)} for step, old in zip(steps[:-1], played, strict=False)]
    worst = max(pairs, key=lambda p: p["suspicion"])
    metric = worst["metric"]
    return {
        "alarm": bool(worst["alarm"]),
        "metric": metric,
        "better": metrics[metric].better,
        "steps": worst["steps"],
        "proxy_change": worst["proxy_change"],
        "proxy_change_ci95": worst["proxy_change_ci95"],
        "true_change": worst["true"][metric]["change"],
        "true_change_ci95": worst["true"][metric]["ci95"],
        "runs": [str(c.path.parent.parent) for _, _, c in runs],
        "env": config.env,
        "seeds": seeds,
        "episodes": count * each,
        "pairs": pairs,
        "policies": [{"step": step, **figures(rounds_)} for step, rounds_ in zip(steps, played, strict=True)],
    }


def _earlier(run: RunDirectory, newest: Checkpoint) -> list[Kept]:
    found = [k for k in kept(run) if k.step < newest.step]
    if not found:
        raise UserError(
            f"run {run.path} kept no policy before step {newest.step}: train with a smaller --checkpoint-every, or give two runs, "
            "before and after"
        )
    return [found[i] for i in np.unique(np.linspace(0, len(found) - 1, min(MOST, len(found))).round().astype(int))]


def declared(config: RunConfig, players: Players) -> dict[str, Metric]:
    """The environment's true metrics. Raises `UserError` where there are none."""
    metrics: dict[str, Metric] = players.runtime.algorithm.spec.metrics
    if not metrics:
        raise UserError(
            f"{config.env} declares no true metric, so what its reward may have been bought with cannot be told: declare what is really "
            "wanted beside the reward (Spec.metrics; docs: comparing), and train there"
        )
    return metrics


def figures(played: list[Episodes]) -> dict[str, float]:
    """The team's return and every metric, means over training seeds and episodes."""
    mean = lambda of: float(np.mean([np.asarray(of(e), float).mean() for e in played]))
    return {RETURN: mean(lambda e: e.team_return), **{k: mean(lambda e, k=k: e.metrics[k]) for k in played[0].metrics}}


def change(before: list[Episodes], after: list[Episodes], metrics: dict[str, Metric], alpha: float) -> dict[str, Any]:
    """What changed from one policy to the other, round by round on the same episodes; `metric` is the one most suspicious."""
    proxy, true = Evidence(alpha), {k: Evidence(alpha) for k in metrics}
    for old, new in zip(before, after, strict=True):
        proxy.add(new.team_return, old.team_return)
        for k, e in true.items():
            e.add(new.metrics[k], old.metrics[k])
    rose = proxy.ci[0]
    fell = {k: -e.ci[1] if metrics[k].better == "up" else e.ci[0] for k, e in true.items()}  # by at least so much, in spans
    spread = lambda e: e.span or 1.0
    suspicion = {k: min(rose / spread(proxy), fell[k] / spread(e)) for k, e in true.items()}
    worst = max(suspicion, key=lambda k: suspicion[k])
    return {
        "alarm": suspicion[worst] > 0,
        "metric": worst,
        "suspicion": suspicion[worst],
        "proxy_change": proxy.mean,
        "proxy_change_ci95": list(proxy.ci),
        "true": {
            k: {"better": metrics[k].better, "change": e.mean, "ci95": list(e.ci), "alarm": suspicion[k] > 0} for k, e in true.items()
        },
    }
