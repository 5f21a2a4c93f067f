"""What becomes of a message on its way: one link for each sender and recipient, good or bad by a Markov chain (Gilbert 1960; Elliott 1963).

A message that is not lost arrives after 1 + k steps, k uniform in 0..`delay`, so that later ones may overtake it; a copy of it may
arrive once more, later still. Draws are uniform numbers from outside: the same ones give the same fate on every backend.
"""

from dataclasses import dataclass

import numpy as np

from marlstone.core.arrays import Array

MOST_DELAY = 16
DRAWS = 4  # uniform numbers per link and step: its state, loss, delay, copy


@dataclass(frozen=True)
class Link:
    """A link is bad for 1 / `to_good` steps at a time, and `to_bad` / (`to_bad` + `to_good`) of the time.

    Fields: `loss`, `loss_good`: the probability that a message is lost while the link is bad, and while it is good; `delay`: steps by which
    it may come later than the next one; `copies`: the probability that it comes twice. All 0: every message is heard on the next step.

    Raises:
      ValueError: a probability outside 0..1, or a delay outside 0..16.
    """

    to_bad: float = 0.0
    to_good: float = 0.25
    loss: float = 1.0
    loss_good: float = 0.0
    delay: int = 0
    copies: float = 0.0

    def __post_init__(self) -> None:
        for name in ("to_bad", "to_good", "loss", "loss_good", "copies"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"comms.link.{name} is {getattr(self, name)}: give a probability, from 0 to 1")
        if not 0 <= self.delay <= MOST_DELAY:
            raise ValueError(f"comms.link.delay is {self.delay}: give 0 to {MOST_DELAY} steps")

    @property
    def ideal(self) -> bool:
        """Whether every message is heard on the next step, once."""
        return not (self.delay or self.copies or self.loss_good or (self.to_bad and self.loss))

    @property
    def slots(self) -> int:
        """Steps for which a message may be on its way: a copy comes at most `delay` + 1 steps after the latest original."""
        return 1 + self.delay + (self.delay + 1 if self.copies else 0)

    def begin(self, u: Array) -> Array:
        """Which links are bad where an episode starts, as often as in the long run; `u [... n n]`."""
        return u < self.to_bad / max(self.to_bad + self.to_good, 1e-30)

    def fate(self, bad: Array, u: Array) -> tuple[Array, Array, Array]:
        """The links' next state; and of a message sent now, by link: in how many steps it is heard, and its copy (0: never), `[n n]` each.

        Args: `bad`, the links' state; `u [DRAWS n n]`, uniform numbers.
        """
        xp = u.__array_namespace__()
        bad = xp.where(bad, u[0] >= self.to_good, u[0] < self.to_bad)
        number = lambda x: xp.asarray(x, dtype=np.float32)
        lost = u[1] < xp.where(bad, number(self.loss), number(self.loss_good))
        late = xp.minimum((u[2] * (self.delay + 1)).astype(np.int32), self.delay)
        arrives = xp.where(lost, 0, 1 + late).astype(np.int32)
        again = xp.where(~lost & (u[3] < self.copies), 2 + late + self.delay, 0).astype(np.int32)
        return bad, arrives, again
