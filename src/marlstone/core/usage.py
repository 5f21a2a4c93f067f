"""What agents use beside their actions, counted step by step: calls of tools, look-ups in a memory, and what they cost.

An environment with tools or a memory writes a leaf `usage` of kind `record` in every step, `[n_g 6]` per group of the team: what each
agent's last action used. No network sees it. Quantities are whole numbers in float32, each far below 2^24 in one step; sums belong in
integers.
"""

from typing import Any

import numpy as np

from marlstone.core.arrays import Array
from marlstone.core.types import Spec, Step

USAGE = ("tool_calls", "attempts", "retries", "memory_reads", "memory_writes", "price")
"""The leaf's numbers: calls that were admitted; attempts made for them, the first of each and retries; retries alone; look-ups and writes;
and the price of it all, in the table's currency at the time."""
LEAF = "usage"
CALLS, ATTEMPTS, RETRIES, READS, WRITES, PRICE = range(len(USAGE))


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
