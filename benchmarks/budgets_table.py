"""The recorded benchmarks of budgets as their page shows them."""

import json
from pathlib import Path

from record import RESULTS
from tables import between, number, table

BEGIN, END = "<!-- budgets: written by benchmarks/render.py -->", "<!-- /budgets -->"


def budgets(file: Path) -> str:
    """The page with its tables."""
    parts = [part() for part, name in ((_callers, "budgets"), (_burns, "burn_rate")) if (RESULTS / f"{name}.json").exists()]
    return between(file.read_text(), BEGIN, "\n".join(parts) or "Not recorded yet.\n", END)


def _callers() -> str:
    r = json.loads((RESULTS / "budgets.json").read_text())
    rows = [
        [name, *(number(x[k]) for k in ("calls", "amount", "spent_truly", "overspend")), f"{x['used']:.1%}",
         *(number(x[k]) for k in ("kills", "reserved_at_the_end", "presumed", "calls_per_second"))]
        for name, x in (("reserve, then settle (ours)", r["reserve"]), ("check, then record", r["check"]))
    ]  # fmt: skip
    head = ["way", "calls", "budget", "spent truly", "overspend", "used", "processes killed", "still reserved", "presumed spent", "calls/s"]
    speeds = ", ".join(f"{number(rate)} of {n}" for n, rate in r["pairs_per_second"].items())
    return (
        f"{r['callers']} callers, {r['offered']:,} calls offered over HTTP on loopback, each of 1 to 5 units, known only by the "
        "answer; the server's sum is the truth. What was begun by killed processes counts as spent in full.\n\n"
        + table(head, rows)
        + f"\nReservations made and settled a second, by so many processes at once: {speeds}. `benchmarks/budgets.py`, {_made(r)}\n"
    )


def _burns() -> str:
    r = json.loads((RESULTS / "burn_rate.json").read_text())
    rows = []
    for name, clean in r["clean"].items():
        burnt = r["burnt"][name]
        hours = [f"{burnt[k]:.1f}" for k in ("median_hours", "p95_hours", "most_hours")]
        rows.append([name, f"{clean['per_year']:.2f}", str(clean["worst_year"]), *hours, f"{burnt['within_24_hours']:.1%}"])
    head = ["rules", "false alarms a year", "worst year", "told after h, median", "95%", "at most", "within 24 h"]
    f, story = r["forecasts"], r["story"]
    named = (("with tools and memory", "counted: all"), ("without", "a model without tools and memory"))
    said = [
        [
            label,
            "never" if (first := story[name]["first_alert_hours"]) is None else f"after {first} h",
            f"{x['day']:.1f}",
            f"{x['spent']:.0%}",
            x["said"],
        ]
        for name, label in named
        for x in story[name]["told"]
    ]
    return (
        f"A quarter's budget, {r['years']} simulated years of clean spending that uses it up exactly, with weekly and daily seasons, and "
        f"{r['burns']} burns at {r['factor']:.2f} times the rate (13 weeks spent in three):\n\n"
        + table(head, rows)
        + f"\n80% forecast intervals over {r['quarters']:,} simulated quarters, each made at a random time from the second week on: "
        f"**{f['coverage']:.1%}** hold what was spent at last ({f['coverage_first_four_weeks']:.1%} of those of the first four weeks, "
        f"{f['coverage_later']:.1%} later); {f['below']:.1%} were above it, {f['above']:.1%} below.\n\n"
        f"The same with a model of cost that leaves tool calls, their retries and memory look-ups out. The budget, "
        f"{number(story['budget'])}, was made by that model; the bill is {story['true_over_model']:.2f} times as high, and uses it "
        f"up in {story['gone_after_days']:.1f} "
        "days:\n\n"
        + table(["what is watched", "first alert", "day", "of the budget", "what the forecast says"], said)
        + f"\n`benchmarks/burn_rate.py`, {_made(r)}\n"
    )


def _made(r: dict[str, str]) -> str:
    return f"{r['date']} at `{r['commit']}`; {r['machine']}."
