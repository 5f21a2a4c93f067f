"""The grid of combinations as the docs show it, from results/grid.json."""

import json
from typing import Any

from record import RESULTS
from tables import number, table


def grid() -> str:
    """Every combination: its gain where it trains, a letter where it is refused."""
    path = RESULTS / "grid.json"
    if not path.exists():
        return "No grid is recorded yet.\n"
    r = json.loads(path.read_text())
    at = {tuple(c[k] for k in ("credit", "architecture", "learner", "env")): c for c in r["cells"]}
    in_order = lambda k: list(dict.fromkeys(key[k] for key in at))
    columns = [(learner, env) for learner in in_order(2) for env in in_order(3)]
    reasons: dict[str, str] = {}

    def shown(c: dict[str, Any]) -> str:
        if "refused" in c:
            return reasons.setdefault(c["refused"], "abcdefghijklmnopqrstuvwxyz"[len(reasons)])
        more = " *" if c.get("steps", r["steps"]) > r["steps"] else ""
        return f"{c['gain']:.2f}{more}" if c["trains"] else f"**fails: {c['gain']:.2f}**"

    rows = [[f"`{c}`", f"`{a}`", *(shown(at[c, a, *column]) for column in columns)] for c in in_order(0) for a in in_order(1)]
    letters = [f"- {letter}: {reason}" for reason, letter in reasons.items()]
    works = [c for c in at.values() if "refused" not in c]
    said = f"{len(works)} combinations train, {len(at) - len(works)} are refused"
    if failing := sum(not c["trains"] for c in works):
        said = f"{len(works) - failing} combinations train, {failing} do not, {len(at) - len(works)} are refused"
    later = {c["credit"]: f"{c['date'][:10]} `{c['commit']}`" for c in at.values() if "commit" in c}
    anew = "".join(f"; `{credit}` {when}" for credit, when in later.items())
    about = f"{said}. {number(r['steps'])} steps (*: three times as many), seed {r['seed']}, {r['date'][:10]} `{r['commit']}`{anew}.\n"
    head = ["credit", "architecture", *(f"{learner}, `{env}`" for learner, env in columns)]
    return "\n".join([table(head, rows), "Refused, with the reason:\n", *letters, "", about])
