"""True metrics of your own, in one file: a function of a step, and one that remembers through an episode.

What the team really wants, beside the reward that it learns from: measured in training, evaluation, comparisons and `check-hacking`. Both
run in environments written in JAX and in those that Python steps: they ask their arrays for nothing else.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from marlstone.envs.own_metrics import Transition


def spread(step: Transition) -> Any:
    """How unequally a step's reward fell: the largest less the smallest. An episode's figure is the mean over its steps."""
    return step.after.reward.max() - step.after.reward.min()


spread.better = "down"  # type: ignore[attr-defined]
spread.reduce = "mean"  # type: ignore[attr-defined]


@dataclass(frozen=True)
class WorstOff:
    """The episode's return of the agent that got least, beyond `enough` not counted."""

    better: ClassVar[str] = "up"
    reduce: ClassVar[str] = "last"  # the value of an episode's last step is its figure
    enough: float = float(2**53)

    def begin(self, spec: Any) -> Any:
        return np.zeros(spec.n, np.float32)

    def value(self, step: Transition, so_far: Any) -> tuple[Any, Any]:
        so_far = so_far + step.after.reward
        return so_far.min().clip(None, self.enough), so_far
