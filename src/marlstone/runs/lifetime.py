"""How long a run has taken over all its lives: resumed parts, and those that ended by kill -9, whose last seconds were kept here."""

import time
from dataclasses import dataclass, field
from pathlib import Path

from marlstone.runs.files import write_atomic

EVERY = 5.0  # seconds between writes


@dataclass
class Lifetime:
    """The seconds of earlier lives, kept in `file`, and of this one since it was made."""

    file: Path
    before: float = field(init=False)
    began: float = field(default_factory=time.monotonic)
    kept_at: float = 0.0

    def __post_init__(self) -> None:
        self.before = float(self.file.read_text()) if self.file.is_file() else 0.0

    @property
    def seconds(self) -> float:
        """Of all lives so far."""
        return self.before + time.monotonic() - self.began

    def keep(self, now: bool = False) -> None:
        """Write them, at most every `EVERY` seconds unless it must be `now`."""
        if now or time.monotonic() - self.kept_at >= EVERY:
            write_atomic(self.file, f"{self.seconds:.2f}\n".encode())
            self.kept_at = time.monotonic()
