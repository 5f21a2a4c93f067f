"""A new run that begins with another's parameters, as far as they fit."""

from typing import Any

import numpy as np

from marlstone.core.errors import UserError
from marlstone.core.records import replace
from marlstone.rollout.state import State
from marlstone.runs.checkpoint import Checkpoint, read
from marlstone.runs.leaves import fit
from marlstone.training.backend import Backend


def begin_from(source: Checkpoint, backend: Backend, state: State) -> tuple[State, dict[str, Any]]:
    """A new run's state with another's networks and moments, seed by seed (round robin), wherever name and shape fit; and a note of what
    was taken. Raises `UserError` where no network fits."""
    stored = {k: v for k, v in read(source.path).items() if k.startswith(("train.nets", "train.seen", "train.targets"))}
    count = next(iter(stored.values())).array.shape[0]
    pick = np.arange(len(backend.seeds)) % count
    stored = {k: replace(leaf, array=leaf.array[pick]) for k, leaf in stored.items()}
    trimmed = backend.placement.trim(state)
    learned = {"nets": trimmed.train.nets, "seen": trimmed.train.seen, "targets": trimmed.train.targets}
    renamed = {k.removeprefix("train."): leaf for k, leaf in stored.items()}
    learned, taken, kept = fit(renamed, learned)
    if not any(name.startswith("nets.") for name in taken):
        raise UserError(f"nothing of {source.path} fits this run: use the same environment, body and sharing")
    train = replace(trimmed.train, **learned)
    note = {"checkpoint": str(source.path), "taken": len(taken), "kept_fresh": [k for k in kept if k.startswith("nets.")]}
    return backend.placement.pad(replace(trimmed, train=train)), note
