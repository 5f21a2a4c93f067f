"""What selections said and how far to believe them, seeds together in four ways, and the page on the field's folklore."""

from typing import Any

from record import read
from tables import number, possible, table, within

CI = lambda pair: " to ".join("-" if x is None else f"{x:.3g}" for x in pair)
ROLES = ("ctde", "decentralized", "hierarchical")
TRAINING = ("seed_iqr", "seed_cvar", "within_run", "drawdown", "collapse")
STRESS = ("edge_cases", "cross_play")


def _figures(row: dict[str, Any], env: str) -> list[str]:
    """Return, stability with its worst axes, cost: of one candidate in an environment."""
    if row["return_iqm"] is None:
        return ["-"] * 8
    s, c = row["stability"], row["cost"]
    worst = [
        f"{k} {a['value']:.2g} ({CI(a['ci95'])})"
        for k, a in s.items()
        if isinstance(a, dict) and a["value"] is not None and a["rating"] == s["rating"] != "High"
    ]
    return [
        f"{row['return_iqm']:.3g} ({CI(within(row['return_ci95'], row['return_iqm'], possible(env)))})",
        f"{row['return_worst_seed']:.3g}",
        *_acting(row),
        s["rating"] + ("" if row["edge_cases"] or s["rating"] == "unrated" else ", unstressed"),
        "; ".join(worst) or "-",
        f"{c['train_per_seed']:.2g}",
        f"{c['per_1k_decisions']:.2g}",
    ]


def _acting(row: dict[str, Any]) -> list[str]:
    """How the policy is deployed, and what it returns by mode and sampled."""
    if (ways := row.get("returns_by_acting")) is None:
        return ["mode", "-"]
    return [row["acting"], " / ".join("-" if ways[k]["return_iqm"] is None else f"{ways[k]['return_iqm']:.3g}" for k in ("mode", "sample"))]


FIGURES = [
    "return IQM (95% interval)",
    "worst seed",
    "acting",
    "by mode / sampled",
    "stability",
    "worst axes (95% interval)",
    "train a seed, USD",
    "1k decisions, USD",
]


def selections() -> str:
    said = [r for name, r in read("select").items() if name in ("lbf", "quick")]
    out = []
    for r in said:
        rows = []
        for row in r["candidates"]:
            rank = lambda x: "-" if x is None else str(x)
            rows.append([f"`{row['name']}`", *_figures(row, r["env"]), rank(row["rank_at_quarter"]), rank(row["rank"]), row["verdict"]])
        head = ["candidate", *FIGURES, "rank at 25%", "rank at 100%", "verdict"]
        out.append(
            f"`marlstone select {r['command']}`: **{r['seconds_with_start'] / 60:.1f} minutes**, report included "
            f"({r['date'][:10]} `{r['commit']}`). {r['evidence']} {r['doubt']}\n\n{table(head, rows)}"
        )
    return "\n".join(out) or "No selection is recorded yet.\n"


def reliability() -> str:
    if (r := read("select").get("reliability")) is None:
        return "Not recorded yet.\n"
    n = len(r["repeats"])
    names = list(r["repeats"][0]["returns"])
    rows = [
        [str(x["seed"]), *(f"{x['returns'][k]:.3g}" for k in names), f"`{x['recommended']}`", x["planted"]]
        for x in sorted(r["repeats"], key=lambda x: x["seed"])
    ]
    often = max(r["within"], key=lambda k: r["within"][k])
    return (
        f"`{r['env']}`, {r['steps']:,} steps, {r['seeds']} seeds each ({r['date'][:10]} `{r['commit']}`): `{often}` is the recommended one "
        f"or shows no significant difference from it in **{r['within'][often]} of {n}**; the planted candidate is named worse in "
        f"**{r['planted_named_worse']} of {n}**.\n\n"
        + table(["first seed", *(f"`{k}`, return IQM" for k in names), "recommended", "verdict on `planted`"], rows)
    )


