"""The policies a run kept: what acts, without what learns. One for every checkpoint it made, however few whole ones are still there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from marlstone.core.errors import UserError
from marlstone.core.records import replace
from marlstone.runs import arrays
from marlstone.runs.checkpoint import STEP, listed
from marlstone.runs.directory import RunDirectory
from marlstone.runs.leaves import Leaf, mismatch, named, rebuild

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


def _stored(path: Path, count: int) -> dict[str, Leaf]:
    """The first `count` seeds' policies in the folder `path`, by a policy's own names. Raises `UserError` where they are damaged."""
    try:
        stored: Mapping[str, Leaf] = arrays.read(path)
    except arrays.Unreadable as error:
        raise UserError(f"policies: {error}; remove that folder, and the run is judged without it") from error
    if any(name.startswith("train.") for name in stored):
        inner = {long: short for short, long in WITHIN.items()}
        found = ((long, n) for n in stored for long in inner if n == long or n.startswith(f"{long}."))
        stored = {inner[long] + n.removeprefix(long): stored[n] for long, n in found}
    return {n: replace(leaf, array=leaf.array[:count]) for n, leaf in stored.items()}


def read_policies(path: Path, like: Any, count: int) -> Any:
    """The first `count` seeds' policies out of the folder `path`, in the likeness of `like` (arrays or shapes, `[count ...]`).

    Raises `UserError` where they are damaged, or not of that likeness.
    """
    stored = _stored(path, count)
    if (why := mismatch(stored, like)) is not None:
        raise UserError(f"policies {path} are of another configuration: {why}; use the run's own config.toml")
    return rebuild(stored, like)


IDENTITY = ".fuse.agent"
"""The array of a policy that tells agents who share parameters which one they are: the last but one axis is agents."""


def carry_policies(path: Path, like: Any, count: int, groups: Sequence[str]) -> Any:
    """As `read_policies`, for an environment in which groups have other numbers of agents than the policies were trained with.

    Agent i of a group of fewer is who agent i was. The moments of a global state, which only critics see, are those of `like` (arrays).
    `groups`: their names, for messages. Raises `UserError` naming group, array and sizes.
    """
    stored, fitted = _stored(path, count), dict[str, Leaf]()
    for name, value in named(like):
        shape = tuple(value.shape)
        if name.startswith("seen.state"):
            fitted[name] = Leaf(np.asarray(value), str(value.dtype))
            continue
        leaf = stored.pop(name, None)
        was = None if leaf is None else leaf.shape
        if leaf is not None and name.endswith(IDENTITY) and len(leaf.shape) == len(shape) and leaf.shape[-2] > shape[-2]:
            leaf = replace(leaf, array=leaf.array[..., : shape[-2], :])
        if leaf is None or leaf.shape != shape:
            raise UserError(_uncarried(path, name, was, shape, groups))
        fitted[name] = leaf
    if left := [name for name in stored if not name.startswith("seen.state")]:
        raise UserError(_uncarried(path, left[0], stored[left[0]].shape, None, groups))
    return rebuild(fitted, like)


def _uncarried(path: Path, name: str, was: tuple[int, ...] | None, is_: tuple[int, ...] | None, groups: Sequence[str]) -> str:
    number = next((word for word in name.split(".") if word.isdecimal()), "0")
    sizes = lambda shape: "none" if shape is None else str(list(shape[1:]))
    remedy = "train with parameters that all agents share (architecture.sharing = 'all')"
    if name.endswith(IDENTITY):
        remedy = "agents there have no identity that was trained: train with architecture.agent_ids = false to play in larger teams"
    return f"group {groups[int(number)]!r}: {name} of {path} is {sizes(was)} and would be {sizes(is_)}; {remedy}"
