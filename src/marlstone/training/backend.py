"""What the training loop asks of a backend: `fused` and `host` answer it, and the fleet's learner."""

from collections.abc import Callable
from typing import Protocol

from marlstone.core.flops import Flops
from marlstone.envs.guards import BadStep
from marlstone.play.player import Player
from marlstone.rollout.fault_log import FaultSource
from marlstone.rollout.state import Report, State
from marlstone.training.limit import LONGEST, Limit


class Backend(Player, FaultSource, Protocol):
    """Trains all seeds of a run, `total` updates each."""

    @property
    def total(self) -> int:
        """Updates of the whole budget."""

    @property
    def consumes(self) -> bool:
        """Whether training gives up the state it is given, so that its memory is used again."""

    def start(self) -> State:
        """The state before the first update, of all seeds."""

    def restored(self, state: State) -> State:
        """A loaded state, ready to go on."""

    def entered(self, state: State) -> State:
        """The state of a training that comes from other environments: what was learned, in fresh episodes of these."""

    def compile(self, state: State, most: int) -> Callable[[State, int], tuple[State, Report]]:
        """`advance(state, n)`: n updates of every seed, at most `most`; reports are stacked `[seeds n ...]`."""

    def refusal(self, state: State) -> BadStep | None:
        """The first fault met, where faults are refused and only counts leave the device."""

    def figures(self) -> list[dict[str, float]]:
        """More to record at a contact, per seed."""

    def saved(self) -> None:
        """Told that a checkpoint holds all that was trained so far."""

    def ended(self) -> None:
        """Told that training ended before its steps were used up."""

    def limit(self, flops: Flops, seconds: float = LONGEST) -> Limit:
        """How fast training could be where a joint step costs `flops` in products."""
