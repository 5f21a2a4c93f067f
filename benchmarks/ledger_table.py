"""The docs' table of what counting costs, from results/ledger.json."""

import json
from pathlib import Path

from tables import number, table

RESULT = Path(__file__).parent / "results" / "ledger.json"
NAMES = {"spread": "`MPE_simple_spread_v3`", "talking": "traffic junction, medium, `targeted`", "swarm-16": "`proving:swarm?agents=16`"}


def ledger() -> str:
    """Steps per second with and without the ledger, and its share."""
    if not RESULT.is_file():
        return "Not recorded yet: `python benchmarks/ledger.py`.\n"
    r = json.loads(RESULT.read_text())
    rows = [
        [NAMES[env], number(x["steps_per_second"]), number(x["not_counted_steps_per_second"]), f"{x['share']:.1%}",
         f"{x['share_ci95'][0]:.1%} to {x['share_ci95'][1]:.1%}", str(x["rounds"])]
        for env, x in r["envs"].items()
    ]  # fmt: skip
    head = ["environment", "steps/s", "not counted", "ledger's share", "95% interval", "rounds"]
    about = (
        f"`benchmarks/ledger.py` at {r['commit']}, {r['date']}; {r['machine']}. One seed, in the fused loop, paired rounds in one process."
    )
    return f"{table(head, rows)}\n{about}\n"


def costs(page: Path) -> str:
    """The page of costs, with its table."""
    before, begin, rest = page.read_text().partition("<!-- ledger: written by benchmarks/render.py -->\n")
    _, end, after = rest.partition("<!-- /ledger -->")
    return before + begin + ledger() + end + after
