"""PLACEHOLDER until stability.py is merged."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Rated:
    rating: str = "unrated"
    axes: dict[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        return {"rating": self.rating, "axes": self.axes}


def rated(measured, stressed, chance, reference) -> Rated:
    return Rated()


def collapse(said, chance, reference) -> dict[str, Any]:
    return {"collapsed": False, "value": 0.0, "words": "-"}
