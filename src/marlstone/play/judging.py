"""How good are a run's policies as they are deployed? Which way of acting that is, what both ways return, and what was left out.

A policy is judged by the way of acting it is deployed with (`core.acting`). `auto` chooses it: every seed's policy plays the same
episodes by mode and sampled, and the way with the higher IQM over seeds is kept. Those episodes are never reported. Where costs are
constrained, a way that keeps the budget comes before one that does not, and a weight counts: return less weight x cost.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from marlstone.algorithm.constrained_costs import ConstrainedCosts
from marlstone.config import RunConfig
from marlstone.core.acting import Act
from marlstone.core.errors import Failure
from marlstone.core.types import Spec
from marlstone.envs.make import is_jax
from marlstone.play.evaluator import Episodes
from marlstone.play.player import Player
from marlstone.rollout.state import State
from marlstone.runs.directory import RunDirectory
from marlstone.stats.intervals import Bounds, interval, worst_seed

WAYS = ("mode", "sample")
CHOICE_KEY = 2**30  # the choice's episodes are drawn from keys of their own; training seeds stay below, paired episodes above
VALIDATION_KEY = 3 * 2**29  # as are those that policies are validated on while they train
PARTED = 0.05  # of the larger return: ways of acting that differ by less are not warned of


def choose(runtime: Player, state: State | None, config: RunConfig, known: Act | None = None, policies: Any = None) -> Act:
    """The way of acting that is deployed: the configured one; of value-based learners the greedy one; else `known`, if it was chosen
    before; else the better of mode and sample, measured on episodes that nothing reports. `policies`: as `Fused.evaluate` takes them."""
    if (fixed := config.acting.act) is not None:
        return fixed
    if runtime.algorithm.learner.value_based:
        return "mode"
    if known is not None:
        return known
    reported = config.evaluate.episodes
    episodes = config.acting.episodes or (reported if is_jax(config.env) else max(1, reported // 2))
    keys = tuple(CHOICE_KEY + i for i in range(len(runtime.seeds)))
    costs = runtime.algorithm.costs
    scores = {act: _score(runtime.evaluate(state, episodes, act, policies=policies, keys=keys), costs) for act in WAYS}
    return max(WAYS, key=lambda act: scores[act])  # equal: by mode


def _score(played: Episodes, costs: ConstrainedCosts | None) -> tuple[float, float]:
    """What ways of acting are compared by: by how much episodes cost more than their budget on average, and then the IQM of returns."""
    returns = played.per_seed()
    if not all(r.size for r in returns):
        return -np.inf, -np.inf
    if costs is None:
        return 0.0, interval(returns)[0]
    spent = played.per_seed(costs.of_episodes(played.metrics, np.maximum(played.length, 1)))
    over = 0.0 if costs.constraint.budget is None else float(np.mean([x.mean() for x in spent])) / costs.constraint.budget - 1
    net = [r - costs.constraint.weight * x for r, x in zip(returns, spent, strict=True)]
    return -max(0.0, over), interval(net)[0]


def validated(runtime: Player, state: State, config: RunConfig, episodes: int) -> np.ndarray:
    """Every seed's mean return on validation episodes, `[seeds]`, the same ones whenever it is asked and reported by nothing; NaN where
    none ended. Acting as configured; where that is `auto`, by mode and sampled, and the better way over all seeds counts."""
    fixed = "mode" if runtime.algorithm.learner.value_based else config.acting.act
    keys = tuple(VALIDATION_KEY + i for i in range(len(runtime.seeds)))
    played = [runtime.evaluate(state, episodes, act, keys=keys) for act in (WAYS if fixed is None else (fixed,))]
    best = max(played, key=lambda episodes: _score(episodes, runtime.algorithm.costs))
    return np.array([r.mean() if r.size else np.nan for r in best.per_seed()])


def deployed_acting(run: RunDirectory, best: bool = False) -> Act | None:
    """The way of acting that a finished run's record names: of its final policies, or of the `best` ones that it kept."""
    record = run.record() or {}
    act: Act | None = ((record.get("best") or {}) if best else record).get("acting")
    return act


@dataclass(frozen=True)
class Judged:
    """`played`: the same episodes of every seed, by way of acting; `act`: the way that is deployed."""

    act: Act
    played: dict[Act, Episodes]

    @property
    def episodes(self) -> Episodes:
        """As deployed."""
        return self.played[self.act]


def judge(runtime: Player, state: State, episodes: int, act: Act) -> Judged:
    """Every seed's policy on fresh episodes: as deployed, by mode, and sampled. Value-based learners, always greedy, play once."""
    ways = tuple(dict.fromkeys((act, *WAYS)))
    if runtime.algorithm.learner.value_based:
        return Judged(act, dict.fromkeys(ways, runtime.evaluate(state, episodes, act)))
    return Judged(act, {way: runtime.evaluate(state, episodes, way) for way in ways})


def cost_record(judged: Judged, costs: ConstrainedCosts) -> dict[str, Any]:
    """What the deployed policies cost, by seed, beside what they may: of an episode, or of a joint step."""
    played, c = judged.episodes, costs.constraint
    spent = [float(x.mean()) for x in played.per_seed(costs.of_episodes(played.metrics, np.maximum(played.length, 1)))]
    over = None if c.budget is None else [x > c.budget for x in spent]
    return {"per": c.per, "budget": c.budget, "weight": c.weight, "prices": dict(c.prices), "used": spent, "over_budget": over}


