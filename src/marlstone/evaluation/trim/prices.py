"""What a joint step costs as deployed, by kind, and what a removal saves: quantities first, then prices, which only order and weigh
them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

from marlstone.core.ledger import MICRO
from marlstone.core.usage import METRICS, PRICE
from marlstone.cost.prices import PriceTable
from marlstone.evaluation.messages.traffic import per_step
from marlstone.play.evaluator import Episodes

CALL = 1e-6  # of one call beside what a table says and a tool charges: what nobody needs goes first even where it is free
KINDS = {"messages": "messages", "bits": "bits", "calls": "tool_calls", "flops": "flops", "bytes": "bytes"}  # in a table's words
Amounts = Mapping[str, float]
"""Per joint step: `messages bits calls flops bytes` (of what is observed), and what tools and memory charge, `paid`."""


def price_of(amounts: Amounts, prices: PriceTable) -> float:
    """By today's prices of inference for all agents, in their currency; 0 for what the table has none of."""
    today = datetime.now(UTC).date()
    unit = lambda kind: prices.unit(kind, "", "infer", today) or 0.0
    each = {name: unit(kind) for name, kind in KINDS.items()}
    each |= {"calls": each["calls"] + CALL, "paid": MICRO * unit("paid_micro")}
    return sum(each[k] * x for k, x in amounts.items())


def spent(played: Episodes, flops: int, observed: int) -> dict[str, float]:
    """Per joint step of these episodes, of policies whose acting takes `flops` and that observe so many bytes."""
    out = {"messages": 0.0, "bits": 0.0, "calls": 0.0, "flops": float(flops), "bytes": float(observed)}
    for name in ("messages", "bits", "calls"):
        if name in played.told:
            out[name] = float(np.sum(per_step(played, name)))
    if (total := played.metrics.get(METRICS[PRICE])) is not None:
        pairs = zip(played.per_seed(total), played.per_seed(played.length), strict=True)
        out["paid"] = float(np.mean([np.mean(x / length) for x, length in pairs]))
    return out


def shares(before: Amounts, after: Amounts, prices: PriceTable) -> dict[str, Any]:
    """`saved_share`, of the price, and `saved_shares` of every quantity that there was."""
    was, is_ = price_of(before, prices), price_of(after, prices)
    each = {k: 1 - after[k] / x for k, x in before.items() if x > 0}
    return {"before": dict(before), "after": dict(after), "saved_share": 1 - is_ / was if was > 0 else 0.0, "saved_shares": each}
