"""The docs' table of how exploitable self-play is."""

import json
from pathlib import Path

from record import RESULTS
from tables import between, table

BEGIN, END = "<!-- self-play: written by benchmarks/render.py -->", "<!-- /self-play -->"


def _schemes() -> str:
    """One row a scheme; "" before anything was measured."""
    path = RESULTS / "self_play.json"
    if not path.exists():
        return ""
    r = json.loads(path.read_text())
    figures = lambda s, k: f"{s[f'{k}_iqm']:.3f} ({s[f'{k}_ci95'][0]:.3f} to {s[f'{k}_ci95'][1]:.3f}), worst {s[f'{k}_worst']:.3f}"
    rows = [[f"`{name}`", figures(s, "last"), figures(s, "average")] for name, s in r["schemes"].items()]
    about = (
        f"Exploitability per episode of `{r['env']}`, {r['seeds']} seeds of {r['steps']:,} steps (IQM, 95% interval); random play: "
        f"{r['random']:.3f}; the bound that was set: {r['bound']}. {r['machine']}, {r['date']}, `{r['commit']}`.\n"
    )
    return f"{about}\n{table(['opponents', 'last policy', 'average of the policies kept'], rows)}"


def opponents(page: Path) -> str:
    """The page with its table, between two marks."""
    return between(page.read_text(), BEGIN, _schemes(), END)
