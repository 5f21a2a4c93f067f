"""What happened in a fleet: kept for the metrics store, listed in the status, and the first of each kind reported on stderr."""

import time
from dataclasses import dataclass, field

from marlstone.fleet.observable_lock import Lock
from marlstone.rollout.fault_log import FaultLog
from marlstone.runs.directory import RunDirectory

KEPT = 200  # latest events kept for the status


@dataclass
class Events:
    """Events of supervision (`runs.store.SUPERVISION`), told from any thread.

    Fields: `step`, joint steps per seed that training has reached, under which events are stored; `latest`, the text of each kind's
    latest; `lines`, the latest of all, with time and kind; `waiting`, those not stored yet.
    """

    lock: Lock = field(default_factory=lambda: Lock("events"))
    log: FaultLog = field(default_factory=FaultLog)
    step: int = 0
    latest: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    waiting: list[tuple[int, int, str, str]] = field(default_factory=list)

    def tell(self, what: str, seed: int, text: str, how: str = "") -> None:
        """An event of the kind `what`, of the training seed `seed`. `how`: the word for it in the status."""
        now = time.strftime("%H:%M:%S")
        with self.lock:
            self.latest[what] = text
            self.lines = [*self.lines[-KEPT:], f"{now} {how or what}: {text}"]
            self.waiting.append((self.step, seed, what, f"{now} {text}"))
        self.log.report(what, text)

    def store(self, run: RunDirectory) -> None:
        """Write new events to the run's store, once the learner has begun it."""
        with self.lock:
            events = self.waiting if run.metrics.is_file() else []
            self.waiting = self.waiting[len(events) :]
        if events:
            with run.store() as store:
                for step, seed, what, text in events:
                    store.event(step, seed, what, text)
