"""Several independent choices at once: a categorical policy each."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from marlstone.core.arrays import Array
from marlstone.core.distributions.categorical import gumbel
from marlstone.core.distributions.discrete import Discrete


@dataclass(frozen=True)
class MultiDiscrete:
    """Several independent choices at once. Actions are int32 `[... len(sizes)]`; `legal`, head and noise are `[... sum(sizes)]`."""

    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.sizes or min(self.sizes) < 1:
            raise ValueError(f"MultiDiscrete.sizes is {self.sizes}: every choice needs at least one option")

    @cached_property
    def _parts(self) -> tuple[tuple[Discrete, slice], ...]:
        ends = np.cumsum(self.sizes)
        return tuple((Discrete(s), slice(int(e) - s, int(e))) for s, e in zip(self.sizes, ends, strict=True))

    @property
    def head(self) -> int:
        """Logits of every choice, one after another."""
        return sum(self.sizes)

    @property
    def width(self) -> int:
        """Length of all one-hots together."""
        return sum(self.sizes)

    @property
    def action_shape(self) -> tuple[int, ...]:
        """One index per choice."""
        return (len(self.sizes),)

    @property
    def action_dtype(self) -> Any:
        """Indices are whole numbers."""
        return np.int32

    @property
    def terms(self) -> int:
        """One entry of `q` per choice adds up to an action's value."""
        return len(self.sizes)

    def _each(self, legal: Array | None) -> list[tuple[int, Discrete, slice, Array | None]]:
        return [(i, d, s, None if legal is None else legal[..., s]) for i, (d, s) in enumerate(self._parts)]

    def noise(self, key: Array, shape: tuple[int, ...]) -> Array:
        """Standard Gumbel, `[*shape sum(sizes)]`."""
        return gumbel(key, (*shape, self.head))

    def sample(self, head: Array, legal: Array | None, noise: Array) -> Array:
        """Every choice by the Gumbel-max trick."""
        xp = head.__array_namespace__()
        return xp.stack([d.sample(head[..., s], ok, noise[..., s]) for _, d, s, ok in self._each(legal)], axis=-1)

    def mode(self, head: Array, legal: Array | None) -> Array:
        """The legal option of the largest logit in every choice."""
        xp = head.__array_namespace__()
        return xp.stack([d.mode(head[..., s], ok) for _, d, s, ok in self._each(legal)], axis=-1)

    def with_temperature(self, head: Array, temperature: float) -> Array:
        """The head of softmax(logits / temperature), choice by choice."""
        return head / temperature

    def scale_head(self, w: Array, b: Array, factor: Array) -> tuple[Array, Array]:
        """The last layer `w [... i h]`, `b [... h]` of a policy whose logits are `factor` times as large."""
        return w * factor, b * factor

    def log_prob(self, head: Array, legal: Array | None, action: Array) -> Array:
        """The sum over choices, which are independent."""
        return sum(d.log_prob(head[..., s], ok, action[..., i]) for i, d, s, ok in self._each(legal))

    def entropy(self, head: Array, legal: Array | None) -> Array:
        """The sum over choices, in nats."""
        return sum(d.entropy(head[..., s], ok) for _, d, s, ok in self._each(legal))

    def score(self, q: Array, action: Array) -> Array:
        """The sum over choices of the chosen options' values (branching, Tavakoli et al. 2018)."""
        return sum(d.score(q[..., s], action[..., i]) for i, d, s, _ in self._each(None))

    def best(self, q: Array, legal: Array | None) -> Array:
        """The sum over choices of the best legal option's value."""
        return sum(d.best(q[..., s], ok) for _, d, s, ok in self._each(legal))

    def mean(self, q: Array, head: Array, legal: Array | None) -> Array:
        """The sum over choices of the expected value under the policy of `head`."""
        return sum(d.mean(q[..., s], head[..., s], ok) for _, d, s, ok in self._each(legal))

    def greedy(self, q: Array, legal: Array | None, epsilon: Array) -> Array:
        """The head of the policy that is epsilon-greedy in every choice by itself."""
        xp = q.__array_namespace__()
        return xp.concat([d.greedy(q[..., s], ok, epsilon) for _, d, s, ok in self._each(legal)], axis=-1)

    def mixed(self, head: Array, legal: Array | None, epsilon: Array, default: Any = None) -> Array:
        """The head that explores in every choice by itself, as `Discrete.mixed`."""
        xp = head.__array_namespace__()
        of = lambda i: None if default is None else choice_default(default, i)
        return xp.concat([d.mixed(head[..., s], ok, epsilon, of(i)) for i, d, s, ok in self._each(legal)], axis=-1)

    def encode(self, action: Array) -> Array:
        """One one-hot per choice, concatenated."""
        xp = action.__array_namespace__()
        return xp.concat([d.encode(action[..., i]) for i, d, _, _ in self._each(None)], axis=-1)

    def legal_or_default(self, action: Array, legal: Array | None, default: Array | None = None) -> Array:
        """Choice by choice as `Discrete.legal_or_default`."""
        xp = action.__array_namespace__()
        of = lambda i: None if default is None else default[..., i]
        return xp.stack([d.legal_or_default(action[..., i], ok, of(i)) for i, d, _, ok in self._each(legal)], axis=-1)

    def emit(self, action: Array) -> Array:
        """The indices themselves."""
        return action


def choice_default(default: Any, i: int) -> Any:
    """Choice i of a group's declared default: one number stands for all choices; of several agents' defaults, everybody's, `[n_g]`."""
    declared = np.asarray(default)
    return declared if declared.ndim == 0 else declared[..., i]
