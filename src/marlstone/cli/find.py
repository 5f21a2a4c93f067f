"""Which run and which checkpoint the user means, and where a new one goes."""

import time
from pathlib import Path

from marlstone.runs.checkpoint import STEP, Checkpoint, newest, verify
from marlstone.runs.directory import RunDirectory


def find(where: str) -> tuple[RunDirectory, Checkpoint]:
    """The run and the checkpoint that `RUN` or `RUN/checkpoints/step-...` names. A damaged one is refused, never replaced silently."""
    path = Path(where).expanduser()
    if path.name.startswith(STEP) and path.parent.name == "checkpoints":
        return RunDirectory.open(path.parent.parent), verify(path.resolve())
    run = RunDirectory.open(path)
    return run, newest(run.checkpoints)


def find_policies(where: str) -> tuple[RunDirectory, Checkpoint]:
    """As `find`, for who only acts: `RUN/policies/step-...` will do too, which is kept of every checkpoint."""
    path = Path(where).expanduser()
    if path.name.startswith(STEP) and path.parent.name == "policies":
        return RunDirectory.open(path.parent.parent), verify(path.resolve())
    return find(where)


def new_path(home: str, env: str) -> Path:
    """Where under `home` goes what was not told where: named by time and environment, never taken twice."""
    label = "".join(c if c.isalnum() else "-" for c in env)[:60].strip("-")
    base = Path(home) / f"{time.strftime('%Y%m%d-%H%M%S')}-{label}"
    path, n = base, 2
    while path.exists():
        path, n = base.with_name(f"{base.name}-{n}"), n + 1
    return path
