"""A selection as one page that needs nothing else: what is recommended, why and how sure that is; the table; details folded below."""

import html
import json
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from marlstone.evaluation.select import pictures
from marlstone.evaluation.select.dead_seeds import unlearned
from marlstone.evaluation.select.rating import axes_of, worst_axis
from marlstone.evaluation.select.trial import MEASURED, kept
from marlstone.evaluation.stability.rating import CUTS
from marlstone.runs.files import write_atomic

STYLE = """
:root { color-scheme: light dark; --line: #c8ccd0; --soft: #f3f5f7; --ink: #1b1f23; --page: #ffffff; --good: #2e7d32; --mark: #1f77b4; }
@media (prefers-color-scheme: dark) { :root { --line: #444a50; --soft: #23272b; --ink: #e6e9ec; --page: #16191c; --good: #7bc67e; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); }
body { max-width: 960px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; line-height: 1.25; overflow-wrap: anywhere; }
h1 small { display: block; font-size: 1rem; font-weight: 400; opacity: .75; }
.answer { background: var(--soft); border-left: 4px solid var(--mark); padding: .2rem 1rem; margin: 1.2rem 0; }
table { border-collapse: collapse; width: 100%; font-size: 15px; } .wide { overflow-x: auto; } .wide table { font-size: 13px; }
th, td { border-bottom: 1px solid var(--line); padding: .45rem .6rem; text-align: left; vertical-align: top; }
th { background: var(--soft); } tr.chosen td { font-weight: 600; } .candidate { overflow-wrap: anywhere; }
details { border-bottom: 1px solid var(--line); padding: .5rem 0; } summary { cursor: pointer; font-weight: 600; padding: .2rem 0; }
img { max-width: 100%; background: #fff; border-radius: 4px; } figure { margin: 1rem 0; } figcaption, dd { font-size: 14px; opacity: .85; }
dt { font-weight: 600; margin-top: .6rem; } dd { margin-left: 0; }
pre { background: var(--soft); padding: .6rem .8rem; white-space: pre-wrap; overflow-wrap: anywhere; font-size: 13px; }
@media (max-width: 640px) {
  body { margin-top: 1rem; } table.main, .main tbody, .main tr, .main td { display: block; width: auto; }
  .main tr:first-child { display: none; }
  .main tr { border-bottom: 2px solid var(--line); padding: .4rem 0; } .main td { border: 0; padding: .1rem 0; }
  .main td:not(.candidate)::before { content: attr(data-head) ": "; opacity: .7; font-weight: 400; } .main .candidate { font-weight: 600; }
}
"""
GLOSSARY = {
    "return": "The team's reward over an episode, undiscounted, of the final policy (never the best checkpoint), as it is deployed.",
    "IQM": "Interquartile mean over training seeds: without the lowest and the highest quarter. The worst seed is shown beside it.",
    "95% interval": "Where another training's IQM would lie, by resampling seeds and episodes; it stays within what returns are possible.",
    "significant": "All comparisons between candidates hold together with 95%: of equal candidates, fewer than one selection in twenty "
    "reports anything. No significant difference does not mean equal.",
    "stability": "The worst of the rated axes, each a share of what the best candidate gained over random play; 0 is perfectly stable.",
    "acting": "How the policy chooses an action: mode (the likeliest), sample (drawn from its distribution), or at a temperature.",
    "dead seed": "A training seed whose final return lies no further than a tenth of the way from random play's to the best seed's of all "
    "candidates. Never met a reward: its training return was the same all along.",
    "stopped": "Ended at a quarter of the budget, its whole interval far below the leader's. What it would have reached is not known.",
    "throughput": "Environment steps per second of training, all seeds together, on this machine.",
    "cost": "Counted steps, network operations, bytes and messages, at the prices given.",
    "crossover": "After how many decisions of an agent acting has cost more than all of this candidate's training did.",
}
AXES = {
    "seed_iqr": "spread of final returns over seeds",
    "seed_cvar": "the worst quarter of seeds below those that learned",
    "within_run": "ups and downs of the learning curve",
    "drawdown": "largest drop below the best so far, late in training",
    "collapse": "what was learned and lost by the end",
    "rollout": "spread over episodes of the final policy",
    "edge_cases": "loss in the worst edge case",
    "cross_play": "loss when teammates come from other seeds",
}
LIMITS = (
    "A rating holds its pessimistic end, the upper end of the 95% interval, against the limits shown. Fewer than five seeds are not rated. "
    "A fault that strikes one seed in five misses all of five seeds in a third of all cases. Near random play everything is stable."
)


