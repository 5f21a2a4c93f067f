"""Which run and which checkpoint the user means, how it was configured, and where a new one goes."""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from marlstone.core.errors import UserError, suggest
from marlstone.policy.policy import DESCRIPTION, Policy
from marlstone.runs.checkpoint import STEP, Checkpoint, listed, newest, verify
from marlstone.runs.directory import CONFIG, RunDirectory

if TYPE_CHECKING:
    from marlstone.config import RunConfig
    from marlstone.evaluation.paired.players import Artifact


def find(where: str) -> tuple[RunDirectory, Checkpoint]:
    """The run and the checkpoint that `RUN` or `RUN/checkpoints/step-...` names. A damaged one is refused, never replaced silently, and so
    is a policy's folder, which acts by itself and knows no environment."""
    path = Path(where).expanduser()
    if (path / DESCRIPTION).is_file():
        home = path.resolve().parent.parent
        remedy = f"give {home}" if (home / CONFIG).is_file() else "give the run it was trained in"
        raise UserError(f"{where} is the frozen policy of one training seed, and runs are asked here, with all their seeds: {remedy}")
    if path.name.startswith(STEP) and path.parent.name == "checkpoints":
        return RunDirectory.open(path.parent.parent), verify(path.resolve())
    run = RunDirectory.open(path)
    if (origin := _trimmed_from(run)) is not None:
        raise UserError(f"run {run.path} was trimmed and only acts, and this asks what learned: name {origin}, which it came from")
    if not listed(run.checkpoints) and run.claimed_elsewhere:
        raise UserError(f"run {run.path} is being trained and has no checkpoint yet: wait for its first (checkpoint_every says when)")
    return run, newest(run.checkpoints)


def find_policies(where: str, which: str = "final") -> tuple[RunDirectory, Checkpoint]:
    """As `find`, for what only acts: `RUN/policies/step-...` will do too, which is kept of every checkpoint. `which`: `final`, or
    the `best` policies that a run kept by validation episodes."""
    path = Path(where).expanduser()
    if which == "best":
        run = RunDirectory.open(path)
        if not listed(run.best):
            raise UserError(f"run {run.path} has no best policies: train with keep_best = true, which validates at every checkpoint")
        return run, newest(run.best)
    if which != "final":
        raise UserError(
            f"--checkpoint {which}: there is no such choice; {suggest(which, ('final', 'best'))}, or name RUN/checkpoints/step-..."
        )
    if path.name.startswith(STEP) and path.parent.name == "policies":
        return RunDirectory.open(path.parent.parent), verify(path.resolve())
    if (path / CONFIG).is_file() and _trimmed_from(run := RunDirectory.open(path)) is not None:
        return run, newest(run.policies)
    return find(where)


def _trimmed_from(run: RunDirectory) -> str | None:
    """The run that a trimmed one came from; None of any other, which keeps what learned, too."""
    if listed(run.checkpoints) or not listed(run.policies) or not run.result.is_file():
        return None
    origin: str | None = ((run.record() or {}).get("trimmed_from") or {}).get("run")
    return origin


def find_sides(
    wheres: Sequence[str], changes: Mapping[str, str], env: str | None = None
) -> "tuple[list[tuple[RunConfig, Checkpoint | Artifact]], list[str]]":
    """The two sides of a comparison, runs or policies' folders, and the user's files that have changed, each with its run.

    A policy's folder is played in the environment of the run it lies in, else in the other side's. Raises `UserError` where neither knows
    one.
    """
    from marlstone.core.acting import Acting
    from marlstone.evaluation.paired.players import Artifact

    sides, changed = [], []
    for where in wheres:
        path, artifact, run = Path(where).expanduser(), None, None
        if (path / DESCRIPTION).is_file():
            policy = Policy.load(path)
            artifact = Artifact(path.resolve(), policy, Acting.parse(changes.get("acting", "auto")).act or policy.acting)
            if (path.resolve().parent.parent / CONFIG).is_file():
                run = RunDirectory.open(path.resolve().parent.parent)
        else:
            run, checkpoint = find_policies(where)
        config = None
        if run is not None:
            config, files = reopened(run, changes, env)
            changed += [f"{run.path}: {file}" for file in files]
        sides.append((config, checkpoint if artifact is None else artifact))
    known = [config for config, _ in sides if config is not None]
    if not known:
        raise UserError(
            "neither policy lies in the run it was trained in, so that their environment is not known: give a run for one of them"
        )
    played = lambda config, at: config if config is not None else at.config(known[0])
    return [(played(config, at), at) for config, at in sides], changed


