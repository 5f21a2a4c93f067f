"""The policies a run kept: what acts, without what learns. One for every checkpoint it made, however few whole ones are still there."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marlstone.core.errors import UserError
from marlstone.core.records import replace
from marlstone.runs import arrays
from marlstone.runs.checkpoint import STEP, listed
from marlstone.runs.directory import RunDirectory
from marlstone.runs.leaves import Leaf, mismatch, rebuild

WITHIN = {"actor": "train.nets.actor", "seen": "train.seen", "explore": "train.explore"}
"""Where a policy's fields stand in a whole checkpoint."""


@dataclass(frozen=True)
class Kept:
    """All seeds' policies after `step` joint env steps per seed, in the folder `path`: a policy's own, or a whole checkpoint."""

    path: Path
    step: int


def kept(run: RunDirectory) -> tuple[Kept, ...]:
    """What `run` kept, oldest first, unverified. A run of an earlier version kept its last whole checkpoints only."""
    steps = {int(p.name.removeprefix(STEP)): p for folder in (run.checkpoints, run.policies) for p in listed(folder)}
    return tuple(Kept(steps[step], step) for step in sorted(steps))


def read_policies(path: Path, like: Any, count: int) -> Any:
    """The first `count` seeds' policies out of the folder `path`, in the likeness of `like` (arrays or shapes, `[count ...]`).

    Raises `UserError` where they are damaged, or not of that likeness.
    """
    try:
        stored: Mapping[str, Leaf] = arrays.read(path)
    except arrays.Unreadable as error:
        raise UserError(f"policies: {error}; remove that folder, and the run is judged without it") from error
    if any(name.startswith("train.") for name in stored):
        inner = {long: short for short, long in WITHIN.items()}
        found = ((long, n) for n in stored for long in inner if n == long or n.startswith(f"{long}."))
        stored = {inner[long] + n.removeprefix(long): stored[n] for long, n in found}
    stored = {n: replace(leaf, array=leaf.array[:count]) for n, leaf in stored.items()}
    if (why := mismatch(stored, like)) is not None:
        raise UserError(f"policies {path} are of another configuration: {why}; use the run's own config.toml")
    return rebuild(stored, like)
