"""How long playing takes: seconds an episode as measured, what is left, and what a time budget has room for."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from marlstone.core.errors import UserError

Tell = Callable[[str], None]
EVERY = 5.0  # seconds between lines of progress
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def seconds_of(text: str) -> float:
    """`90s`, `8m` or `1.5h` in seconds. Raises `UserError`."""
    found = re.fullmatch(r"(\d*\.?\d+)\s*([smh])", text.strip().lower())
    if found is None or not float(found[1]) > 0:
        raise UserError(f"--budget {text}: give a time, such as 90s, 8m or 1h")
    return float(found[1]) * UNITS[found[2]]


def clock(seconds: float) -> str:
    """`75` -> `1:15`, `4000` -> `1:06:40`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


@dataclass
class Pace:
    """Counts episodes (one of every training seed each) and the seconds they take. `budget`: seconds from the first look on.

    `tell` is told a line of progress, at most every `EVERY` seconds. The first batch, which holds compiling, is left out of the estimate
    once there is another.
    """

    tell: Tell
    budget: float
    planned: int = 0
    played: int = 0
    batches: list[tuple[int, float]] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    told: float = 0.0

    @property
    def spent(self) -> float:
        """Seconds since the first look."""
        return time.monotonic() - self.began

    @property
    def each(self) -> float:
        """Seconds an episode."""
        counted = self.batches[1:] or self.batches
        return sum(s for _, s in counted) / max(sum(n for n, _ in counted), 1)

    def room(self) -> int:
        """How many more episodes the budget has time for, at the present pace."""
        return int(max(self.budget - self.spent, 0) / max(self.each, 1e-9))

    @contextmanager
    def playing(self, episodes: int) -> Iterator[None]:
        """Around the playing of a batch."""
        began = time.monotonic()
        yield
        self.batches.append((episodes, time.monotonic() - began))
        self.played += episodes
        if self.played < self.planned and time.monotonic() - self.told >= EVERY:
            self.told = time.monotonic()
            left = (self.planned - self.played) * self.each
            self.tell(f"{self.played} of {self.planned} episodes played, {self.each:.2g} s each, {clock(left)} left")
