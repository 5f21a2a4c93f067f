"""The pictures of a selection's report, each as a `data:` URL of a PNG; empty where there is nothing to draw."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from marlstone.evaluation.select.rating import axes_of
from marlstone.stats.intervals import interval

COLORS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22")
RATINGS = {"High": "#2e7d32", "Moderate": "#b26a00", "Low": "#b3261e", "unrated": "#666666"}


def drawn(width: float, height: float) -> tuple[Any, Any]:
    """A figure of that many inches, and its axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def inline(figure: Any) -> str:
    """A figure as a `data:` URL."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def curves(ran: Sequence[Mapping[str, Any]], measured: Mapping[str, Mapping[str, Any]], chance: float) -> str:
    """Training returns over steps: each candidate's IQM over seeds with its 95% interval, and random play's return."""
    from matplotlib.ticker import EngFormatter

    figure, axes = drawn(9.5, 5)
    for row, color in zip(ran, COLORS * 3, strict=False):
        trial = measured[row["name"]]
        steps, returns = np.array(trial["steps"]), np.array(trial["curve"], float)
        shown = np.isfinite(returns).all(0) if returns.size else np.zeros(0, bool)
        if not shown.any():
            continue
        figures = [interval(list(column[:, None])) for column in returns[:, shown].T]
        axes.plot(steps[shown], [c for c, _ in figures], color=color, label=row["name"])
        axes.fill_between(steps[shown], [ci[0] for _, ci in figures], [ci[1] for _, ci in figures], color=color, alpha=0.15, linewidth=0)
    axes.axhline(chance, color="0.5", linestyle=":", label="random play")
    axes.set(xlabel="joint environment steps per seed", ylabel="team return per episode")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    return inline(figure)


def stability(ran: Sequence[Mapping[str, Any]]) -> str:
    """What each rated candidate loses on each axis, with the pessimistic end of the interval, in the color of its rating."""
    rated = [row for row in ran if axes_of(row["stability"])]
    names = list(dict.fromkeys(a for row in rated for a, x in axes_of(row["stability"]).items() if x["value"] is not None))
    if not names:
        return ""
    figure, axes = drawn(9.5, 0.7 + 0.32 * len(names) * max(2, len(rated)) / 2)
    high = 0.8 / len(rated)
    for i, row in enumerate(rated):
        for j, name in enumerate(names):
            axis = axes_of(row["stability"]).get(name)
            if axis is None or axis["value"] is None:
                continue
            y = j + (i - (len(rated) - 1) / 2) * high
            axes.barh(y, axis["value"], high * 0.9, color=COLORS[ran.index(row) % len(COLORS)], label=row["name"] if j == 0 else None)
            if (end := axis["ci95"][1]) is not None:
                axes.plot([axis["value"], end], [y, y], color=RATINGS[axis["rating"]], linewidth=1.5)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(xlabel="loss, as a share of what the best gained over chance (less is better)", xlim=(0, None))
    axes.legend(*_once(axes), frameon=False)
    axes.grid(axis="x", alpha=0.25)
    return inline(figure)


def _once(axes: Any) -> tuple[list[Any], list[str]]:
    found = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    return list(found.values()), list(found)


def costs(ran: Sequence[Mapping[str, Any]]) -> str:
    """What training cost against the return it reached, with 95% intervals; a cross for who was stopped early."""
    figure, axes = drawn(7.5, 4.5)
    for row, color in zip(ran, COLORS * 3, strict=False):
        low, high = (row["return_iqm"] if x is None or x != x else x for x in row["return_ci95"])
        x, y = row["cost"]["train"], row["return_iqm"]
        axes.errorbar(
            [x], [y], [[max(y - low, 0)], [max(high - y, 0)]], fmt="o" if row["stopped_at"] is None else "x", color=color, capsize=3
        )
        axes.annotate(row["name"], (x, y), textcoords="offset points", xytext=(7, 4), fontsize=9)
    axes.set(xlabel=f"training, all seeds, {ran[0]['cost']['currency']}", ylabel="return, IQM (x: stopped early)")
    axes.margins(x=0.2)
    axes.grid(alpha=0.25)
    return inline(figure)


def edge_cases(ran: Sequence[Mapping[str, Any]]) -> str:
    """Shares of the learned gain that edge cases take, candidates by cases."""
    rows = [row for row in ran if row["edge_cases"]]
    if not rows:
        return ""
    names = list(dict.fromkeys(c["name"] for row in rows for c in row["edge_cases"]))
    loss = np.array([[next((c["loss"] for c in row["edge_cases"] if c["name"] == n), np.nan) for n in names] for row in rows], float)
    figure, axes = drawn(1.5 + 0.75 * len(names), 1.8 + 0.55 * len(rows))
    image = axes.imshow(np.clip(loss, 0, 1), cmap="YlOrRd", vmin=0, vmax=1, aspect="auto")
    for i, j in np.ndindex(loss.shape):
        if np.isfinite(loss[i, j]):
            axes.text(j, i, f"{loss[i, j]:.0%}", ha="center", va="center", fontsize=8, color="white" if loss[i, j] > 0.6 else "black")
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize=9)
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the learned gain lost")
    return inline(figure)


def contributions(ran: Sequence[Mapping[str, Any]], measured: Mapping[str, Mapping[str, Any]]) -> str:
    """Of candidates whose credit method claims something; empty where none does."""
    claiming = [row["name"] for row in ran if row.get("claims") and measured[row["name"]]["contributions"]]
    claimed = {name: measured[name]["contributions"] for name in claiming}
    agents = list(dict.fromkeys(a for x in claimed.values() for a in x))[:16]
    if not agents:
        return ""
    figure, axes = drawn(9.5, 3.8)
    wide = 0.8 / len(claimed)
    for i, (name, mine) in enumerate(claimed.items()):
        at = np.arange(len(agents)) + (i - (len(claimed) - 1) / 2) * wide
        color = COLORS[[row["name"] for row in ran].index(name) % len(COLORS)]
        axes.bar(at, [mine.get(a, np.nan) for a in agents], wide * 0.9, label=name, color=color)
    axes.set_xticks(range(len(agents)), agents, rotation=30 if len(agents) > 6 else 0)
    axes.axhline(0, color="0.4", linewidth=0.8)
    axes.set(ylabel="contribution per episode")
    axes.legend(frameon=False, fontsize=9)
    return inline(figure)
