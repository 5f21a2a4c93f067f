"""When a training ends before its steps are used up."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stop:
    """Rules that end a training early; the first that holds does, for all seeds at once, so that every seed has as many steps. Returns are
    of validation episodes (`evaluate.validation`), played at checkpoints of the schedule, which no figure of the record is made of.

    Fields:
      at_return: the IQM over seeds of the validated return reaches it (TOML and flags also take `return`).
      minutes: of wall time over all lives of the run; looked at whenever training meets the host, every second or two.
      plateau: a share of `steps` in which the validated return did not rise: no validation in it lies above the best one before it by
        more than the 95% interval of their difference, seeds paired. Needs two seeds: a single one has no interval.
    """

    at_return: float | None = None
    minutes: float | None = None
    plateau: float | None = None

    def __post_init__(self) -> None:
        if self.minutes is not None and not self.minutes > 0:
            raise ValueError(f"stop.minutes is {self.minutes}: give a positive number of minutes, or none")
        if self.plateau is not None and not 0 < self.plateau < 1:
            raise ValueError(f"stop.plateau is {self.plateau}: give a share of the steps, between 0 and 1, or none")

    @property
    def validates(self) -> bool:
        """Whether a rule looks at validated returns."""
        return self.at_return is not None or self.plateau is not None
