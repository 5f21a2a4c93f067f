"""The optimum of the grounds in which knowing has a price, by dynamic programming: backward induction over everything that matters.

    Q(x, a) = E[ reward - weight * cost + V(x') ],    V(x) = max_a Q(x, a)

A state x holds what an agent in its round knows and what the team still may: step, stake, prices now, calls made, what is pending, what is
known. Answers are `wait`, `right`, `wrong` where the symbol is known, and `wait`, `guess` where it is not; what agents know of later rounds
is nothing. Exact: no sampling, every expectation is a sum. Values of states that no play reaches are not computed.
"""

from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product

from marlstone.envs.proving.priced_tools import PHASES, STAKES, WRONG

TIE = 1e-6
NONE, WAIT, RIGHT, AWRY, GUESS = -1, "wait", "right", "wrong", "guess"
Choice = tuple[str, int]
"""What one answers, and which tool one calls (`NONE`: none); of the memory, 0 looks up."""


@dataclass(frozen=True)
class Priced:
    """A tool, a look-up or a write as the optimum knows it: its prices, the probability per step that the price changes, its latency and
    failure, and how many calls are allowed (0: any number)."""

    prices: tuple[float, ...] = (0.0,)
    changes: float = 0.0
    latency: int = 1
    failure: float = 0.0
    calls: int = 0


@dataclass(frozen=True)
class ToolsState:
    """Where whoever's round it is stands in `proving:priced_tools`: step, stake, whether it `knows` and has `answered`, steps until each
    pending call's result (0: none), and the team's calls and price levels by tool."""

    t: int
    stake: int
    knows: bool
    answered: bool
    pending: tuple[int, ...]
    calls: tuple[int, ...]
    level: tuple[int, ...]


def _levels(level: tuple[int, ...], items: tuple[Priced, ...]) -> list[tuple[float, tuple[int, ...]]]:
    """The next step's price levels and their probabilities."""

    def one(now: int, item: Priced) -> list[tuple[float, int]]:
        n = len(item.prices)
        if n == 1 or not item.changes:
            return [(1.0, now)]
        return [(1 - item.changes, now), *((item.changes / (n - 1), k) for k in range(n) if k != now)]

    out = []
    for combined in product(*(one(now, item) for now, item in zip(level, items, strict=True))):
        p = 1.0
        for q, _ in combined:
            p *= q
        out.append((p, tuple(k for _, k in combined)))
    return out


class _Optimum:
    """What both grounds' optima share."""

    items: tuple[Priced, ...]

    def q(self, x: "object") -> dict[Choice, float]:
        """The value of every choice."""
        raise NotImplementedError

    def best(self, x: "object") -> frozenset[Choice]:
        """The optimal choices: those within 1e-6 of the best."""
        values = self.q(x)
        most = max(values.values())
        return frozenset(a for a, v in values.items() if v >= most - TIE)

    def regret(self, x: "object", choice: Choice) -> float:
        """What a choice loses against the best, in expectation, with optimal play ever after; 0 for optimal ones."""
        values = self.q(x)
        lost = max(values.values()) - values[choice]
        return lost if lost > TIE else 0.0

    def starts(self) -> list[tuple[float, tuple[int, ...]]]:
        """Price levels where an episode begins."""
        each = [[(1 / len(item.prices), k) for k in range(len(item.prices))] for item in self.items]
        out = []
        for combined in product(*each):
            p = 1.0
            for q, _ in combined:
                p *= q
            out.append((p, tuple(k for _, k in combined)))
        return out


