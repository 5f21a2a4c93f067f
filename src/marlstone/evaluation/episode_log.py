"""Logs of episodes: what was seen, done and earned, step by step, for whoever judges it later.

A log is a folder of arrays (`runs.arrays`). Its manifest names the environment, the run, the checkpoint, how agents acted, and
the spec: groups with their agents, observations and action spaces. Per training seed it holds whole episodes as one batch of
trajectories, `1000.step.reward [e t+1 n]`, `1000.action.0 [e t n_0 ...]` and so on (`core.types.Trajectory`), without memories: policies
begin an episode with none. Steps behind an episode are resets (`first`).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from marlstone.config import RunConfig
from marlstone.core.acting import Act
from marlstone.core.episodes import whole_episodes
from marlstone.core.errors import UserError
from marlstone.core.spec_json import first_difference, spec_from_json, spec_to_json
from marlstone.core.types import Spec, Step, Trajectory
from marlstone.envs.guards import return_bounds
from marlstone.play.episodes import together
from marlstone.play.evaluator import Episodes
from marlstone.play.judging import Judged, resolve, returns_record
from marlstone.runs.arrays import placed, prepared, read, verified
from marlstone.runs.checkpoint import Checkpoint
from marlstone.runs.leaves import Leaf
from marlstone.training.trained import trained

KIND = "episodes"


@dataclass(frozen=True)
class Log:
    """A log as read: `trajectories` per training seed, without memories."""

    path: Path
    env: str
    act: Act
    spec: Spec
    trajectories: dict[int, Trajectory]


def refuse_taken(path: Path) -> None:
    """Raises `UserError` where a log cannot be written: logs are never overwritten."""
    if path.exists():
        raise UserError(f"log {str(path)!r} is already there: name a directory that does not exist yet")


def write(path: Path, env: str, act: Act, spec: Spec, trajectories: dict[int, Trajectory], **told: Any) -> Path:
    """Write a log, whole or not at all. `told`: more for the manifest, as JSON."""
    refuse_taken(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    fields = {"kind": KIND, "env": env, "act": act, "spec": spec_to_json(spec), **told}
    kept = {str(seed): {"step": c.step, "action": c.action, "logp": c.logp} for seed, c in trajectories.items()}
    return placed(prepared(path, kept, fields), path)


def open_log(path: Path) -> Log:
    """The log at `path`, after checking every byte. Raises `UserError` where it is none, or altered."""
    if not path.is_dir():
        raise UserError(f"log {str(path)!r} does not exist: write one with marlstone evaluate RUN --log {path}")
    manifest = verified(path)
    if manifest.get("kind") != KIND:
        raise UserError(f"log {str(path)!r} is no log of episodes: write one with marlstone evaluate RUN --log DIR")
    spec, stored = spec_from_json(manifest["spec"]), read(path)
    seeds = dict.fromkeys(name.partition(".")[0] for name in stored)
    return Log(path, manifest["env"], manifest["act"], spec, {int(s): _trajectory(spec, stored, s) for s in seeds})


def _trajectory(spec: Spec, stored: dict[str, Leaf], seed: str) -> Trajectory:
    at = lambda name: stored[f"{seed}.{name}"].array
    plain = [f for f in Step.__dataclass_fields__ if f not in ("obs", "legal", "metrics")]
    masks = [f"step.legal.{g}" for g in range(len(spec.groups))]
    step = Step(
        obs=tuple({k: at(f"step.obs.{i}.{k}") for k in g.observation} for i, g in enumerate(spec.groups)),
        legal=tuple(at(name) if f"{seed}.{name}" in stored else None for name in masks),
        metrics={k: at(f"step.metrics.{k}") for k in spec.metrics},
        **{f: at(f"step.{f}") for f in plain},
    )
    return Trajectory(step, tuple(at(f"action.{g}") for g in range(len(spec.groups))), at("logp"), None)


def difference(log: Spec, run: Spec) -> str | None:
    """The first thing in which a log's spec is not a run's, or None."""
    plain = lambda spec: {k: v for k, v in json.loads(json.dumps(spec_to_json(spec))).items() if k != "return_bounds"}
    found = first_difference(plain(log), plain(run))
    return found and "{} is {!r} in the log and {!r} in the run".format(*found)


def evaluate_logged(config: RunConfig, checkpoint: Checkpoint, episodes: int, path: Path) -> dict[str, Any]:
    """Play fresh episodes with a run's policies, acting as they are deployed, into a log; returns the return fields of just those."""
    refuse_taken(path)
    with trained(config, checkpoint) as (runtime, state):
        spec, width = runtime.algorithm.spec, min(episodes, config.rollout.envs)
        spec_to_json(spec)  # refuses what cannot be written before anything is played
        act = resolve(runtime, state, config, checkpoint.path.parent.parent)
        play = runtime.player(width, act)
        rounds = [play(state, nth) for nth in range(-(-episodes // width))]
    played = {s: jax.tree.map(lambda x: x[:episodes], together([r[i] for r in rounds])) for i, s in enumerate(runtime.seeds)}
    whole = [whole_episodes(c.step, np.zeros((*c.logp.shape[:2], 0)), spec.metrics) for c in played.values()]
    if (ended := min(len(w.env) for w in whole)) == 0:
        raise UserError(f"no episode of {config.env} ended, so there is none to log: play longer, or declare its horizon")
    figures = lambda f: np.stack([f(w)[:ended] for w in whole])
    logged = Episodes(
        figures(lambda w: w.team_return),
        figures(lambda w: w.agent_return),
        figures(lambda w: w.length),
        {k: figures(lambda w, k=k: w.metrics[k]) for k in spec.metrics},
        figures(lambda w: w.length > 0),
    )
    record = returns_record(Judged(act, {act: logged}), spec, return_bounds(spec, config.guards))
    run = str(checkpoint.path.parent.parent)
    write(path, config.env, act, spec, played, run=run, step=checkpoint.step, episodes={str(s): episodes for s in played})
    told = {"run": run, "env": config.env, "step": checkpoint.step, "episodes": ended, "seeds": list(runtime.seeds)}
    told["evaluation_faults"] = dict(runtime.judged.counts)
    return {**told, **record, "log": str(path)}
