"""The docs' tables of retries and of agents that are language models, from results/retries.json and results/language.json."""

import json
from pathlib import Path

from record import RESULTS
from tables import between, number, table

NOT_YET = "Not recorded yet.\n"


def retries(page: Path) -> str:
    """docs/retries.md with its table between two marks."""
    path, text = RESULTS / "retries.json", NOT_YET
    if path.is_file():
        r = json.loads(path.read_text())
        rows = []
        for side, label in (("uncapped", "each layer retries on its own"), ("ours", "one allowance, budgets and deadlines")):
            f, again = r["failing"][side], r["recovery"][side]
            seconds = again["normal_after_seconds"]
            rows.append(
                [
                    label,
                    f"{f['calls_per_root']:.2f} (of {f['roots']:,})",
                    " / ".join(number(n / f["roots"]) for n in f["asked"].values()),
                    f"not within {r['watched_seconds']:.0f} s" if seconds is None else f"{seconds:.1f} s",
                    number(again["calls_at_c"]),
                ]
            )
        head = ["", "calls at the bottom per root request", "of each layer", "normal after the outage", "calls at the bottom meanwhile"]
        text = table(head, rows) + f"\nMeasured {r['date'][:10]} at `{r['commit']}`, {r['machine']}.\n"
    return between(page.read_text(), "<!-- retries: written by benchmarks/render.py -->", text, "<!-- /retries -->")


def language(page: Path) -> str:
    """docs/language-agents.md with its table between two marks."""
    path, text = RESULTS / "language.json", NOT_YET
    if path.is_file():
        r = json.loads(path.read_text())
        control = r["retokenized"]
        rows = [
            ["ids as sampled", number(r["decisions"]), number(r["tokens"]), f"{r['largest_log_ratio']:g}", str(r["problems"])],
            ["text tokenized again", number(r["decisions"]), "-", "-", f"{control['caught']}, all {control['changed']} whose ids differ"],
        ]
        head = ["what was recorded", "decisions", "tokens", "largest abs(log ratio)", "decisions that the check names"]
        text = table(head, rows) + f"\nMeasured {r['date'][:10]} at `{r['commit']}`.\n"
    return between(page.read_text(), "<!-- language: written by benchmarks/render.py -->", text, "<!-- /language -->")
