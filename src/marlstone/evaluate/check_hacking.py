"""Is what is paid still what is wanted? Plays the policies that `hacking` judges: the team's return beside declared true metrics.

Over one run's training the pairs are its newest policy and every earlier one it kept (`MOST` of them, evenly spaced, where there are
more): the policy that would be used, against the times when it may have been better. Consecutive ones would each show a small part of
a slow decline, and all pairs would be several times as many tests. Two runs are one pair, before and after. All policies play the
same episodes (`paired`), and every pair and metric has an equal part of alpha, so that the intervals hold together.
"""

from typing import Any

import numpy as np

from marlstone.config import RunConfig
from marlstone.core.errors import Failure, UserError
from marlstone.core.types import Metric
from marlstone.evaluate.families import alpha_each
from marlstone.evaluate.hacking import EPISODES, SEEDS, Verdict, hacked
from marlstone.evaluate.paired import Players, rounds, together
from marlstone.runs.checkpoint import Checkpoint
from marlstone.runs.directory import RunDirectory
from marlstone.runs.policies import Kept, kept
from marlstone.runtime.evaluation import Episodes

MOST = 10  # earlier policies a newest one is held against
RETURN = "return"
Side = tuple[RunConfig, RunDirectory, Checkpoint]
Figures = dict[str, np.ndarray]  # of one policy: the team's return and every metric, `[seeds episodes]`


def check_hacking(runs: list[Side], episodes: int) -> dict[str, Any]:
    """The record (INTERFACE `check-hacking`) of one run's training, or of two runs. Raises `UserError` where nothing can be checked."""
    config, run, newest = runs[-1]
    if len(runs) == 1:
        seeds, sides = config.seeds, [(config, run.path, [*_earlier(run, newest), Kept(newest.path, newest.step)])]
    else:
        (first, one_run, before), (second, other_run, after) = runs
        first, second, seeds = together(first, second)
        sides = [(first, one_run.path, [Kept(before.path, before.step)]), (second, other_run.path, [Kept(after.path, after.step)])]
    if seeds < SEEDS and episodes < EPISODES:
        raise UserError(f"{episodes} episodes of {seeds} training seeds allow no interval: give at least --episodes {EPISODES}")
    count, each = rounds(episodes, *(c for c, _, _ in sides))
    played: list[Figures] = []  # oldest first
    acts = []
    for side, home, kept_ones in sides:
        with Players.of(side, seeds) as players:
            metrics = declared(side, players)
            act = players.acting(side, home, players.policies(kept_ones[-1].path))
            acts.append(act)
            for one in kept_ones:
                policies = players.policies(one.path)
                played.append(_figures([players.play(policies, each, nth, act) for nth in range(count)]))
    played, left_out = _in_all(played)
    steps = [one.step for _, _, kept_ones in sides for one in kept_ones]
    spread = {k: float(np.ptp([x[k].mean() for x in played])) or 1.0 for k in played[0]}
    alpha = alpha_each((len(played) - 1) * len(metrics))
    pairs = [_pair(old, played[-1], metrics, alpha, spread) | {"steps": [step, steps[-1]]} for step, old in zip(steps[:-1], played)]
    worst = max(pairs, key=lambda p: (p["alarm"], p["case"]))
    return {
        "alarm": worst["alarm"],
        "metric": worst["metric"],
        "better": metrics[worst["metric"]].better,
        "steps": worst["steps"],
        "proxy_change": worst["proxy_change"],
        "proxy_change_ci95": worst["proxy_change_ci95"],
        "true_change": worst["true"][worst["metric"]]["change"],
        "true_change_ci95": worst["true"][worst["metric"]]["ci95"],
        "runs": [str(c.path.parent.parent) for _, _, c in runs],
        "env": config.env,
        "acting": acts,
        "seeds": seeds,
        "episodes": count * each,
        "left_out": left_out,
        "note": worst["note"],
        "pairs": [{k: v for k, v in p.items() if k not in ("case", "note")} for p in pairs],
        "policies": [{"step": step, **{k: float(v.mean()) for k, v in x.items()}} for step, x in zip(steps, played, strict=True)],
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
    if not players.spec.metrics:
        raise UserError(
            f"{config.env} declares no true metric, so what its reward may have been bought with cannot be told: declare what is really "
            "wanted beside the reward (docs: comparing), and train there"
        )
    return players.spec.metrics


def _figures(played: list[Episodes]) -> Figures:
    joined = lambda of: np.concatenate([e.ended_only(of(e)) for e in played], axis=1)
    return {RETURN: joined(lambda e: e.team_return), **{k: joined(lambda e, k=k: e.metrics[k]) for k in played[0].metrics}}


def _in_all(played: list[Figures]) -> tuple[list[Figures], int]:
    """The episodes that every policy of every seed ended, and how many of each seed's are left out. Raises `Failure` where too few are
    left to compare."""
    ended = np.isfinite(np.stack([x[RETURN] for x in played])).all((0, 1))
    if ended.sum() < 2:
        raise Failure(
            f"only {ended.sum()} of {ended.size} episodes ended under every policy: give the environment a time limit, or raise "
            "evaluate.max_steps"
        )
    return [{k: v[:, ended] for k, v in x.items()} for x in played], int((~ended).sum())


def _pair(before: Figures, after: Figures, metrics: dict[str, Metric], alpha: float, spread: dict[str, float]) -> dict[str, Any]:
    """What changed from one policy to the other; `metric` is the one that looks worst, by `case`: how surely return and metric parted, in
    their spreads over all policies."""
    both = {k: np.stack([before[k], after[k]]) for k in after}
    verdicts: dict[str, Verdict] = {k: hacked(both[RETURN], both[k], m.better, alpha=alpha) for k, m in metrics.items()}

    def case(k: str) -> float:
        v = verdicts[k]
        fall = -v.true_change_ci95[1] if metrics[k].better == "up" else v.true_change_ci95[0]
        proven = min(v.proxy_change_ci95[0] / spread[RETURN], fall / spread[k])
        return proven if np.isfinite(proven) else -np.inf

    worst = max(verdicts, key=lambda k: (verdicts[k].alarm, case(k)))
    say = lambda k, v: {"better": metrics[k].better, "change": v.true_change, "ci95": list(v.true_change_ci95), "alarm": v.alarm}
    return {
        "alarm": verdicts[worst].alarm,
        "metric": worst,
        "case": case(worst),
        "note": verdicts[worst].note,
        "proxy_change": verdicts[worst].proxy_change,
        "proxy_change_ci95": list(verdicts[worst].proxy_change_ci95),
        "true": {k: say(k, v) for k, v in verdicts.items()},
    }
