"""One choice out of a list: a categorical policy."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from marlstone.core.arrays import Array
from marlstone.core.distributions.categorical import gumbel, log_softmax, masked, take


@dataclass(frozen=True)
class Discrete:
    """One of `size` actions, a categorical policy. Actions are int32 `[...]`; noise is Gumbel `[... size]`."""

    size: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"Discrete.size is {self.size}: an action space needs at least one action")

    @property
    def head(self) -> int:
        """One logit per action."""
        return self.size

    @property
    def width(self) -> int:
        """One-hot length: the number of actions."""
        return self.size

    @property
    def action_shape(self) -> tuple[int, ...]:
        """One index."""
        return ()

    @property
    def action_dtype(self) -> Any:
        """Indices are whole numbers."""
        return np.int32

    @property
    def terms(self) -> int:
        """One entry of `q` is an action's value."""
        return 1

    def noise(self, key: Array, shape: tuple[int, ...]) -> Array:
        """Standard Gumbel, `[*shape size]`."""
        return gumbel(key, (*shape, self.size))

    def sample(self, head: Array, legal: Array | None, noise: Array) -> Array:
        """The Gumbel-max trick: argmax of perturbed logits is a sample of their softmax."""
        return self.mode(masked(head, legal) + noise, None)

    def mode(self, head: Array, legal: Array | None) -> Array:
        """The legal action of the largest logit."""
        xp = head.__array_namespace__()
        return xp.argmax(masked(head, legal), axis=-1).astype(np.int32)

    def with_temperature(self, head: Array, temperature: float) -> Array:
        """The head of softmax(logits / temperature)."""
        return head / temperature

    def scale_head(self, w: Array, b: Array, factor: Array) -> tuple[Array, Array]:
        """The last layer `w [... i h]`, `b [... h]` of a policy whose logits are `factor` times as large."""
        return w * factor, b * factor

    def log_prob(self, head: Array, legal: Array | None, action: Array) -> Array:
        """Log of the softmax over legal actions."""
        return take(log_softmax(masked(head, legal)), action)

    def entropy(self, head: Array, legal: Array | None) -> Array:
        """Of the softmax over legal actions, in nats."""
        logp = log_softmax(masked(head, legal))
        xp = logp.__array_namespace__()
        return -xp.sum(xp.exp(logp) * logp, axis=-1)

    def score(self, q: Array, action: Array) -> Array:
        """The value of one action."""
        return take(q, action)

    def best(self, q: Array, legal: Array | None) -> Array:
        """The value of the best legal action."""
        return q.__array_namespace__().max(masked(q, legal), axis=-1)

    def mean(self, q: Array, head: Array, legal: Array | None) -> Array:
        """The value expected of the policy that `head` describes."""
        xp = q.__array_namespace__()
        return xp.sum(xp.exp(log_softmax(masked(head, legal))) * q, axis=-1)

    def greedy(self, q: Array, legal: Array | None, epsilon: Array) -> Array:
        """The head of the policy that takes the best action, also its mode at 1, and with probability `epsilon` any legal one."""
        return self._any(self.encode(self.mode(q, legal)), legal, epsilon * (1 - 1e-6))

    def mixed(self, head: Array, legal: Array | None, epsilon: Array, default: Any = None) -> Array:
        """The head of the policy that follows `head`, and with probability `epsilon` takes any legal action; half of these times
        `default`, if one is given and legal."""
        xp = head.__array_namespace__()
        return self._any(xp.exp(log_softmax(masked(head, legal))), legal, epsilon, default)

    def _any(self, p: Array, legal: Array | None, epsilon: Array, default: Any = None) -> Array:
        xp = p.__array_namespace__()
        allowed = xp.ones_like(p) if legal is None else legal.astype(p.dtype)
        share = allowed / xp.maximum(xp.sum(allowed, axis=-1, keepdims=True), 1)
        if default is not None:
            chosen = allowed * self.encode(xp.asarray(default))
            share = xp.where(xp.any(chosen > 0, axis=-1, keepdims=True), (share + chosen) / 2, share)
        return xp.log(xp.maximum((1 - epsilon) * p + epsilon * share, 1e-12))

    def encode(self, action: Array) -> Array:
        """One-hot, `[*b size]`."""
        xp = action.__array_namespace__()
        return (xp.arange(self.size) == action[..., None]).astype(np.float32)

    def legal_or_default(self, action: Array, legal: Array | None, default: Array | None = None) -> Array:
        """The action where it is legal; else the default, or where that is illegal too the first legal one."""
        wish = (
            self.encode(action)
            if default is None
            else self.encode(action) + 0.5 * action.__array_namespace__().asarray(self.encode(default))
        )
        return self.mode(wish, legal).astype(action.dtype)

    def emit(self, action: Array) -> Array:
        """The index itself."""
        return action
