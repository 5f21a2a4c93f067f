"""When a run's state is kept, and what of it: by steps, for everybody to look at, and by time, to go on from."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from marlstone.config import RunConfig
from marlstone.rollout.state import State
from marlstone.runs.checkpoint import forget, listed, save, step_of
from marlstone.runs.directory import RunDirectory
from marlstone.training.backend import Backend
from marlstone.training.clock import Clock

COPIED = 1e9  # bytes of state that are copied before an update that may be given up
POLICIES = 32  # kept of a run, evenly spaced


@dataclass
class Checkpoints:
    """Which updates end with a checkpoint. `every`, `total`: updates between those of the schedule, and of the whole run; `minutes`: of
    wall time after which one is made in between (None: none), for resuming alone: nothing is logged or judged there, and no policy kept.
    """

    run: RunDirectory
    clock: Clock
    every: int
    total: int
    per_update: int
    minutes: float | None
    saved: int = 0
    at: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, config: RunConfig, run: RunDirectory, clock: Clock, total: int, done: int) -> "Checkpoints":
        """As configured, of a run that begins or resumes with `done` updates."""
        per_update = config.steps_per_update
        every = max(1, config.steps_between_checkpoints // per_update)
        return cls(run, clock, every, total, per_update, config.checkpoint_minutes, done)

    def due(self, done: int) -> bool:
        """Whether the schedule has a checkpoint after `done` updates: every so many, and the last."""
        return done % self.every == 0 or done == self.total

    def late(self) -> bool:
        """Whether the last one is too long ago."""
        return self.minutes is not None and time.monotonic() - self.at >= 60 * self.minutes

    def keep(self, done: int, state: State, meta: dict[str, Any], policy: bool) -> None:
        """Write a checkpoint, and with `policy` what acts now. Nothing interrupts it."""
        start, step = time.perf_counter(), done * self.per_update
        if policy:
            save(self.run.policies, step, state.train.policy, {}, keep=None)
            self.thin()
        save(self.run.checkpoints, step, state, meta)
        self.saved, self.at = done, time.monotonic()
        self.clock.add("checkpointing", time.perf_counter() - start)

    def thin(self) -> None:
        """Forget policies between those that stay: evenly spaced ones of the schedule, at most `POLICIES`, those at the quarters of the
        budget, and the newest. What is kept after a step hangs on that step alone, so a resumed run keeps the same."""
        found = listed(self.run.policies)
        for path in thinned(found, self.every * self.per_update, self.total * self.per_update):
            forget(path)


def thinned(found: list[Path], every: int, total: int) -> list[Path]:
    """Which of these policies, oldest first, are forgotten: none while the schedule had at most `POLICIES`; then, spans of twice, four
    times ... its interval keep their last. `every`, `total`: steps between scheduled ones, and of the whole run."""
    newest, span = step_of(found[-1]), every
    while newest // span > POLICIES:
        span *= 2
    if span == every:
        return []
    last = {-(-step_of(path) // span): path for path in found}
    quarters = {-(-total * k // (4 * every)) * every for k in (1, 2, 3)}
    return [path for path in found if path not in last.values() and step_of(path) not in quarters]


def copied(backend: Backend, state: State) -> State | None:
    """A copy on the host of a state that training is about to consume; None where it is large."""
    if sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state)) > COPIED:
        return None

    def copy(x: Any) -> Any:
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(jax.numpy.asarray(np.array(jax.random.key_data(x))), impl=jax.random.key_impl(x))
        return np.array(x)

    return jax.tree.map(copy, backend.placement.trim(state))
