"""Which removals are proven, one by one and together.

1. Every candidate alone, on paired episodes; intervals hold for all candidates together. What loses at most the bound at its interval's
   worse end is removable.
2. In the order of the price saved per return lost: all that are removable at once, on other episodes; where they are not together, halves
   of them, down to one, in that order. What is redundant with what went before stays.
3. Messages quantized twice, four times ... as coarsely, as long as the loss allows.
4. The whole, as it would be deployed, on episodes that selected nothing. Where its loss is not shown to be within the bound, nothing goes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from marlstone.core.records import replace
from marlstone.cost.prices import PriceTable
from marlstone.evaluation.messages.traffic import per_step
from marlstone.evaluation.trim.candidates import Candidate
from marlstone.evaluation.trim.loss import Loss, loss_of
from marlstone.evaluation.trim.prices import price_of
from marlstone.evaluation.trim.removals import Removals
from marlstone.evaluation.trim.trials import Trials

Tell = Callable[[str], None]
ALONE, TOGETHER, FINAL = range(3)  # rounds of episodes
COARSER = (2.0, 4.0, 8.0, 16.0)


@dataclass(frozen=True)
class Found:
    """A candidate and what is lost without it, alone."""

    candidate: Candidate
    loss: Loss
    removable: bool

    def record(self) -> dict[str, Any]:
        """`kind name saved removable`, and of the loss."""
        c = self.candidate
        return {"kind": c.kind, "name": c.name, "saved": dict(c.saves), "removable": self.removable, **self.loss.record()}


@dataclass
class Search:
    """One search. `bound`: the share of the span that may be lost; `first`: the number of its first round of episodes; `coarsely`: trials
    of messages that are quantized more coarsely, by factor, or None where nothing is quantized; `leaves`: of every group, all that it
    observes, of which one stays."""

    trials: Trials
    bound: float
    prices: PriceTable
    tell: Tell
    first: int
    coarsely: Callable[[float], Trials] | None = None
    leaves: tuple[frozenset[str], ...] = ()
    tried: int = field(default=0, init=False)

    def alone(self, candidates: Sequence[Candidate]) -> list[Found]:
        """Every candidate alone; statements hold for all of them together."""
        count, out = len(candidates) + (len(COARSER) if self.coarsely else 0), []
        for i, c in enumerate(candidates):
            self.tell(f"{i + 1} of {len(candidates)}: without {c.kind} {c.name}")
            loss = self._loss(self.trials, c.gone, ALONE, count)
            out.append(Found(c, loss, loss.within(self.bound)))
        return out

    def together(self, found: Sequence[Found]) -> list[Found]:
        """Those removable ones that are so at the same time: of a ladder the largest."""
        order = sorted((f for f in found if f.removable), key=self._worth, reverse=True)
        self.tried = max(1, len(found))
        return self._admitted([], order)

    def _worth(self, f: Found) -> float:
        """The price saved per return lost; a loss of less than a hundredth of the bound counts as that."""
        return price_of(f.candidate.saves, self.prices) / max(f.loss.ci[1], self.bound / 100)

    def _admitted(self, kept: list[Found], more: list[Found]) -> list[Found]:
        more = self._new(kept, more)
        if not more:
            return kept
        self.tell(f"together: {len(kept)} and {len(more)} more")
        if self._loss(self.trials, whole_of([*kept, *more]), TOGETHER, self.tried).within(self.bound):
            return [*kept, *more]
        if len(more) == 1:
            return kept
        half = len(more) // 2
        return self._admitted(self._admitted(kept, more[:half]), more[half:])

    def _new(self, kept: list[Found], more: list[Found]) -> list[Found]:
        """Those of `more` that remove anything beside what went, and leave every group a leaf."""
        whole, out = whole_of(kept), list[Found]()
        for f in more:
            after = whole | f.candidate.gone
            if after != whole and not any(leaves <= after.leaves for leaves in self.leaves):
                out.append(f)
                whole = after
        return out

    def coarser(self, kept: Sequence[Found]) -> list[Found]:
        """Beside what went: messages quantized as coarsely as the loss allows; nothing, or one."""
        best: list[Found] = []
        whole = whole_of(kept)
        for factor in COARSER if self.coarsely is not None else ():
            assert self.coarsely is not None
            self.tell(f"messages quantized {factor:g} times as coarsely")
            trials, gone = self.coarsely(factor), replace(whole, coarser=factor)
            loss = self._loss(trials, gone, TOGETHER, self.tried + len(COARSER))
            if not loss.within(self.bound):
                break
            bits = [float(np.sum(per_step(t.without(g, self.first + TOGETHER), "bits"))) for t, g in ((self.trials, whole), (trials, gone))]
            best = [
                Found(Candidate("step", f"step x {factor:g}", Removals(coarser=factor), {"bits": bits[0] - bits[1]}, "step"), loss, True)
            ]
        return best

    def _loss(self, trials: Trials, gone: Removals, nth: int, count: int) -> Loss:
        whole, chance = (x.ended_only() for x in (self.trials.whole(self.first + nth), self.trials.chance(self.first + nth)))
        return loss_of(whole, trials.without(gone, self.first + nth).ended_only(), chance, self.bound, count)


def whole_of(found: Sequence[Found]) -> Removals:
    """All that these candidates take away, together."""
    out = Removals()
    for f in found:
        out = out | f.candidate.gone
    return out


def largest(found: Sequence[Found]) -> list[Found]:
    """Of every ladder the highest rung, of a sender's links the sender."""
    senders = {f.candidate.name.partition(">")[0] for f in found if f.candidate.kind == "sender"}
    best: dict[str, Found] = {}
    for f in found:
        c = f.candidate
        if c.kind == "link" and c.name.partition(">")[0] in senders:
            continue
        key = c.ladder or f"{c.kind} {c.name}"
        if key not in best or _size(c) > _size(best[key].candidate):
            best[key] = f
    return list(best.values())


def _size(c: Candidate) -> float:
    return sum(c.gone.units.values()) + c.gone.numbers + c.gone.coarser
