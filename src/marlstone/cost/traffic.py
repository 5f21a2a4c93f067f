"""What a declared traffic will cost: decisions per day times what one costs, with the uncertainty of that rate.

    R = sum_i c_i / sum_i d_i,    se(R) = sqrt(k / (k - 1) sum_i (c_i - R d_i)^2) / sum_i d_i,    R -+ t_{k-1} se(R)

i: episodes that were judged, cost c_i and decisions d_i; of several training seeds, seeds, since one of them is deployed. Traffic itself
is taken as declared. Source of the ratio's error: Cochran, Sampling Techniques, 3rd edition, 2.11.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from scipy import special

DAYS = 30
LEVEL = 0.8


@dataclass(frozen=True)
class Rate:
    """The cost of a decision, and its `LEVEL` interval; without ends where a single episode shows nothing of its scatter."""

    mean: float
    low: float | None
    high: float | None

    @classmethod
    def of(cls, costs: Sequence[Sequence[float]], decisions: Sequence[Sequence[int]], level: float = LEVEL) -> "Rate":
        """Of episodes by seed: what each cost, and how many decisions it had. Raises ValueError where there are none."""
        if not (made := sum(map(sum, decisions))):
            raise ValueError("Rate: no decision was made in these episodes: judge the policy in longer ones")
        mean = math.fsum(map(math.fsum, costs)) / made
        gaps = [[c - mean * d for c, d in zip(cs, ds, strict=True)] for cs, ds in zip(costs, decisions, strict=True)]
        units = [math.fsum(x) for x in gaps] if len(gaps) > 1 else gaps[0]
        k = len(units)
        if k < 2:
            return cls(mean, None, None)
        error = math.sqrt(k / (k - 1) * math.fsum(x * x for x in units)) / made
        reach = float(special.stdtrit(k - 1, (1 + level) / 2)) * error
        return cls(mean, max(0.0, mean - reach), mean + reach)


def forecast(rate: Rate, per_day: float, start: date, days: int = DAYS, budget: float | None = None) -> dict[str, float | int | str | None]:
    """What `days` of `per_day` decisions cost from `start` on: `total`, `low` and `high`, and `spent_by`, the day on which a `budget` is
    used up at that rate; None where it lasts, or there is none."""
    times = per_day * days
    daily, gone = rate.mean * per_day, None
    if budget is not None and daily > 0 and budget < rate.mean * times:
        gone = (start + timedelta(days=math.floor(budget / daily))).isoformat()
    return {
        "total": rate.mean * times,
        "low": None if rate.low is None else rate.low * times,
        "high": None if rate.high is None else rate.high * times,
        "level": LEVEL,
        "per_day": daily,
        "days": days,
        "decisions_per_day": per_day,
        "from": start.isoformat(),
        "budget": budget,
        "spent_by": gone,
    }
