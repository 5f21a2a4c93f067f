"""Deadlines handed down: no call inside another may wait longer than what is left to the outer one.

    with within(2.0):              # everything in here has two seconds together
        with within(10.0):         # still two seconds, less what has passed
            left()                 # seconds, or None where nobody set a deadline

A context variable carries the deadline through plain calls, `asyncio` tasks, and threads started in a copy of the context
(`contextvars.copy_context().run`). Between processes it travels as seconds left (`cost.propagation`), since clocks differ.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from math import isfinite

Clock = Callable[[], float]


class DeadlinePassed(TimeoutError):
    """The time that a call and its callers gave is over, so nothing was begun."""


@dataclass(frozen=True)
class Deadline:
    """A moment of one monotonic clock.

    Attributes:
      at: seconds, by `clock`.
      clock: what tells the time; nested deadlines use the same one.
    """

    at: float
    clock: Clock = time.monotonic

    def left(self) -> float:
        """Seconds until then, never below 0."""
        return max(0.0, self.at - self.clock())


_CURRENT: ContextVar[Deadline | None] = ContextVar("marlstone_deadline", default=None)


def current_deadline() -> Deadline | None:
    """The nearest deadline around this call, or None."""
    return _CURRENT.get()


def left() -> float | None:
    """Seconds left to this call, or None where nobody set a deadline."""
    deadline = _CURRENT.get()
    return None if deadline is None else deadline.left()


@contextmanager
def within(seconds: float | None, clock: Clock | None = None) -> Iterator[Deadline | None]:
    """What runs inside has `seconds`, or what is left to the caller if that is less. None: no limit of its own.

    `clock` is that of the caller's deadline, or `time.monotonic`, unless given. Raises ValueError for a limit that is no number
    of seconds above 0, and for a clock other than the caller's, whose moments cannot be compared.
    """
    outer = _CURRENT.get()
    if seconds is None:
        yield outer
        return
    if not (isfinite(seconds) and seconds > 0):
        raise ValueError(f"within(seconds={seconds}): give a finite number of seconds above 0, or None for no limit")
    if outer is not None and clock is not None and clock is not outer.clock:
        raise ValueError("within(clock=...) differs from the clock of the deadline around it: give the same clock, or none")
    clock = outer.clock if outer is not None else clock or time.monotonic
    mine = clock() + seconds
    token = _CURRENT.set(Deadline(mine if outer is None else min(mine, outer.at), clock))
    try:
        yield _CURRENT.get()
    finally:
        _CURRENT.reset(token)
