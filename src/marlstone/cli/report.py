"""A record as people read it: the tables a command prints without `--json`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table


def number(value: Any) -> str:
    """A figure to four digits, or a dash where there is none."""
    if value is None or (isinstance(value, float) and value != value):
        return "-"
    if isinstance(value, bool | str):
        return str(value)
    return f"{value:,.0f}" if isinstance(value, int) or 1e3 <= abs(value) < 1e15 else f"{value:.4g}"


def between(pair: Sequence[Any] | None) -> str:
    """An interval; a dash where a single seed allows none."""
    return "-" if not pair or any(v is None or v != v for v in pair) else f"{number(pair[0])} to {number(pair[1])}"


def returns(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The rows of a return: IQM, interval, worst seed, true metrics."""
    seeds = record.get("seeds", [])
    count = seeds if isinstance(seeds, int) else len(seeds)
    rows = [
        (f"return, IQM of {count} seeds" if count != 1 else "return, one seed", number(record.get("return_iqm"))),
        ("95% confidence interval", between(record.get("return_ci95"))),
        ("worst seed", number(record.get("return_worst_seed"))),
    ]
    return rows + [(f"{name} (true metric)", number(value)) for name, value in (record.get("true_metrics") or {}).items()]


def share(of_limit: float, is_estimate: bool) -> str:
    """A run's share of the limit. More than all of it is never shown: older records divide by limits measured too low."""
    if of_limit >= 1:
        return "at the limit (estimate)"
    return f"{of_limit:.0%}" + (" (estimate)" if is_estimate else "")


