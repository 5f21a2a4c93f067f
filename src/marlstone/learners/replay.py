"""What a value-based learner remembers: whole sequences, on the device, drawn uniformly or by their errors (prioritized replay,
Schaul et al. 2016)."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from marlstone.core.records import record, replace
from marlstone.core.types import Trajectory

Array = Any


@record
class Remembered:
    """A ring of `capacity` sequences: `trajectories [capacity ...]`, their `priority [capacity]` (0: empty), and how many were ever
    added."""

    trajectories: Trajectory
    priority: Array
    added: Array


@dataclass(frozen=True)
class Replay:
    """`capacity` sequences; each rollout is followed by `updates` batches of `batch` sequences. `priority` in [0, 1]: how strongly
    sequences with large errors are preferred; 0 draws uniformly. Drawn more often, they weigh less: fully, where that is 1 (the paper's
    beta at its end)."""

    capacity: int = 4096
    batch: int = 32
    updates: int = 4
    priority: float = 0.0

    def __post_init__(self) -> None:
        for name in ("capacity", "batch", "updates"):
            if getattr(self, name) < 1:
                raise ValueError(f"Replay.{name} is {getattr(self, name)}: give at least 1")
        if not 0 <= self.priority <= 1:
            raise ValueError(f"Replay.priority is {self.priority}: give a number from 0 (uniform) to 1")

    def empty(self, like: Trajectory) -> Remembered:
        """`like`: the trajectories of one rollout, or their shapes, `[b ...]`."""
        b = like.logp.shape[0]
        if self.capacity < b:
            raise ValueError(f"learner.replay.capacity is {self.capacity}, less than the rollout's {b} sequences: give at least {b}")
        zeros = jax.tree.map(lambda x: jnp.zeros((self.capacity // b * b, *x.shape[1:]), x.dtype), like)
        return Remembered(zeros, jnp.zeros(self.capacity // b * b), jnp.array(0, jnp.int32))

    def add(self, it: Remembered, trajectories: Trajectory) -> Remembered:
        """The rollout's sequences in place of the oldest, with the highest priority yet."""
        b, capacity = trajectories.logp.shape[0], it.priority.shape[0]
        at = it.added % capacity
        put = lambda old, new: jax.lax.dynamic_update_slice_in_dim(old, new.astype(old.dtype), at, 0)
        fresh = jnp.full(b, jnp.maximum(it.priority.max(), 1e-6))
        fresh = jnp.where(it.added == 0, 1.0, fresh)
        return Remembered(jax.tree.map(put, it.trajectories, trajectories), put(it.priority, fresh), it.added + b)

    def draw(self, it: Remembered, key: Array) -> tuple[Array, Array]:
        """Indices of `batch` sequences and the weights of their losses, `[batch]`."""
        if not self.priority:
            filled = jnp.minimum(it.added, it.priority.shape[0])
            return jax.random.randint(key, (self.batch,), 0, filled), jnp.ones(self.batch)
        p = it.priority**self.priority
        p = jnp.where(it.priority > 0, p, 0)
        ends = jnp.cumsum(p)
        spots = (jnp.arange(self.batch) + jax.random.uniform(key, (self.batch,))) / self.batch * ends[-1]
        filled = jnp.minimum(it.added, len(p))  # a spot rounded up to the end must not fall beyond
        which = jnp.minimum(jnp.searchsorted(ends, spots, side="right"), filled - 1)
        weight = 1 / jnp.maximum(p[which], 1e-12)
        return which, weight / weight.max()

    def at(self, it: Remembered, which: Array) -> Trajectory:
        """The sequences at these indices, `[batch ...]`."""
        return jax.tree.map(lambda x: x[which], it.trajectories)

    def update_priorities(self, it: Remembered, which: Array, error: Array) -> Remembered:
        """Priorities after their sequences' errors, `[batch]`, were seen."""
        return replace(it, priority=it.priority.at[which].set(error + 1e-6)) if self.priority else it
