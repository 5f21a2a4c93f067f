"""The docs' table of worlds: what each needs, how far it is tested, what random play and training return."""

import json
from pathlib import Path
from typing import Any

from record import RESULTS
from tables import between, number, table

from marlstone.envs.worlds import WORLDS

BEGIN, END = "<!-- worlds: written by benchmarks/render.py -->", "<!-- /worlds -->"


def worlds() -> str:
    """One row a world."""
    path = RESULTS / "worlds.json"
    found = json.loads(path.read_text())["worlds"] if path.exists() else {}
    rows = []
    for world in WORLDS:
        r = found.get(world.env, {})
        random, trained = r.get("random"), r.get("trained")
        rows.append(
            [
                f"`{world.env}`",
                f"`{world.needs}`" if world.needs else "",
                world.trained,
                _random(random),
                _metrics(random),
                _trained(trained),
                _metrics(trained),
                f"{r['date'][:10]} `{r['commit']}`" if r else "",
            ]
        )
    head = ["environment", "extra", "trained in", "random return", "its true metrics", "trained return", "its true metrics", "measured"]
    return table(head, rows)


def _random(r: dict[str, Any] | None) -> str:
    if r is None or r["return"] is None:
        return "-"
    error = "" if r["standard_error"] is None else f" ± {r['standard_error']:.2g}"
    return f"{number(r['return'])}{error}"


def _trained(r: dict[str, Any] | None) -> str:
    if r is None:
        return "-"
    low, high = r["return_ci95"]
    return f"{number(r['return_iqm'])} ({number(low)} to {number(high)}), {number(r['steps'])} steps, {len(r['seeds'])} seeds"


def _metrics(r: dict[str, Any] | None) -> str:
    return "-" if r is None or not r["true_metrics"] else ", ".join(f"{k} {number(x)}" for k, x in r["true_metrics"].items())


def environments(page: Path) -> str:
    """The page with its table, between two marks."""
    return between(page.read_text(), BEGIN, worlds(), END)
