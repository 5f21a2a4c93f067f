"""What policies over listed options are made of: masked logits, log-softmax, look-ups, Gumbel noise. NumPy and JAX alike."""

import numpy as np

from marlstone.core.arrays import Array

ILLEGAL_LOGIT = -1e9
"""Logit of an illegal action: finite, so that a step on which nothing is legal is uniform instead of NaN."""


def masked(head: Array, legal: Array | None) -> Array:
    """Logits with those of illegal options at `ILLEGAL_LOGIT`."""
    return head if legal is None else head.__array_namespace__().where(legal, head, ILLEGAL_LOGIT)


def log_softmax(x: Array) -> Array:
    """Log-probabilities of logits along the last axis, stable for large ones."""
    xp = x.__array_namespace__()
    x = x - xp.max(x, axis=-1, keepdims=True)
    return x - xp.log(xp.sum(xp.exp(x), axis=-1, keepdims=True))


def take(x: Array, index: Array) -> Array:
    """`x[..., index]`, as a masked sum: cheaper than a gather on small last axes, forwards and backwards."""
    xp = x.__array_namespace__()
    return xp.sum(xp.where(xp.arange(x.shape[-1]) == index[..., None], x, 0), axis=-1)


def gumbel(key: Array, shape: tuple[int, ...]) -> Array:
    """Standard Gumbel noise, from a JAX key or a NumPy generator."""
    if isinstance(key, np.random.Generator):  # an exponential's -log; 0, which rounding allows, would be an illegal action's infinity
        return -np.log(np.maximum(key.standard_exponential(shape, np.float32), np.finfo(np.float32).tiny))
    import jax

    return jax.random.gumbel(key, shape)
