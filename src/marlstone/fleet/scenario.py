"""What a simulated fleet is made of: how long things take, and who does them. Plain numbers, so that help can list them quickly.

Every field says in its metadata what it is, in which unit, and what it may be; the command's flags are made from these.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from marlstone.core.errors import UserError

MOST_ACTORS = 100_000


def _number(default: Any, about: str, least: float = 0, most: float = 1e15, above: float = -1) -> Any:
    return dataclasses.field(default=default, metadata={"about": about, "least": least, "most": most, "above": above})


def flag(name: str) -> str:
    """The flag that sets a field. Errors name it: whoever meets them gave it."""
    return "--" + name.replace("_", "-")


def _check(given: "Service | Scenario") -> None:
    """Raises `UserError` for a field outside its bounds."""
    for field in dataclasses.fields(given):
        value, bounds = getattr(given, field.name), field.metadata
        if not bounds or (bounds["least"] <= value <= bounds["most"] and value > bounds["above"]):
            continue
        low = f"more than {bounds['above']:g}" if bounds["above"] >= 0 else f"at least {bounds['least']:g}"
        wanted = f"at most {bounds['most']:,g}" if value > bounds["most"] else low
        raise UserError(f"{flag(field.name)} is {value:g}: give {wanted}")


@dataclass(frozen=True)
class Service:
    """How long things take, and how many bytes they weigh: measured, or supposed."""

    row_seconds: float = _number(0.005, "seconds an actor takes for one row of all its environments", above=0)
    row_spread: float = _number(0.3, "spread of that from row to row: the sigma of a lognormal", most=3)
    update_seconds: float = _number(0.1, "seconds the learner takes for one update", above=0)
    chunk_bytes: float = _number(20_000, "bytes of one environment's trajectory")
    weights_bytes: float = _number(200_000, "bytes of one version of the weights")
    bandwidth: float = _number(1.25e9, "bytes/s at the learner's end, each way, shared by all; inf: no limit", most=math.inf, above=0)
    latency: float = _number(0.0005, "seconds any transfer takes beside its bytes", most=3600)

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True)
class Scenario:
    """Who acts and learns, how they are coupled, and what goes wrong."""

    actors: int = _number(400, "actors", least=1, most=MOST_ACTORS)
    envs: int = _number(4, "environments of one actor", least=1)
    length: int = _number(32, "steps of a trajectory", least=1)
    batch: int = _number(1024, "environment-chunks of one update", least=1)
    queue: int = _number(2048, "environment-chunks the queue holds; at least --envs", least=1)
    max_staleness: int = _number(16, "versions a trajectory may be behind; staler ones are dropped")
    stalled_fraction: float = _number(0.0, "share of the actors that stall within a minute; --unsupervised: that have stalled", most=1)
    death_fraction_per_minute: float = _number(0.0, "share of the actors that die within a minute", most=60)
    straggler_fraction: float = _number(0.0, "share of the actors that are slow", most=1)
    straggler_factor: float = _number(4.0, "how many times slower these are", least=1, most=1e6)
    deadline: float = _number(10.0, "seconds without a sign of life until the supervisor kills a stalled actor")
    restart: float = _number(5.0, "seconds until an actor that was killed or died is back; doubled if it fails again at once")
    longest_restart: float = _number(60.0, "seconds a doubled restart takes at most")
    supervised: bool = True

    def __post_init__(self) -> None:
        _check(self)
        if self.queue < self.envs:
            raise UserError(f"--queue is {self.queue}: an actor puts {self.envs} trajectories at once, so give at least {self.envs}")

    @property
    def healthy(self) -> "Scenario":
        """The same fleet, without stalls and deaths; stragglers stay slow."""
        return dataclasses.replace(self, stalled_fraction=0.0, death_fraction_per_minute=0.0)

    @property
    def stalled(self) -> int:
        """How many actors are stalled for good: none that a supervisor restarts."""
        return 0 if self.supervised else math.ceil(self.stalled_fraction * self.actors - 1e-9)

    @property
    def stalls_per_second(self) -> float:
        """How often an actor that runs stalls. Without a supervisor it was asked how many stand still, not how often."""
        return self.stalled_fraction / 60 if self.supervised else 0.0

    @property
    def failures_per_second(self) -> float:
        """How often an actor that runs stalls or dies."""
        return self.stalls_per_second + self.death_fraction_per_minute / 60

    @property
    def slow(self) -> int:
        """How many actors are stragglers."""
        return round(self.straggler_fraction * self.actors)

    def down(self, stall: bool, again: int) -> float:
        """Seconds an actor is gone that stalled or died, the `again`-th time since its last trajectory; inf: for good."""
        if not self.supervised:
            return math.inf
        return (self.deadline if stall else 0.0) + min(self.restart * 2.0 ** min(again, 60), max(self.longest_restart, self.restart))
