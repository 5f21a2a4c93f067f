"""What runs cost, at the prices of a table: the record of `marlstone cost`."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from functools import reduce
from typing import Any

from marlstone.core.ledger import Costs
from marlstone.cost import pricing
from marlstone.cost.prices import PriceTable
from marlstone.cost.pricing import Item
from marlstone.cost.traffic import DAYS, Rate, forecast
from marlstone.evaluation.cost.counted import CountedRun, Inference


def statement(
    runs: Sequence[CountedRun], table: PriceTable, traffic: float | None = None, days: int = DAYS, budget: float | None = None,
    today: date | None = None,
) -> dict[str, Any]:  # fmt: skip
    """What these runs cost together, and each: quantities by agent and phase, their price, what an episode and a decision of the deployed
    policies cost, the crossover, and, for a `traffic` of so many decisions a day, a forecast of `days` days. Of several runs, rates stand
    with each run. Raises `UserError` for a day that no price is valid on."""
    today = today or datetime.now(UTC).date()
    each = [_of_run(run, table, traffic, days, budget, today) for run in runs]
    told = {"prices": table.identity, "day": today.isoformat()}
    if len(each) == 1:
        return {**each[0], **told, "runs": each}
    costs = reduce(Costs.plus, (run.costs for run in runs), Costs())
    items = [x for run in runs for x in pricing.priced(run.entries, table)]
    rates = dict.fromkeys(("per_episode", "per_decision", "per_return", "crossover_decisions", "forecast"))
    return {"run": [x["run"] for x in each], **_sums(costs, items), **rates, **told, "runs": each}


def _sums(costs: Costs, items: list[Item]) -> dict[str, Any]:
    return {
        "agents": costs.agents(),
        "phases": costs.plain(),
        "total": costs.total(),
        "price": pricing.total(items),
        "price_by": {
            "agent": pricing.summed(items, lambda x: x.agent),
            "phase": pricing.summed(items, lambda x: x.phase),
            "kind": {k: v for k, v in pricing.summed(items, lambda x: x.kind).items() if v},
        },
        "unpriced": pricing.unpriced(items),
    }


def _of_run(run: CountedRun, table: PriceTable, traffic: float | None, days: int, budget: float | None, today: date) -> dict[str, Any]:
    record, items = run.record, pricing.priced(run.entries, table)
    sums = _sums(run.costs, items)
    return {
        "run": str(run.run.path),
        **{k: record.get(k) for k in ("env", "architecture", "credit", "learner", "seeds")},
        **sums,
        **_acting(run.inference, record, sums["price"], table, traffic, days, budget, today),
        "notes": run.notes,
    }


def _acting(
    inference: Inference | None, record: dict[str, Any], spent: float, table: PriceTable, traffic: float | None, days: int,
    budget: float | None, today: date,
) -> dict[str, Any]:  # fmt: skip
    """What the deployed policies cost as they act: per episode, decision and unit of return, and by agent and kind of a decision."""
    names = ("per_episode", "per_decision", "per_return", "crossover_decisions", "forecast", "inference")
    if inference is None or not inference.decisions:
        return dict.fromkeys(names)
    items = pricing.priced(pricing.on_day(inference.costs, today), table)
    whole, rate = pricing.total(items), _rate(inference, items)
    episode, returned = whole / inference.episodes, record.get("return_iqm")
    kinds, agents = pricing.summed(items, lambda x: x.kind), pricing.summed(items, lambda x: x.agent)
    own = {agent: inference.costs.of("infer", agent, "decisions") for agent in agents}
    return {
        "per_episode": episode,
        "per_decision": rate.mean,
        "per_return": episode / returned if returned is not None and returned > 0 else None,
        "crossover_decisions": pricing.crossover(spent, rate.mean),
        "forecast": None if traffic is None else forecast(rate, traffic, today, days, budget),
        "inference": {
            "episodes": inference.episodes,
            "decisions": inference.decisions,
            "agents": inference.costs.agents(),
            "per_decision_by_agent": {a: v / own[a] for a, v in agents.items() if own[a]},
            "per_decision_by_kind": {k: v / inference.decisions for k, v in kinds.items() if v},
            "per_decision_low": rate.low,
            "per_decision_high": rate.high,
        },
    }


def _rate(inference: Inference, items: list[Item]) -> Rate:
    """Of a decision; an episode's amount of a kind costs what the agents' costs on average."""
    amounts = inference.costs.total("infer")
    mean = {kind: cost / amounts[kind] for kind, cost in pricing.summed(items, lambda x: x.kind).items()}
    decisions = [[int(x) for x in row] for row in inference.by_episode["decisions"]]
    costs = [[0.0] * len(row) for row in decisions]
    for kind, rows in inference.by_episode.items():
        for i, row in enumerate(rows):
            for e, amount in enumerate(row):
                costs[i][e] += amount * mean.get(kind, 0.0)
    rate = Rate.of(costs, decisions)
    return Rate(sum(x.cost for x in items) / inference.decisions, rate.low, rate.high)