def write_report(file: Path, record: Mapping[str, Any], folder: Path) -> Path:
    """Write the page of a selection's record, whose runs lie in `folder`, to `file`."""
    ran = [row for row in record["candidates"] if row["return_iqm"] is not None]
    measured = {row["name"]: found for row in ran if (found := kept(folder / "trials" / row["name"], MEASURED)) is not None}
    drawn = [
        ("Learning curves", pictures.curves(ran, measured, record["chance_return"]), "Training return (actions sampled), IQM over seeds, "
         "95% interval of each point."),
        ("Cost against return", pictures.costs(ran), "What training cost against what it reached; whiskers are 95% intervals."),
        ("Edge cases", pictures.edge_cases(ran), "Share of the learned gain (undisturbed less random play) that each edge case takes."),
        ("Contributions", pictures.contributions(ran, measured), " ".join(
            ("What credit methods that make a claim report of each agent per episode.", *judged_credit(record)))),
    ]  # fmt: skip
    parts = [_details(title, _figure(source, caption), title == "Learning curves") for title, source, caption in drawn if source]
    parts.insert(1, _details("Stability ratings and their limits", _ratings(ran)))
    if proof := proved(record):
        parts.append(_details("Fresh seeds, and a longer training", "".join(f"<p>{html.escape(line)}</p>" for line in proof)))
    parts.append(
        _details("Every column", f"<div class='wide'>{_table(HEADS, [cells(row, axes=False) for row in record['candidates']])}</div>")
    )
    parts.append(_details("Glossary", "".join(f"<dt>{k}</dt><dd>{html.escape(v)}</dd>" for k, v in GLOSSARY.items()), tag="dl"))
    prices = ", ".join(f"{v:g} a {k}" for k, v in record["prices"].items() if k != "currency")
    parts.append(_details("Prices", f"<p>In {html.escape(record['prices']['currency'])}: {prices}.</p>"))
    commands = html.escape("\n".join(reproduce(record, folder)))
    top = "".join(f"<p><b>{title}.</b> {html.escape(text)}</p>" for title, text in answer(record))
    name = html.escape(record["env"])
    heading = re.sub(r"([:?=/,])", r"\1<wbr>", name)
    about = f"{_date(folder)}; {html.escape(record['budget'])}, {record['seeds']} training seeds of each candidate"
    page = (
        "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{name}, {_date(folder)}: Marlstone select</title><style>{STYLE}</style>"
        f"<h1>{heading}<small>{about}</small></h1><div class='answer'>{top}</div>"
        f"{_main(record)}{''.join(parts)}<h2>Reproduce</h2><pre>{commands}</pre></html>"
    )
    write_atomic(file, page.encode())
    return file


