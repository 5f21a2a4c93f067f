"""A channel of your own, in one file: random thinning, what any scheme of when to speak has to beat at an equal number of messages.

    sent_ij = chosen_ij and u_ij < keep          u uniform in [0, 1): of what agents want to say, a share `keep` is sent, at random

What is not kept is not counted, so it costs no bits, and agents do not know of it. They hear what `Broadcast` lets them hear.
Nothing here asks arrays for what NumPy lacks, so policies act without JAX. `marlstone check-comms` holds a channel to its laws.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from marlstone.comms import Broadcast

Array = Any


@dataclass(frozen=True)
class Thinned(Broadcast):
    """`keep`: the probability with which a message is kept, each recipient's by itself."""

    keep: float = 0.5
    random: ClassVar[bool] = True  # `admits` is given uniform numbers, the same for JAX, NumPy and a repeated episode

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.keep <= 1:
            raise ValueError(f"comms.keep is {self.keep}: give a probability above 0, up to 1")

    def admits(self, to: Array, u: Array) -> Array:
        return to & (u < self.keep)
