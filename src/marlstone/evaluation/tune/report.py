"""A sweep as one page that needs nothing else: the winner and what its return is worth, the picture, every trial."""

import html
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from marlstone.evaluation.select.pictures import COLORS, drawn, inline
from marlstone.evaluation.select.report import STYLE
from marlstone.evaluation.tune.space import shown
from marlstone.runs.files import write_atomic

HEADS = ("rank", "trial", "settings", "steps per seed", "return, tuning seeds")


def cells(record: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A row per trial, best first."""
    return [
        (str(x["rank"]), x["name"].removeprefix("trial-"), shown(x["settings"]), f"{x['rungs'][-1]['steps']:,}",
         f"{x['rungs'][-1]['return_iqm']:.4g}")
        for x in record["trials"]
    ]  # fmt: skip


def figure_of(record: Mapping[str, Any]) -> Any:
    """Returns of all trials against the steps at which they were judged, and the winner's on reporting seeds with its interval."""
    from matplotlib.ticker import EngFormatter

    figure, axes = drawn(9.5, 5)
    for x in reversed(record["trials"]):
        best = x["name"] == record["best"]
        color = COLORS[0] if best else "0.6"
        steps, returns = [r["steps"] for r in x["rungs"]], [r["return_iqm"] for r in x["rungs"]]
        axes.plot(steps, returns, "o-", color=color, linewidth=2 if best else 1, label="best, on tuning seeds" if best else None)
    points = [("best, on reporting seeds", record, COLORS[1])]
    if record["baseline"] is not None and record["settings"]:
        points.append(("as configured, on reporting seeds", record["baseline"], COLORS[2]))
    for i, (label, found, color) in enumerate(points):
        low, high = found["return_ci95"]
        center = found["return_iqm"]
        whiskers = None if low is None or high is None else [[max(0.0, center - low)], [max(0.0, high - center)]]
        axes.errorbar([record["steps"] * (1.04 + 0.04 * i)], [center], yerr=whiskers, fmt="s", color=color, capsize=4, label=label)
    axes.set(xlabel="joint environment steps per seed", ylabel="team return per episode")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    return figure


def write_report(file: Path, record: Mapping[str, Any]) -> Path:
    """Write the page of a sweep's record to `file`."""
    name = html.escape(record["env"])
    rows = "".join(
        f"<tr{' class=chosen' if x['name'] == record['best'] else ''}>{''.join(f'<td>{html.escape(c)}</td>' for c in row)}</tr>"
        for x, row in zip(record["trials"], cells(record), strict=True)
    )
    about = (
        f"{time.strftime('%d %B %Y').lstrip('0')}; {record['configurations']} trials ({record['sampler']}), successive halving by "
        f"{record['eta']}, up to {record['steps']:,} steps per seed"
    )
    bias = (
        f"Chosen as the best of {record['configurations']}, the tuning return is too high by about what luck adds: here "
        f"{record['selection_bias']:.3g} more than on the reporting seeds."
    )
    page = (
        "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{name}: Marlstone tune</title><style>{STYLE}</style><h1>{name}<small>{html.escape(about)}</small></h1>"
        f"<div class='answer'><p>{html.escape(record['evidence'])}</p></div>"
        f"<figure><img alt='Returns by trial and steps' src='{inline(figure_of(record))}'><figcaption>Each line is a trial on the tuning "
        f"seeds; it ends where it was stopped. Whiskers: 95% intervals. {html.escape(bias)}</figcaption></figure>"
        f"<div class='wide'><table><tr>{''.join(f'<th>{h}</th>' for h in HEADS)}</tr>{rows}</table></div>"
        f"<h2>Train it</h2><pre>marlstone train {html.escape(record['config'])}</pre></html>"
    )
    write_atomic(file, page.encode())
    return file
