"""What a process of the fleet is doing right now: a few numbers in memory that it shares with its supervisor.

Written without a lock or a system call at every environment step, and still there to read after a kill -9.
"""

import mmap
import os
import time
from dataclasses import dataclass, replace
from typing import Any

DOING = ("starting", "building environments", "resetting", "stepping", "acting", "waiting for weights", "waiting for room", "sending",
         "waiting for trajectories", "updating", "publishing", "checkpointing", "compiling", "evaluating", "done")  # fmt: skip
FIELDS = ("doing", "since_ns", "beat_ns", "env", "scenario", "steps", "trajectories", "version", "born_ns")
SIZE = 8 * len(FIELDS)


@dataclass(frozen=True)
class Facts:
    """One look at a page. `seconds` since it began what it is `doing`, `silent` since its last heartbeat; `env` and `scenario` (an
    episode's seed) where it steps."""

    doing: str
    seconds: float
    silent: float
    env: int
    scenario: int
    steps: int
    trajectories: int
    version: int
    age: float

    @property
    def json(self) -> dict[str, Any]:
        """Its fields, as JSON has them."""
        return dict(vars(self))

    def later(self, seconds: float) -> "Facts":
        """The same, if nothing happened for some time since."""
        return replace(self, seconds=self.seconds + seconds, silent=self.silent + seconds, age=self.age + seconds)


BEFORE = Facts("starting", 0.0, 0.0, -1, -1, 0, 0, -1, 0.0)
"""Of a process that has done nothing yet."""


class Page:
    """`doing(what)` is all that its process need call, `still(what)` where it waits for long; `facts` all that the supervisor."""

    def __init__(self, fd: int, create: bool = False) -> None:
        if create:
            os.ftruncate(fd, SIZE)
        self.cells = memoryview(mmap.mmap(fd, SIZE)).cast("q")
        if create:
            now = time.monotonic_ns()
            for i, name in enumerate(FIELDS):
                self.cells[i] = {"since_ns": now, "beat_ns": now, "born_ns": now, "version": -1, "env": -1, "scenario": -1}.get(name, 0)

    def doing(self, what: str) -> None:
        """It begins something else, which is also a heartbeat."""
        self.cells[0] = DOING.index(what)
        self.cells[1] = self.cells[2] = time.monotonic_ns()

    def still(self, what: str) -> None:
        """A heartbeat: it goes on with `what`, or begins it."""
        if self.cells[0] == DOING.index(what):
            self.cells[2] = time.monotonic_ns()
        else:
            self.doing(what)

    def at(self, env: int, scenario: int) -> None:
        """Which environment is stepped, and the seed of its episode (-1: none)."""
        self.cells[3], self.cells[4] = env, scenario

    def count(self, steps: int, trajectories: int) -> None:
        """Add joint steps and trajectories that were made."""
        self.cells[5] += steps
        self.cells[6] += trajectories

    def acts_by(self, version: int) -> None:
        """The version of the policy it acts by."""
        self.cells[7] = version

    def facts(self) -> Facts:
        """One look at it, also after the process has ended."""
        now = time.monotonic_ns()
        c = list(self.cells)
        return Facts(DOING[c[0]], (now - c[1]) / 1e9, (now - c[2]) / 1e9, c[3], c[4], c[5], c[6], c[7], (now - c[8]) / 1e9)
