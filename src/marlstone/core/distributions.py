"""Action spaces and the probability distributions over them. A `head` is a policy network's output; sampling noise is an input.

Because noise comes from outside, actors on different back ends (JAX, NumPy, ONNX) can be compared action by action, and
a rollout draws all its noise at once. Every method takes any leading axes and works on `jax.numpy` and `numpy` arrays.
Noise is drawn from a JAX key or from a NumPy generator; only a key imports JAX, so that worker processes need none.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from marlstone.core.action_space import ActionSpace, Enumerable, Sampled, enumerable
from marlstone.core.arrays import Array

__all__ = [
    "ActionSpace", "Enumerable", "Sampled", "enumerable", "Discrete", "MultiDiscrete", "Box", "Exploring", "ILLEGAL_LOGIT",
    "exploration_head", "draw_group_noise", "concat_agents",
]  # fmt: skip

Exploring = Literal["greedy", "mixed"]
ILLEGAL_LOGIT = -1e9  # logit of an illegal action: finite, so that an all-illegal row is uniform instead of NaN


def _masked(head: Array, legal: Array | None) -> Array:
    return head if legal is None else head.__array_namespace__().where(legal, head, ILLEGAL_LOGIT)


def _log_softmax(x: Array) -> Array:
    xp = x.__array_namespace__()
    x = x - xp.max(x, axis=-1, keepdims=True)
    return x - xp.log(xp.sum(xp.exp(x), axis=-1, keepdims=True))


def _take(x: Array, index: Array) -> Array:
    """`x[..., index]`, as a masked sum: cheaper than a gather on small last axes, forwards and backwards."""
    xp = x.__array_namespace__()
    return xp.sum(xp.where(xp.arange(x.shape[-1]) == index[..., None], x, 0), axis=-1)


def _gumbel(key: Array, shape: tuple[int, ...]) -> Array:
    if isinstance(key, np.random.Generator):  # an exponential's -log; 0, which rounding allows, would be an illegal action's infinity
        return -np.log(np.maximum(key.standard_exponential(shape, np.float32), np.finfo(np.float32).tiny))
    import jax

    return jax.random.gumbel(key, shape)


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
    def terms(self) -> int:
        """One entry of `q` is an action's value."""
        return 1

    def noise(self, key: Array, shape: tuple[int, ...]) -> Array:
        """Standard Gumbel, `[*shape size]`."""
        return _gumbel(key, (*shape, self.size))

    def sample(self, head: Array, legal: Array | None, noise: Array) -> Array:
        """The Gumbel-max trick: argmax of perturbed logits is a sample of their softmax."""
        return self.mode(_masked(head, legal) + noise, None)

    def mode(self, head: Array, legal: Array | None) -> Array:
        """The legal action of the largest logit."""
        xp = head.__array_namespace__()
        return xp.argmax(_masked(head, legal), axis=-1).astype(np.int32)

    def with_temperature(self, head: Array, temperature: float) -> Array:
        """The head of softmax(logits / temperature)."""
        return head / temperature

    def scale_head(self, w: Array, b: Array, factor: Array) -> tuple[Array, Array]:
        """The last layer `w [... i h]`, `b [... h]` of a policy whose logits are `factor` times as large."""
        return w * factor, b * factor

    def log_prob(self, head: Array, legal: Array | None, action: Array) -> Array:
        """Log of the softmax over legal actions."""
        return _take(_log_softmax(_masked(head, legal)), action)

    def entropy(self, head: Array, legal: Array | None) -> Array:
        """Of the softmax over legal actions, in nats."""
        logp = _log_softmax(_masked(head, legal))
        xp = logp.__array_namespace__()
        return -xp.sum(xp.exp(logp) * logp, axis=-1)

    def score(self, q: Array, action: Array) -> Array:
        """The value of one action."""
        return _take(q, action)

    def best(self, q: Array, legal: Array | None) -> Array:
        """The value of the best legal action."""
        return q.__array_namespace__().max(_masked(q, legal), axis=-1)

    def mean(self, q: Array, head: Array, legal: Array | None) -> Array:
        """The value expected of the policy that `head` describes."""
        xp = q.__array_namespace__()
        return xp.sum(xp.exp(_log_softmax(_masked(head, legal))) * q, axis=-1)

    def greedy(self, q: Array, legal: Array | None, epsilon: Array) -> Array:
        """The head of the policy that takes the best action, also its mode at 1, and with probability `epsilon` any legal one."""
        return self._any(self.encode(self.mode(q, legal)), legal, epsilon * (1 - 1e-6))

    def mixed(self, head: Array, legal: Array | None, epsilon: Array, default: Any = None) -> Array:
        """The head of the policy that follows `head`, and with probability `epsilon` takes any legal action; half of these times
        `default`, if one is given and legal."""
        xp = head.__array_namespace__()
        return self._any(xp.exp(_log_softmax(_masked(head, legal))), legal, epsilon, default)

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

    def emit(self, action: Array) -> Array:
        """The index itself."""
        return action


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
    def terms(self) -> int:
        """One entry of `q` per choice adds up to an action's value."""
        return len(self.sizes)

    def _each(self, legal: Array | None) -> list[tuple[int, Discrete, slice, Array | None]]:
        return [(i, d, s, None if legal is None else legal[..., s]) for i, (d, s) in enumerate(self._parts)]

    def noise(self, key: Array, shape: tuple[int, ...]) -> Array:
        """Standard Gumbel, `[*shape sum(sizes)]`."""
        return _gumbel(key, (*shape, self.head))

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
        each = None if default is None else np.broadcast_to(np.asarray(default), (len(self.sizes),))  # one number stands for all choices
        of = lambda i: None if each is None else each[i]
        return xp.concat([d.mixed(head[..., s], ok, epsilon, of(i)) for i, d, s, ok in self._each(legal)], axis=-1)

    def encode(self, action: Array) -> Array:
        """One one-hot per choice, concatenated."""
        xp = action.__array_namespace__()
        return xp.concat([d.encode(action[..., i]) for i, d, _, _ in self._each(None)], axis=-1)

    def emit(self, action: Array) -> Array:
        """The indices themselves."""
        return action


