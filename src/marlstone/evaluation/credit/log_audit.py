"""What a run's credit networks say of logged episodes (`evaluation.episode_log`): who contributed, and whether that went with success.

A log cannot be stepped again, so there is no truth to hold it against: only what was claimed, beside what happened. Each seed's
networks score that seed's episodes where the log has them, else all of the log. Figures per episode; over seeds IQMs with 95%
intervals, resampling seeds, then episodes; correlations are ranks' (Spearman) over a seed's episodes.
"""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from marlstone.algorithm import Algorithm
from marlstone.config import RunConfig
from marlstone.config.kinds import name_of
from marlstone.core.episodes import WholeEpisodes, whole_episodes
from marlstone.core.errors import UserError
from marlstone.core.records import replace
from marlstone.core.types import Trajectory
from marlstone.evaluation.credit.judgement import CORRELATION, over_seeds
from marlstone.evaluation.credit.reliability import spearman
from marlstone.evaluation.episode_log import Log, difference, open_log
from marlstone.play.episodes import longer, scorer, together
from marlstone.runs.checkpoint import Checkpoint, load
from marlstone.stats.intervals import Bounds, interval
from marlstone.training.loop import runtime_of

AT_ONCE = 32  # episodes scored together


def scored(algorithm: Algorithm, score: Any, train: Any, trajectories: Trajectory) -> WholeEpisodes:
    """The episodes of `trajectories` with what `score`, a `scorer`, claims of every agent of the team."""
    count = len(trajectories.logp)
    parts = []
    for at in range(0, count, AT_ONCE):
        which = np.arange(at, at + AT_ONCE).clip(max=count - 1)
        part = jax.tree.map(lambda x: x[which], trajectories)  # noqa: B023
        parts.append(score(train, replace(part, memory=algorithm.memory(AT_ONCE)))[: count - at])
    return whole_episodes(trajectories.step, np.concatenate(parts), algorithm.spec.metrics)


def summary(found: list[WholeEpisodes], agents: tuple[str, ...], shares: bool) -> dict[str, Any]:
    """The figures over seeds; `agents`: those that credit speaks for."""

    def over(rows: list[np.ndarray], bounds: Bounds | None = None) -> tuple[float, list[float | None]]:
        center, ends = interval(rows, bounds=bounds)
        return center, [None if np.isnan(x) else x for x in ends]

    def each(name: str, of: Any) -> dict[str, Any]:
        figures = {a: of(k) for k, a in enumerate(agents)}
        return {name: {a: c for a, (c, _) in figures.items()}, f"{name}_ci95": {a: ci for a, (_, ci) in figures.items()}}

    def whole(name: str, rows: list[np.ndarray] | None, bounds: Bounds | None = None) -> dict[str, Any]:
        center, ci = (None, [None, None]) if rows is None else over(rows, bounds)
        return {name: center, f"{name}_ci95": ci}

    wins = [w.metrics["success"] for w in found] if all("success" in w.metrics for w in found) else None
    ranks = lambda k, beside: over_seeds([spearman(w.agent_sums[:, k], b) for w, b in zip(found, beside, strict=True)], CORRELATION)
    missed = lambda w: np.abs(w.agent_sums.sum(-1) - w.team_return).mean() / max(np.abs(w.team_return).mean(), 1e-9)
    return {
        **each("contributions", lambda k: over([w.agent_sums[:, k] for w in found])),
        **each("own_returns", lambda k: over([w.agent_return[:, k] for w in found])),
        **whole("team_return", [w.team_return for w in found]),
        **whole("success", wins, (0.0, 1.0)),
        **each("return_correlation", lambda k: ranks(k, [w.team_return for w in found])),
        **each("success_correlation", lambda k: (None, [None, None]) if wins is None else ranks(k, wins)),
        "efficiency_error": float(np.mean([missed(w) for w in found])) if shares else None,
        "episodes": [len(w.env) for w in found],
        "truth": None,
        "rank_correlation": None,
        "rank_correlation_ci95": [None, None],
        "dummy_ci95": None,
    }


def audit_log(config: RunConfig, checkpoint: Checkpoint, path: Path) -> dict[str, Any]:
    """Score a log with a run's newest networks; returns the record of `marlstone audit-credit --json`."""
    log = open_log(path)
    runtime = runtime_of(config)
    try:
        algorithm: Algorithm = runtime.algorithm
        if (why := difference(log.spec, algorithm.spec)) is not None:
            raise UserError(
                f"log {str(path)!r} of {log.env} does not fit a run in {config.env}: {why}; log episodes of this run's environment"
            )
        state, _ = load(checkpoint.path, runtime.placement.trim(runtime.start()))
    finally:
        runtime.close()
    score, batches = scorer(algorithm), trajectories_for(log, runtime.seeds)
    found = [scored(algorithm, score, jax.tree.map(lambda x: x[i], state.train), c) for i, c in enumerate(batches)]  # noqa: B023
    if not all(len(w.env) for w in found):
        raise UserError(f"log {str(path)!r} holds no whole episode for some seed: log more of them")
    claims = algorithm.credit.claims if algorithm.claims else None
    kinds = {part: name_of(getattr(config, part)) for part in ("architecture", "credit", "learner")}
    record = {"run": str(checkpoint.path.parent.parent), "log": str(path), "env": config.env, **kinds, "step": checkpoint.step}
    record |= {"seeds": list(runtime.seeds), "claims": claims}
    return record | summary(found, algorithm.spec.team.agents, claims == "shares")


def trajectories_for(log: Log, seeds: tuple[int, ...]) -> list[Trajectory]:
    """The episodes each of `seeds` scores, all batches with the same steps: one program scores them."""
    everything = together(list(log.trajectories.values()))
    return [longer(log.trajectories[s], everything.logp.shape[1]) if s in log.trajectories else everything for s in seeds]
