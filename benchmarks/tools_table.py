"""The docs' table of knowing at a price, from results/tools-*.json."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from record import RESULTS
from tables import between, table

BEGIN, END = "<!-- tools: written by benchmarks/render.py -->", "<!-- /tools -->"


def _row(name: str, rows: list[dict[str, Any]]) -> list[str]:
    exact, lost = [r["exact"] for r in rows], [r["regret_share"] for r in rows]
    worst = f"{min(exact):.1%}" if exact else "-"
    return [name, f"{np.mean(lost):.2%}", f"{max(lost):.2%}", f"{np.mean(exact):.1%}", worst]


def tools_page(file: Path) -> str:
    """`docs/tools.md` with its table; as it is where nothing is recorded."""
    rows, sources = list[list[str]](), list[str]()
    for ground in ("tools", "memory"):
        path = RESULTS / f"tools-{ground}.json"
        if not path.exists():
            continue
        r = json.loads(path.read_text())
        changed = [x["changed"] for x in r["changing"] if x["changed"]]
        for name, judged in (("as trained", r["usual"]), ("after prices changed", changed), ("as deployed", r["deployed"])):
            rows.append(_row(f"`{r['env'].split('?')[0]}`, {name}", judged))
        sources.append(f"{len(r['seeds'])} seeds of {r['steps']:,} steps at {r['commit']}, {r['date']}; {r['machine']}")
    page = file.read_text()
    if not rows:
        return page
    head = ["ground", "regret, share of the optimum", "worst seed", "exactly optimal episodes", "worst seed"]
    return between(page, BEGIN, table(head, rows) + f"\nBy `benchmarks/tools.py`: {'; '.join(dict.fromkeys(sources))}.\n", END)