@dataclass(frozen=True)
class Box:
    """`size` numbers in (-1, 1): a diagonal Gaussian squashed by tanh (Haarnoja et al. 2018, appendix C).

    The recorded action is the Gaussian's sample u, from which log-probs are exact; `emit` squashes it, and adapters
    scale to the environment's own bounds. `legal` masks padded dimensions where agents differ in size.

        log p(a) = sum_d [log N(u_d; mean_d, std_d) - log(1 - tanh(u_d)^2)]

    Departure: `entropy` is the Gaussian's own plus the mean of the Jacobian at the mean action, since the squashed
    entropy has no closed form.
    """

    size: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"Box.size is {self.size}: an action space needs at least one number")

    @property
    def head(self) -> int:
        """A mean and a log standard deviation per dimension."""
        return 2 * self.size

    @property
    def width(self) -> int:
        """The number of dimensions."""
        return self.size

    def _split(self, head: Array) -> tuple[Array, Array]:
        xp = head.__array_namespace__()
        return head[..., : self.size], xp.clip(head[..., self.size :] - 0.5, -5.0, 1.0)

    @staticmethod
    def _log_slope(u: Array) -> Array:
        """log(1 - tanh(u)^2), stable: 2 (log 2 - u - softplus(-2u))."""
        xp = u.__array_namespace__()
        return 2 * (math.log(2) - u - xp.logaddexp(-2 * u, xp.zeros_like(u)))

    @staticmethod
    def _sum(x: Array, legal: Array | None) -> Array:
        xp = x.__array_namespace__()
        return xp.sum(x if legal is None else xp.where(legal, x, 0), axis=-1)

    def noise(self, key: Array, shape: tuple[int, ...]) -> Array:
        """Standard normal, `[*shape size]`."""
        if isinstance(key, np.random.Generator):
            return key.standard_normal((*shape, self.size), np.float32)
        import jax

        return jax.random.normal(key, (*shape, self.size))

    def sample(self, head: Array, legal: Array | None, noise: Array) -> Array:
        """The Gaussian's sample `mean + std z`, not yet squashed."""
        mean, log_std = self._split(head)
        xp = head.__array_namespace__()
        return mean + xp.exp(log_std) * noise

    def mode(self, head: Array, legal: Array | None) -> Array:
        """The Gaussian's mean, not yet squashed."""
        return self._split(head)[0]

    def with_temperature(self, head: Array, temperature: float) -> Array:
        """The head of a standard deviation times `temperature`, as far as deviations may go: from e^-5 to e."""
        mean, log_std = self._split(head)
        return head.__array_namespace__().concat([mean, log_std + (0.5 + math.log(temperature))], axis=-1)

    def scale_head(self, w: Array, b: Array, factor: Array) -> tuple[Array, Array]:
        """The last layer `w [... i h]`, `b [... h]` of a policy whose standard deviations are divided by `factor`."""
        xp = b.__array_namespace__()
        return w, b - xp.log(factor) * (xp.arange(b.shape[-1]) >= self.size)

    def log_prob(self, head: Array, legal: Array | None, action: Array) -> Array:
        """Log-density of the squashed action, over real (legal) dimensions."""
        mean, log_std = self._split(head)
        xp = head.__array_namespace__()
        gauss = -0.5 * ((action - mean) * xp.exp(-log_std)) ** 2 - log_std - 0.5 * math.log(2 * math.pi)
        return self._sum(gauss - self._log_slope(action), legal)

    def entropy(self, head: Array, legal: Array | None) -> Array:
        """The Gaussian's entropy plus the log-Jacobian of tanh at the mean, in nats (see the class)."""
        mean, log_std = self._split(head)
        return self._sum(log_std + 0.5 * math.log(2 * math.pi * math.e) + self._log_slope(mean), legal)

    def points(self, head: Array) -> Array:
        """Recorded actions over which expectations under the policy are taken, equally weighted, `[8 ... size]`: antithetic normal
        draws, the same in every row, scaled so that means of linear and squared terms are exact."""
        mean, log_std = self._split(head)
        xp = head.__array_namespace__()
        half = np.random.default_rng(0).normal(size=(4, self.size))
        draws = np.concatenate([half, -half]) / np.sqrt((half**2).mean(0))
        spread = xp.asarray(draws, dtype=head.dtype).reshape(8, *(1,) * (head.ndim - 1), self.size)
        return mean[None] + xp.exp(log_std)[None] * spread

    def encode(self, action: Array) -> Array:
        """The squashed action, in (-1, 1)."""
        return self.emit(action)

    def emit(self, action: Array) -> Array:
        """The squashed action, in (-1, 1); adapters scale it to the environment's bounds."""
        return action.__array_namespace__().tanh(action)


def exploration_head(how: Exploring, space: ActionSpace, head: Array, legal: Array | None, explore: Array, default: Any) -> Array:
    """The head of the policy that explores: `greedy` takes a head as action values; `mixed` follows it, where actions can be listed."""
    if how == "greedy":
        return space.greedy(head, legal, explore)  # type: ignore[attr-defined]
    return space.mixed(head, legal, explore, default) if isinstance(space, Discrete | MultiDiscrete) else head


def draw_group_noise(spaces: list[ActionSpace], counts: list[int], key: Array, shape: tuple[int, ...]) -> tuple[Array, ...]:
    """Sampling noise for every group, `[*shape n_g ...]`; one key per group, so that groups do not disturb each other."""
    import jax

    keys = jax.random.split(key, len(spaces))
    return tuple(s.noise(k, (*shape, n)) for s, k, n in zip(spaces, keys, counts, strict=True))


def concat_agents(parts: list[Array]) -> Array:
    """Per-group `[... n_g]` onto the one agent axis, `[... n]`."""
    return parts[0] if len(parts) == 1 else parts[0].__array_namespace__().concat(parts, axis=-1)
