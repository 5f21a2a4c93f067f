"""The learning curve: team return against joint env steps, as a picture that needs no further words."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from marlstone.runs.picture import saved
from marlstone.runs.store import Series
from marlstone.stats.intervals import interval

POINTS = 60


def on_grid(series: Sequence[Series], points: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
    """`(steps [k], returns [seeds k])` on the steps every seed has reached, each seed averaged over the bins between.

    A bin in which a seed finished no episode takes its previous value (NaN before its first).
    """
    present = [s for s in series if np.isfinite(s.value).any()]
    if not present:
        return np.zeros(0), np.zeros((0, 0))
    end = min(int(s.step[-1]) for s in present)
    most = max(int(np.sum(s.step <= end)) for s in present)
    edges = np.linspace(0, end, min(points, max(most, 1)) + 1)
    rows = []
    for s in present:
        real = np.isfinite(s.value)
        place = np.searchsorted(edges, s.step[real], side="left") - 1
        row = np.full(len(edges) - 1, np.nan)
        for k in range(len(row)):
            here = s.value[real][place == k]
            row[k] = here.mean() if here.size else (row[k - 1] if k else np.nan)
        rows.append(row)
    return edges[1:], np.array(rows)


def _summary(returns: np.ndarray) -> np.ndarray:
    """IQM over seeds, lower and upper end of its interval, `[3 k]`, of `[seeds k]`."""
    found = [interval(list(column[:, None])) for column in returns.T]
    return np.array([(center, low, high) for center, (low, high) in found]).T


def draw(
    path: Path,
    series: Sequence[Series],
    title: str,
    ylabel: str = "team return per episode (undiscounted)",
    beside: tuple[str, Sequence[float], Sequence[float]] | None = None,
) -> Path | None:
    """Draw the IQM over seeds with its 95% band and each seed as a thin line, to a PNG at `path`, atomically.

    `series`: one per seed, steps in joint env steps per seed. With one seed there is no band. `beside`: name, steps and returns
    of another curve, up to the last step of these. Returns None, and draws nothing, where no episode was finished.
    """
    steps, returns = on_grid(series)
    shown = np.isfinite(returns).all(0) if returns.size else np.zeros(0, bool)
    if not shown.any():
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import, and needed once a run
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    center, low, high = _summary(returns[:, shown])
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for i, row in enumerate(returns):
        axes.plot(steps, row, color="0.6", linewidth=0.7, label="each seed" if i == 0 else None, zorder=1)
    count = len(returns)
    if count > 1:
        axes.fill_between(steps[shown], low, high, color="#1f77b4", alpha=0.2, linewidth=0, label="95% CI", zorder=2)
    label, alone = f"IQM of {count} seeds" if count > 1 else "one seed", "o" if shown.sum() == 1 else None
    axes.plot(steps[shown], center, color="#1f77b4", linewidth=2, marker=alone, label=label, zorder=3)
    highest, lowest = float(np.nanmax(returns)), float(np.nanmin(returns))
    if beside is not None:
        name, at, values = beside[0], np.array(beside[1]), np.array(beside[2])
        values = values[at <= steps[-1]]
        axes.plot(at[at <= steps[-1]], values, color="#d62728", linestyle="--", linewidth=1.5, label=name, zorder=2)
        highest, lowest = max(highest, values.max()), min(lowest, values.min())
    axes.set(title=title, xlabel="joint environment steps per seed", ylabel=ylabel)
    span = (highest - lowest) or 0.1 * abs(highest) or 1.0
    axes.set_ylim(lowest - 0.08 * span, highest + 0.08 * span)
    axes.set_xlim(0, 1.05 * float(steps[-1]) if alone else float(steps[-1]))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, loc="best")
    return saved(figure, path)


def draw_together(path: Path, curves: Sequence[tuple[str, Sequence[Series]]]) -> Path | None:
    """Draw several runs' curves, by name: the IQM over seeds, with its 95% band where there are seeds enough, to a PNG at `path`,
    atomically.
    Returns None, and draws nothing, where no run finished an episode."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes, drawn = figure.subplots(), 0
    for i, (name, series) in enumerate(curves):
        steps, returns = on_grid(series)
        shown = np.isfinite(returns).all(0) if returns.size else np.zeros(0, bool)
        if not shown.any():
            continue
        center, low, high = _summary(returns[:, shown])
        alone, count = "o" if shown.sum() == 1 else None, f"{len(returns)} seed{'s' * (len(returns) > 1)}"
        axes.plot(steps[shown], center, color=f"C{i % 10}", linewidth=2, marker=alone, label=f"{name} ({count})")
        if len(returns) > 1:
            axes.fill_between(steps[shown], low, high, color=f"C{i % 10}", alpha=0.15, linewidth=0)
        drawn += 1
    if not drawn:
        return None
    axes.set(
        xlabel="joint environment steps per seed",
        ylabel="team return per episode",
        title="Team return, undiscounted: IQM over seeds, 95% interval",
    )
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, loc="best")
    path.parent.mkdir(parents=True, exist_ok=True)
    return saved(figure, path)
