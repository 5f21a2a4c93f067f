"""What travels between actors and learner: trajectories one way, weights the other, as flat lists of arrays with a few words.

A tree's arrays are listed in the order of `jax.tree.leaves` (fields in order, dictionaries by key, None left out), so that
an actor without JAX and a learner with it agree; structure comes from the code, never from the other side.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np


def leaves(tree: Any) -> list[Any]:
    """Arrays of a record of records, tuples and dictionaries."""
    if tree is None:
        return []
    if dataclasses.is_dataclass(tree):
        return [x for f in dataclasses.fields(tree) for x in leaves(getattr(tree, f.name))]
    if isinstance(tree, dict):
        return [x for k in sorted(tree) for x in leaves(tree[k])]
    if isinstance(tree, tuple | list):
        return [x for part in tree for x in leaves(part)]
    return [tree]


@dataclass(frozen=True)
class Weights:
    """A policy to act with: `version` counts updates; `about` says how to read `arrays` (`fast.describe`), once is enough."""

    version: int
    arrays: list[np.ndarray]
    about: dict[str, Any] | None = None


@dataclass(frozen=True)
class Parcel:
    """Trajectories of one unroll of one actor, `[envs t ...]` each array, all acted by policy `version`.

    `seed` indexes the training seeds; `actor`, its `life` (how often it was started before) and `seq`, counting from 0 in each
    life, name the parcel: no two have the same name. `message`: figures of the unroll (`steps`, sums over `finished` episodes,
    `faults`, `seconds`).
    """

    seed: int
    actor: int
    life: int
    seq: int
    version: int
    envs: int
    arrays: list[np.ndarray]
    message: dict[str, Any]

    @property
    def name(self) -> tuple[int, int, int, int]:
        """Seed, actor, life and number: no two parcels have the same."""
        return self.seed, self.actor, self.life, self.seq

    @property
    def bytes(self) -> int:
        """Of its arrays."""
        return sum(x.nbytes for x in self.arrays)

    def words(self) -> dict[str, Any]:
        """All but the arrays, as JSON has it."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "arrays"}

    @classmethod
    def of(cls, words: dict[str, Any], arrays: list[np.ndarray]) -> "Parcel":
        """The parcel that `words` and `arrays` came from. Raises KeyError where a word is missing."""
        known = {f.name for f in dataclasses.fields(cls)} - {"arrays"}
        return cls(**{k: words[k] for k in known}, arrays=arrays)