def answer(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the page says first, each with its title: the recommendation, its evidence and doubt, and seeds that learned nothing."""
    first = [("What", _recommended(record)), ("Why", record["evidence"]), ("How sure", record["doubt"])]
    return [*first, *(("Dead seeds", text) for text in unlearned(record))]


def _recommended(record: Mapping[str, Any]) -> str:
    row = next(row for row in record["candidates"] if row["name"] == record["recommended"])
    acting = f", acting: {row['acting']}" if row.get("acting") else ""
    return (
        f"{row['name']} is recommended (architecture {row['architecture']}, credit {row['credit']}, learner {row['learner']}{acting}). "
        f"It returned {row['return_iqm']:.3g} where random play returns {record['chance_return']:.3g}."
    )


def _date(folder: Path) -> str:
    """When the selection was begun."""
    file = folder / "question.json"
    return time.strftime("%d %B %Y", time.localtime(file.stat().st_mtime if file.is_file() else None)).lstrip("0")


def reproduce(record: Mapping[str, Any], folder: Path) -> list[str]:
    """Commands that do it again: the recommended candidate, and the selection."""
    out, file = [f"marlstone train {shlex.quote(str(record['config']))}"], folder / "question.json"
    if file.is_file():
        q = json.loads(file.read_text())
        budget = q["budget"]
        amount = next(f"{budget[k]:.15g}{unit}" for k, unit in (("steps", ""), ("minutes", "m"), ("price", q["prices"]["currency"].lower()))
                      if budget[k] is not None)  # fmt: skip
        words = ["marlstone", "select", "--env", q["env"], "--budget", amount, "--seeds", q["seeds"], "--seed", q["seed"]]
        words += ["--episodes", q["episodes"], *(x for k, v in q["common"] for x in ("--set", f"{k}={v}"))]
        words += ["--quick"] if not (q["tuning"] or q["confirm"] or q["soak"]) else []
        own = [] if _shipped(q["candidates"]) else ["--candidates", "FILE.toml"]
        out.append(shlex.join(map(str, [*words, *own])))
    return out


def _shipped(candidates: Sequence[Mapping[str, Any]]) -> bool:
    from marlstone.evaluation.select.question import DEFAULTS

    return {c["name"] for c in candidates} <= {c.name for c in DEFAULTS}


def _details(title: str, body: str, opened: bool = False, tag: str = "div") -> str:
    return f"<details{' open' if opened else ''}><summary>{title}</summary><{tag}>{body}</{tag}></details>"


def _figure(source: str, caption: str) -> str:
    return f"<figure><img alt='{html.escape(caption)}' src='{source}'><figcaption>{html.escape(caption)}</figcaption></figure>"


def _main(record: Mapping[str, Any]) -> str:
    """Candidate, return, throughput, verdict."""
    heads, rows = ("candidate", "return, 95% interval", "throughput, steps/s", "verdict"), []
    for row in record["candidates"]:
        low, high = row["return_ci95"] or (None, None)
        returned = "-" if row["return_iqm"] is None else f"{row['return_iqm']:.3g} ({figure(low)} to {figure(high)})"
        speed = row.get("steps_per_second")
        values = (row["name"], returned, f"{speed:,.0f}" if speed else "-", row["verdict"])
        cell = lambda head, value: f"<td data-head='{head}'{' class=candidate' if head == heads[0] else ''}>{html.escape(value)}</td>"
        each = "".join(cell(h, v) for h, v in zip(heads, values, strict=True))
        rows.append(f"<tr{_mark(row, record)}>{each}</tr>")
    return f"<table class='main'><tr>{''.join(f'<th>{h}</th>' for h in heads)}</tr>{''.join(rows)}</table>"


def _mark(row: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    return " class='chosen'" if row["name"] == record["recommended"] else ""


def _ratings(ran: Sequence[Mapping[str, Any]]) -> str:
    """The axes with their limits, and each candidate's share, interval and rating on each."""
    rated = [row for row in ran if axes_of(row["stability"])]
    heads = ["axis: what it loses", "High up to", "Moderate up to", *(row["name"] for row in rated)]
    rows = []
    for name, (high, moderate) in CUTS.items():
        of = [axes_of(row["stability"]).get(name) for row in rated]
        if any(axis is not None and axis["value"] is not None for axis in of):
            rows.append([f"{name}: {AXES[name]}", f"{high:.0%}", f"{moderate:.0%}", *map(_axis, of)])
    picture = pictures.stability(ran)
    shown = _figure(picture, "What each axis loses; the whisker's end is rated.") if picture else ""
    return f"<p>{LIMITS}</p><div class='wide'>{_table(heads, rows)}</div>{shown}"


def _axis(axis: Mapping[str, Any] | None) -> str:
    if axis is None or axis["value"] is None:
        return "-"
    low, high = (None if x is None else f"{x:.0%}" for x in axis["ci95"])
    return f"{axis['value']:.0%} ({low} to {high}) {axis['rating']}" if high else f"{axis['value']:.0%} {axis['rating']}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(x)}</td>' for x in row)}</tr>" for row in rows)
    return f"<table><tr>{''.join(f'<th>{html.escape(h)}</th>' for h in heads)}</tr>{body}</table>"


