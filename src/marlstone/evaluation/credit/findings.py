"""What the audit of one training seed found: what a method says of agents, and what is true of them.

Claims are held against the return that the method learns from: discounted with the learner's gamma from the decision on, to the
episode's end. A discount tells apart what an undiscounted return does not: where a policy collects everything anyway, a wasted step
changes nothing of the return, only how soon it comes. Shares are of the undiscounted return; there both figures are the same, as they
are where gamma is 1.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from marlstone.evaluation.credit.reliability import across_halves, noise_ceiling, spearman

LAST_BITS = 1e-6  # of the team's return: a worth below is what rounding leaves of a difference of returns


@dataclass(frozen=True)
class Measured:
    """What decisions were worth in each of `k` continuations, or in each of `k` plays of an episode, what shares of it were.

    Attributes:
      worth: of decisions, undiscounted, `[s a k]`; of shares, Shapley values, `[e a k]`.
      discounted: the same from the decision on with the learner's discount; this is what claims are compared with. Of shares, `worth`.
      time: at which step of its episode each decision was made, `[s]`; None: of shares.
      default_chance: with what probability training would have taken the default, `[s a]` (NaN: a Box); None: of shares.
      window_bias: where only a window was played, how much that changed the discounted worth of the first continuation, relative to its
        spread; None: all was played.
      claimed: of shares, what was claimed of each play, `[e a k]`; None: of decisions, which have one claim each.
    """

    worth: np.ndarray
    discounted: np.ndarray
    time: np.ndarray | None = None
    default_chance: np.ndarray | None = None
    window_bias: float | None = None
    claimed: np.ndarray | None = None


@dataclass(frozen=True)
class Told:
    """One seed: what the method says and what is true of the agents audited.

    Attributes:
      claimed: per episode, `[a]`.
      true: the same that is true, undiscounted, in units of the team's return.
      claimed_each: per decision, `[s a]`; of shares, per episode, the mean of its plays, `[e a]`.
      true_each: what claims are compared with, of the same decisions or episodes: discounted worth, or shares.
      team_return: the team's mean return.
      optimized: what learning optimizes in its place, an episode's reward, summed over agents or, where each is rewarded by the whole,
        averaged.
      efficiency_error: how far shares miss the return, relative to it; None: none claimed.
      measured: how decisions or shares were measured; None: not again and again.
      true_discounted: `true` with the learner's discount from each decision on; None: the same.
    """

    claimed: np.ndarray
    true: np.ndarray
    claimed_each: np.ndarray
    true_each: np.ndarray
    team_return: float
    optimized: float
    efficiency_error: float | None
    measured: Measured | None = None
    true_discounted: np.ndarray | None = None

    @cached_property
    def agreement(self) -> float:
        """The rank correlation of what is said of decisions with what they were worth; of shares, of a half of the plays with the other."""
        if (m := self.measured) is not None and m.claimed is not None:
            return across_halves(m.claimed, m.worth)
        return spearman(self.claimed_each.ravel(), self.true_each.ravel())

    @cached_property
    def ceiling(self) -> float:
        """The agreement that a perfect claim would have with what was measured."""
        if (m := self.measured) is None:
            return float("nan")
        return noise_ceiling(m.discounted) if m.claimed is None else max(across_halves(m.worth, m.worth), 0.0)

    @cached_property
    def changed(self) -> np.ndarray:
        """Which decisions changed the discounted return at all, in any continuation, `[s a]`; False where nothing was measured."""
        if self.measured is None:
            return np.zeros(self.true_each.shape, bool)
        largest = np.abs(self.measured.discounted).max(-1)
        found: np.ndarray = largest > LAST_BITS * max(abs(self.team_return), float(largest.max(initial=0)))
        return found
