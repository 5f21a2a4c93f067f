"""Counted quantities. Prices are applied later, from a versioned table; nothing here is estimated from time."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

PHASES = ("train", "evaluate", "infer")
"""What a quantity was spent on: making parameters, judging policies, and acting where they are deployed."""
SHARED = "shared"
"""Stands beside the agents for what belongs to none of them alone: central critics, mixers, joint steps, the process's time."""
KINDS = (
    "steps", "decisions", "flops", "bytes", "messages", "bits", "tool_calls", "memory_reads", "memory_writes", "attempts", "retries",
    "input_tokens", "output_tokens", "paid_micro", "wall_us", "cpu_us", "device_us",
)  # fmt: skip
"""The quantities that are counted, in whole numbers. `paid_micro`: what tools charged at the time, in millionths of a unit of currency;
times in microseconds."""
SENT = ("messages", "bits")
"""Those that are counted of every link between two agents."""
MICRO = 1_000_000
"""Money is counted in whole millionths of a unit of currency."""
TIMES = ("wall_us", "cpu_us", "device_us")
"""Those that differ each time the same is done."""


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


Amounts = dict[str, int]


@dataclass
class Costs:
    """Quantities by phase, agent (or `SHARED`) and kind: `phases[phase][agent][kind]`, whole numbers; 0 is left out.

    Agents and shared together are the total, of every phase and kind: nothing is counted but by being given to one of them.
    """

    phases: dict[str, dict[str, Amounts]] = field(default_factory=dict)

    def add(self, phase: str, agent: str, kind: str, amount: int) -> None:
        """Count. Raises ValueError for a phase or kind that there is not, or an amount that is no whole number of at least 0."""
        if phase not in PHASES or kind not in KINDS:
            raise ValueError(f"Costs counts no {kind!r} of {phase!r}: phases are {', '.join(PHASES)}; kinds {', '.join(KINDS)}")
        if (whole := int(amount)) != amount or whole < 0:
            raise ValueError(f"Costs: {amount!r} {kind} of {agent!r}: amounts are whole numbers of at least 0")
        if whole:
            mine = self.phases.setdefault(phase, {}).setdefault(agent, {})
            mine[kind] = mine.get(kind, 0) + whole

    def plus(self, other: "Costs") -> "Costs":
        """Both together."""
        out = Costs()
        for costs in (self, other):
            for phase, agent, kind, amount in costs.entries():
                out.add(phase, agent, kind, amount)
        return out

    def less(self, before: "Costs") -> "Costs":
        """What came since `before`, which is part of this; nothing where `before` has more, as rounded times may."""
        out = Costs()
        for phase, agent, kind, amount in self.entries():
            out.add(phase, agent, kind, max(0, amount - before.of(phase, agent, kind)))
        return out

    def entries(self) -> Iterator[tuple[str, str, str, int]]:
        """Phase, agent, kind and amount of everything that was counted."""
        for phase, agents in self.phases.items():
            for agent, amounts in agents.items():
                for kind, amount in amounts.items():
                    yield phase, agent, kind, amount

    def of(self, phase: str, agent: str, kind: str) -> int:
        """One amount."""
        return self.phases.get(phase, {}).get(agent, {}).get(kind, 0)

    def agents(self, *phases: str) -> dict[str, Amounts]:
        """By agent and kind, over these phases (none named: over all)."""
        out: dict[str, Amounts] = {}
        for phase, agent, kind, amount in self.entries():
            if not phases or phase in phases:
                mine = out.setdefault(agent, {})
                mine[kind] = mine.get(kind, 0) + amount
        return {agent: _ordered(out[agent]) for agent in sorted(out, key=lambda a: a == SHARED)}

    def total(self, *phases: str) -> Amounts:
        """By kind, over all agents and these phases (none named: over all)."""
        out: Amounts = {}
        for amounts in self.agents(*phases).values():
            for kind, amount in amounts.items():
                out[kind] = out.get(kind, 0) + amount
        return _ordered(out)

    def plain(self) -> dict[str, dict[str, Amounts]]:
        """As JSON, in the order of phases and kinds, agents as they were first counted and what is shared last."""
        return {phase: self.agents(phase) for phase in PHASES if self.phases.get(phase)}

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> "Costs":
        """What `plain` gave. Raises ValueError for anything else."""
        out = cls()
        for phase, agents in plain.items():
            for agent, amounts in agents.items():
                for kind, amount in amounts.items():
                    out.add(phase, agent, kind, amount)
        return out


def _ordered(amounts: Amounts) -> Amounts:
    return {kind: amounts[kind] for kind in KINDS if kind in amounts}


def divided(amount: int, agents: tuple[str, ...]) -> Amounts:
    """An amount divided over agents evenly, and the remainder as `SHARED`; all of it where there are none."""
    each = amount // len(agents) if agents else 0
    return {**dict.fromkeys(agents, each), SHARED: amount - each * len(agents)}
