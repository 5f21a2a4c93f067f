"""A trimmed run: a directory like any run's, which holds what acts alone, and says where it came from."""

import json
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from marlstone.algorithm import Policy
from marlstone.config import RunConfig
from marlstone.config.paths import files_of, recorded
from marlstone.core.acting import Act
from marlstone.core.errors import UserError
from marlstone.core.records import replace
from marlstone.envs.guards import return_bounds
from marlstone.play.judging import judge, returns_record
from marlstone.rollout.state import State
from marlstone.runs.checkpoint import Checkpoint, save
from marlstone.runs.directory import RunDirectory
from marlstone.runs.leaves import parameters_sha256
from marlstone.training.backend import Backend
from marlstone.training.loop import runtime_of
from marlstone.training.record import freeze, write_spec

OF_TRAINING = ("best", "stages", "sinks", "taken_from", "curve")  # what a record says of files that a trimmed run does not have


@contextmanager
def acting(config: RunConfig, policies: Policy, version: int) -> Iterator[tuple[Backend, State]]:
    """The backend of a configuration, and a state in which these `policies`, of all its seeds, act. Closed on leaving."""
    runtime = runtime_of(config)
    try:
        fresh = runtime.placement.trim(runtime.start())
        yield runtime, runtime.placement.pad(replace(fresh, train=fresh.train.acting_by(policies, version)))
    finally:
        runtime.close()


def acting_flops(runtime: Backend, state: State) -> int:
    """Operations that all networks take to act once, per joint step."""
    algorithm, one = runtime.algorithm, runtime.placement.first(state)
    step, b = one.acting.step, one.acting.step.first.shape[0]
    return round(algorithm.acting_products(one.train.policy, step, algorithm.memory(b)).total() / b)


def refuse_taken(out: Path) -> None:
    """Raises `UserError` where a run cannot be written."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {str(out)!r} is already there: name a directory that does not exist yet")


def write_run(
    out: Path, config: RunConfig, source: RunDirectory, checkpoint: Checkpoint, runtime: Backend, state: State, act: Act,
    trimmed: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Write the run of `config`, whose policies are those of `state`; its record: that of the training it came from, with the returns of
    the policies that are left, on the episodes that every run's evaluation plays."""
    run = RunDirectory.create(out, recorded(config, out), files_of(config, out))
    try:
        return _filled(run, config, source, checkpoint, runtime, state, act, trimmed)
    except BaseException:
        shutil.rmtree(run.path, ignore_errors=True)  # it is new: nothing half-written stays
        raise


def _filled(
    run: RunDirectory, config: RunConfig, source: RunDirectory, checkpoint: Checkpoint, runtime: Backend, state: State, act: Act,
    trimmed: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """The record of a new run, after all its files are written."""
    write_spec(run, runtime)
    policies = jax.device_get(runtime.placement.trim(state.train.policy))
    save(run.policies, checkpoint.step, policies, {}, keep=None)
    _copy_store(source, run)
    judged = judge(runtime, state, config.evaluate.episodes, act)
    trained = {k: x for k, x in (source.record() or {}).items() if k not in OF_TRAINING}
    flops = {**(trained.get("flops_per_step") or {}), "acting": acting_flops(runtime, state)}
    record = trained | {
        "run": str(run.path),
        **returns_record(judged, runtime.algorithm.spec, return_bounds(runtime.algorithm.spec, config.guards)),
        "flops_per_step": flops,
        "parameters_sha256": parameters_sha256(policies),
        "evaluation_faults": dict(runtime.judged.counts),
        "policy": freeze(run, runtime, state, act, channel=config.comms, faults=config.faults),
        "curve": str(run.curve) if run.curve.is_file() else None,
        "trimmed_from": dict(trimmed),
    }
    run.finish(json.loads(json.dumps(record, default=_plain)))
    return record


def _copy_store(source: RunDirectory, run: RunDirectory) -> None:
    """What was measured while it trained, and its picture."""
    if source.metrics.is_file():
        with closing(sqlite3.connect(source.metrics)) as old, closing(sqlite3.connect(run.metrics)) as new:
            old.backup(new)
    if source.curve.is_file():
        shutil.copy(source.curve, run.curve)


def _plain(x: Any) -> Any:
    return x.item() if isinstance(x, np.generic) else str(x)
