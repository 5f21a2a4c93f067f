"""Counted quantities. Prices are applied later, from a versioned table; nothing here is estimated from time."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Ledger:
    """What a run has consumed so far, per training seed. Python integers: nothing overflows.

    Attributes:
      steps: joint environment steps (reset steps excluded).
      rows: environment interactions, resets included.
      measured: joint environment steps that were played besides, to measure what actions were worth.
      episodes: episodes that ended.
      flops: of all products in acting and learning (`core.flops`), multiply and add counted apart.
      bytes: trajectories handed from actors to learners.
      messages: between agents (none without a channel), one for each recipient.
      bits: of these.
    """

    steps: int = 0
    rows: int = 0
    measured: int = 0
    episodes: int = 0
    flops: int = 0
    bytes: int = 0
    messages: int = 0
    bits: int = 0

    def plus(self, **more: int) -> "Ledger":
        """These counts and `more`, by name. Raises ValueError for a quantity that is not counted."""
        unknown = set(more) - set(asdict(self))
        if unknown:
            raise ValueError(f"Ledger does not count {sorted(unknown)}: it counts {sorted(asdict(self))}")
        return Ledger(**{k: v + int(more.get(k, 0)) for k, v in asdict(self).items()})