def reopened(
    run: RunDirectory, overrides: Mapping[str, str], env: str | None = None, elsewhere: bool = False
) -> "tuple[RunConfig, list[str]]":
    """How a run was configured, with `overrides`, and the user's files that have changed since, which a warning names too.

    `env`: the environment under another name, or in another place: it must have the same agents, observations, actions and metrics; where
    policies are to play `elsewhere`, groups that are alike in what they see and do, of any number of agents.
    Raises `UserError` where it has not, and where the run's own environment is not there any more.
    """
    from marlstone.config import load
    from marlstone.config.paths import changed_files, missing

    for what, where in missing(run.path, env):
        remedy = ", or say where it is: --env FILE.py:FUNCTION" if what == "env" else ""
        raise UserError(f"run {run.path}: the file of its {what}, {where}, does not exist: put it there{remedy}")
    config = load(run.config, {**overrides, **({} if env is None else {"env": env})})
    if env is not None:
        _agree(run, load(run.config, {"env": env}), elsewhere)  # as it was trained: metrics may have been added since
    if changed := changed_files(config, run.path):
        print(f"warning: changed since run {run.path} was trained: {', '.join(changed)}", file=sys.stderr)
    return config, changed


def _agree(run: RunDirectory, config: "RunConfig", elsewhere: bool) -> None:
    """Raises `UserError` where the environment is not the one that the run was trained in, naming the first difference; `elsewhere`: where
    its policies cannot play."""
    import json

    from marlstone.config.paths import trained_env
    from marlstone.core.carrying import spec_misfit
    from marlstone.core.spec_json import first_difference, spec_from_json, spec_to_json
    from marlstone.envs.make import make, same_name
    from marlstone.envs.wrappers import wrap_env
    from marlstone.rollout.sides import Sides

    if run.spec.is_file():
        made = make(config.env)
        try:
            managers = config.architecture.managers()
            met = wrap_env(made, managers, config.faults, config.metrics, Sides.of(config), config.comms, config.toolbox)
            plain = json.dumps(spec_to_json(met.spec))
        finally:
            getattr(made, "close", lambda: None)()
        told = lambda text: {k: v for k, v in json.loads(text).items() if k != "return_bounds"}
        then, now = ({"groups": spec["groups"], **spec} for spec in map(told, (run.spec.read_text(), plain)))  # what people see first
        if (found := first_difference(then, now)) is not None and elsewhere:
            if reason := spec_misfit(*(spec_from_json(json.loads(text)) for text in (run.spec.read_text(), plain))):
                raise UserError(f"--env {config.env}: the policies of run {run.path} cannot play there: {reason}")
        elif found is not None:
            where, before, after = found
            raise UserError(
                f"--env {config.env} is another environment than run {run.path} was trained in: {where} was {before!r}, is {after!r}"
            )
    else:
        print(f"warning: run {run.path} kept no description of its environment: only shapes are checked", file=sys.stderr)
    recorded = trained_env(run)
    if recorded is not None and not same_name(recorded, config.env):
        note = "its policies play elsewhere" if elsewhere else "it has the same agents, but may differ"
        print(f"warning: run {run.path} was trained in {recorded}; {config.env}: {note}", file=sys.stderr)


def new_path(home: str, env: str) -> Path:
    """Where under `home` goes what was not told where: named by time and environment, never taken twice."""
    label = "".join(c if c.isalnum() else "-" for c in env)[:60].strip("-")
    base = Path(home) / f"{time.strftime('%Y%m%d-%H%M%S')}-{label}"
    path, n = base, 2
    while path.exists():
        path, n = base.with_name(f"{base.name}-{n}"), n + 1
    return path