def families() -> str:
    """How often `select` reports something false of equal candidates, and how often it finds one that is worse."""
    if (r := read("").get("families")) is None:
        return "Not recorded yet.\n"
    ten = r["ten_seeds"]
    percent = lambda x: f"{x:.1%}"
    rows = [[k, percent(x["per_pair"]), percent(x["wrong"]), percent(ten["equal"][k]["wrong"])] for k, x in r["equal"].items()]
    found = ", ".join(f"{percent(x)} where seeds vary by {float(k):.0%} of it" for k, x in r["planted"].items())
    ten_found = ", ".join(percent(x) for x in ten["planted"].values())
    return (
        f"{r['candidates']} equally good candidates, five seeds each, {r['selections']:,} selections of each kind of noise, through "
        f"the real ranking ({r['date'][:10]} `{r['commit']}`): how often was any reported as worse? Of one planted 10% below the others' "
        f"return it was reported in {found} (ten seeds: {ten_found}).\n\n"
        + table(["returns over seeds", "every pair at 95%, as before", "`select`, 5 seeds", "10 seeds"], rows)
    )


def seeds() -> str:
    r = read("").get("seeds")
    if r is None:
        return "Not recorded yet.\n"
    rows = [[k, number(w["steps_per_second"]), number(w["compile_seconds"])] for k, w in r["ways"].items()]
    rows.sort(key=lambda row: -float(row[1].replace(",", "")))
    return (
        f"{r['seeds']} seeds of `{r['env']}`, {r['steps']:,} steps each ({r['date'][:10]} `{r['commit']}`); the fastest is *{rows[0][0]}*. "
        "On processors `train` takes *a core each, one program*, whose checkpoints are of all seeds; `select` takes *a process a core*, "
        "for each of its jobs.\n\n" + table(["way", "steps/s, all seeds", "compile s"], rows)
    )


# ---- the folklore
FOLKLORE = """# What is said of architectures, measured

Generated by `benchmarks/render.py` from `benchmarks/results/select/`; change nothing here by hand.

The field says: *CTDE is stable at moderate cost; decentralized training is less stable, but cheap, and it scales; hierarchies lie
between in stability, cost most, and are for plans of many steps.* Three families of tasks put that to `marlstone select`: the same
budget, five seeds and the same small tuning for each candidate, ratings as in [Statistics](statistics.md), final policies acting as
they are [deployed](acting.md). All that ran to the end are stressed; none is trained again on fresh seeds. Costs are the ledger's
counts at the default prices: only their ratios mean something.
"""


