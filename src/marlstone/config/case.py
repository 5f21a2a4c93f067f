"""An edge case: what goes wrong while a finished policy is judged."""

from dataclasses import dataclass, field

from marlstone.core.errors import UserError, suggest
from marlstone.envs.faults import Fault

FALLBACKS = ("default", "last", "random")


@dataclass(frozen=True)
class Case:
    """One row of the edge cases' table; whatever is set happens together.

    Fields:
      name: what the table calls it.
      faults: what goes wrong between environment and agents, beside what the run was trained under.
      options: options of the environment that change (`sigma = 0.5`): the world has drifted from what was trained in. What agents see and
        do must stay what it was.
      late: the probability per agent and step that the policy's answer does not come in time; then acts `fallback`.
      fallback: the declared `default`, the `last` action, or a `random` legal one.
      bursts: steps in which answers stay away at a time, on average; 1: each step on its own.
    """

    name: str
    faults: tuple[Fault, ...] = ()
    options: dict[str, bool | int | float | str] = field(default_factory=dict)
    late: float = 0.0
    fallback: str = "default"
    bursts: float = 1.0

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise UserError("name is empty: give the case a name")
        if not 0 <= self.late <= 1:
            raise UserError(f"late is {self.late}: give a number from 0 to 1")
        if self.fallback not in FALLBACKS:
            raise UserError(f"fallback is {self.fallback!r}; {suggest(self.fallback, FALLBACKS)}")
        if self.bursts < 1:
            raise UserError(f"bursts is {self.bursts}: give the steps a burst lasts, at least 1")
        if reward_faults := [f.kind for f in self.faults if f.kind.startswith("reward_")]:
            remedy = "put it under [[faults]], to train with"
            raise UserError(
                f"case {self.name!r}: a finished policy never sees {reward_faults[0]}, which would only falsify the return: {remedy}"
            )
