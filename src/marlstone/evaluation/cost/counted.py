"""What a run's directory says of what it spent and of what acting costs: read from its store and record, nothing is played."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from marlstone.core.errors import UserError
from marlstone.core.ledger import SHARED, Costs
from marlstone.cost.pricing import Entry, on_day
from marlstone.runs.directory import RunDirectory


@dataclass(frozen=True)
class Inference:
    """What acting cost over the episodes that the final policies were judged by: `costs` of the phase `infer` in all, `episodes` of them;
    by episode and kind over all agents, `[seeds][episodes]` each."""

    episodes: int
    costs: Costs
    by_episode: dict[str, list[list[float]]]

    @property
    def decisions(self) -> int:
        """Of all agents, in all episodes."""
        return self.costs.total("infer").get("decisions", 0)


@dataclass(frozen=True)
class CountedRun:
    """One run: what it spent by day, phase, agent and kind; its `record` (empty before it has ended); `inference`, where it was judged; and
    what is not known of a run that was made before costs were counted by agent."""

    run: RunDirectory
    entries: list[Entry]
    record: dict[str, Any]
    inference: Inference | None
    notes: list[str]

    @property
    def costs(self) -> Costs:
        """Over all days."""
        out = Costs()
        for _, phase, agent, kind, amount in self.entries:
            out.add(phase, agent, kind, amount)
        return out


def counted(where: str) -> CountedRun:
    """Read a run. Raises `UserError` where it has spent nothing that is known yet."""
    run = RunDirectory.open(where)
    record, notes = run.record() or {}, list[str]()
    with run.store() as store:
        spent = store.spending()
    entries = [(date.fromisoformat(x.day), x.phase, x.agent, x.kind, x.amount) for x in spent]
    if not entries:
        if not (ledgers := record.get("ledger")):
            raise UserError(f"run {run.path} has counted nothing yet: wait for its first checkpoint (checkpoint_every says when)")
        notes.append("this run was made before costs were counted by agent and phase: all of its training is shared")
        costs = Costs()
        for ledger in ledgers:
            for kind in ("steps", "flops", "bytes", "messages", "bits"):
                costs.add("train", SHARED, kind, ledger.get(kind, 0))
        entries = on_day(costs, datetime.fromtimestamp(run.result.stat().st_mtime, UTC).date())
    inference = None
    if (judged := record.get("inference")) is not None:
        costs = Costs.read({"infer": judged["agents"]})
        inference = Inference(judged["episodes"], costs, judged["by_episode"])
    elif record:
        notes.append("its record does not say what acting costs: train it anew, or evaluate with this version")
    else:
        notes.append("it has not ended: what acting costs is known once its policies are judged")
    return CountedRun(run, entries, record, inference, notes)
