"""The table of docs/trim.md, from results/trim/desks.json."""

import json
from pathlib import Path
from typing import Any

from record import RESULTS
from tables import between, number, table

BEGIN, END = "<!-- trim: written by benchmarks/render.py -->", "<!-- /trim -->"


def trimming(page: Path) -> str:
    """docs/trim.md with what was measured."""
    file = RESULTS / "trim" / "desks.json"
    text = measured(json.loads(file.read_text())) if file.is_file() else "Not recorded yet.\n"
    return between(page.read_text(), BEGIN, text, END)


def _counted(x: dict[str, Any], kind: str) -> list[str]:
    made, useless = x[f"{kind}s"], x[f"useless_{kind}s"]
    needed = ", ".join(x[f"useful_{kind}s_gone"]) or "none"
    return [f"{kind}s", str(made), f"{useless} ({useless / max(made, 1):.0%})", f"{x[f'useless_{kind}s_gone']:.0%}", needed]


def measured(r: dict[str, Any]) -> str:
    first, rest = r["links_and_calls"], r.get("the_rest")
    ends = lambda x: f"{100 * x['loss']:.2f}% ({100 * x['loss_ci95'][0]:.2f} to {100 * x['loss_ci95'][1]:.2f})"
    head = ["links and calls of a team of five", "made", "of no use", "of these gone", "needed ones gone"]
    rows = [_counted(first, kind) for kind in ("link", "call")]
    steps = [("links, calls", first), *([("then leaves, messages, units", rest)] if rest and rest.get("loss") is not None else [])]
    amounts = ("messages", "bits", "calls", "flops")
    of = lambda x: [f"{number(x['before'][k])} to {number(x['after'][k])}" for k in amounts]
    lost = [[what, *of(x), ends(x), f"{100 * max(x['loss_by_seed']):.2f}%", x["why"] or "written"] for what, x in steps]
    heads = ["trim --loss 0.01", *(f"{k}/step" for k in amounts), "loss (95% interval)", "of the worst seed", "new run"]
    source = (
        f"{len(first['seeds'])} seeds from {first['seeds'][0]}, {number(r['steps'])} steps each, {first['episodes']} episodes of each in "
        f"every round; {r['date']}, `{r['commit']}`. Repeat with `python benchmarks/trim.py`; the team is in `benchmarks/trim_ground.py`.\n"
    )
    return "\n".join([table(head, rows), table(heads, lost), source])
