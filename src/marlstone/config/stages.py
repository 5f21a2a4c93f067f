"""A curriculum: settings that hold for the first parts of a run."""

from dataclasses import dataclass, field
from typing import Any

CHANGE = ("env", "architecture", "credit", "learner", "faults", "guards")
"""What a stage may change; everything else holds for the whole run."""


@dataclass(frozen=True)
class Stage:
    """One part of a run, from the end of the stage before. After the last stage the run's own configuration holds, which is also what
    policies are judged and deployed by.

    Fields:
      until: where it ends: a share of the run's steps (below 1), or joint steps per seed; rounded up to whole updates.
      set: what it changes in the run's configuration, by dotted field: `{"env.options.size" = 4, "learner.entropy" = 0.05}`. Kinds of parts
        and shapes of networks stay; where the environment, faults or guards change, fresh episodes begin.
    """

    until: float
    set: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "set", flattened(self.set))
        if not self.until > 0:
            raise ValueError(f"until is {self.until:g}: give a share of the steps, or a number of steps")
        if self.until == 1:
            raise ValueError(
                "until is 1, the end of the run: what holds last is the run's own configuration, by which policies are judged; "
                "set that, and end the stages before"
            )
        for name in self.set:
            if name.partition(".")[0] not in CHANGE:
                raise ValueError(f"set has {name!r}, which holds for the whole run; a stage may change {', '.join(CHANGE)}")


def flattened(values: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Nested tables as dotted fields."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flattened(value, f"{above}{name}.") if isinstance(value, dict) else {above + name: value}
    return found
