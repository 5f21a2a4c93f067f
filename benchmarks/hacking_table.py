"""Planted exploits and their clean twins, checked: the docs' table of them."""

from record import read
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
