"""The runs in a folder: what each was asked, what came of it, and what it takes on disk. Reads small files only."""

import json
import os
import shutil
import tarfile
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from marlstone.core.errors import UserError
from marlstone.runs.checkpoint import listed, step_of
from marlstone.runs.directory import CONFIG, RunDirectory
from marlstone.runs.files import PARTIAL

DEPTH = 3  # folders below the one that was named
State = Literal["training", "finished", "stopped", "begun", "damaged"]


@dataclass(frozen=True)
class Listed:
    """One run. `state`: `begun` has no checkpoint yet, `damaged` has files that do not read. `steps`: joint steps per seed that it is
    trained to; `bytes` on disk; `date`: when it last changed, UTC."""

    run: RunDirectory
    state: State
    env: str
    architecture: str
    credit: str
    learner: str
    steps: int
    seeds: int
    return_iqm: float | None
    return_ci95: tuple[float | None, float | None]
    acting: str | None
    date: str

    @property
    def parts(self) -> str:
        """Architecture, credit and learner."""
        return " / ".join((self.architecture, self.credit, self.learner))

    @cached_property
    def bytes(self) -> int:
        """What all its files take on disk."""
        return sum(f.stat().st_size for f in self.run.path.rglob("*") if f.is_file())

    def json(self) -> dict[str, Any]:
        """As a record."""
        return {"run": str(self.run.path), **{k: v for k, v in asdict(self).items() if k != "run"}, "bytes": self.bytes}


def runs_in(folder: str | Path) -> Iterator[Listed]:
    """Every run in `folder` and the folders below it, by name. Raises `UserError` where there is no such folder."""
    top = Path(folder).expanduser()
    if not top.is_dir():
        raise UserError(f"folder {str(folder)!r} does not exist: name one that runs were trained into, such as runs/")

    def walk(path: Path, depth: int) -> Iterator[Listed]:
        if (path / CONFIG).is_file():
            yield described(RunDirectory(path.resolve()))
            return
        for child in sorted(path.iterdir()) if depth else ():
            if child.is_dir() and not child.is_symlink() and not child.name.startswith("."):
                yield from walk(child, depth - 1)

    yield from walk(top, DEPTH)


def described(run: RunDirectory) -> Listed:
    """What a run's files say."""
    state: State = "begun"
    config: dict[str, Any] = {}
    record: dict[str, Any] | None = None
    try:
        config = tomllib.loads(run.config.read_text())
        record = run.record()
    except (OSError, ValueError):
        state = "damaged"
    kept = listed(run.checkpoints) if run.checkpoints.is_dir() else []
    if run.claimed_elsewhere:
        state = "training"
    elif record is not None:
        state = "finished"
    elif kept and state != "damaged":
        state = "stopped"
    kind = lambda part: str(x.get("kind", "-") if isinstance(x := config.get(part, "-"), dict) else x)
    result = record or {}
    low, high = result.get("return_ci95") or (None, None)
    return Listed(
        run, state, str(config.get("env", "-")), kind("architecture"), kind("credit"), kind("learner"),
        int(result.get("steps") or (step_of(kept[-1]) if kept else 0)), int(config.get("seeds", 1)), result.get("return_iqm"), (low, high),
        result.get("acting"), datetime.fromtimestamp(_changed(run), UTC).strftime("%Y-%m-%d %H:%M"),
    )  # fmt: skip


def _changed(run: RunDirectory) -> float:
    return max(p.stat().st_mtime for p in (run.path, run.result, run.metrics, run.config) if p.exists())


def archive(run: RunDirectory, folder: Path) -> Path:
    """The run as `folder/NAME.tar.gz`, written whole or not at all. Raises `UserError` where that exists, or the run is being trained."""
    _at_rest(run)
    target = folder / f"{run.path.name}.tar.gz"
    if target.exists():
        raise UserError(f"{target} exists already: name another folder with --to")
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{PARTIAL}{os.getpid()}-{target.name}"
    try:
        with tarfile.open(partial, "w:gz") as file:
            file.add(run.path, run.path.name)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def delete(run: RunDirectory) -> int:
    """Remove the run's directory; the bytes that are free again. Raises `UserError` where it is being trained, or is no run alone."""
    _at_rest(run)
    if run.path.is_symlink() or Path.cwd().is_relative_to(run.path):
        raise UserError(f"run {run.path} is a link, or the working directory lies in it: leave it first")
    size = described(run).bytes
    shutil.rmtree(run.path)
    return size


def _at_rest(run: RunDirectory) -> None:
    if run.claimed_elsewhere:
        raise UserError(f"run {run.path} is being trained: stop it first")


def one_line_of(entries: list[Listed]) -> str:
    """The list as one line of JSON: one object, `{"runs": [...]}`."""
    return json.dumps({"runs": [entry.json() for entry in entries]}, allow_nan=False)
