"""Sums over a batch that several devices hold parts of."""

from typing import Any

from jax import lax
from jax.flatten_util import ravel_pytree

SHARD = "shard"  # the device axis over which one seed's environments are spread


def psum_over_shards(tree: Any, shards: int) -> Any:
    """Each leaf summed over the devices that share a seed, in one message for them all; as it is where one device holds everything."""
    if shards == 1:
        return tree
    flat, back = ravel_pytree(tree)
    return back(lax.psum(flat, SHARD))


def shard_slice(x: Any, shards: int, axis: int) -> Any:
    """This device's slice of `x` along `axis`."""
    if shards == 1:
        return x
    size = x.shape[axis] // shards
    return lax.dynamic_slice_in_dim(x, lax.axis_index(SHARD) * size, size, axis)