# ---- as text
HEADS = (
    "candidate", "architecture", "credit", "learner", "return IQM [95% CI], worst seed", "acting", "stability",
    "cost: train, per 1k decisions, per agent", "crossover, decisions", "steps/s", "messages/step", "bits/step", "verdict",
)  # fmt: skip
NARROW = ("candidate", "return, 95% interval", "acting", "stability", "cost", "verdict")
SENT = "messages, bits a step"  # a column where any candidate talks
figure = lambda x: "-" if x is None or x != x else f"{x:.3g}"


def cells(row: Mapping[str, Any], axes: bool = True) -> tuple[str, ...]:
    """One candidate's line of the whole table, as text; `axes`: with what stability was rated on."""
    name, parts = row["name"], tuple(row[k] or "-" for k in ("architecture", "credit", "learner"))
    if row["return_iqm"] is None:
        return (name, *parts, *["-"] * 8, row["verdict"])
    low, high = row["return_ci95"]
    returned = f"{row['return_iqm']:.3g} [{figure(low)}, {figure(high)}], {row['return_worst_seed']:.3g}"
    vector = ", ".join(f"{k} {figure(x['value'])}" for k, x in axes_of(row["stability"]).items() if x["value"] is not None)
    stable = rating_of(row) + (f" ({vector})" if vector and axes else "")
    c = row["cost"]
    cost = f"{c['train']:.2g}, {c['per_1k_decisions']:.2g}, {c['per_agent']:.2g} {c['currency']}"
    sent = tuple(f"{row[k]:.3g}" if row.get(k) else "none" for k in ("messages_per_step", "bits_per_step"))
    speed = row.get("steps_per_second")
    over = c.get("crossover_decisions")  # of selections made before it was counted: unknown
    figures = ("-" if over is None else f"{over:.2g}", f"{speed:,.0f}" if speed else "-", *sent)
    return (name, *parts, returned, row.get("acting") or "-", stable, cost, *figures, row["verdict"])


def talks(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether any candidate's agents send messages."""
    return any(row.get("messages_per_step") for row in rows)


def narrow(row: Mapping[str, Any], sent: bool = False) -> tuple[str, ...]:
    """One candidate's line of the table of 80 columns; `sent`: with what it sends."""
    if row["return_iqm"] is None:
        return (row["name"], *["-"] * (4 + sent), row["verdict"].partition(":")[0])
    low, high = row["return_ci95"]
    returned = f"{row['return_iqm']:.3g}\n{figure(low)} to {figure(high)}"
    worst = worst_axis(row["stability"])
    stable = rating_of(row) + (f"\n{worst.replace('_', ' ')}" if worst else "")
    figures = (f"{row['messages_per_step']:.3g}\n{row['bits_per_step']:.3g}",) if sent else ()
    cost, verdict = f"{row['cost']['train']:.2g}", row["verdict"].partition(":")[0]
    return (row["name"], returned, row.get("acting") or "-", stable, cost, *figures, verdict)


def rating_of(row: Mapping[str, Any]) -> str:
    """The rating, marked where edge cases and cross-play are not in it."""
    rating = str(row["stability"]["rating"])
    return rating + ("" if row["edge_cases"] or rating == "unrated" else ", unstressed")


def judged_credit(record: Mapping[str, Any]) -> list[str]:
    """Whether the credit that candidates claim is right in this environment, a sentence each; of those that were stressed."""
    found = [(row["name"], row.get("credit_judgement")) for row in record["candidates"]]
    return [f"{name}'s credit is {words}." for name, words in found if words]


def proved(record: Mapping[str, Any]) -> list[str]:
    """What fresh seeds and the soak showed, a sentence each."""
    out = []
    if again := record.get("confirmed"):
        low, high = again["return_ci95"]
        out.append(f"{record['recommended']} on {again['seeds']} fresh seeds: {again['return_iqm']:.3g} [{low:.3g}, {high:.3g}].")
    if soak := record.get("soak"):
        out.append(f"{record['recommended']} trained {soak['budgets']} times as long while observations drift: {soak['words']}.")
    return out
