"""What agents used of an environment's tools and memories, as its steps record it: counted on the device, exactly."""

from typing import Any

from marlstone.core.types import Spec, Trajectory

Array = Any
LEAF = "usage"
"""The observation leaf, of kind `record`, in which an environment with tools writes what the last joint action used, `[n_g 6]`."""
USAGE = ("tool_calls", "attempts", "retries", "memory_reads", "memory_writes", "price")
"""Its columns. `price`: what that cost, in the currency of the environment's prices at the time."""
MICRO = 1_000_000
"""Prices are counted in whole millionths of a unit of currency, each step's rounded by itself, so that their sums are exact."""
LOW_BITS = 16


def used_in(spec: Spec, trajectory: Trajectory) -> dict[str, Array]:
    """Decisions of every agent over the joint steps of a batch `[b t ...]`, and where environments record it what they used.

    Returns: `decisions [n]`; of agents with a `usage` leaf, whole numbers of its first five columns by name, `[n]`, and prices in two
    parts, `price_low` and `price_high`, which `price_micro` puts together. Integers of 32 bits; nothing is rounded but a step's price.
    """
    following = {i: leaves[LEAF][:, 1:] for i, leaves in enumerate(trajectory.step.obs) if LEAF in leaves}
    return counted(spec, trajectory.acts, trajectory.real, following)


def counted(spec: Spec, acts: Array, real: Array, usage: dict[int, Array], axes: tuple[int, ...] = (0, 1)) -> dict[str, Array]:
    """`used_in` of what it reads: who decides, `acts [... n]`; which are joint steps, `real [...]`; by group, the usage that the step
    after recorded, `[... n_g 6]`. Summed over `axes`."""
    import jax.numpy as jnp

    out = {"decisions": acts.astype(jnp.int32).sum(axes)}
    if not usage:
        return out
    blank = lambda g: jnp.zeros((*real.shape, g.count, len(USAGE)), jnp.float32)
    groups = [usage[i] if i in usage else blank(g) for i, g in enumerate(spec.groups)]
    table = jnp.where(real[..., None, None], jnp.concatenate(groups, axis=-2), 0)
    whole = jnp.rint(table[..., :-1]).astype(jnp.int32).sum(axes)
    micro = jnp.rint(table[..., -1] * MICRO).astype(jnp.int32)
    out |= {name: whole[..., k] for k, name in enumerate(USAGE[:-1])}
    return out | {"price_low": (micro & ((1 << LOW_BITS) - 1)).sum(axes), "price_high": (micro >> LOW_BITS).sum(axes)}


def price_micro(low: int, high: int) -> int:
    """Millionths of a unit of currency from the two sums that `used_in` gives."""
    return (int(high) << LOW_BITS) + int(low)
