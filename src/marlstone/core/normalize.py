"""Running moments of observations and of value targets: part of the training state, frozen into the exported actor.

Moments are kept per parameter set, so that agents who share no parameters share no statistics either. JAX is imported
only where moments are made and moved, so that processes which only act need none.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from marlstone.core.arrays import Array
from marlstone.core.records import record

Total = Callable[[Any], Any]  # sums a tree over the devices that hold parts of a batch
CLIP = 10.0  # normalized observations are clipped here, in standard deviations


@record
class Moments:
    """Mean and variance of observations over everything seen so far, per feature, with a leading parameter-set axis `k` if there is one.

    Attributes:
      mean: `[(k) f]`.
      var: `[(k) f]`, about the mean; 1 before anything was seen.
      count: `[(k) f]`, how many observations.
    """

    mean: Array
    var: Array
    count: Array


def init_moments(shape: tuple[int, ...]) -> Moments:
    """Moments of nothing yet: mean 0, variance 1, so that `normalize` leaves observations as they are."""
    import jax.numpy as jnp

    return Moments(jnp.zeros(shape), jnp.ones(shape), jnp.zeros(shape))


def merge_moments(m: Moments, x: Array, weight: Array, axes: tuple[int, ...], total: Total = lambda x: x) -> Moments:
    """Moments after another batch, by the parallel update.

    Args:
      m: moments so far.
      x: the batch, `[... f]`.
      weight: 1 where an observation counts, else 0; broadcast against `x`.
      axes: which axes of `x` to merge over.
      total: sums a tree over the devices that hold parts of the batch.

    Source: Chan, Golub and LeVeque 1979.
    """
    import jax.numpy as jnp

    weight = jnp.broadcast_to(weight, jnp.broadcast_shapes(x.shape, weight.shape))
    count, mean = total((weight.sum(axes), (x * weight).sum(axes)))
    safe = jnp.maximum(count, 1)
    mean = mean / safe
    var = total((weight * (x - jnp.expand_dims(mean, axes)) ** 2).sum(axes)) / safe
    seen = m.count + count
    share = count / jnp.maximum(seen, 1)
    gap = mean - m.mean
    merged = Moments(m.mean + gap * share, m.var * (1 - share) + var * share + gap**2 * share * (1 - share), seen)
    return Moments(merged.mean, jnp.where(seen > 0, merged.var, m.var), seen)


def normalize(m: Moments, x: Array) -> Array:
    """Zero mean, unit variance, clipped at 10 standard deviations."""
    xp = x.__array_namespace__()
    return ((x - m.mean) / xp.sqrt(m.var + 1e-6)).clip(-CLIP, CLIP)


@record
class EmaMoments:
    """Exponential moving moments of value targets per parameter set, `[k]` each, free of the bias to zero.

    The variance is kept about the mean: a raw square would lose it where targets are large and close together.

    Attributes:
      mean: of the targets.
      var: about the mean.
      weight: the sum of the moving average's weights so far, at most 1; 0 before anything was seen.
    """

    mean: Array
    var: Array
    weight: Array

    @property
    def mu(self) -> Array:
        """What is subtracted from a value target to normalize it."""
        return self.mean

    @property
    def sigma(self) -> Array:
        """What a value target is divided by: the standard deviation, 1 before anything was seen."""
        import jax.numpy as jnp

        return jnp.where(self.weight > 0, jnp.sqrt(jnp.maximum(self.var, 1e-6)), 1.0)


def init_ema_moments(sets: int) -> EmaMoments:
    """Moments of no targets yet, for `sets` parameter sets."""
    import jax.numpy as jnp

    return EmaMoments(*(jnp.zeros(sets) for _ in range(3)))


@record
class Scales:
    """Scales of what critics predict.

    Attributes:
      value: of state values and action values.
      gap: of how much better than the state's value a joint action is.
      cost: of costs to come, where these are constrained.
    """

    value: EmaMoments
    gap: EmaMoments
    cost: EmaMoments | None = None


def update_moments(t: EmaMoments, x: Array, mask: Array, members: np.ndarray, rate: float, total: Total = lambda x: x) -> EmaMoments:
    """Moments after another batch of value targets.

    Args:
      t: moments so far.
      x: targets, `[b t n]`.
      mask: which of them count, `[b t n]`.
      members: `[n k]`, 1 where an agent belongs to a parameter set.
      rate: step size of the moving average.
      total: sums a tree over the devices that hold parts of the batch.
    """
    import jax.numpy as jnp

    sums = lambda y: jnp.einsum("btn,nk->k", jnp.where(mask, y, 0.0), members)
    count, mean = total((sums(1.0), sums(x)))
    safe = jnp.maximum(count, 1)
    mean = mean / safe
    var = total(sums((x - mean[np.argmax(members, -1)]) ** 2)) / safe
    step = jnp.where(count > 0, rate, 0.0)
    weight = t.weight + step * (1 - t.weight)
    share = step / jnp.maximum(weight, 1e-8)
    gap = mean - t.mean
    return EmaMoments(t.mean + share * gap, (1 - share) * (t.var + share * gap**2) + share * var, weight)
