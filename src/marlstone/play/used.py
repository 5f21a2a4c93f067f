"""What playing episodes used: rows, joint steps, decisions, messages and tools, counted agent by agent whoever decides."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np

from marlstone.algorithm import Algorithm
from marlstone.comms.learning import sent_in
from marlstone.core.ledger import SENT, SHARED, Costs
from marlstone.core.types import Step, Trajectory
from marlstone.core.usage import LEAF, USAGE, counted, price_micro, used_in

Array = Any


def used_by(algorithm: Algorithm, before: Step, after: Step) -> dict[str, Array]:
    """What one joint step of `e` environments used, from the step it was decided by and the one that followed, `[e ...]` each: `rows`
    (resets included), `steps`, and by agent as `core.usage.used_in` has it; by sender `messages` and `bits`, where agents talk."""
    spec, real = algorithm.spec, ~after.first
    acts = before.present & before.deciding & real[:, None]
    usage = {i: leaves[LEAF] for i, leaves in enumerate(after.obs) if LEAF in leaves}
    out = {"rows": jnp.ones_like(real, jnp.int32), "steps": real.astype(jnp.int32), **counted(spec, acts, real, usage, axes=())}
    if algorithm.speech is not None:
        _, *sent = algorithm.speech.links(after)
        out |= {k: jnp.where(real[:, None], x.sum(-1), 0).astype(jnp.float32) for k, x in zip(SENT, sent, strict=True)}
    return out


@dataclass
class Used:
    """Sums of one seed, Python integers and, of messages, float64. `rows`, `steps`; `by_agent`: kind -> agent's name -> count, of
    whatever environments a run had (`[[stages]]` may change who is there); `sent`: by sender."""

    rows: int = 0
    steps: int = 0
    by_agent: dict[str, dict[str, int]] = field(default_factory=dict)
    sent: dict[str, list[float]] = field(default_factory=dict)

    def add(self, counts: dict[str, Any], agents: Sequence[str]) -> "Used":
        """Add counts of one seed, as `used_by` names them, summed over environments and steps, of `agents` along their axis."""
        rest = {k: np.asarray(v) for k, v in counts.items()}
        self.rows += int(rest.pop("rows", 0))
        self.steps += int(rest.pop("steps", 0))
        for k in SENT:
            if (x := rest.pop(k, None)) is not None:
                before = self.sent.get(k) or [0.0] * len(x)
                self.sent[k] = [a + float(b) for a, b in zip(before, x, strict=True)]
        for k, x in rest.items():
            known = self.by_agent.setdefault(k, {})
            for agent, amount in zip(agents, x, strict=True):
                known[agent] = known.get(agent, 0) + int(amount)
        return self

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {"rows": self.rows, "steps": self.steps, "by_agent": self.by_agent, "sent": self.sent}

    @classmethod
    def read(cls, plain: dict[str, Any]) -> "Used":
        """What `plain` gave."""
        return cls(plain["rows"], plain["steps"], {k: {**x} for k, x in plain["by_agent"].items()}, {**plain["sent"]})

    def agents(self) -> dict[str, dict[str, int]]:
        """By agent and kind of the ledger, of what is counted in whole numbers."""
        out: dict[str, dict[str, int]] = {a: {} for amounts in self.by_agent.values() for a in amounts}
        kinds = [k for k in ("decisions", *USAGE[:-1]) if k in self.by_agent]
        of = lambda kind, agent: self.by_agent[kind].get(agent, 0)
        for agent in out:
            out[agent] = {k: of(k, agent) for k in kinds}
            if "price_low" in self.by_agent:
                out[agent]["paid_micro"] = price_micro(of("price_low", agent), of("price_high", agent))
        return out

    def into(self, costs: Costs, phase: str, algorithm: Algorithm) -> None:
        """Count steps, decisions, messages, bits and tools in `costs`; of bits, which may be fractions, what is whole of a sender."""
        costs.add(phase, SHARED, "steps", self.steps)
        for agent, amounts in self.agents().items():
            for kind, amount in amounts.items():
                costs.add(phase, agent, kind, amount)
        for kind, senders in self.sent.items():
            for agent, sent in zip(algorithm.spec.team.agents, senders, strict=True):
                costs.add(phase, agent, kind, int(sent))


@dataclass
class Meter:
    """What all that a player played used, per seed, while it lives. `admit(episodes)`: entered before so many episodes of every seed are
    played, and left after; it refuses by an exception."""

    seeds: list[Used] = field(default_factory=list)
    admit: Callable[[int], AbstractContextManager[Any]] = nullcontext

    def _of(self, i: int) -> Used:
        while len(self.seeds) <= i:
            self.seeds.append(Used())
        return self.seeds[i]

    def episodes(self, used: dict[str, Any], agents: Sequence[str]) -> None:
        """Add what episodes of all seeds used, `[seeds e ...]` each, of `agents`."""
        sums = {k: np.asarray(v, np.float64 if k in SENT else np.int64).sum(1) for k, v in used.items()}
        for i in range(len(sums["rows"]) if sums else 0):
            self._of(i).add({k: v[i] for k, v in sums.items()}, agents)

    def trajectories(self, i: int, algorithm: Algorithm, played: Trajectory) -> None:
        """Add what trajectories `[b t ...]` of seed number `i` used."""
        counts = used_in(algorithm.spec, played)
        sent = {k: np.asarray(v, np.float64).sum(-1) for k, v in sent_in(algorithm.channel, algorithm.spec, played).items()}
        real = np.asarray(played.real)
        self._of(i).add({"rows": real.size, "steps": real.sum(), **counts, **sent}, algorithm.spec.agents)
