"""The record of an audit over training seeds (`marlstone audit-credit --json`), and its picture."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from marlstone.evaluation.credit.findings import Told
from marlstone.evaluation.credit.judgement import CORRELATION, compared, judgement, over_seeds
from marlstone.evaluation.credit.reliability import spearman
from marlstone.runs.picture import saved
from marlstone.stats.families import alpha_each

NOTHING = 0.02  # of the team's return


def summary(told: list[Told], agents: list[str], claims: str | None) -> dict[str, Any]:
    """The figures over seeds. `truth`, `dummies` and `saboteurs` are undiscounted, in units of the team's return; `truth_discounted` is in
    units of the claims."""
    team, _ = over_seeds([t.team_return for t in told])
    scale = abs(team or 0.0)  # 0: a team that earned nothing leaves nothing to measure by
    per = lambda name: {a: over_seeds([float(getattr(t, name)[k]) for t in told]) for k, a in enumerate(agents)}
    told = [replace(t, true_discounted=t.true) if t.true_discounted is None else t for t in told]
    claimed, true, discounted = per("claimed"), per("true"), per("true_discounted")
    each_agent = lambda name: [dict(zip(agents, map(float, getattr(t, name)), strict=True)) for t in told]
    joint = {a: over_seeds([float(t.true[k]) for t in told], level=1 - alpha_each(len(agents)))[1] for k, a in enumerate(agents)}
    within = lambda ci: scale > 0 and all(x is not None and abs(x) <= NOTHING * scale for x in ci)
    idle = [a for a in agents if within(joint[a])]
    harmful = [a for a in agents if (high := joint[a][1]) is not None and high < -NOTHING * scale]
    widest = max((claimed[a][1] for a in idle), key=lambda ci: max(abs(x or 0) for x in ci), default=None)
    each_seed = [spearman(t.claimed, t.true) for t in told]
    across, across_ci = over_seeds(each_seed, CORRELATION)
    decisions = [t.agreement for t in told if t.efficiency_error is None or t.measured is not None]
    each, each_ci = over_seeds(decisions, CORRELATION)
    optimized, optimized_ci = over_seeds([t.optimized for t in told])
    gap, gap_ci = over_seeds([t.optimized - t.team_return for t in told])
    errors = [t.efficiency_error for t in told if t.efficiency_error is not None]
    record = {
        "claims": claims,
        "rank_correlation": across,
        "rank_correlation_ci95": across_ci,
        "rank_correlation_per_seed": [None if np.isnan(x) else x for x in each_seed],
        "decision_rank_correlation": each,
        "decision_rank_correlation_ci95": each_ci,
        "efficiency_error": float(np.mean(errors)) if errors else None,
        "team_return": team,
        "optimized": optimized,
        "optimized_ci95": optimized_ci,
        "gap": gap,
        "gap_ci95": gap_ci,
        "by_seed": {
            "team_return": [t.team_return for t in told],
            "optimized": [t.optimized for t in told],
            "contributions": each_agent("claimed"),
            "truth": each_agent("true"),
            "truth_discounted": each_agent("true_discounted"),
        },
        "dummies": idle,
        "dummy_ci95": None if widest is None else [None if x is None else x / scale for x in widest],
        "saboteurs": harmful,
        "contributions": {a: c for a, (c, _) in claimed.items()},
        "contributions_ci95": {a: ci for a, (_, ci) in claimed.items()},
        "truth": {a: c for a, (c, _) in true.items()},
        "truth_ci95": {a: ci for a, (_, ci) in true.items()},
        "truth_discounted": {a: c for a, (c, _) in discounted.items()},
        "truth_discounted_ci95": {a: ci for a, (_, ci) in discounted.items()},
    }
    record |= compared(told, agents)
    return record | {"judgement": judgement(record)}


def picture(path: Path, record: dict[str, Any], title: str) -> Path:
    """Truth and claim per agent, side by side, to a PNG, atomically; the truth also discounted, as claims are, where that is another."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    agents = list(record["truth"])
    figure = Figure(figsize=(max(6.0, 0.7 * len(agents) + 2), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes, place = figure.subplots(), np.arange(len(agents))
    label = record["claims"] or "implied by its critic"
    bars = [("truth", "0.45", "truth"), ("contributions", "#1f77b4", f"claimed ({label})")]
    if record["truth_discounted"] != record["truth"]:
        bars.insert(1, ("truth_discounted", "0.7", "truth, discounted"))
    width = 0.8 / len(bars)
    for at, (name, color, words) in enumerate(bars):
        center = np.array([record[name][a] or 0.0 for a in agents])
        ends = np.array([[c if x is None else x for x in record[f"{name}_ci95"][a]] for a, c in zip(agents, center, strict=True)])
        spread = np.abs(ends.T - center)
        axes.bar(place + (at + 0.5) * width - 0.4, center, width, color=color, yerr=spread, ecolor="0.2", capsize=2, label=words)
    axes.axhline(0, color="0.2", linewidth=0.8)
    axes.set_xticks(place, agents, rotation=30 if len(agents) > 5 else 0, ha="right" if len(agents) > 5 else "center")
    axes.set(title=title, ylabel="worth to the team per episode, 95% CI")
    axes.legend(frameon=False)
    return saved(figure, path)
