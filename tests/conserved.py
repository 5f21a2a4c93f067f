"""Conservation: what agents and nobody in particular spent is what the run spent, wherever it is written."""

from functools import reduce
from typing import Any

from marlstone.core.ledger import SHARED, TIMES, Costs
from marlstone.runs.directory import RunDirectory


def untimed(costs: Costs) -> dict[str, Any]:
    """All but times, which differ whenever the same is done again."""
    out = Costs()
    for phase, agent, kind, amount in costs.entries():
        if kind not in TIMES:
            out.add(phase, agent, kind, amount)
    return out.plain()


def conserved(record: dict[str, Any], run: RunDirectory) -> Costs:
    """Agents and shared add up to the ledgers, of every kind; the store says the same as the record; what acting costs does too."""
    costs, per_step = Costs.read(record["costs"]), record["flops_per_step"]
    train, evaluate = costs.total("train"), costs.total("evaluate")
    for kind in ("steps", "flops", "bytes", "messages", "bits"):
        assert train.get(kind, 0) == sum(ledger[kind] for ledger in record["ledger"]), kind
    for name, parts in record["flops_by_component"].items():
        assert sum(parts.values()) == per_step[name]
    with run.store() as store:
        assert untimed(reduce(Costs.plus, store.spent().values())) == untimed(costs)
    agents = [a for a in costs.agents() if a != SHARED]
    assert agents and all(costs.of("train", a, "decisions") <= train["steps"] for a in agents)
    assert evaluate["flops"] % per_step["acting"] == 0 and evaluate["flops"] >= evaluate["steps"] * per_step["acting"]
    acting = Costs.read({"infer": record["inference"]["agents"]}).total("infer")
    assert acting["flops"] == record["inference"]["steps"] * per_step["acting"] and acting["decisions"] > 0
    by_episode = record["inference"]["by_episode"]
    for kind, rows in by_episode.items():  # bits are whole by sender there, fractions here
        assert 0 <= sum(map(sum, rows)) - acting[kind] + 0.1 <= len(agents) * (kind == "bits") + 0.2, kind
    assert train["wall_us"] > 0 and train["cpu_us"] > 0 and evaluate["wall_us"] > 0
    return costs
