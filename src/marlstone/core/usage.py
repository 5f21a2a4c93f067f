"""What agents use beside their actions, counted step by step: calls of tools, look-ups in a memory, and what they cost.

An environment with tools or a memory writes a leaf `usage` of kind `record` in every step, `[n_g 6]` per group of the team: what each
agent's last action used. No network sees it. Quantities are whole numbers in float32, each far below 2^24 in one step; sums belong in
integers.
"""

from typing import Any

import numpy as np

from marlstone.core.arrays import Array
from marlstone.core.ledger import MICRO
from marlstone.core.types import Spec, Step, Trajectory

USAGE = ("tool_calls", "attempts", "retries", "memory_reads", "memory_writes", "price")
"""The leaf's numbers: calls that were admitted; attempts made for them, the first of each and retries; retries alone; look-ups and writes;
and the price of it all, in the table's currency at the time."""
LEAF = "usage"
CALLS, ATTEMPTS, RETRIES, READS, WRITES, PRICE = range(len(USAGE))
METRICS = (*USAGE[:PRICE], "usage_price")
"""The metric that an environment declares of each, a sum over an episode."""

LOW_BITS = 16


def records_usage(spec: Spec) -> bool:
    """Whether steps of this spec say what was used."""
    return any(LEAF in g.observation for g in spec.groups)


def usage_of(spec: Spec, step: Step) -> Array:
    """What every agent's last action used, `[*t n 6]`; zeros for groups that record nothing, such as managers."""
    xp = step.reward.__array_namespace__()
    lead = step.reward.shape[:-1]
    blank = lambda g: xp.zeros((*lead, g.count, len(USAGE)), np.float32)
    parts: list[Any] = [leaves[LEAF] if LEAF in leaves else blank(g) for g, leaves in zip(spec.groups, step.obs, strict=True)]
    return xp.concat(parts, axis=-2)


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
