"""Metrics as users write them, sound and not."""

from dataclasses import dataclass
from typing import Any, ClassVar


def second(step: Any) -> Any:
    """What the second agent did."""
    return step.actions[step.agents[1]]


def gone(step: Any) -> Any:
    """How many have ended."""
    return sum(x * 1 for x in step.terminated.values())


gone.better = "down"  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Highest:
    """The highest reward so far, to a power."""

    reduce: ClassVar[str] = "last"
    power: float = 1.0

    def begin(self, spec: Any) -> Any:
        import numpy as np

        return np.float32(-1e9)

    def value(self, step: Any, memory: Any) -> tuple[Any, Any]:
        memory = step.team_reward.__array_namespace__().maximum(memory, step.team_reward)
        return memory**self.power, memory


def branches(step: Any) -> Any:
    return 1.0 if step.team_reward > 0 else 0.0


def several(step: Any) -> Any:
    return step.after.reward


def fails(step: Any) -> Any:
    return step.rewards["nobody"]


@dataclass(frozen=True)
class Sideways:
    better: str = "sideways"

    def value(self, step: Any) -> Any:
        return step.team_reward


@dataclass(frozen=True)
class Nothing:
    better: str = "up"


@dataclass
class Loose:
    def value(self, step: Any) -> Any:
        return step.team_reward
