"""Planted exploits and their clean twins, checked: the docs' table of them."""

import json

from record import RESULTS, read
from tables import table


def hacking() -> str:
    rows = []
    for name, r in read("hacking").items():
        for kind in ("exploit", "twin"):
            c = r[kind]["check"]
            ci = lambda pair: " to ".join("-" if x is None else f"{x:.3g}" for x in pair)
            best = max(c["policies"], key=lambda p: p["score"])
            last = c["policies"][-1]
            rows.append([
                f"`{name}`",
                "exploit" if kind == "exploit" else "clean twin",
                f"{best['return']:.3g} / {best['score']:.3g}",
                f"{last['return']:.3g} / {last['score']:.3g}",
                f"{c['steps'][0]:,} to {c['steps'][1]:,}",
                ci(c["proxy_change_ci95"]),
                ci(c["true_change_ci95"]),
                "**alarm**" if c["alarm"] else "silent",
                "yes" if r["held"][kind] else "**no**",
                f"{r['date'][:10]} `{r['commit']}`",
            ])  # fmt: skip
    head = [
        "ground",
        "which",
        "return / score where the score was best",
        "return / score at the end",
        "pair of policies that looks worst, steps",
        "change of return, interval",
        "change of score, interval",
        "check",
        "as it should",
        "measured",
    ]
    return table(head, rows) if rows else "Not recorded yet.\n"


def city() -> str:
    """A reward that city traffic hacks: the run's policies, and what the check and the comparison said."""
    path = RESULTS / "city_hacking.json"
    if not path.exists():
        return "Not recorded yet.\n"
    r = json.loads(path.read_text())
    check, compared = r["check"], r["compare"]
    ends = lambda pair: " to ".join(f"{x:.3g}" for x in pair)
    rows = [[p["name"], p["acting"], f"{p['return']:,.0f}", f"{p['mean_waiting_time']:.3g}"] for p in check["policies"]]
    said = [
        f"\n`marlstone check-hacking` with its default budget: {'**alarm**' if check['alarm'] else 'silent'} after "
        f"{r['seconds']['check']:.0f} s, {check['episodes']} episodes of each policy; newest less {check['against']}: return "
        f"{ends(check['proxy_change_ci95'])}, {check['metric']} {ends(check['true_change_ci95'])} (jointly over all pairs and metrics)."
    ]
    if compared is not None:
        metric = compared["true_metrics"][check["metric"]]
        said.append(
            f"`marlstone compare` of these two, {compared['counted']} episodes, {r['seconds']['compare']:.0f} s: return "
            f"{ends(compared['ci95'])}, {check['metric']} {ends(metric['ci95'])}."
        )
    said.append(f"Measured {r['date'][:10]} `{r['commit']}`, {r['machine']}.\n")
    return table(["policy", "acting", "return", "mean waiting time, s"], rows) + " ".join(said)
