"""What every action space must answer: the contract between networks, learners, environments and actors.

A space and its policies are one object (`core.distributions`): it declares how many outputs a network needs, samples, and takes log-probs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

from marlstone.core.arrays import Array

if TYPE_CHECKING:  # annotations are not evaluated: processes that step and act import neither JAX nor jaxtyping
    from jaxtyping import Bool, Float


class ActionSpace(Protocol):
    """Everything the rest of the package asks of an action space.

    Leading axes are free (`*b`); all agents of a group come at once. `head [*b h]` is a policy network's output, `action [*b ...]` a
    recorded action, `legal [*b a]` the mask of legal actions, or None where everything is legal. An illegal action must have
    probability 0 in `sample`, `mode`, `log_prob` and `entropy`.
    """

    @property
    def head(self) -> int:
        """Outputs `h` that a policy network needs per agent."""

    @property
    def width(self) -> int:
        """Length `a` of `encode(action)`, and of `legal`."""

    @property
    def action_shape(self) -> tuple[int, ...]:
        """Shape of one agent's recorded action."""

    @property
    def action_dtype(self) -> Any:
        """Dtype of recorded actions, and of emitted ones."""

    def noise(self, key: Array, shape: tuple[int, ...]) -> Array:
        """Noise for `sample`, for `shape` agents.

        Args:
          key: a JAX key, or a NumPy generator in processes without JAX.
        """

    def sample(self, head: Float[Array, "*b h"], legal: Bool[Array, "*b a"] | None, noise: Float[Array, "*b z"]) -> Array:
        """An action drawn from the policy; a function of its arguments alone, so that back ends can be compared action by action."""

    def mode(self, head: Float[Array, "*b h"], legal: Bool[Array, "*b a"] | None) -> Array:
        """The most likely legal action (of a Box: the mean before squashing)."""

    def with_temperature(self, head: Float[Array, "*b h"], temperature: float) -> Float[Array, "*b h"]:
        """The head of the same policy at a temperature above 0: 1 leaves it as it is, less makes it more deterministic."""

    def scale_head(self, w: Float[Array, "*b i h"], b: Float[Array, "*b h"], factor: Array) -> tuple[Array, Array]:
        """A network's last layer, changed so that its policy is `factor` times as sharp."""

    def log_prob(self, head: Float[Array, "*b h"], legal: Bool[Array, "*b a"] | None, action: Array) -> Float[Array, "*b"]:
        """Log-probability (of a Box: log-density) of a recorded action."""

    def entropy(self, head: Float[Array, "*b h"], legal: Bool[Array, "*b a"] | None) -> Float[Array, "*b"]:
        """Entropy in nats."""

    def encode(self, action: Array) -> Float[Array, "*b a"]:
        """An action as networks and credit methods read it: one-hot, or the numbers themselves."""

    def legal_or_default(self, action: Array, legal: Bool[Array, "*b a"] | None, default: Array | None = None) -> Array:
        """The action as it is where it is legal; else `default`, or where that is illegal too the first legal one."""

    def emit(self, action: Array) -> Array:
        """A recorded action as environments take it."""


class Enumerable(ActionSpace, Protocol):
    """A space with a value `q` for every action at once: one number per action, or one per option of each choice, which
    add up (branching, Tavakoli et al. 2018). Shapes: `q [*b h]`."""

    @property
    def terms(self) -> int:
        """How many entries of `q` add up to one action's value."""

    def score(self, q: Float[Array, "*b h"], action: Array) -> Float[Array, "*b"]:
        """Q of one action."""

    def best(self, q: Float[Array, "*b h"], legal: Bool[Array, "*b a"] | None) -> Float[Array, "*b"]:
        """The largest Q of a legal action."""

    def mean(self, q: Float[Array, "*b h"], head: Float[Array, "*b h"], legal: Bool[Array, "*b a"] | None) -> Float[Array, "*b"]:
        """Expected Q under the policy that `head` describes."""

    def greedy(self, q: Float[Array, "*b h"], legal: Bool[Array, "*b a"] | None, epsilon: Array) -> Float[Array, "*b h"]:
        """The head of the epsilon-greedy policy of `q`."""


class Sampled(ActionSpace, Protocol):
    """A space with too many actions to list: expectations are taken over a few representative ones."""

    def points(self, head: Float[Array, "*b h"], legal: Bool[Array, "*b a"] | None = None) -> Array:
        """Recorded actions `[k *b ...]`, equally weighted, over which expectations under the policy are taken."""


def enumerable(space: ActionSpace) -> TypeGuard[Enumerable]:
    """Whether action values of `space` can be listed, as value-based learners need."""
    return hasattr(space, "score")
