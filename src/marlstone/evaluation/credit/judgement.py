"""Are a method's claims right here? How they compare with measured worth, over training seeds, and that in one sentence."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from marlstone.evaluation.credit.findings import Told
from marlstone.evaluation.credit.reliability import LEAST, calibration, ceiling_of_means, quarters, spearman, standard_error
from marlstone.stats.intervals import Bounds, interval

RIGHT, WRONG = 0.7, 0.5  # of the noise ceiling: reached by the whole interval, missed by the whole interval
SLOPES = (0.5, 2.0)  # a calibration slope outside is wrong; within (0.8, 1.25), right
FINE = (0.8, 1.25)
MATTERS = 0.1  # of the team's return, by which an agent's claim and worth differ where that is said
FEW = 20  # decisions that changed the return at all: of fewer no order can be told
SELDOM = 0.01  # a default taken with a lower probability is hardly ever tried
CORRELATION = (-1.0, 1.0)


def over_seeds(values: list[float], bounds: Bounds | None = None, level: float = 0.95) -> tuple[float | None, list[float | None]]:
    """IQM over the seeds that have a figure, and its interval within `bounds`."""
    known = [[v] for v in values if np.isfinite(v)]
    if not known:
        return None, [None, None]
    center, (low, high) = interval(known, level, bounds)
    return center, [None if np.isnan(x) else x for x in (low, high)]


def compared(told: Sequence[Told], agents: list[str]) -> dict[str, Any]:
    """The record's part on how the truth was measured and how claims compare with it, over seeds; None each where it was not.

    All of it is of discounted worth, or of shares (`findings`), but for `undiscounted_rank_correlation` and `agents_noise_ceiling`, of
    `rank_correlation`, by halves of decisions or episodes. `share_of_ceiling` is of the seeds whose noise
    ceiling is at least `LEAST` and in which at least `FEW` decisions were worth anything.
    """
    measured = [(t, t.measured) for t in told if t.measured is not None]
    if not measured:
        return dict.fromkeys(("continuations", "worth_anything", "noise_ceiling", "share_of_ceiling", "calibration_slope"))
    out: dict[str, Any] = {"continuations": max(m.worth.shape[-1] for _, m in measured)}

    def put(name: str, values: list[float], bounds: Bounds | None = None) -> None:
        out[name], out[f"{name}_ci95"] = over_seeds(values, bounds)

    out |= {"decisions": measured[0][0].true_each.size, "decisions_worth_anything": [int(t.changed.sum()) for t, _ in measured]}
    put("worth_anything", [t.changed.mean() for t, _ in measured], (0.0, 1.0))
    out["agents_without_effect"] = [a for i, a in enumerate(agents) if not any(t.changed[:, i].any() for t, _ in measured)]
    ceilings = [t.ceiling for t, _ in measured]
    tells = [t.changed.sum() >= FEW and c >= LEAST for (t, _), c in zip(measured, ceilings, strict=True)]
    put("standard_error", [standard_error(m.discounted) for _, m in measured])
    put("noise_ceiling", ceilings, (0.0, 1.0))
    put("agents_noise_ceiling", [ceiling_of_means(m.worth.mean(-1)) for _, m in measured], (0.0, 1.0))
    shares = zip(measured, ceilings, tells, strict=True)
    put("share_of_ceiling", [t.agreement / c if known else float("nan") for (t, _), c, known in shares])
    undiscounted = [spearman(t.claimed_each.ravel(), m.worth.mean(-1).ravel()) for t, m in measured]
    put("undiscounted_rank_correlation", undiscounted, CORRELATION)
    lines = [calibration(t.claimed_each.ravel(), t.true_each.ravel()) for t, _ in measured]
    put("calibration_slope", [line.slope for line in lines])
    put("calibration_bias", [line.bias for line in lines])
    slopes = {
        a: over_seeds([calibration(t.claimed_each[:, i], t.true_each[:, i]).slope for t, _ in measured]) for i, a in enumerate(agents)
    }
    out |= {"slopes": {a: c for a, (c, _) in slopes.items()}, "slopes_ci95": {a: ci for a, (_, ci) in slopes.items()}}
    put("defaults_untried", [_untried(m.default_chance) for _, m in measured if m.default_chance is not None], (0.0, 1.0))
    parts = [[_part(t, mask) for mask in quarters(m.time)] for t, m in measured if m.time is not None]
    quarter = lambda q: {
        "rank_correlation": over_seeds([p[q][0] for p in parts], CORRELATION)[0],
        "error": over_seeds([p[q][1] for p in parts])[0],
    }
    out["by_quarter"] = [quarter(q) for q in range(4)] if parts else None
    if any(m.window_bias is not None for _, m in measured):
        put("window_bias", [m.window_bias for _, m in measured if m.window_bias is not None])
    return out


def _untried(chance: np.ndarray) -> float:
    """The share of defaults that are hardly ever taken; NaN where actions are measured, not counted."""
    known = chance[np.isfinite(chance)]
    return float((known < SELDOM).mean()) if known.size else float("nan")


def _part(told: Told, mask: np.ndarray) -> tuple[float, float]:
    """Of some decisions: the rank correlation of claim and worth, and the root mean squared error relative to the spread of all worth."""
    claimed, true, spread = told.claimed_each[mask], told.true_each[mask], float(told.true_each.std())
    error = float(np.sqrt(((claimed - true) ** 2).mean())) / spread if spread > 0 else float("nan")
    return spearman(claimed.ravel(), true.ravel()), error


def judgement(record: dict[str, Any]) -> str:
    """Whether claims are right in this environment, in one sentence; "" where nothing was measured twice."""
    if record["continuations"] in (None, 1):
        return ""
    who = "its claims" if record["claims"] else "what its critic implies"
    shares = record["claims"] == "shares"
    what, worth = ("episodes' shares", "shares of the return") if shares else ("decisions", "what decisions were worth")
    changed, of = record["decisions_worth_anything"], record["decisions"]
    if np.median(changed) < FEW:
        few = "shares were not 0" if shares else "decisions changed the return; raise --decisions"
        return f"cannot be told here whether {who} can be believed: only {sum(changed)} of {of * len(changed)} {few}"
    if (ceiling := record["noise_ceiling"] or 0.0) < LEAST:
        return (
            f"cannot be told here whether {who} can be believed: {worth}, measured twice, agree{'' if shares else 's'} with "
            f"{'themselves' if shares else 'itself'} by only {ceiling:.2g}; raise --continuations"
        )
    wrong = [
        *_order(record, f"{who} do not order {what} by {'their truth' if shares else 'what they were worth'}"),
        *_scale(record),
        *_totals(record),
    ]
    if wrong:
        return "wrong here: " + "; ".join(wrong)
    low = record["share_of_ceiling_ci95"][0]
    idle = record["agents_without_effect"]
    fine = all(x is not None and FINE[0] <= x <= FINE[1] for a, x in record["slopes"].items() if a not in idle)
    if low is not None and low >= RIGHT and fine:
        return f"right here: {who} order {what} by {record['share_of_ceiling']:.0%} of what the truth's noise allows, to scale"
    share = record["share_of_ceiling"]
    reached = "none of what can be reached" if share is None else f"{share:.0%} of what the truth's noise allows"
    return f"not shown to be right or wrong here: {who} order {what} by {reached}"


def _order(record: dict[str, Any], words: str) -> list[str]:
    high = record["share_of_ceiling_ci95"][1]
    if high is None or high >= WRONG:
        return []
    raw, ceiling = record["decision_rank_correlation"], record["noise_ceiling"]
    return [f"{words} (rank correlation {raw:.2g}, of a possible {ceiling:.2g})"]


def _scale(record: dict[str, Any]) -> list[str]:
    out = []
    for agent, (low, high) in record["slopes_ci95"].items():
        if agent in record["agents_without_effect"]:
            continue  # no slope is right where nothing varies
        if low is not None and high is not None and (high < SLOPES[0] or low > SLOPES[1]):
            out.append(f"a claim of 1 of {agent}'s was worth {record['slopes'][agent]:.2g} ({low:.2g} to {high:.2g})")
    return out[:2]


def _totals(record: dict[str, Any]) -> list[str]:
    out = []
    for agent, claimed in record["contributions"].items():
        true = record["truth_discounted"][agent]
        (a, b), (c, d) = record["contributions_ci95"][agent], record["truth_discounted_ci95"][agent]
        apart = None not in (a, b, c, d) and (b < c or d < a)
        if apart and abs(claimed - true) > MATTERS * abs(record["team_return"] or 0):
            how = "" if true == record["truth"][agent] else ", discounted"
            out.append(f"it says {claimed:.2g} of {agent}, who was worth {true:.2g} per episode{how}")
    return out[:2]
