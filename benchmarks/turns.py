"""Rates taken turn by turn, so that a machine that drifts touches all that is compared."""

from collections.abc import Mapping
from typing import Protocol, TypeVar

Name = TypeVar("Name")


class Timed(Protocol):
    """What can be timed again and again."""

    def rate(self) -> float:
        """Steps/s of one turn."""


def in_turn(timed: Mapping[Name, Timed], rounds: int) -> dict[Name, list[float]]:
    """Rates of everything, round by round; every second round begins at the other end."""
    rates: dict[Name, list[float]] = {name: [] for name in timed}
    for k in range(rounds):
        for name in list(timed)[:: 1 if k % 2 == 0 else -1]:
            rates[name].append(timed[name].rate())
    return rates
