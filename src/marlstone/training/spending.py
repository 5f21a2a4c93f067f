"""What a run spends, by phase, agent and kind: the ledger's quantities given to whom they belong, for all seeds and lives of the run.

train      joint steps, decisions, FLOPs, bytes, messages and tools of what parameters are made from; the process's time
evaluate   the same of all that is played to judge: choosing how to act, validation, logged episodes, the final episodes
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from marlstone.algorithm import Algorithm
from marlstone.algorithm.costs import bytes_by_agent, flops_by_agent
from marlstone.core.flops import Flops
from marlstone.core.ledger import SENT, SHARED, Amounts, Costs, Ledger
from marlstone.core.types import Trajectory
from marlstone.core.usage import LOW_BITS
from marlstone.play.evaluator import Episodes
from marlstone.play.used import Meter, Used
from marlstone.training.clock import Clock

EVALUATING = ("choosing how to act", "evaluating", "validating", "logging", "watching")
"""Phases of the clock that judge; all others make parameters."""
MICROSECONDS = 1_000_000


@dataclass
class Rates:
    """What a joint step costs: FLOPs of acting and learning, and bytes of an update, by agent and `SHARED`."""

    acting: Amounts
    learning: Amounts
    handed: Amounts

    @classmethod
    def of(cls, algorithm: Algorithm, flops: Flops, trajectory: Trajectory) -> "Rates":
        """As counted of one combination and its trajectories."""
        by = lambda components: flops_by_agent(algorithm, components)
        return cls(by(flops.acting_by), by(flops.learning_by), bytes_by_agent(algorithm.spec, trajectory))


@dataclass
class Spending:
    """Costs of every seed. `trained`: of training, without messages, which `callbacks.Sent` sums; `meter`: of what was played to judge;
    `before`: microseconds by phase and kind of earlier lives of the run."""

    algorithm: Algorithm
    rates: Rates
    clock: Clock
    meter: Meter
    trained: list[Costs]
    used: list[Used]
    before: dict[str, dict[str, int]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, algorithm: Algorithm, rates: Rates, clock: Clock, meter: Meter, ledgers: Sequence[Ledger], kept: dict[str, Any] | None
    ) -> "Spending":
        """Of a run that begins, or goes on from what a checkpoint `kept`. One that was written before costs were counted by agent gives its
        ledgers' counts, as shared."""
        if kept is None:
            trained = []
            for ledger in ledgers:
                trained.append(costs := Costs())
                for kind in ("steps", "flops", "bytes"):
                    costs.add("train", SHARED, kind, getattr(ledger, kind))
            return cls(algorithm, rates, clock, meter, trained, [Used() for _ in ledgers])
        meter.seeds = [Used.read(x) for x in kept["evaluated"]]
        used = [Used.read(x) for x in kept["used"]]
        return cls(algorithm, rates, clock, meter, [Costs.read(x) for x in kept["trained"]], used, kept["times"])

    def add(
        self, seed: int, steps: int, rows: int, measured: int, updates: int, used: dict[str, np.ndarray], agents: Sequence[str]
    ) -> None:
        """Count a contact: joint steps, rows and measured steps, updates, and what `agents` used in them, `[updates n]` each."""
        costs = self.trained[seed]
        costs.add("train", SHARED, "steps", steps)
        for agent, flops in self.rates.acting.items():
            costs.add("train", agent, "flops", flops * (rows + measured))
        for agent, flops in self.rates.learning.items():
            costs.add("train", agent, "flops", flops * rows)
        for agent, size in self.rates.handed.items():
            costs.add("train", agent, "bytes", size * updates)
        self.used[seed].add({k: np.asarray(v, np.int64).sum(0) for k, v in used.items()}, agents)

    def costs(self, sent: list[dict[str, Any]] | None) -> list[Costs]:
        """Of every seed, so far; `sent`: messages and bits of training, `[n n]` each (`Sent.plain`)."""
        out = [Costs().plus(costs) for costs in self.trained]
        times = self.times()
        for i, costs in enumerate(out):
            mine = Used(0, 0, self.used[i].by_agent)
            if sent is not None:
                mine.sent = {k: np.asarray(sent[i][k]).sum(1).tolist() for k in SENT}
            mine.into(costs, "train", self.algorithm)
            played = self.meter.seeds[i] if i < len(self.meter.seeds) else Used()
            played.into(costs, "evaluate", self.algorithm)
            for agent, flops in self.rates.acting.items():
                costs.add("evaluate", agent, "flops", flops * played.rows)
            for phase, kinds in times.items():
                for kind, amount in kinds.items():
                    costs.add(phase, SHARED, kind, amount // len(out) + (i < amount % len(out)))
        return out

    def times(self) -> dict[str, dict[str, int]]:
        """Microseconds of all lives, by phase and kind: of the clock's wall, of this process's processors, and of the training program
        where accelerators run it, for each of them."""
        whole = lambda seconds: max(0, round(seconds * MICROSECONDS))
        clock, judging = self.clock, lambda seconds: sum(seconds.get(x, 0.0) for x in EVALUATING)
        wall, cpu = judging(clock.seconds), judging(clock.processor)
        now = {
            "train": {"wall_us": whole(time.perf_counter() - clock.began - wall), "cpu_us": whole(time.process_time() - clock.used - cpu)},
            "evaluate": {"wall_us": whole(wall), "cpu_us": whole(cpu)},
        }
        if jax.default_backend() != "cpu":
            now["train"]["device_us"] = whole(clock.seconds.get("training", 0.0)) * jax.local_device_count()
        return {phase: {k: x + self.before.get(phase, {}).get(k, 0) for k, x in kinds.items()} for phase, kinds in now.items()}

    def kept(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "trained": [x.plain() for x in self.trained],
            "used": [x.plain() for x in self.used],
            "evaluated": [x.plain() for x in self.meter.seeds],
            "times": self.times(),
        }


def inference(algorithm: Algorithm, acting: Amounts, played: Episodes) -> dict[str, Any]:
    """What acting costs where a policy is deployed, as the episodes it was judged by show: exact counts over `steps` joint steps of
    `episodes`, by agent and kind, and by episode over all agents, `[seeds][episodes]`. The environment's own steps are no part of it.

    Args: `acting`: FLOPs of a joint step, by agent; `played`: `[seeds e ...]`, of which those that ended count.
    """
    ended = np.asarray(played.ended, bool)
    used = {k: np.asarray(v)[:, : ended.shape[1]] for k, v in played.used.items()}
    within = lambda v: np.where(ended.reshape(*ended.shape, *(1,) * (v.ndim - 2)), v, 0)
    counts = {k: within(v).astype(np.float64 if k in SENT else np.int64) for k, v in used.items() if k != "rows"}
    steps, costs = counts.pop("steps"), Costs()
    Used().add({k: v.sum((0, 1)) for k, v in counts.items()}, algorithm.spec.agents).into(costs, "infer", algorithm)
    for agent, flops in acting.items():
        costs.add("infer", agent, "flops", flops * int(steps.sum()))
    each = {"flops": steps * sum(acting.values()), **{k: v.sum(-1) for k, v in counts.items()}}
    if "price_low" in each:
        each["paid_micro"] = (each.pop("price_high") << LOW_BITS) + each.pop("price_low")
    pick = lambda v: [[int(x) if v.dtype == np.int64 else round(float(x), 3) for x in row[ok]] for row, ok in zip(v, ended, strict=True)]
    return {
        "episodes": int(ended.sum()),
        "steps": int(steps.sum()),
        "agents": costs.plain().get("infer", {}),
        "by_episode": {kind: pick(v) for kind, v in each.items() if v.any()},
    }
