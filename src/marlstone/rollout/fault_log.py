"""What is known of the faults of environments: the first of each kind is reported when it happens, all are counted, and where most of
the latest steps or episodes are faulty, the environment is broken."""

import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from scipy.special import bdtrc

from marlstone.core.errors import Failure
from marlstone.envs.guards import FAULTS, Guards

if TYPE_CHECKING:
    from marlstone.runs.store import Store

STEPS, EPISODES = 500, 200
"""The latest environment steps, at least so many, and episodes that ended or were broken off, up to so many, whose share is judged."""
CHANCE = 1e-6
"""Episodes are few: their share must be above what is tolerated by more than chance (a binomial test at this level, looked at often)."""


class EnvironmentFailed(Failure):
    """An environment broke, and guards are set to stop, or it broke too often. The message says where, how, and the remedy."""


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def note_text(note: Mapping[str, Any]) -> str:
    """A worker's note of a fault, in a sentence: environment, agent, field and value, or exception with file and line."""
    where = f" ({note['where']})" if note.get("where") else ""
    return f"environment {note['env']}: {note['text']}{where}"


@dataclass
class FaultLog:
    """Faults of one command's environments: the first of each kind is reported, all are counted.

    Attributes:
      reported: kinds, and notices, that were reported.
      counts: by name, of environments that were closed since.
      write: puts out a message; to stderr unless replaced.
      lock: seeds report from several threads.
    """

    reported: set[str] = field(default_factory=set)
    counts: dict[str, int] = field(default_factory=dict)
    write: Callable[[str], None] = _to_stderr
    lock: threading.Lock = field(default_factory=threading.Lock)

    def report(self, fault: str, text: str) -> None:
        """Report the first fault of its kind."""
        with self.lock:
            first = fault not in self.reported
            self.reported.add(fault)
        if first:
            self.write(f"fault: {fault}: {text}; the next ones are only counted")

    def notice(self, text: str, kind: str = "note") -> None:
        """Report, once, something that is no fault."""
        with self.lock:
            first = text not in self.reported
            self.reported.add(text)
        if first:
            self.write(f"{kind}: {text}")

    def add(self, counts: Mapping[str, int]) -> None:
        """Count faults of environments that are closed."""
        with self.lock:
            for name, n in counts.items():
                if n:
                    self.counts[name] = self.counts.get(name, 0) + n


@dataclass
class Health:
    """Whether an environment is broken: more than the share `most` of its latest steps were replaced, or of its latest episodes broken off,
    by faults.

    Attributes:
      name: of the environment, for the message.
      most: the share that is tolerated (`guards.most_bad`).
      steps, bad: the latest steps, and how many of them were faulty.
      ended, broken: the latest episodes that ended, and those broken off.
      latest: the last fault, for the message.
    """

    name: str
    most: float
    steps: int = 0
    bad: int = 0
    ended: int = 0
    broken: int = 0
    latest: str = ""

    def add(self, steps: int, bad: int, ended: int, broken: int, counts: Mapping[str, int]) -> None:
        """Judge `steps` more, of which `bad` were faulty, and episodes: `ended` whole, `broken` off. `counts`: all faults so far, for the
        message. Raises `EnvironmentFailed`."""
        self.steps, self.bad, self.ended, self.broken = self.steps + steps, self.bad + bad, self.ended + ended, self.broken + broken
        episodes = self.ended + self.broken
        for what, too_many, number, of in (
            ("steps were faulty", self.bad / max(self.steps, STEPS) > self.most, self.bad, self.steps),
            (
                "episodes were broken off by faults",
                self.broken > 0 and bdtrc(self.broken - 1, episodes, self.most) < CHANCE,
                self.broken,
                episodes,
            ),
        ):
            if too_many:
                met = ", ".join(f"{k}: {n:,}" for k, n in counts.items() if n)
                last = f"; the last one: {self.latest}" if self.latest else ""
                raise EnvironmentFailed(
                    f"{self.name} is broken: {number:,} of the latest {of:,} {what} ({met} in all{last}). "
                    "Fix the environment; guards.most_bad is the share that is tolerated"
                )
        if self.steps >= STEPS:
            self.steps = self.bad = 0
        if episodes >= EPISODES:
            self.ended = self.broken = 0


def total_faults(faults: list[dict[str, int]]) -> dict[str, int]:
    """Counts by name over all seeds, in the order of `FAULTS`."""
    out: dict[str, int] = {}
    for name in (*FAULTS, *(k for counts in faults for k in counts if k not in FAULTS)):
        if n := sum(counts.get(name, 0) for counts in faults):
            out[name] = n
    return out


class FaultSource(Protocol):
    """What a training backend reports of faults (`training.backend`)."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """The training seeds."""

    @property
    def log(self) -> FaultLog:
        """Faults of environments in training."""

    def faults(self, state: Any) -> list[dict[str, int]]:
        """Faults so far, by name, per seed."""

    def most_faults(self) -> dict[str, int]:
        """How many of each fault one environment step can have at most; empty where who steps reports faults itself."""

    def notes(self) -> list[dict[str, str]]:
        """The latest fault of each name in words, per seed."""


@dataclass
class Faults:
    """Faults of a training run, per seed and name: written to the store at checkpoints, and their totals carried over resumes.

    Attributes:
      totals: over the whole run, per seed.
      seen: as of the last checkpoint, per seed.
      latest: as of the last host contact, per seed.
      health: per seed, whether the environment is broken.
    """

    totals: list[dict[str, int]]
    seen: list[dict[str, int]]
    latest: list[dict[str, int]] = field(default_factory=list)
    health: dict[int, Health] = field(default_factory=dict)

    def watch(self, name: str, guards: Guards, runtime: FaultSource, state: Any, step: int, steps: Any) -> None:
        """At a host contact, after `steps` more of each seed: report the first fault of each kind, and judge the environment, where only
        counts leave the device. Raises `EnvironmentFailed`."""
        if not (most := runtime.most_faults()):
            return  # who steps reports and judges
        now = runtime.faults(state)
        for seed, before, after, more_steps in zip(runtime.seeds, self.latest or self.seen, now, steps, strict=True):
            new = {k: n - before.get(k, 0) for k, n in after.items() if n > before.get(k, 0)}
            for fault, count in new.items():
                runtime.log.report(
                    fault, f"{count:,} values by step {step:,}, seed {seed} (guards.on_bad = 'refuse' names agent and field)"
                )
            bad = max((-(-n // most[k]) for k, n in new.items() if k in most), default=0)  # steps that were faulty: at least so many
            self.health.setdefault(seed, Health(name, guards.most_bad)).add(int(more_steps), bad, 0, 0, after)
        self.latest = now

    def elsewhere(self) -> None:
        """Training goes on in other environments, which count from 0; what was met in these was told."""
        self.seen, self.latest, self.health = [{} for _ in self.seen], [], {}

    def tell(self, store: "Store", step: int, runtime: FaultSource, state: Any) -> None:
        """At a checkpoint: what was met since the last one becomes events of the store."""
        now = runtime.faults(state)
        for seed, total, before, after, words in zip(runtime.seeds, self.totals, self.seen, now, runtime.notes(), strict=True):
            for name, count in after.items():
                if more := count - before.get(name, 0):
                    store.event(step, seed, name, words.get(name, ""), more)
                total[name] = total.get(name, 0) + more
        self.seen = now
