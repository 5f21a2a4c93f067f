"""What play may cost: a limit that training keeps, or a fixed rate of exchange; never a part of the reward.

    A_i(t) = A^r_i(t) - lambda A^c_i(t)        A^r by credit, of rewards; A^c of costs, by a value head of its own

Costs are what a joint action used, as every step records it: prices of tools and look-ups (`core.usage`), messages and their bits, or a
declared true metric such as energy. Credit, audits and checks of reward hacking see rewards alone.
"""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Constraint:
    """A limit on costs (`budget`), or a rate of exchange (`weight`); without either nothing is constrained.

    Fields:
      budget: what an episode (or a joint step) of the whole team may cost on average; a multiplier moved by a PID controller keeps it
        (`core.multiplier`; Stooke et al. 2020). In units of `prices`.
      per: of an `episode`, or of a joint `step`.
      weight: how much return one unit of cost is worth, where that is known: policies maximize return - weight x cost.
      prices: of one unit of each kind that counts: `price` (what tools and look-ups cost by their own prices), `tool_calls`, `attempts`,
        `retries`, `memory_reads`, `memory_writes`, `messages`, `bits`, or a true metric that the environment declares, by its name.
      charge: whose costs move an agent's policy: its `own`, or the whole `team`'s. A metric's costs are nobody's own: they are shared as
        credit shares the team's reward, in equal parts, or whole to each.
      opening: the share of training in which nothing costs anything, so that agents find out first what is worth its price.

    Raises:
      ValueError: a field out of range, both a budget and a weight, or fields that nothing reads without them.
    """

    budget: float | None = None
    per: Literal["episode", "step"] = "episode"
    weight: float = 0.0
    prices: dict[str, float] = field(default_factory=lambda: {"price": 1.0}, hash=False)
    charge: Literal["own", "team"] = "own"
    opening: float = 0.0

    def __post_init__(self) -> None:
        if self.budget is not None and not 0 < self.budget < float("inf"):
            raise ValueError(f"cost.budget is {self.budget}: give a cost above 0, or none")
        if not 0 <= self.weight < float("inf"):
            raise ValueError(f"cost.weight is {self.weight}: give 0 or more units of return for one of cost")
        if self.budget is not None and self.weight:
            raise ValueError("cost.budget and cost.weight are both given: a budget finds its own weight; leave one out")
        if not 0 <= self.opening < 1:
            raise ValueError(f"cost.opening is {self.opening}: give a share of training, from 0 to below 1")
        for name, allowed in (("per", ("episode", "step")), ("charge", ("own", "team"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"cost.{name} is {getattr(self, name)!r}: choose one of {', '.join(allowed)}")
        if not self.prices:
            raise ValueError("cost.prices is empty: name what counts, such as { price = 1.0 }")
        for kind, price in self.prices.items():
            if not 0 <= price < float("inf"):
                raise ValueError(f"cost.prices.{kind} is {price}: give a price of at least 0")
        idle = {
            "per": self.per != "episode",
            "charge": self.charge != "own",
            "opening": self.opening > 0,
            "prices": self.prices != {"price": 1.0},
        }
        if not self.active and any(idle.values()):
            name = next(k for k, given in idle.items() if given)
            raise ValueError(f"cost.{name} is given, but nothing is constrained: add cost.budget, or cost.weight")
        if self.per != "episode" and self.budget is None and self.active:
            raise ValueError(f"cost.per is {self.per!r}, but there is no cost.budget that it could be of: leave it out")

    @property
    def active(self) -> bool:
        """Whether training minds costs at all."""
        return self.budget is not None or self.weight > 0
