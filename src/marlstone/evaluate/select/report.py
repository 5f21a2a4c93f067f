"""A selection as one page that needs nothing else: the table, the recommendation, and pictures of what they rest on."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from marlstone.evaluate.select.rating import axes_of, worst_axis
from marlstone.evaluate.select.trial import MEASURED, kept
from marlstone.evaluate.statistics import interval
from marlstone.runs.files import write_atomic

COLORS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22")
CUTS = {"High": "#2e7d32", "Moderate": "#b26a00", "Low": "#b3261e", "unrated": "#666666"}
STYLE = """
:root { color-scheme: light dark; --line: #c8ccd0; --soft: #f3f5f7; --ink: #1b1f23; --page: #ffffff; }
@media (prefers-color-scheme: dark) { :root { --line: #444a50; --soft: #23272b; --ink: #e6e9ec; --page: #16191c; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); }
body { max-width: 1100px; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; font-size: 14px; } .wide { overflow-x: auto; }
th, td { border-bottom: 1px solid var(--line); padding: .45rem .6rem; text-align: left; vertical-align: top; }
th { background: var(--soft); } tr.chosen td { font-weight: 600; }
.said { background: var(--soft); border-left: 4px solid #1f77b4; padding: .8rem 1rem; margin: 1.2rem 0; }
img { max-width: 100%; background: #fff; border-radius: 4px; } small { opacity: .75; }
figure { margin: 1.5rem 0; } figcaption { font-size: 14px; opacity: .85; }
"""


def write_report(file: Path, record: Mapping[str, Any], folder: Path) -> Path:
    """Write the page of a selection's record, whose runs lie in `folder`, to `file`."""
    ran = [row for row in record["candidates"] if row["return_iqm"] is not None]
    measured = {row["name"]: said for row in ran if (said := kept(folder / "trials" / row["name"], MEASURED)) is not None}
    pictures = [
        (_curves(ran, measured, record["chance_return"]), "Training return (actions sampled), IQM over seeds with its 95% interval."),
        (
            _stability(ran),
            "Stability: what each axis loses, in shares of what the best gained over chance; the whisker's end is rated.",
        ),
        (_costs(ran), "What training cost against what it reached; whiskers are 95% intervals of the return."),
        (_edge_cases(ran), "What each edge case takes from the return, in shares of what the candidate had gained over chance."),
        (_contributions(ran, measured), "What credit says each agent contributed per episode at the end, where it says so."),
    ]
    figures = "".join(
        f"<figure><img alt='{html.escape(c)}' src='{p}'><figcaption>{html.escape(c)}</figcaption></figure>" for p, c in pictures if p
    )
    proof = "".join(f"<p>{html.escape(line)}</p>" for line in proved(record))
    page = (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        f"<title>Marlstone select: {html.escape(record['env'])}</title><style>{STYLE}</style>"
        f"<h1>{html.escape(record['recommended'])}</h1><p>{html.escape(record['env'])}: {html.escape(record['budget'])}, "
        f"{record['seeds']} seeds each; random play returns {record['chance_return']:.3g}.</p>"
        f"<div class='said'><p>{html.escape(record['evidence'])}</p><p>{html.escape(record['doubt'])}</p></div>"
        f"<div class='wide'>{_table(record)}</div>{proof}{figures}"
        f"<h2>Again</h2><p><code>marlstone train {html.escape(record['config'])}</code></p>"
        f"<small>Returns are of final policies acting by mode, never of the best checkpoint. "
        f"Prices: {html.escape(str(record['prices']))}.</small></html>"
    )
    write_atomic(file, page.encode())
    return file


HEADS = (
    "candidate", "architecture", "credit", "learner", "return IQM [95% CI], worst seed", "acting", "stability",
    "cost: train, per 1k decisions, per agent", "steps/s", "messages/step", "verdict",
)  # fmt: skip
NARROW = ("candidate", "return, 95% interval", "acting", "stability", "cost", "verdict")
figure = lambda x: "-" if x is None or x != x else f"{x:.3g}"


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """One candidate's line of the whole table, as text."""
    name, parts = row["name"], tuple(row[k] or "-" for k in ("architecture", "credit", "learner"))
    if row["return_iqm"] is None:
        return (name, *parts, *["-"] * 6, row["verdict"])
    low, high = row["return_ci95"]
    returned = f"{row['return_iqm']:.3g} [{figure(low)}, {figure(high)}], {row['return_worst_seed']:.3g}"
    vector = ", ".join(f"{k} {figure(x['value'])}" for k, x in axes_of(row["stability"]).items() if x["value"] is not None)
    stable = rating_of(row) + (f" ({vector})" if vector else "")
    c = row["cost"]
    cost = f"{c['train']:.2g}, {c['per_1k_decisions']:.2g}, {c['per_agent']:.2g} {c['currency']}"
    messages = f"{row['messages_per_step']:.3g}" if row["messages_per_step"] else "none"
    speed = row.get("steps_per_second")
    return (name, *parts, returned, row.get("acting") or "-", stable, cost, f"{speed:,.0f}" if speed else "-", messages, row["verdict"])


def narrow(row: Mapping[str, Any]) -> tuple[str, ...]:
    """One candidate's line of the table of 80 columns."""
    if row["return_iqm"] is None:
        return (row["name"], *["-"] * 4, row["verdict"].partition(":")[0])
    low, high = row["return_ci95"]
    returned = f"{row['return_iqm']:.3g}\n{figure(low)} to {figure(high)}"
    worst = worst_axis(row["stability"])
    stable = rating_of(row) + (f"\n{worst.replace('_', ' ')}" if worst else "")
    return row["name"], returned, row.get("acting") or "-", stable, f"{row['cost']['train']:.2g}", row["verdict"].partition(":")[0]


def rating_of(row: Mapping[str, Any]) -> str:
    """The rating, marked where edge cases and cross-play are not in it."""
    rating = str(row["stability"]["rating"])
    return rating + ("" if row["edge_cases"] or rating == "unrated" else ", unstressed")


def proved(record: Mapping[str, Any]) -> list[str]:
    """What fresh seeds and the soak showed, a sentence each."""
    out = []
    if again := record.get("confirmed"):
        low, high = again["return_ci95"]
        out.append(f"{record['recommended']} on {again['seeds']} fresh seeds: {again['return_iqm']:.3g} [{low:.3g}, {high:.3g}].")
    if soak := record.get("soak"):
        out.append(f"{record['recommended']} trained {soak['budgets']} times as long while observations drift: {soak['words']}.")
    return out


def _table(record: Mapping[str, Any]) -> str:
    rows = []
    for row in record["candidates"]:
        mark = " class='chosen'" if row["name"] == record["recommended"] else ""
        rows.append(f"<tr{mark}>{''.join(f'<td>{html.escape(x)}</td>' for x in cells(row))}</tr>")
    return f"<table><tr>{''.join(f'<th>{h}</th>' for h in HEADS)}</tr>{''.join(rows)}</table>"


# ---- pictures
def _drawn(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def _inline(figure: Any) -> str:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def _curves(ran: Sequence[Mapping[str, Any]], measured: Mapping[str, Mapping[str, Any]], chance: float) -> str:
    from matplotlib.ticker import EngFormatter

    figure, axes = _drawn(9.5, 5)
    for row, color in zip(ran, COLORS * 3, strict=False):
        said = measured[row["name"]]
        steps, returns = np.array(said["steps"]), np.array(said["curve"], float)
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
    return _inline(figure)


def _stability(ran: Sequence[Mapping[str, Any]]) -> str:
    rated = [row for row in ran if axes_of(row["stability"])]
    names = list(dict.fromkeys(a for row in rated for a, x in axes_of(row["stability"]).items() if x["value"] is not None))
    if not names:
        return ""
    figure, axes = _drawn(9.5, 0.7 + 0.32 * len(names) * max(2, len(rated)) / 2)
    high = 0.8 / len(rated)
    for i, row in enumerate(rated):
        for j, name in enumerate(names):
            axis = axes_of(row["stability"]).get(name)
            if axis is None or axis["value"] is None:
                continue
            y = j + (i - (len(rated) - 1) / 2) * high
            axes.barh(y, axis["value"], high * 0.9, color=COLORS[ran.index(row) % len(COLORS)], label=row["name"] if j == 0 else None)
            if (end := axis["ci95"][1]) is not None:
                axes.plot([axis["value"], end], [y, y], color=CUTS[axis["rating"]], linewidth=1.5)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(xlabel="loss, as a share of what the best gained over chance (less is better)", xlim=(0, None))
    axes.legend(*_once(axes), frameon=False)
    axes.grid(axis="x", alpha=0.25)
    return _inline(figure)


def _once(axes: Any) -> tuple[list[Any], list[str]]:
    found = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    return list(found.values()), list(found)


def _costs(ran: Sequence[Mapping[str, Any]]) -> str:
    figure, axes = _drawn(7.5, 4.5)
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
    return _inline(figure)


def _edge_cases(ran: Sequence[Mapping[str, Any]]) -> str:
    rows = [row for row in ran if row["edge_cases"]]
    if not rows:
        return ""
    names = list(dict.fromkeys(c["name"] for row in rows for c in row["edge_cases"]))
    loss = np.array([[next((c["loss"] for c in row["edge_cases"] if c["name"] == n), np.nan) for n in names] for row in rows], float)
    figure, axes = _drawn(1.5 + 0.75 * len(names), 1.8 + 0.55 * len(rows))
    image = axes.imshow(np.clip(loss, 0, 1), cmap="YlOrRd", vmin=0, vmax=1, aspect="auto")
    for i, j in np.ndindex(loss.shape):
        if np.isfinite(loss[i, j]):
            axes.text(j, i, f"{loss[i, j]:.0%}", ha="center", va="center", fontsize=8, color="white" if loss[i, j] > 0.6 else "black")
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize=9)
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
    figure.colorbar(image, ax=axes, shrink=0.8, label="loss")
    return _inline(figure)


def _contributions(ran: Sequence[Mapping[str, Any]], measured: Mapping[str, Mapping[str, Any]]) -> str:
    said = {row["name"]: measured[row["name"]]["contributions"] for row in ran if measured[row["name"]]["contributions"]}
    agents = list(dict.fromkeys(a for x in said.values() for a in x))[:16]
    if not agents:
        return ""
    figure, axes = _drawn(9.5, 3.8)
    wide = 0.8 / len(said)
    for i, (name, mine) in enumerate(said.items()):
        at = np.arange(len(agents)) + (i - (len(said) - 1) / 2) * wide
        color = COLORS[[row["name"] for row in ran].index(name) % len(COLORS)]
        axes.bar(at, [mine.get(a, np.nan) for a in agents], wide * 0.9, label=name, color=color)
    axes.set_xticks(range(len(agents)), agents, rotation=30 if len(agents) > 6 else 0)
    axes.axhline(0, color="0.4", linewidth=0.8)
    axes.set(ylabel="contribution per episode")
    axes.legend(frameon=False, fontsize=9)
    return _inline(figure)
