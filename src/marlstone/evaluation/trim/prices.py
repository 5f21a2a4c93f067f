"""What a joint step costs as deployed, by kind, and what a removal saves: quantities first, then prices, which only order and weigh
them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from marlstone.evaluation.messages.traffic import per_step
from marlstone.evaluation.select.prices import Prices
from marlstone.play.evaluator import Episodes

CALL = 1e-6  # of one call to a tool, in the currency of `Prices`, where no table has a price of it
Amounts = Mapping[str, float]
"""Per joint step: `messages bits calls flops bytes` (of what is observed)."""


def price_of(amounts: Amounts, prices: Prices) -> float:
    """In the currency of `prices`."""
    each = {"messages": prices.message, "bits": prices.bit, "calls": CALL, "flops": prices.flop, "bytes": prices.byte}
    return sum(each[k] * x for k, x in amounts.items())


def spent(played: Episodes, flops: int, observed: int) -> dict[str, float]:
    """Per joint step of these episodes, of policies whose acting takes `flops` and that observe so many bytes."""
    out = {"messages": 0.0, "bits": 0.0, "calls": 0.0, "flops": float(flops), "bytes": float(observed)}
    for name in ("messages", "bits", "calls"):
        if name in played.told:
            out[name] = float(np.sum(per_step(played, name)))
    return out


def shares(before: Amounts, after: Amounts, prices: Prices) -> dict[str, Any]:
    """`saved_share`, of the price, and `saved_shares` of every quantity that there was."""
    was, is_ = price_of(before, prices), price_of(after, prices)
    each = {k: 1 - after[k] / x for k, x in before.items() if x > 0}
    return {"before": dict(before), "after": dict(after), "saved_share": 1 - is_ / was if was > 0 else 0.0, "saved_shares": each}
