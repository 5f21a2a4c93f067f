"""Counted quantities. Prices are applied later, from a versioned table; nothing here is estimated from time."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Ledger:
    """What a run has consumed so far, per training seed. Python integers: nothing overflows.

    `steps`: joint environment steps (reset rows excluded); `rows`: environment interactions, resets included; `flops`:
    of the networks' products, multiply and add counted apart, in acting and learning; `bytes`: chunks handed from
    actors to learners; `messages`: between agents (none without a channel).
    """

    steps: int = 0
    rows: int = 0
    episodes: int = 0
    flops: int = 0
    bytes: int = 0
    messages: int = 0

    def plus(self, **more: int) -> "Ledger":
        unknown = set(more) - set(asdict(self))
        if unknown:
            raise ValueError(f"Ledger does not count {sorted(unknown)}: it counts {sorted(asdict(self))}")
        return Ledger(**{k: v + int(more.get(k, 0)) for k, v in asdict(self).items()})


def products_flops(parameters: Any, rows: int, stacked: bool) -> int:
    """FLOPs of one product of `rows` rows with each matrix in `parameters`: two per weight and row, biases not counted.

    `stacked`: parameters carry a leading set axis, so a row uses one slice of it.
    """
    import jax

    rank = 2 + stacked
    sets = lambda w: w.shape[0] if stacked else 1
    return sum(2 * rows * int(np.prod(w.shape)) // sets(w) for w in jax.tree.leaves(parameters) if w.ndim == rank)
