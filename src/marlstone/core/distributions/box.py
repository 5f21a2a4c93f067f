"""Bounded numbers: a diagonal Gaussian squashed by tanh."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from marlstone.core.arrays import Array


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

    @property
    def action_shape(self) -> tuple[int, ...]:
        """All numbers."""
        return (self.size,)

    @property
    def action_dtype(self) -> Any:
        """Numbers before they are squashed."""
        return np.float32

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

    def points(self, head: Array, legal: Array | None = None) -> Array:
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

    def legal_or_default(self, action: Array, legal: Array | None, default: Array | None = None) -> Array:
        """The action: no number is illegal."""
        return action

    def emit(self, action: Array) -> Array:
        """The squashed action, in (-1, 1); adapters scale it to the environment's bounds."""
        return action.__array_namespace__().tanh(action)
