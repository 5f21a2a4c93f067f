"""What retries have cost: requests, attempts, refusals by rule, and the time that they slept, exactly."""

import threading
from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True)
class RetryCounts:
    """Counted so far. `attempts == requests + retries`, always; so do `failures + successes` of attempts that have ended.

    Attributes:
      requests: calls that were begun.
      attempts: first ones and granted retries, those that still sleep included.
      retries: attempts after the first.
      successes, failures: attempts by their end.
      refused: rule to how many retries it refused (`cost.retries`).
      not_begun: rule to how many calls it refused before a first attempt.
      sleeping: retries that sleep now.
      abandoned: retries whose caller went away while they slept.
      slept_us: microseconds slept.
      depth: the deepest call, 1 where calls are not nested.
    """

    requests: int = 0
    attempts: int = 0
    retries: int = 0
    successes: int = 0
    failures: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    not_begun: dict[str, int] = field(default_factory=dict)
    sleeping: int = 0
    abandoned: int = 0
    slept_us: int = 0
    depth: int = 0


class RetryCounter:
    """Counts as calls go on; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._not_begun: Counter[str] = Counter()
        self._depth = 0

    def counts(self) -> RetryCounts:
        """All of it at one moment."""
        with self._lock:
            return RetryCounts(**self._n, refused=dict(self._refused), not_begun=dict(self._not_begun), depth=self._depth)

    def begun(self, depth: int) -> None:
        """A call's first attempt."""
        with self._lock:
            self._n.update(requests=1, attempts=1)
            self._depth = max(self._depth, depth)

    def not_begun(self, rule: str) -> None:
        """A call that was refused before its first attempt."""
        with self._lock:
            self._not_begun[rule] += 1

    def succeeded(self) -> None:
        """An attempt's good end."""
        with self._lock:
            self._n["successes"] += 1

    def failed(self) -> None:
        """An attempt's bad end."""
        with self._lock:
            self._n["failures"] += 1

    def granted(self) -> None:
        """A retry, which sleeps from now on."""
        with self._lock:
            self._n.update(attempts=1, retries=1, sleeping=1)

    def woken(self, seconds: float) -> None:
        """A retry begins."""
        with self._lock:
            self._n["sleeping"] -= 1
            self._n["slept_us"] += round(seconds * 1e6)

    def abandoned(self) -> None:
        """A retry that slept will never begin."""
        with self._lock:
            self._n["sleeping"] -= 1
            self._n["abandoned"] += 1

    def refused(self, rule: str) -> None:
        """A retry that was not granted."""
        with self._lock:
            self._refused[rule] += 1
