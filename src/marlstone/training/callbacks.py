"""What is asked while a run trains: small classes, one question each, called in order at three moments.

    updated      after every contact of the training program with the host: some updates, at most a second or two of them
    scheduled    at every checkpoint of the schedule, a fixed number of steps apart; may end the training
    saving       before any checkpoint is written, those of the schedule, of the clock and of an early end alike

The schedule depends on steps alone and contacts on time, so what must be the same after a resume hangs on the schedule.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import jax
import numpy as np

from marlstone.config import RunConfig
from marlstone.core.errors import Diverging
from marlstone.core.flops import Flops
from marlstone.core.ledger import SENT, Costs, Ledger
from marlstone.core.records import replace
from marlstone.play.episodes import how_many, recorder
from marlstone.rollout.fault_log import Faults
from marlstone.rollout.state import Report, State
from marlstone.runs.store import Store
from marlstone.training.backend import Backend
from marlstone.training.clock import Clock
from marlstone.training.spending import Spending


@dataclass
class Moment:
    """Where training stands. `done`: updates so far; `step`: joint steps per seed so far; of the last contact: `updates`, their `report` on
    the host, `[seeds updates]`, and the `seconds` it took. `stopped_by`: the rule that ends the training here, if any does."""

    config: RunConfig
    backend: Backend
    store: Store
    state: State
    done: int
    updates: int = 0
    report: Report | None = None
    seconds: float = float("inf")
    stopped_by: str | None = None

    @property
    def per_update(self) -> int:
        """Joint steps per seed that an update takes, resets included."""
        return self.config.steps_per_update

    @property
    def step(self) -> int:
        """Joint steps per seed so far, resets included."""
        return self.done * self.per_update


class Callback(Protocol):
    """One question asked while a run trains. Derive from this, and write the moments that matter; the others do nothing."""

    def updated(self, now: Moment) -> None:
        """After a contact."""
        return None

    def scheduled(self, now: Moment) -> bool:
        """At a checkpoint of the schedule, before it is written; True ends the training there."""
        return False

    def saving(self, now: Moment) -> None:
        """Before any checkpoint is written."""
        return None

    def kept(self) -> dict[str, Any]:
        """What a checkpoint keeps for this, as JSON; it is given back when the run resumes."""
        return {}


@dataclass
class Sent:
    """Messages and bits of a run so far, by sender and recipient: `counts[what] [seeds n n]`, float64, exact up to 2^53."""

    counts: dict[str, np.ndarray]

    @classmethod
    def of(cls, backend: Backend, plain: list[dict[str, Any]] | None) -> "Sent | None":
        """None where nobody talks; `plain`: what a checkpoint kept."""
        if not backend.algorithm.channel.speaks:
            return None
        n = backend.algorithm.spec.team.n
        none = [{what: np.zeros((n, n)).tolist() for what in SENT} for _ in backend.seeds]
        return cls({what: np.array([seed[what] for seed in plain or none], np.float64) for what in SENT})

    def add(self, more: dict[str, Any]) -> None:
        """Add what the updates of a contact sent, `[seeds updates n n]`."""
        for what in SENT:
            self.counts[what] += np.asarray(more[what], np.float64).sum(1)

    @property
    def plain(self) -> list[dict[str, Any]]:
        """Per seed, as JSON."""
        return [{what: self.counts[what][i].tolist() for what in SENT} for i in range(len(self.counts[SENT[0]]))]

    @property
    def totals(self) -> list[dict[str, int]]:
        """Per seed, over all senders; of each what is whole, since bits may be fractions."""
        return [{what: sum(map(int, self.counts[what][i].sum(1))) for what in SENT} for i in range(len(self.counts[SENT[0]]))]


@dataclass
class Counting(Callback):
    """What did it consume? Ledgers per seed over all lives of the run; `trained`: joint steps of all seeds in this one.

    `flops`: of a joint step, and of one that is only measured no more than acting; `handed`: bytes that an update's trajectories have;
    `sent`: messages by sender and recipient, where agents talk; `spending`: the same by phase, agent and kind.
    """

    ledgers: list[Ledger]
    flops: Flops
    handed: int
    spending: Spending
    trained: int = 0
    sent: Sent | None = None

    @property
    def costs(self) -> list[Costs]:
        """By phase, agent and kind, per seed, over all lives of the run."""
        return self.spending.costs(None if self.sent is None else self.sent.plain)

    def updated(self, now: Moment) -> None:
        """Add a contact's steps, episodes, FLOPs and bytes."""
        assert now.report is not None
        steps, measured = now.report.steps.sum(1), now.updates * now.config.measured_steps
        rows = now.updates * now.per_update - measured
        flops = rows * self.flops.total + measured * self.flops.acting
        self.ledgers = [
            ledger.plus(steps=s, rows=rows, measured=measured, episodes=e, flops=flops, bytes=now.updates * self.handed)
            for ledger, s, e in zip(self.ledgers, steps, now.report.finished.episodes.sum(1), strict=True)
        ]
        if self.sent is not None:
            self.sent.add(now.report.sent)
            self.ledgers = [replace(ledger, **total) for ledger, total in zip(self.ledgers, self.sent.totals, strict=True)]
        for i, s in enumerate(steps):
            used = {k: v[i] for k, v in now.report.used.items()}
            self.spending.add(i, int(s), rows, measured, now.updates, used, now.backend.algorithm.spec.agents)
        self.trained += int(steps.sum())

    def kept(self) -> dict[str, Any]:
        """The ledgers, and who sent what to whom."""
        sent = {} if self.sent is None else {"sent": self.sent.plain}
        return {"ledgers": [vars(ledger) for ledger in self.ledgers], "spending": self.spending.kept(), **sent}


