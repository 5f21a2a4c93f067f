"""What judges policies: the policies of a run's training seeds in its environment, whichever backend steps that."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from marlstone.algorithm import Algorithm
from marlstone.core.acting import Act
from marlstone.core.types import Trajectory
from marlstone.envs.faults import Fault
from marlstone.play.action_selectors import Decider
from marlstone.play.evaluator import Episodes
from marlstone.play.film import Frame
from marlstone.play.used import Meter
from marlstone.rollout.fault_log import FaultLog
from marlstone.rollout.placement import SeedPlacement
from marlstone.rollout.state import State


class Player(Protocol):
    """Plays whole episodes without learning. `state` has the policies of all seeds; what comes back is `[seeds episodes ...]`."""

    @property
    def algorithm(self) -> Algorithm:
        """What the policies are."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """The training seeds whose policies are played."""

    @property
    def b(self) -> int:
        """Environments of each seed that are stepped side by side."""

    @property
    def placement(self) -> SeedPlacement:
        """How seeds lie on devices: `pad` and `trim` bring stacks of them there and back."""

    @property
    def judged(self) -> FaultLog:
        """Faults of environments in all that was played."""

    @property
    def meter(self) -> Meter:
        """What all that `evaluate` played used, and whatever else was added to it."""

    @property
    def wiring(self) -> Mapping[str, Any] | None:
        """How the environment's dictionaries by agent become groups (`envs.grouping`), as plain JSON; None: it gives groups itself."""

    def evaluate(
        self, state: State | None, episodes: int, act: Act = "mode", *,
        decider: Decider | None = None, faults: tuple[Fault, ...] = (), policies: Any = None, keys: tuple[int, ...] | None = None,
    ) -> Episodes:  # fmt: skip
        """Whole episodes of every seed's policy as it stands.

        Args: `decider` selects actions (default: the policy alone) by `policies` (one entry per slot; default: those of `state`,
        which is not asked otherwise), under
        `faults`; seed i's episodes are drawn from `keys[i]` (default: its own seed): equal keys meet the same episodes.
        """

    def evaluator(
        self, episodes: int, act: Act = "mode", *, decider: Decider | None = None, faults: tuple[Fault, ...] = ()
    ) -> Callable[..., Episodes]:
        """`play(policies, keys=None, act=act)`: `evaluate`, compiled once for many policies and all ways of acting."""

    def under_each(self, state: State, episodes: int, faults: Sequence[Fault], act: Act = "mode") -> Iterator[Episodes]:
        """`evaluate` under each of these faults by itself, in turn."""

    def variants(self, episodes: int, act: Act = "mode", decider: Decider | None = None) -> Callable[..., Episodes]:
        """`play(policies, cut=None, keys=None)`: `evaluate` with links `cut [n n]` (recipient, sender) that carry nothing, compiled once
        for any of these and any policies, so that one program judges whatever could be removed."""

    def elsewhere(self, name: str, options: Mapping[str, Any] | None = None) -> "Player":
        """The same policies in the environment `name` with `options`. Raises `UserError` where agents see or do other things there."""

    def player(self, episodes: int, act: Act | None = None) -> Callable[..., list[Trajectory]]:
        """`play(state, nth=0)`: one whole episode of each of `episodes` fresh environments, per seed as trajectories `[episodes t ...]`."""

    def film(self, state: State, episodes: int, act: Act, shown: int) -> Iterator[Frame]:
        """The first `shown` of `episodes` that the first seed's policy plays, as pictures. Raises `UserError` where there are none."""

    def close(self) -> None:
        """End the processes it started."""
