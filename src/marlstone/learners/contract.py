"""How signals become parameters. A learner says what it needs, what it asks credit, its fixed targets and its losses."""

from typing import Any, ClassVar, Protocol

from marlstone.core.distributions import ActionSpace
from marlstone.core.records import record
from marlstone.core.types import Chunk, Views

Array = Any


@record
class Losses:
    """Per element, `[b t n]`; the algorithm masks and averages, once, so that no part can forget to.

    `deciding` counts where an agent acts; `predicting` wherever its value is used, which under team pay includes rows
    after an agent's own death.
    """

    deciding: Array
    predicting: Array


@record
class Fixed:
    """Computed once per batch, without gradient, `[b t n]`: proximal log-probs, advantages, value targets, where those are predicted."""

    logp: Array
    advantage: Array
    target: Array
    predicted: Array


class Asked(Protocol):
    """Credit as a learner meets it: over a batch, `[b t n]`, speaking for everyone."""

    def reward(self, views: Views, chunk: Chunk) -> tuple[Array, Array]: ...
    def advantage(self, views: Views, chunk: Chunk, td: Array) -> Array: ...
    def loss(self, views: Views, chunk: Chunk) -> Array | None: ...


class Learner(Protocol):
    """`asks`: the credit questions it puts; `withholds`: views it cannot offer."""

    asks: ClassVar[frozenset[str]]
    withholds: ClassVar[frozenset[str]]

    @property
    def epochs(self) -> int: ...
    @property
    def minibatches(self) -> int: ...
    @property
    def max_grad_norm(self) -> float: ...
    @property
    def normalize_observations(self) -> bool: ...
    @property
    def normalize_values(self) -> bool: ...
    @property
    def normalize_advantages(self) -> bool: ...
    def rate(self, progress: Array) -> Array: ...
    def refuses(self, space: ActionSpace) -> str | None: ...
    def needs(self, answers: frozenset[str]) -> frozenset[str]: ...
    def targets(self, asked: Asked, views: Views, chunk: Chunk) -> Fixed: ...
    def loss(
        self, asked: Asked, views: Views, chunk: Chunk, fixed: Fixed, sigma: Array, progress: Array
    ) -> tuple[Losses, dict[str, Array]]: ...
