"""How signals become parameters. A learner says what it needs, what it asks credit, its fixed targets and its losses."""

from typing import Any, ClassVar, Protocol

from marlstone.core.distributions import ActionSpace
from marlstone.core.records import record
from marlstone.core.types import Step, Trajectory, Views
from marlstone.learners.replay import Replay

Array = Any


@record
class Losses:
    """Per element, `[b t n]`; the algorithm masks and averages, once, so that no part can forget to.

    `deciding` counts where an agent acts; `predicting` wherever its value is used, which under team pay includes rows
    after an agent's own death; `gap`, of action values, where an agent acts, and is divided by their squared scale.
    """

    deciding: Array
    predicting: Array
    gap: Any = None


@record
class LearningTargets:
    """Computed once per batch, without gradient, `[b t n]`: value targets and where those are predicted; and for policies, proximal
    log-probs, advantages, and how much better than expected the joint action was."""

    target: Array
    predicted: Array
    logp: Any = None
    advantage: Any = None
    gap: Any = None


class Needs(Protocol):
    """Credit as a learner asks after it."""

    needs: ClassVar[frozenset[str]]

    def answers(self) -> frozenset[str]: ...


class Asked(Protocol):
    """Credit as a learner meets it: over a batch, `[b t n]`, speaking for everyone."""

    def reward(self, views: Views, trajectory: Trajectory) -> tuple[Array, Array]: ...
    def beyond(self, views: Views, trajectory: Trajectory) -> Array: ...
    def predict(self, chosen: Array, best: Array, step: Step) -> Array: ...
    def advantage(self, views: Views, trajectory: Trajectory, td: Array) -> Array: ...
    def loss(self, views: Views, trajectory: Trajectory) -> Array | None: ...


def in_range(learner: Any, ranges: dict[str, bool]) -> None:
    """Raises ValueError for the first field that is out of range, naming its value and its default."""
    for name, ok in ranges.items():
        if not ok:
            part, default = type(learner).__name__, type(learner).__dataclass_fields__[name].default
            raise ValueError(f"{part}.{name} is {getattr(learner, name)}: out of range, the default is {default}")


class Learner(Protocol):
    """`asks`: the credit questions it puts; `withholds`: views it cannot offer,
    `offers`: those it makes itself; `values_are_heads`: what actors say are action values; `lags`: whether it keeps target networks.

    A learner may name fields that only arithmetic reads in `traced: ClassVar[tuple[str, ...]]`: one compiled program serves all values.
    It may change the actors' networks after every update by `sharpened(spaces, actor, progress, version) -> actor`."""

    asks: ClassVar[frozenset[str]]
    withholds: ClassVar[frozenset[str]]
    offers: ClassVar[frozenset[str]]
    values_are_heads: ClassVar[bool]
    lags: ClassVar[bool]

    @property
    def epochs(self) -> int: ...
    @property
    def minibatches(self) -> int: ...
    @property
    def replay(self) -> Replay | None: ...
    @property
    def max_grad_norm(self) -> float: ...
    @property
    def normalize_observations(self) -> bool: ...
    @property
    def normalize_values(self) -> bool: ...
    @property
    def normalize_advantages(self) -> bool: ...
    def rate(self, progress: Array) -> tuple[Array, Array]: ...
    def explore(self, progress: Array) -> Array: ...
    def behave(self, space: ActionSpace, head: Array, legal: Array | None, explore: Array, default: Any) -> Array: ...
    def refuses(self, space: ActionSpace) -> str | None: ...
    def needs(self, credit: Needs) -> frozenset[str]: ...
    def check_divergence(self, now: dict[str, float], highest: dict[str, float]) -> str | None: ...
    def update_target(self, target_params: Any, nets: Any, opt: Any) -> Any: ...
    def targets(
        self, asked: Asked, views: Views, trajectory: Trajectory, target_params: Asked | None = None, then: Views | None = None
    ) -> LearningTargets: ...
    def loss(
        self, asked: Asked, views: Views, trajectory: Trajectory, fixed: LearningTargets, sigma: Array, progress: Array
    ) -> tuple[Losses, dict[str, Array]]: ...
