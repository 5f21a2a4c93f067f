"""How one call is retried: a frozen dataclass, as a configuration holds it."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite


@dataclass(frozen=True)
class RetryPolicy:
    """How one call is retried.

    The wait before retry n is what the service asked for, else

        min(wait_max, wait_initial * wait_base ** (n - 1) + uniform(0, wait_jitter))

    Attributes:
      attempts: at most, the first one included.
      timeout: seconds for all attempts and waits together; None: the caller's deadline alone.
      attempt_timeout: seconds for each attempt; None: what is left of the call's.
      wait_initial, wait_max, wait_jitter: seconds.
      wait_base: by how much each wait is longer than the one before.
      root_retries, root_attempts: the allowance where no root request is around the call, which is then one itself. None: `attempts - 1`
        retries.
      retry_settled: whether a failure that a layer below has already retried is retried here too.
    """

    attempts: int = 4
    timeout: float | None = 45.0
    attempt_timeout: float | None = None
    wait_initial: float = 0.1
    wait_max: float = 5.0
    wait_jitter: float = 1.0
    wait_base: float = 2.0
    root_retries: int | None = None
    root_attempts: int = 64
    retry_settled: bool = False

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"RetryPolicy.attempts is {self.attempts}: give 1 (no retries) or more")
        for name in ("timeout", "attempt_timeout"):
            value = getattr(self, name)
            if value is not None and not (isfinite(value) and value > 0):
                raise ValueError(f"RetryPolicy.{name} is {value}: give seconds above 0, or None for no limit of its own")
        for name in ("wait_initial", "wait_max", "wait_jitter"):
            value = getattr(self, name)
            if not (isfinite(value) and value >= 0):
                raise ValueError(f"RetryPolicy.{name} is {value}: give seconds, 0 or more")
        if not (isfinite(self.wait_base) and self.wait_base >= 1):
            raise ValueError(f"RetryPolicy.wait_base is {self.wait_base}: give 1 (equal waits) or more")
        if self.root_retries is not None and self.root_retries < 0:
            raise ValueError(f"RetryPolicy.root_retries is {self.root_retries}: give 0 or more, or None for attempts - 1")
        if self.root_attempts < 1:
            raise ValueError(f"RetryPolicy.root_attempts is {self.root_attempts}: give 1 or more")

    def wait(self, n: int, uniform: Callable[[float, float], float]) -> float:
        """Seconds to wait before retry n, counted from 1."""
        growth = self.wait_base ** min(n - 1, 64)
        return min(self.wait_max, self.wait_initial * growth + uniform(0.0, self.wait_jitter))
