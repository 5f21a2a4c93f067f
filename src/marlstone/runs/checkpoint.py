"""Checkpoints: the whole train state as arrays, checked before they are believed.

One checkpoint is one folder of arrays (`runs.arrays`), `step-<12 digits>`; its manifest has the step and the caller's meta (JSON).
A damaged one is refused, with the file's name, what is wrong, and the last good checkpoint to resume from.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marlstone.core.errors import UserError
from marlstone.runs import arrays
from marlstone.runs.arrays import placed, prepared
from marlstone.runs.files import PARTIAL, sweep
from marlstone.runs.leaves import Leaf, mismatch, rebuild

STEP = "step-"


class CheckpointError(UserError):
    """A checkpoint that cannot be used; the message names the file, what is wrong and what to resume from instead."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files were verified. `step` counts joint env steps per seed; `meta` is the caller's."""

    path: Path
    step: int
    meta: dict[str, Any]


def listed(folder: Path) -> list[Path]:
    """Checkpoints in `folder`, oldest first, unverified."""
    found = [p for p in folder.glob(STEP + "*") if p.name.removeprefix(STEP).isdecimal()]
    return sorted(found, key=step_of)


def step_of(path: Path) -> int:
    """The step in a checkpoint's name."""
    return int(path.name.removeprefix(STEP))


def save(folder: Path, step: int, tree: Any, meta: dict[str, Any], keep: int | None = 3) -> Path:
    """Write the checkpoint of `step` into `folder`, then forget all but the newest `keep` (None: forget none). Returns its path.

    Killed at any moment, this leaves the earlier checkpoints whole and no half-written one. `keep` is at least 2, so
    that something is left when the newest is damaged. Raises `UserError` for a leaf that is no array.
    """
    if (keep is not None and keep < 2) or step < 0:
        raise UserError(f"checkpoint with keep = {keep} at step {step}: keep at least 2, at a step of at least 0")
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    target = folder / f"{STEP}{step:012d}"
    partial = prepared(target, tree, {"step": step, "meta": meta})
    if target.exists():
        forget(target)
    placed(partial, target)
    for old in () if keep is None else listed(folder)[:-keep]:
        forget(old)
    return target


def forget(path: Path) -> None:
    """Remove a checkpoint so that it is there whole or not at all."""
    going = path.with_name(f"{PARTIAL}gone-{path.name}")
    if going.exists():
        shutil.rmtree(going)
    os.rename(path, going)
    shutil.rmtree(going)


def discard_after(folder: Path, step: int) -> list[Path]:
    """Remove checkpoints newer than `step`: resuming there starts another future. Returns what was removed."""
    newer = [p for p in listed(folder) if int(p.name.removeprefix(STEP)) > step]
    for path in newer:
        forget(path)
    return newer


def _checked(path: Path, how: Callable[[Path], Any]) -> Any:
    if not path.is_dir():
        raise CheckpointError(f"checkpoint {path} does not exist{_offer(path)}")
    try:
        return how(path)
    except arrays.Unreadable as error:
        raise CheckpointError(f"checkpoint {error}{_offer(path)}") from error


def verify(path: Path) -> Checkpoint:
    """The checkpoint at `path`, after checking every byte. Raises `CheckpointError`, offering the last good one."""
    manifest = _checked(path, arrays.verified)
    return Checkpoint(path, manifest["step"], manifest["meta"])


def latest_good(folder: Path) -> Checkpoint | None:
    """The newest checkpoint in `folder` whose every byte is as written, or None."""
    return _newest_good(listed(folder))


def _newest_good(paths: list[Path]) -> Checkpoint | None:
    for path in reversed(paths):
        try:
            manifest = arrays.verified(path)
        except arrays.Unreadable:
            continue  # damaged: an older one may be whole
        return Checkpoint(path, manifest["step"], manifest["meta"])
    return None


def _offer(path: Path) -> str:
    good = _newest_good([p for p in listed(path.parent) if p.name != path.name])
    return f"; resume from {good.path} instead" if good else "; no other checkpoint of this run is good: start a new run"


def newest(folder: Path) -> Checkpoint:
    """The newest checkpoint, which must be good: going back in time is for a person to decide, so an older one is offered, not taken."""
    paths = listed(folder)
    if not paths:
        raise CheckpointError(f"{folder} holds no checkpoint: the run was stopped before its first; start a new run")
    return verify(paths[-1])


def read(path: Path) -> dict[str, Leaf]:
    """The stored leaves by name, verified. Raises `CheckpointError`."""
    stored: dict[str, Leaf] = _checked(path, arrays.read)
    return stored


def load(path: Path, like: Any) -> tuple[Any, dict[str, Any]]:
    """`(tree, meta)` of the checkpoint at `path`; `like` gives structure, shapes and types (arrays or `ShapeDtypeStruct`s).

    Raises `CheckpointError` for a damaged checkpoint, and for one of another configuration, naming the first leaf that differs.
    """
    stored = read(path)
    if (why := mismatch(stored, like)) is not None:
        raise CheckpointError(
            f"checkpoint {path} is of another configuration: {why}; resume with the run's own config.toml, or take what fits with --from"
        )
    return rebuild(stored, like), arrays.manifest_of(path)["meta"]