def training(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The rows of a training: what, how good, how fast, where the time went, where it lies."""
    parts = " / ".join(str(record.get(k, "-")) for k in ("architecture", "credit", "learner"))
    rows = [("environment", str(record.get("env", "-"))), ("architecture / credit / learner", parts)]
    rows += [("steps per seed", number(record.get("steps"))), *returns(record)]
    rows += [("training steps/s, all seeds", number(record.get("steps_per_second")))]
    if record.get("share_of_limit") is not None:
        rows.append(("share of the machine's limit", share(record["share_of_limit"], bool(record.get("limit_is_estimate")))))
    rows += [(f"time: {name}", f"{seconds:.1f} s") for name, seconds in (record.get("phases") or {}).items()]
    if not record.get("phases") and record.get("compile_seconds") is not None:
        rows.append(("time: compiling", f"{record['compile_seconds']:.1f} s"))
    if record.get("wall_seconds") is not None:
        rows.append(("time: all", f"{record['wall_seconds']:.1f} s"))
    if record.get("curve"):
        rows.append(("learning curve", str(record["curve"])))
    rows += [("alert", alert["words"]) for alert in record.get("alerts") or []]
    return [*rows, ("run", str(record.get("run", "-")))]


def show(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Print two columns on stdout; long values wrap nowhere, so that paths can be copied."""
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console()
    longest = max((len(b) + max(len(a) for a, _ in rows) + 8 for _, b in rows), default=0)
    if not console.is_terminal:
        console = Console(width=max(80, longest))
    console.print(table, markup=False, highlight=False)


def audited(record: Mapping[str, Any]) -> None:
    """A credit audit: the figures, then agent by agent what was said beside what is true."""
    claims = record["claims"] or "nothing: audited by what its critic implies"
    rows = [
        ("environment", str(record["env"])),
        ("architecture / credit / learner", " / ".join(str(record[k]) for k in ("architecture", "credit", "learner"))),
        ("claims", claims),
        (f"rank correlation with the truth, {len(record['seeds'])} seeds", _figure(record, "rank_correlation")),
        ("the same, decision by decision", _figure(record, "decision_rank_correlation")),
    ]
    rows.append(("what it optimizes, less the true return", f"{_figure(record, 'gap')} of {number(record['team_return'])}"))
    if record["efficiency_error"] is not None:
        rows.append(("shares miss the return by", f"{record['efficiency_error']:.2%}"))
    if record["dummy_ci95"] is not None:
        rows.append((f"said of {', '.join(record['dummies'])} (worth nothing)", f"{_percent(record['dummy_ci95'])} of the return"))
    rows += [(name, str(record[name])) for name in ("picture", "run") if record.get(name)]
    show("credit audit", rows)
    table = Table(title="worth to the team, per episode", title_justify="left")
    for column in ("agent", "said", "95% CI", "true", "95% CI"):
        table.add_column(column)
    for a in record["truth"]:
        figures = [(number(record[k][a]), between(record[f"{k}_ci95"][a])) for k in ("contributions", "truth")]
        table.add_row(a, *(x for pair in figures for x in pair))
    console = Console()
    (console if console.is_terminal else Console(width=100)).print(table, markup=False, highlight=False)


def edge_cases(record: Mapping[str, Any]) -> None:
    """What is left of the return when something goes wrong, case by case; undisturbed play and chance on top."""
    table = Table(title="edge cases", title_justify="left")
    for column in ("case", "return, IQM", "95% CI", "loss of the span", "95% CI", "graceful"):
        table.add_column(column)
    percent = lambda x: "-" if x is None else f"{x:.1%}"
    for name, row in (("undisturbed", record), ("chance", record["chance"])):
        table.add_row(name, number(row["return_iqm"]), between(row["return_ci95"]), "", "", "")
    table.add_section()
    for case in record["cases"]:
        verdict = {True: "yes", False: "[bold red]no[/]", None: "-"}[case["graceful"]]
        figures = number(case["return_iqm"]), between(case["return_ci95"]), percent(case["loss"]), _percent(case["loss_ci95"])
        table.add_row(case["name"].replace("[", r"\["), *figures, verdict)
    console = Console()
    (console if console.is_terminal else Console(width=120)).print(table, highlight=False)
    print(
        f"span: from chance to undisturbed; graceful: the loss is at most {record['graceful_bound']:.0%}, its interval's upper end included"
    )
    gate = record["ood"]
    show(
        "out of distribution: a gate on every agent's observation",
        [
            ("false alarms, of familiar episodes", f"{gate['false_alarm_rate']:.1%} (declared: {gate['declared_rate']:.0%})"),
            ("detected, of episodes training never touched", f"{gate['detection_rate']:.1%}"),
            *((f"  {name}", f"{kind['detection_rate']:.1%}") for name, kind in gate["kinds"].items()),
            ("return with the gate, without", f"{number(gate['return_gated'])}, {number(gate['return_ungated'])}"),
        ],
    )


def scored(record: Mapping[str, Any]) -> None:
    """What credit says of logged episodes: the figures, then agent by agent."""
    claims = record["claims"] or "nothing: scored by what its critic implies"
    seeds = f"{len(record['seeds'])} seeds" if len(record["seeds"]) != 1 else "one seed"
    rows = [
        ("environment", str(record["env"])),
        ("architecture / credit / learner", " / ".join(str(record[k]) for k in ("architecture", "credit", "learner"))),
        ("claims", claims),
        ("truth", "unknown: a log cannot be stepped again"),
        ("episodes per seed", ", ".join(map(str, record["episodes"]))),
        (f"team return, {seeds}", _figure(record, "team_return")),
    ]
    if record["success"] is not None:
        rows.append(("success", _figure(record, "success")))
    if record["efficiency_error"] is not None:
        rows.append(("shares miss the return by", f"{record['efficiency_error']:.2%}"))
    show("credit of logged episodes", [*rows, ("log", str(record["log"])), ("run", str(record["run"]))])
    table = Table(title="per episode", title_justify="left")
    for column in ("agent", "contribution", "95% CI", "own return", "rank correlation with return", "with success"):
        table.add_column(column)
    for a in record["contributions"]:
        said = number(record["contributions"][a]), between(record["contributions_ci95"][a])
        table.add_row(a, *said, *(number(record[k][a]) for k in ("own_returns", "return_correlation", "success_correlation")))
    console = Console()
    (console if console.is_terminal else Console(width=110)).print(table, markup=False, highlight=False)


def _figure(record: Mapping[str, Any], name: str) -> str:
    return f"{number(record[name])} [{between(record[f'{name}_ci95'])}]"


def _percent(pair: Sequence[float | None]) -> str:
    return " to ".join("-" if x is None else f"{x:.1%}" for x in pair)


def fleet(record: Mapping[str, Any]) -> None:
    """A simulated fleet: asynchronous and synchronous side by side."""
    ways = ("asynchronous", "synchronous")
    kept = lambda f: f["steps_per_second"] / f["healthy_steps_per_second"] if f["healthy_steps_per_second"] else float("nan")
    figures: list[tuple[str, Callable[[Mapping[str, Any]], str]]] = [
        ("steps trained/s", lambda f: number(f["steps_per_second"])),
        ("without stalls and deaths", lambda f: number(f["healthy_steps_per_second"])),
        ("share kept", lambda f: f"{kept(f):.1%}"),
        ("the learner can train", lambda f: number(record["learner_limit"])),
        ("updates/s", lambda f: number(f["updates_per_second"])),
        ("staleness, 99th percentile", lambda f: number(f["staleness_p99"])),
        ("dropped as too stale", lambda f: f"{f['dropped_fraction']:.1%}"),
        ("learner busy", lambda f: f"{f['learner_busy']:.1%}"),
        ("bytes/s over the link", lambda f: number(f["bytes_per_second"])),
        ("simulated seconds", lambda f: number(f["seconds"])),
    ]
    table = Table(title=f"{record['actors']:,} actors, simulated", title_justify="left")
    for column in ("", *ways):
        table.add_column(column, justify="right" if column else "left")
    for name, figure in figures:
        table.add_row(name, *(figure(record[way]) for way in ways))
    console = Console()
    (console if console.is_terminal else Console(width=100)).print(table, markup=False, highlight=False)
    if record.get("picture"):
        print(f"picture: {record['picture']}")


def selected(record: Mapping[str, Any]) -> None:
    """A selection: the table, then what is recommended and how surely."""
    from marlstone.evaluate.select.report import HEADS, cells, proved

    table = Table(title=f"{record['env']}: {record['budget']}, {record['seeds']} seeds each", title_justify="left", show_lines=True)
    for head in HEADS:
        table.add_column(head, overflow="fold")
    for row in record["candidates"]:
        table.add_row(*cells(row), style="bold" if row["name"] == record["recommended"] else "")
    console = Console()
    (console if console.is_terminal else Console(width=200)).print(table, markup=False, highlight=False)
    print(record["evidence"], record["doubt"], *proved(record), sep="\n")
    print(f"train it: marlstone train {record['config']}\nreport: {record['report']}")


def compared(record: Mapping[str, Any]) -> None:
    """Two runs on the same episodes: who earns more, and agent by agent."""
    better = record["better"]
    words = "undecided" if better is None else f"the {('first', 'second')[better]} run's policies earn more"
    bounds = "declared" if record["bounds_declared"] else "as the first round showed; it is not counted"
    rows = [
        ("environment", str(record["env"])),
        *[
            (name, f"{run}, step {number(step)}")
            for name, run, step in zip(("first", "second"), record["runs"], record["steps"], strict=True)
        ],
        ("return of the first less the second", number(record["difference"])),
        ("95% confidence sequence", between(record["ci95"])),
        ("decided", words),
        ("episodes per training seed", f"{number(record['counted'])} counted of {number(record['episodes'])}, {record['seeds']} seeds"),
        ("differences within", f"{between(record['bounds'])}, {bounds}; {record['clipped']} clipped"),
        ("speaks of", "these policies, not of those another training would give"),
    ]
    show("compared", rows)
    table = Table(title=f"agents' own returns, {1 - 0.05 / max(len(record['agents']), 1):.1%} each", title_justify="left")
    for column in ("agent", "first less second", "interval", "decided"):
        table.add_column(column)
    for name, a in record["agents"].items():
        table.add_row(name, number(a["difference"]), between(a["ci95"]), "yes" if a["decided"] else "no")
    console = Console()
    (console if console.is_terminal else Console(width=100)).print(table, markup=False, highlight=False)


def suspected(record: Mapping[str, Any]) -> None:
    """A check for reward hacking: the pair of policies that looks worst, then all of them."""
    better = f"{record['metric']} ({record['better']} is better)"
    from_, to = (number(step) for step in record["steps"])
    what = f"from step {from_} to step {to}" if len(record["runs"]) == 1 else "from the first run to the second"
    rows = [
        ("alarm", f"YES: what is paid rose, and {better} became worse, {what}" if record["alarm"] else "no"),
        ("environment", str(record["env"])),
        *[("run", run) for run in record["runs"]],
        (f"team return, {what}", f"{number(record['proxy_change'])} [{between(record['proxy_change_ci95'])}]"),
        (better, f"{number(record['true_change'])} [{between(record['true_change_ci95'])}]"),
        ("episodes of each policy", f"{number(record['episodes'])} per training seed, {record['seeds']} seeds"),
        ("evidence", f"{record['note']}; all intervals hold together with 95%"),
    ]
    show("reward hacking", rows)
    table = Table(title="change on the same episodes", title_justify="left")
    for column in (
        "from step",
        "to step",
        "team return",
        *(f"{k} ({t['better']} is better)" for k, t in record["pairs"][0]["true"].items()),
        "alarm",
    ):
        table.add_column(column)
    for p in record["pairs"]:
        true = [between(t["ci95"]) for t in p["true"].values()]
        table.add_row(*(number(x) for x in p["steps"]), between(p["proxy_change_ci95"]), *true, "YES" if p["alarm"] else "no")
    console = Console()
    (console if console.is_terminal else Console(width=110)).print(table, markup=False, highlight=False)
