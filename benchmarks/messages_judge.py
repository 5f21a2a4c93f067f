"""Train a configuration with messages, and judge its final policies: as deployed, with the budget not enforced, over other links.

Success is a true metric of the ground, an episode's figure; it and returns are IQM over training seeds with a 95% interval and the worst
seed. Messages and bits are per joint step of whole episodes: the mean, and the 95th percentile over episodes, seed by seed.
"""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from marlstone.api.display import Display
from marlstone.api.training import new_run
from marlstone.api.training import trained as train
from marlstone.config import RunConfig, dump, load
from marlstone.core.records import replace
from marlstone.core.types import Spec
from marlstone.evaluation.messages.suite import counted
from marlstone.evaluation.messages.traffic import refused_share, traffic_record
from marlstone.play.evaluator import Episodes
from marlstone.play.judging import resolve
from marlstone.runs.checkpoint import Checkpoint, listed, newest
from marlstone.runs.curve import on_grid
from marlstone.runs.directory import RunDirectory
from marlstone.runs.policies import kept
from marlstone.stats.intervals import Bounds, interval
from marlstone.training.trained import trained

POINTS = 20
EPISODES = 256


@contextmanager
def finished(config: RunConfig, name: str, runs: Path | None) -> Iterator[RunDirectory]:
    """A finished run of `config`: in `runs`/NAME, where it is kept, and goes on where it was interrupted; or without `runs` in a folder of
    its own, removed afterwards. Raises `SystemExit` where that folder holds a run of another configuration."""
    with TemporaryDirectory() as scratch:
        path = (runs or Path(scratch)) / name
        resume = None
        if listed(path / "checkpoints"):
            run = RunDirectory.open(path)
            if dump(dataclasses.replace(load(run.config), out=None)) != dump(dataclasses.replace(config, out=None)):
                raise SystemExit(f"{path} holds a run of another configuration: remove it, or give other --runs")
            resume = newest(run.checkpoints)
        else:
            run = new_run(config, path)
        if run.record() is None:
            with Display() as show:
                train(config, run, resume=resume, progress=show)
        yield run


def curve(run: RunDirectory, metric: str) -> dict[str, Any]:
    """The metric in training (sampled, in the world of each stage) against steps, `[seeds points]`."""
    with run.store() as store:
        steps, values = on_grid(store.series(f"metric/{metric}"), POINTS)
    return {"steps": steps.tolist(), metric: [[round(x, 4) if np.isfinite(x) else None for x in row] for row in values.tolist()]}


def summary(name: str, per_seed: list[np.ndarray], bounds: Bounds | None = None) -> dict[str, Any]:
    """`NAME NAME_ci95 NAME_worst_seed NAME_per_seed` of episodes' figures, seed by seed; `bounds`: of what is possible."""
    center, ends = interval(per_seed, bounds=bounds)
    means = [float(x.mean()) for x in per_seed]
    known = [float(x) if np.isfinite(x) else None for x in ends]
    return {name: center, f"{name}_ci95": known, f"{name}_worst_seed": min(means), f"{name}_per_seed": means}


def traffic(played: Episodes) -> dict[str, Any]:
    """Messages and bits per joint step: means over seeds and their episodes, bits' 95th percentile, and both of each seed."""
    lengths = played.per_seed(played.length)
    rates = {k: [x.sum((-1, -2)) / t for x, t in zip(played.per_seed(played.told[k]), lengths, strict=True)] for k in ("messages", "bits")}
    mean = {k: [float(x.mean()) for x in v] for k, v in rates.items()}
    p95 = [float(np.percentile(x, 95)) for x in rates["bits"]]
    return {
        "messages_per_step": float(np.mean(mean["messages"])),
        "bits_per_step": float(np.mean(mean["bits"])),
        "bits_p95": float(np.mean(p95)),
        "messages_per_step_per_seed": mean["messages"],
        "bits_per_step_per_seed": mean["bits"],
        "bits_p95_per_seed": p95,
    }


def figures(played: Episodes, metric: str, spec: Spec) -> dict[str, Any]:
    """Success, return, all true metrics, episode length, and what was sent."""
    mean = lambda values: float(np.mean([x.mean() for x in played.per_seed(values)]))
    out = summary("success", played.per_seed(played.metrics[metric]), (0.0, 1.0)) | summary("return", played.per_seed())
    out["true_metrics"] = {name: mean(played.metrics[name]) for name in spec.wanted_metrics}
    out["episode_length"] = mean(played.length)
    if "bits" not in played.told:
        return out | {"messages_per_step": 0.0, "bits_per_step": 0.0}
    return out | traffic(played) | {"senders": traffic_record(played, spec.team.agents)["agents"]}


def levels(played: Episodes, budgets: tuple[float, ...], metric: str, spec: Spec) -> dict[str, Any]:
    """`figures` of the episodes of each budget, by the budget; None where some seed had no such episode."""
    ended = np.asarray(played.ended, bool)
    level = np.rint(np.asarray(played.told["level"]) / np.maximum(np.asarray(played.length), 1))
    out: dict[str, Any] = {}
    for k, budget in enumerate(budgets):
        mine = replace(played, ended=ended & (level == k))
        out[f"{budget:g}"] = figures(mine, metric, spec) | _refused(mine) if mine.ended.any(1).all() else None
    return out


def _refused(played: Episodes) -> dict[str, Any]:
    return {"refused": refused_share(played)[0]}


def judged(config: RunConfig, run: RunDirectory, metric: str, episodes: int = EPISODES) -> dict[str, Any]:
    """Final policies of `run` under `config`, its own or one with other links: `figures` as deployed; with a budget also what share of
    messages is refused, and as `unenforced` what the same policies do where nothing is. Several budgets: `levels` of both, too."""
    final = kept(run)[-1]
    with trained(config, Checkpoint(final.path, final.step, {})) as (runtime, state):
        act, channel, spec = resolve(runtime, state, config, run.path), runtime.algorithm.channel, runtime.algorithm.spec
        played = counted(runtime, state, episodes, act)
        out = {"acting": act, "episodes": episodes, **figures(played, metric, spec)}
        if not channel.budget_bits:
            return out
        free: Any = replace(runtime, algorithm=replace(runtime.algorithm, channel=replace(channel, enforce=False)))
        unheld = counted(free, state, episodes, act)
        out |= _refused(played) | {"budget_bits": list(channel.budget_bits), "unenforced": figures(unheld, metric, spec)}
        if channel.shown:
            out["levels"] = levels(played, channel.budget_bits, metric, spec)
            out["unenforced"]["levels"] = levels(unheld, channel.budget_bits, metric, spec)
    return out