def _roles(r: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The team-credit candidate of each architecture: they differ in nothing else."""
    by = {row["name"]: row for row in r["candidates"]}
    return {a: row for a in ROLES if (row := by.get(f"{a}-team")) is not None and row["return_iqm"] is not None}


def _beside(x: dict[str, dict[str, Any]], a: str, b: str) -> str:
    """How the return of `a` lies to that of `b`: better, worse, level; the three together are one family of comparisons."""
    from marlstone.stats.families import pairwise

    _, (low, high) = pairwise({k: [[y] for y in row["returns"]] for k, row in x.items()}).difference(a, b)
    return "better" if low > 0 else "worse" if high < 0 else "level"


def _rating(row: dict[str, Any], axes: tuple[str, ...]) -> int | None:
    """The worst of these axes, 0 the best; None where one was not rated."""
    from marlstone.evaluation.select.ranking import ORDER

    rated = [ORDER[row["stability"].get(k, {}).get("rating", "unrated")] for k in axes]
    return None if ORDER["unrated"] in rated else max(rated)


def _stability(axes: tuple[str, ...], where: str) -> list[tuple[str, str, Any]]:
    """What is said of stability, on some axes."""
    rating = lambda x: [_rating(x[a], axes) for a in ROLES]
    known = lambda f: lambda x: None if None in rating(x) else f(*rating(x))
    return [
        (f"CTDE is stable {where}", "rated High", known(lambda ctde, dec, hier: ctde == 0)),
        (f"decentralized is less stable {where}", "rated below CTDE", known(lambda ctde, dec, hier: dec > ctde)),
        (f"hierarchies are middling {where}", "rated from the lower to the higher of the others",
         known(lambda ctde, dec, hier: min(ctde, dec) <= hier <= max(ctde, dec))),
    ]  # fmt: skip


def _claims(families: dict[str, dict[str, Any]]) -> list[list[str]]:
    """Every claim, family by family: yes, no, or open, by a rule that its line states."""
    cost = lambda row: row["cost"]["train_per_seed"]
    act = lambda row: row["cost"]["per_1k_decisions"]
    dearer = lambda a, b: cost(a) > 1.1 * cost(b)
    word = lambda x: "open" if x is None else "yes" if x else "**no**"

    rules = [
        *_stability(TRAINING, "in training"),
        *_stability(STRESS, "under stress"),
        ("CTDE costs moderately", "trains for a tenth more than decentralized, a tenth less than hierarchical, or more",
         lambda x: dearer(x["ctde"], x["decentralized"]) and dearer(x["hierarchical"], x["ctde"])),
        ("decentralized is cheap", "trains for a tenth less than both others, or less",
         lambda x: all(dearer(x[a], x["decentralized"]) for a in ("ctde", "hierarchical"))),
        ("decentralized keeps up", "its return is not significantly below CTDE's",
         lambda x: _beside(x, "decentralized", "ctde") != "worse"),
        ("hierarchies cost most", "dearest to train and to run",
         lambda x: all(f(x["hierarchical"]) == max(f(x[a]) for a in ROLES) for f in (cost, act))),
        ("hierarchies return more", "significantly more than both others",
         lambda x: all(_beside(x, "hierarchical", a) == "better" for a in ROLES[:2])),
    ]  # fmt: skip
    return [[claim, rule, *(word(holds(x)) for x in families.values())] for claim, rule, holds in rules]


def _axis(axis: dict[str, Any] | None) -> str:
    return "-" if axis is None or axis["value"] is None else f"{axis['value']:.2g} ({CI(axis['ci95'])}) {axis['rating']}"


def folklore() -> str:
    """`docs/folklore.md`, whole."""
    records = {r["family"]: r for r in read("select").values() if "family" in r}
    whole = {family: x for family, r in records.items() if set(x := _roles(r)) == set(ROLES)}
    parts = [FOLKLORE]
    if whole:
        parts += ["## Claim by claim\n", table(["claim", "holds where", *whole], _claims(whole))]
        parts.append(
            "*open*: one of the three was not rated, since it never learned. In training: the axes over seeds, within a run, drawdown and "
            "collapse; under stress: edge cases and cross-play. Each rule compares the three candidates with team credit and policy "
            "gradients, which differ in nothing but the architecture.\n"
        )
    for family, r in records.items():
        roles = _roles(r)
        axes = [[k.replace("_", " "), *(_axis(row["stability"].get(k)) for row in roles.values())] for k in (*TRAINING, *STRESS)]
        rows = [[f"`{row['name']}`", *_figures(row, r["env"]), row["verdict"]] for row in r["candidates"]]
        parts += [
            f"## {family[0].upper()}{family[1:]}\n",
            f"`marlstone select {r['command']}` ({r['date'][:10]} `{r['commit']}`). "
            f"Random play returns {r['chance_return']:.3g}. {r['evidence']} {r['doubt']}\n",
            table(["candidate", *FIGURES, "verdict"], rows),
            "Shares lost of what the best gained over random play, with 95% intervals, by team credit and policy gradients:\n",
            table(["axis", *roles], axes),
        ]
    parts.append("Repeat with `python benchmarks/selection.py folklore`, then `python benchmarks/render.py`.\n")
    return "\n".join(parts)