@dataclass(frozen=True)
class ToolsOptimum(_Optimum):
    """Of `proving:priced_tools` with `rounds` and `symbols`, where `items` are its tools, each of them one attempt, whose `calls` are the
    team's, and a unit of price is worth `weight` of return."""

    items: tuple[Priced, ...]
    weight: float = 1.0
    rounds: int = 3
    symbols: int = 2

    def __post_init__(self) -> None:
        if any(item.latency > PHASES for item in self.items):
            raise ValueError(
                f"ToolsOptimum.items have latencies {[i.latency for i in self.items]}: a round has {PHASES} steps, give no more"
            )

    def begun(self, t: int, stake: int, calls: tuple[int, ...], level: tuple[int, ...]) -> ToolsState:
        """Where a round begins."""
        return ToolsState(t, stake, False, False, (0,) * len(self.items), calls, level)

    @cached_property
    def value(self) -> float:
        """The best expected return less weighted cost of an episode."""
        none = (0,) * len(self.items)
        return sum(p * sum(self._v(self.begun(0, s, none, level)) for s in range(len(STAKES))) / len(STAKES) for p, level in self.starts())

    @cache  # noqa: B019
    def _v(self, x: ToolsState) -> float:
        return 0.0 if x.t >= PHASES * self.rounds else max(self.q(x).values())

    @cache  # noqa: B019
    def q(self, x: ToolsState) -> dict[Choice, float]:
        """As `_Optimum.q`."""
        if x.answered:
            return {(WAIT, NONE): self._next(x, NONE, x.answered)}
        stake = STAKES[x.stake]
        answers = (
            {WAIT: 0.0, RIGHT: stake, AWRY: -WRONG * stake}
            if x.knows
            else {WAIT: 0.0, GUESS: stake * (1 - WRONG * (self.symbols - 1)) / self.symbols}
        )
        open_ = [k for k, i in enumerate(self.items) if not x.pending[k] and not 0 < i.calls <= x.calls[k]]
        out = {}
        for call in (NONE, *open_):
            cost = 0.0 if call == NONE else self.items[call].prices[x.level[call]]
            for said, reward in answers.items():
                out[said, call] = reward - self.weight * cost + self._next(x, call, said != WAIT)
        return out

    @cache  # noqa: B019
    def _next(self, x: ToolsState, call: int, answered: bool) -> float:
        pending = tuple(self.items[k].latency if k == call else left for k, left in enumerate(x.pending))
        calls = tuple(c + (k == call) for k, c in enumerate(x.calls))
        t = x.t + 1
        arriving = [k for k, left in enumerate(pending) if left == 1]
        fails = 1.0
        for k in arriving:
            fails *= self.items[k].failure
        left = tuple(max(0, p - 1) for p in pending)
        total = 0.0
        for p, level in _levels(x.level, self.items):
            if t % PHASES == 0:
                total += p * sum(self._v(self.begun(t, s, calls, level)) for s in range(len(STAKES))) / len(STAKES)
                continue
            known = lambda knows: ToolsState(t, x.stake, knows, answered, left, calls, level)  # noqa: B023
            if x.knows or not arriving:
                total += p * self._v(known(x.knows))
            else:
                total += p * (fails * self._v(known(False)) + (1 - fails) * self._v(known(True)))
        return total


@dataclass(frozen=True)
class MemoryState:
    """Where the agent of `proving:priced_memory` stands: step, stake (unknown in a round's first step), whether it `knows` the round's
    symbol, look-ups so far, and the price level of a look-up."""

    t: int
    stake: int
    knows: bool
    reads: int
    level: tuple[int, ...]


READ = 0


@dataclass(frozen=True)
class MemoryOptimum(_Optimum):
    """Of `proving:priced_memory` with a memory of one slot that holds what was shown last, written by itself. `items`: a look-up, whose
    `calls` are those of an episode.

    Were writing a choice with a price, this would be no optimum: to leave a slot as it was tells something, too.
    """

    items: tuple[Priced, ...]
    weight: float = 1.0
    rounds: int = 4
    symbols: int = 2

    @cached_property
    def value(self) -> float:
        """The best expected return less weighted cost of an episode."""
        return sum(p * self._v(MemoryState(0, 0, False, 0, level)) for p, level in self.starts())

    @cache  # noqa: B019
    def _v(self, x: MemoryState) -> float:
        return 0.0 if x.t >= PHASES * self.rounds else max(self.q(x).values())

    @cache  # noqa: B019
    def q(self, x: MemoryState) -> dict[Choice, float]:
        """As `_Optimum.q`. Answers before a round's last step are ignored there, and stand here as `wait`."""
        answers = {WAIT: 0.0}
        if x.t % PHASES == PHASES - 1:
            stake = STAKES[x.stake]
            known = {RIGHT: stake, AWRY: -WRONG * stake}
            answers |= known if x.knows else {GUESS: stake * (1 - WRONG * (self.symbols - 1)) / self.symbols}
        (item,) = self.items
        out = {}
        for call in (NONE, READ) if not item.calls or x.reads < item.calls else (NONE,):
            cost = 0.0 if call == NONE else item.prices[x.level[0]]
            for said, reward in answers.items():
                out[said, call] = reward - self.weight * cost + self._next(x, call)
        return out

    @cache  # noqa: B019
    def _next(self, x: MemoryState, call: int) -> float:
        t, phase, reads = x.t + 1, x.t % PHASES, x.reads + (call == READ)
        knows = x.knows or (call == READ and phase > 0)  # in the first step a look-up finds the round before's
        total = 0.0
        for p, level in _levels(x.level, self.items):
            if t % PHASES == 0:
                total += p * self._v(MemoryState(t, 0, False, reads, level))
            elif phase == 0:  # the stake is shown
                total += p * sum(self._v(MemoryState(t, s, knows, reads, level)) for s in range(len(STAKES))) / len(STAKES)
            else:
                total += p * self._v(MemoryState(t, x.stake, knows, reads, level))
        return total
