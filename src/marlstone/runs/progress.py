"""What a run tells whoever watches it."""

from dataclasses import dataclass
from typing import Literal

Phase = Literal["starting", "compiling", "training", "evaluating", "checkpointing", "done"]


@dataclass(frozen=True)
class Progress:
    """One report of a running training.

    Fields: `phase` (`done`: nothing more will come of it); `step` of `steps`, joint env steps per seed; `seeds` trained together;
    `steps_per_second`, joint env steps of training summed over seeds, lately (0 where unknown); `episode_return`, the
    undiscounted team return of episodes finished since the last report, averaged over seeds (None: none finished); `note`, what of a
    phase with several parts is being done, `step` of `steps` then counting parts.
    """

    phase: Phase
    step: int
    steps: int
    seeds: int = 1
    steps_per_second: float = 0.0
    episode_return: float | None = None
    note: str = ""

    @property
    def eta(self) -> float | None:
        """Seconds to the end of training at the present speed, or None while that is unknown."""
        left = (self.steps - self.step) * self.seeds
        return left / self.steps_per_second if self.steps_per_second > 0 else None