def returns_record(judged: Judged, spec: Spec, bounds: Bounds | None = None) -> dict[str, Any]:
    """The return fields of a record, from `[seeds episodes ...]`: as deployed, with `returns_by_acting` beside, and how many episodes were
    `broken` (by the environment; replayed) and `unfinished` (left out) of `episodes_asked`. `bounds`: the least and the greatest return
    of an episode, where known, which intervals stay within. Declared costs (`messages_per_step`) stand by their names, other metrics in
    `true_metrics`. Raises `Failure` where a seed has none."""
    played = judged.episodes
    refuse_none(played)
    per_seed = played.per_seed()
    center, (low, high) = interval(per_seed, bounds=bounds)
    ended = np.asarray(played.ended, bool)
    mean = lambda values: np.mean([x.mean() for x in played.per_seed(values)])
    return {
        "acting": judged.act,
        "returns": [float(r.mean()) for r in per_seed],
        "episode_returns": [[_finite(x) for x in r] for r in played.ended_only().round(6)],
        "return_iqm": center,
        "return_ci95": [_finite(low), _finite(high)],
        "return_worst_seed": worst_seed(per_seed),
        "return_bounds": None if bounds is None else [_finite(x) for x in bounds],
        "returns_by_acting": {way: _summary(e, spec, bounds) for way, e in judged.played.items()},
        "acting_warning": warning(judged),
        **_metrics(played, spec),
        "agent_returns": {a: float(mean(np.asarray(played.agent_return)[..., i])) for i, a in enumerate(spec.agents)},
        "episode_length": float(mean(played.length)),
        "episodes_asked": int(ended.size),
        "broken": int((np.broadcast_to(played.broke, ended.shape) > 0).sum()),
        "unfinished": int((~ended).sum()),
    }


def _summary(played: Episodes, spec: Spec, bounds: Bounds | None) -> dict[str, Any]:
    returns = played.per_seed()
    if not all(r.size for r in returns):
        nothing = {k: None for k, m in spec.metrics.items() if m.cost}
        return {"return_iqm": None, "return_ci95": [None, None], **nothing, "true_metrics": dict.fromkeys(spec.wanted_metrics)}
    center, ends = interval(returns, bounds=bounds)
    return {"return_iqm": center, "return_ci95": [_finite(x) for x in ends], **_metrics(played, spec)}


def _metrics(played: Episodes, spec: Spec) -> dict[str, Any]:
    """Each metric's mean over seeds of the mean over the episodes that ended: costs by name, the others in `true_metrics`."""
    means = {k: float(np.mean([x.mean() for x in played.per_seed(v)])) for k, v in played.metrics.items()}
    costs = {k for k, m in spec.metrics.items() if m.cost}
    return {**{k: x for k, x in means.items() if k in costs}, "true_metrics": {k: x for k, x in means.items() if k not in costs}}


def _finite(x: float) -> float | None:
    return float(x) if np.isfinite(x) else None


def refuse_none(played: Episodes) -> None:
    """Raises `Failure` where some seed's policy finished no episode: then there is no figure to report."""
    ended = np.asarray(played.ended, bool)
    if (none := np.flatnonzero(~ended.any(1))).size:
        broke, steps = int((np.broadcast_to(played.broke, ended.shape) > 0).sum()), int(np.max(played.length))
        why = f"{broke} of {ended.size} broke off again and again" if broke else f"after {steps:,} steps none had ended"
        remedy = (
            "run the environment by itself with the same seeds and fix what it raises"
            if broke
            else "give it a time limit (truncation), or raise evaluate.max_steps"
        )
        raise Failure(
            f"evaluation: not one of {ended.shape[1]} episodes of seed number {none[0]} ended, so there is no return: {why}; {remedy}"
        )


def warning(judged: Judged) -> str | None:
    """One sentence where these very policies return more sampled than by mode, beyond the chance of the episodes; else None.

    Episodes are paired (equal keys) and are the unit, not training seeds: another training's policies may differ, these are deployed.
    """
    mode, sample = (judged.played.get(way) for way in WAYS)
    if mode is None or sample is None or judged.act == "mode":
        return None
    a, b = sample.per_seed(), mode.per_seed()
    if not all(r.size for r in (*a, *b)):
        return None if all(r.size for r in b) else "this policy relies on its randomness: by mode, not one episode of some seed ended"
    gaps = sample.ended_only() - mode.ended_only()
    gaps = gaps[np.isfinite(gaps)]
    scale = max(abs(float(np.concatenate(x).mean())) for x in (a, b))
    if (
        gaps.size < 2
        or gaps.mean() <= PARTED * scale
        or gaps.mean() <= special.stdtrit(gaps.size - 1, 0.975) * gaps.std(ddof=1) / np.sqrt(gaps.size)
    ):
        return None
    return (
        f"this policy relies on its randomness: by mode {interval(b)[0]:.3g}, {judged.act} {interval(judged.episodes.per_seed())[0]:.3g}. "
        "Where it must be deterministic, train it so (docs: acting)"
    )


def resolve(runtime: Player, state: State | None, config: RunConfig, run: Path, policies: Any = None, best: bool = False) -> Act:
    """`choose`, for the policies of the run in `run`, which may have chosen already; `best`: for those it kept as the best."""
    return choose(runtime, state, config, deployed_acting(RunDirectory(run), best), policies)
