"""Which run and which checkpoint the user means."""

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