@dataclass
class Metrics(Callback):
    """How does it learn? One figure per seed and name goes to the store; `lately` is what progress shows."""

    lately: dict[str, Any] = field(default_factory=dict)

    def updated(self, now: Moment) -> None:
        """Store the means over a contact's updates, and over the episodes that finished in it."""
        report, backend, n = now.report, now.backend, now.updates
        assert report is not None
        returns = []
        for i, (seed, more) in enumerate(zip(backend.seeds, backend.figures(), strict=True)):
            sums = jax.tree.map(lambda x: float(x[i].sum()), report.finished)  # noqa: B023
            values = {k: float(v[i].sum()) / n for k, v in report.losses.items()}
            if sums.episodes:
                values |= {"return": sums.team_return / sums.episodes, "length": sums.length / sums.episodes}
                values |= {f"metric/{k}": v / sums.episodes for k, v in sums.metrics.items()}
                returns.append(values["return"])
                self._doubt(backend, values["length"])
            now.store.add(now.step, seed, values | more | {"episodes": sums.episodes})
        mean = float(np.mean(returns)) if returns else None
        self.lately = {"steps_per_second": float(report.steps.sum()) / now.seconds, "episode_return": mean}

    def _doubt(self, backend: Backend, length: float) -> None:
        if (declared := backend.algorithm.spec.horizon) is not None and length > declared:
            backend.log.notice(
                f"training episodes outlive the {declared} steps that the environment declares; nothing is cut short: correct what it "
                "declares (max_cycles or the like) if that is meant to be a limit",
                "warning",
            )


@dataclass
class DivergenceCheck(Callback):
    """What does the learner find wrong with its own figures? Warned of once, and told to the store each time. `highest`: per seed."""

    highest: list[dict[str, float]]
    warned: bool = False

    def updated(self, now: Moment) -> None:
        """Ask the learner, seed by seed."""
        assert now.report is not None
        learner = now.backend.algorithm.learner
        for i, seed in enumerate(now.backend.seeds):
            figures = {k: float(v[i].sum()) / now.updates for k, v in now.report.losses.items()}
            self.highest[i] = {k: max(v, self.highest[i].get(k, v)) for k, v in figures.items()}
            if doubt := learner.check_divergence(figures, self.highest[i]):
                now.store.event(now.step, seed, "diverging", doubt, 1)
                if not self.warned:
                    warnings.warn(f"seed {seed}, step {now.step:,}: {doubt}", Diverging, stacklevel=2)
                self.warned = True


@dataclass
class FaultWatch(Callback):
    """Is the environment broken? Judged at every contact; what was met becomes events of the store before each checkpoint."""

    faults: Faults

    def updated(self, now: Moment) -> None:
        """Judge the environment. Raises `EnvironmentFailed`."""
        assert now.report is not None
        self.faults.watch(now.config.env, now.config.guards, now.backend, now.state, now.step, now.report.steps.sum(1))

    def saving(self, now: Moment) -> None:
        """Tell the store what was met since the last checkpoint."""
        self.faults.tell(now.store, now.step, now.backend, now.state)

    def kept(self) -> dict[str, Any]:
        """Totals by name, per seed."""
        return {"faults": self.faults.totals}


@dataclass(frozen=True)
class EpisodeLog(Callback):
    """What do its episodes look like? `record` keeps some, played apart at checkpoints of the schedule (`evaluate.logged`)."""

    clock: Clock
    record: Callable[[Store, int, State], None]

    @classmethod
    def of(cls, config: RunConfig, backend: Backend, clock: Clock) -> "EpisodeLog":
        """As configured; it may keep none."""
        wanted = how_many(config, backend.algorithm.spec)
        return cls(clock, recorder(backend, wanted) if wanted else lambda store, step, state: None)

    def scheduled(self, now: Moment) -> bool:
        """Play and keep episodes."""
        self.clock.time("logging", lambda: self.record(now.store, now.step, now.state))
        return False


@dataclass(frozen=True)
class Watching(Callback):
    """Does whoever started the training want it to end here? `watch(backend, state, store, step)` may run checks of its own."""

    clock: Clock
    watch: Callable[[Any, State, Store, int], bool]

    def scheduled(self, now: Moment) -> bool:
        """Ask."""
        return bool(self.clock.time("watching", lambda: self.watch(now.backend, now.state, now.store, now.step)))
