"""A retry budget: across calls, retries are at most a share of requests, so that an outage is not made worse by retrying.

Requests put `ratio` of a retry into a token bucket, every retry takes a whole one out, and what was put in or taken out counts for
`ttl` seconds; `minimum` retries a second are granted besides, so that a caller with little traffic may retry at all. Hence, in any
`ttl` seconds that end with a granted retry (to a tenth of them, the width of one window):

    retries <= ratio * requests + minimum * ttl

Source: Finagle's RetryBudget (20% of requests + 10 a second, 10 seconds to live), https://finagle.github.io/blog/2016/02/08/retry-budgets.
Departure: the default minimum is 1 a second; 10 would double the load of a service with ten requests a second.
"""

import threading
import time
from collections import deque
from dataclasses import dataclass
from math import isfinite

from marlstone.cost.deadlines import Clock

TOKEN = 1_000_000
"""One retry, in the integers that are counted."""
WINDOWS = 10


@dataclass(frozen=True)
class RetryBudget:
    """How many retries all calls to one service may make together.

    Attributes:
      ratio: retries per request, 0 to 1; 0.1 to 0.2 is what large services use.
      minimum: retries a second besides, however few requests there are.
      ttl: seconds for which a request or a retry counts.
    """

    ratio: float = 0.2
    minimum: float = 1.0
    ttl: float = 10.0

    def __post_init__(self) -> None:
        if not 0 <= self.ratio <= 1:
            raise ValueError(f"RetryBudget.ratio is {self.ratio}: give retries per request from 0 to 1, such as 0.2")
        if not (isfinite(self.minimum) and self.minimum >= 0):
            raise ValueError(f"RetryBudget.minimum is {self.minimum}: give retries a second, 0 or more")
        if not 1 <= self.ttl <= 60:
            raise ValueError(f"RetryBudget.ttl is {self.ttl}: give 1 to 60 seconds")


class RetryTokens:
    """The bucket of one `RetryBudget`: thread-safe, in integers, shared by all callers of one service in this process."""

    def __init__(self, budget: RetryBudget = RetryBudget(), clock: Clock = time.monotonic) -> None:
        self.budget = budget
        self._clock = clock
        self._lock = threading.Lock()
        self._deposit = round(budget.ratio * TOKEN)
        self._reserve = round(budget.minimum * budget.ttl * TOKEN)
        self._width = budget.ttl / WINDOWS
        self._windows: deque[list[int]] = deque()  # [number of the window, deposits - withdrawals], oldest first

    def _now(self) -> list[int]:
        """The window of this moment, after those that no longer count were forgotten. With the lock held."""
        number = int(self._clock() / self._width)
        while self._windows and self._windows[0][0] <= number - WINDOWS - 1:
            self._windows.popleft()
        if not self._windows or self._windows[-1][0] < number:
            self._windows.append([number, 0])
        return self._windows[-1]

    def deposit(self) -> None:
        """One request was begun."""
        with self._lock:
            self._now()[1] += self._deposit

    def withdraw(self) -> bool:
        """Take one retry out; False, and nothing taken, where there is none."""
        with self._lock:
            window = self._now()
            if self._reserve + sum(tokens for _, tokens in self._windows) < TOKEN:
                return False
            window[1] -= TOKEN
            return True

    def balance(self) -> float:
        """Retries that would be granted now."""
        with self._lock:
            self._now()
            return max(0, self._reserve + sum(tokens for _, tokens in self._windows)) / TOKEN
