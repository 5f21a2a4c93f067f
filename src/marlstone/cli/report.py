"""A record as people read it: the tables a command prints without `--json`."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from marlstone.cli.tables import say, show_columns, show_pairs

PHASES = {"watching": "checks", "training: products": "training: matrix products", "training: everything else": "training: other"}
show = show_pairs


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
    if record.get("acting"):
        rows.append(("acting", str(record["acting"])))
        rows += [(f"return by {way}" if way == "mode" else f"return, {way}", f"{number(r['return_iqm'])} [{between(r['return_ci95'])}]")
                 for way, r in (record.get("returns_by_acting") or {}).items()]  # fmt: skip
    if record.get("broken"):
        rows.append(("broken by the environment", f"{record['broken']} of {record['episodes_asked']} episodes, replayed"))
    if record.get("unfinished"):
        rows.append(("unfinished", f"{record['unfinished']} of {record['episodes_asked']} episodes, left out"))
    if record.get("messages_per_step") is not None:
        rows.append(("messages, bits per joint step", f"{number(record['messages_per_step'])}, {number(record['bits_per_step'])}"))
    return rows + [(f"{name} (true metric)", number(value)) for name, value in (record.get("true_metrics") or {}).items()]


def faults(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The rows of what went wrong: faults of environments in training and evaluation, events of a fleet."""
    totals: dict[str, int] = {}
    for counts in record.get("faults") or []:
        for name, count in counts.items():
            totals[name] = totals.get(name, 0) + count
    words = lambda counts: ", ".join(f"{k}: {n:,}" for k, n in counts.items() if n)
    steps = sum(ledger["rows"] for ledger in record.get("ledger") or [])
    rows = []
    if counted := words(totals):
        rows.append(("faults", f"{counted}" + (f" (in {steps:,} steps)" if steps else "")))
    elif "faults" in record:
        rows.append(("faults", "none"))
    if "evaluation_faults" in record:
        rows.append(("faults in evaluation", words(record["evaluation_faults"]) or "none"))
    if "events" in record:
        rows.append(("events", ", ".join(f"{k} {n:,}" for k, n in record["events"].items() if n) or "none"))
    return rows


def share(of_limit: float, is_estimate: bool) -> str:
    """A run's share of the limit. More than all of it is never shown: older records divide by limits measured too low."""
    if of_limit >= 1:
        return "at the limit (estimate)"
    return f"{of_limit:.0%}" + (" (estimate)" if is_estimate else "")


def warn_of_acting(record: Mapping[str, Any]) -> None:
    """Where the policy relies on its randomness, one line on stderr."""
    if record.get("acting_warning"):
        print(f"warning: {record['acting_warning']}", file=sys.stderr)


def _constrained(cost: Mapping[str, Any]) -> tuple[str, str]:
    """What the deployed policies cost beside their budget, or their weight."""
    used = sum(cost["used"]) / len(cost["used"])
    if cost["budget"] is None:
        return f"cost per {cost['per']}", f"{number(used)}, at {number(cost['weight'])} of return each"
    over = sum(cost["over_budget"])
    said = "kept by every seed" if not over else f"passed by {over} of {len(cost['used'])} seeds"
    return f"cost per {cost['per']}", f"{number(used)} of {number(cost['budget'])}, {said}"


def training(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The rows of a training: what, how good, how fast, where the time went, where it lies."""
    parts = " / ".join(str(record.get(k, "-")) for k in ("architecture", "credit", "learner"))
    rows = [("environment", str(record.get("env", "-"))), ("architecture / credit / learner", parts)]
    rows += [("channel", str(record["comms"]))] if record.get("comms") else []
    asked = record.get("steps_asked", record.get("steps"))
    more = f" ({number(asked)} asked, rounded up to whole updates)" if asked != record.get("steps") else ""
    if (rule := record.get("stopped_by", "steps")) != "steps":
        more = f" of {number(asked)} asked: stopped by {rule}"
    rows += [("steps per seed", number(record.get("steps")) + more), *returns(record)]
    if (cost := record.get("cost")) is not None:
        rows.append(_constrained(cost))
    for stage in record.get("stages") or []:
        changed = ", ".join(f"{k} = {v}" for k, v in stage["set"].items()) or "the run's own configuration"
        rows.append((f"stage, steps {number(stage['from'])} to {number(stage['until'])}", changed))
    rows += [("training steps/s, all seeds", number(record.get("steps_per_second") or None))]
    if record.get("share_of_limit") is not None:
        rows.append(("share of the machine's limit", share(record["share_of_limit"], bool(record.get("limit_is_estimate")))))
    rows += [(f"time: {PHASES.get(name, name)}", f"{seconds:.1f} s") for name, seconds in (record.get("phases") or {}).items()]
    if not record.get("phases") and record.get("compile_seconds") is not None:
        rows.append(("time: compiling", f"{record['compile_seconds']:.1f} s"))
    if record.get("wall_seconds") is not None:
        rows.append(("time: all", f"{record['wall_seconds']:.1f} s"))
    rows += faults(record)
    for sink in record.get("sinks") or []:
        lost = f", {sink['dropped']:,} dropped" if sink["dropped"] else ""
        rows.append(
            (f"sink: {sink['name']}", f"{sink['written']:,} figures sent{lost}" + (f" ({sink['reason']})" if sink["reason"] else ""))
        )
    if record.get("curve"):
        rows.append(("learning curve", str(record["curve"])))
    if record.get("policy"):
        rows.append(("policies, as deployed", ", ".join(Path(p).name for p in record["policy"]) + " in policy/"))
    if best := record.get("best"):
        steps, chosen = ", ".join(map(number, best["steps"])), best["chosen_on"]["episodes"]
        rows += [
            ("best checkpoint, not deployed", f"steps {steps}, chosen on {chosen} validation episodes a seed"),
            ("its return, acting", f"{number(best['return_iqm'])} [{between(best['return_ci95'])}], {best['acting']}"),
            ("best less final", f"{number(best['over_final'])} [{between(best['over_final_ci95'])}]"),
        ]
    if record.get("changed_files"):
        rows.append(("files changed while it was trained", ", ".join(record["changed_files"])))
    rows += [("alert", alert["words"]) for alert in record.get("alerts") or []]
    return [*rows, ("run", str(record.get("run", "-")))]


def audited(record: Mapping[str, Any]) -> None:
    """A credit audit: the figures, then agent by agent what the method claims beside what is true."""
    claims = record["claims"] or "nothing: audited by what its critic implies"
    rows = [
        ("environment", str(record["env"])),
        ("architecture / credit / learner", " / ".join(str(record[k]) for k in ("architecture", "credit", "learner"))),
        ("claims", claims),
        (f"rank correlation with the truth, {len(record['seeds'])} seeds", _figure(record, "rank_correlation")),
        (
            "the same, episode by episode" if record["claims"] == "shares" else "the same, decision by decision" + _discount(record),
            _figure(record, "decision_rank_correlation"),
        ),
        *_of_the_ceiling(record),
    ]
    rows.append(("what it optimizes, less the true return", f"{_figure(record, 'gap')} of {number(record['team_return'])}"))
    if record["efficiency_error"] is not None:
        rows.append(("shares miss the return by", f"{record['efficiency_error']:.2%}"))
    if record["dummy_ci95"] is not None:
        rows.append((f"claimed of {', '.join(record['dummies'])} (worth nothing)", f"{_percent(record['dummy_ci95'])} of the return"))
    rows += [(name, str(record[name])) for name in ("picture", "run") if record.get(name)]
    show("credit audit", rows)
    figures = lambda a, k: (number(record[k][a]), between(record[f"{k}_ci95"][a]))
    heads = ("agent", "claimed", "95% interval", "true", "95% interval")
    if record.get("discount", 1.0) == 1.0:
        cells = [(a, *figures(a, "contributions"), *figures(a, "truth")) for a in record["truth"]]
        show_columns("worth to the team, per episode", heads, cells)
    else:
        both = [(a, *figures(a, "contributions"), *figures(a, "truth_discounted"), number(record["truth"][a])) for a in record["truth"]]
        show_columns("worth to the team, per episode, discounted", (*heads, "true, undiscounted"), both)
        say(
            f"Claims are compared with what methods learn from: returns discounted by {record['discount']:g} a step from the decision on. "
            "The last column is in units of the team's return."
        )
    say("Intervals are each agent's own; worth nothing, or harmful, is decided by intervals that hold for all agents together.")
    if record.get("judgement"):
        say(record["judgement"][0].upper() + record["judgement"][1:] + ".")


def _discount(record: Mapping[str, Any]) -> str:
    """In words, where there is one: what claims are compared with is discounted."""
    return "" if record.get("discount", 1.0) == 1.0 else f", discounted by {record['discount']:g} a step"


def _of_the_ceiling(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How well the truth is known, and how claims compare with it; nothing where it was not measured again and again."""
    if record.get("continuations") is None:
        return []
    untried, bias, changed = record["defaults_untried"], record.get("window_bias"), record["decisions_worth_anything"]
    shares, quarters = record["claims"] == "shares", ", ".join(number(q["rank_correlation"]) for q in record["by_quarter"] or ())
    undiscounted = [("the same, undiscounted", _figure(record, "undiscounted_rank_correlation"))] if _discount(record) else []
    return [
        *undiscounted,
        (
            "shares that were not 0" if shares else "decisions that changed the return at all",
            f"{sum(changed)} of {len(changed) * record['decisions']}",
        ),
        ("noise ceiling: what a perfect claim would reach", _figure(record, "noise_ceiling")),
        ("share of the ceiling", _figure(record, "share_of_ceiling")),
        ("calibration: a claim of 1 was worth", _figure(record, "calibration_slope")),
        *([("defaults that the policy hardly ever takes", f"{untried:.0%} of decisions")] if untried is not None else []),
        *([("the rank correlation by quarter of the episode", quarters)] if quarters else []),
        ("each episode played" if shares else "each decision continued", f"{record['continuations']} times, acting by {record['acting']}"),
        *([("a window changed the worth by", f"{_figure(record, 'window_bias')} of its spread")] if bias is not None else []),
    ]


VERDICTS = {True: "yes", False: "no", None: "not shown"}


def edge_cases(record: Mapping[str, Any]) -> None:
    """What is left of the return when something goes wrong, case by case; undisturbed play and chance on top."""
    percent = lambda x: "-" if x is None else f"{x:.1%}"
    references = (("undisturbed", record), ("chance", record["chance"]))
    cells = [(name, number(r["return_iqm"]), between(r["return_ci95"]), "", "", "") for name, r in references]
    for case in record["cases"]:
        figures = number(case["return_iqm"]), between(case["return_ci95"]), percent(case["loss"]), _percent(case["loss_ci95"])
        cells.append((case["name"], *figures, VERDICTS[case["graceful"]]))
    heads = ("case", "return", "95% interval", "loss", "95% interval", "graceful")
    show_columns("edge cases", heads, cells, sections=(1,), red=[(i, 5) for i, row in enumerate(cells) if row[5] == "no"])
    say(
        "loss: share of the learned gain (undisturbed less chance) that is lost. graceful: yes where the whole interval is at most "
        f"{record['graceful_bound']:.0%}, no where it is above, else not shown. Intervals are each case's own."
    )
    notes = dict.fromkeys(case["note"] for case in record["cases"] if case.get("note"))
    say(*(f"not shown ({sum(c.get('note') == note for c in record['cases'])} cases): {note}" for note in notes))
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
    cells = []
    for a in record["contributions"]:
        claimed = number(record["contributions"][a]), between(record["contributions_ci95"][a])
        cells.append((a, *claimed, *(number(record[k][a]) for k in ("own_returns", "return_correlation", "success_correlation"))))
    heads = ("agent", "contribution", "95% interval", "own return", "rank correlation with return", "with success")
    show_columns("per episode", heads, cells)


def _figure(record: Mapping[str, Any], name: str) -> str:
    return f"{number(record[name])} [{between(record[f'{name}_ci95'])}]"


def _percent(pair: Sequence[float | None]) -> str:
    """An interval in percent; a dash where there is none."""
    return "-" if all(x is None for x in pair) else " to ".join("-" if x is None else f"{x:.1%}" for x in pair)


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
    cells = [(name, *(figure(record[way]) for way in ways)) for name, figure in figures]
    show_columns(f"{record['actors']:,} actors, simulated", ("", *ways), cells, right=(1, 2))
    if record.get("picture"):
        print(f"picture: {record['picture']}")


def selected(record: Mapping[str, Any], wide: bool = False) -> None:
    """A selection: the table, then what is recommended and how sure that is. `wide`: with every column."""
    from marlstone.evaluation.select.dead_seeds import unlearned
    from marlstone.evaluation.select.report import HEADS, NARROW, SENT, cells, judged_credit, narrow, proved, talks

    rows, title = record["candidates"], f"{record['env']}: {record['budget']}, {record['seeds']} seeds each"
    bold = [i for i, row in enumerate(rows) if row["name"] == record["recommended"]]
    currency = next((row["cost"]["currency"] for row in rows if row["cost"]), "USD")
    sent = talks(rows)
    heads = HEADS if wide else (*NARROW[:4], f"cost, {currency}", *((SENT,) if sent else ()), NARROW[5])
    show_columns(title, heads, [cells(row) if wide else narrow(row, sent) for row in rows], bold=bold, lines=True, wide=wide)
    refused = [f"{row['name']} was {row['verdict']}" for row in rows if row["return_iqm"] is None and not wide]
    say(*refused, record["evidence"], record["doubt"], *unlearned(record), *proved(record), *judged_credit(record))
    print(f"train it: marlstone train {record['config']}\nreport: {record['report']}")


def tuned(record: Mapping[str, Any]) -> None:
    """A sweep: every trial, the winner's return where it was chosen and elsewhere, and what that is worth."""
    from marlstone.evaluation.tune.report import HEADS, cells

    rows = cells(record)
    show_columns(f"{record['env']}: {record['configurations']} trials", HEADS, rows, bold=(0,), right=(0, 1, 3, 4))
    lines = [
        (f"return, {record['tuning_seeds']} tuning seeds, best of {record['configurations']}", number(record["tuning_return_iqm"])),
        (f"return, {len(record['seeds'])} reporting seeds", f"{number(record['return_iqm'])} [{between(record['return_ci95'])}]"),
        ("worst seed", number(record["return_worst_seed"])),
        ("lost when seeds changed", number(record["selection_bias"])),
    ]
    if record["baseline"] is not None:
        old = record["baseline"]
        lines.append(("as it was configured", f"{number(old['return_iqm'])} [{between(old['return_ci95'])}]"))
        lines.append(("difference", f"{number(record['difference'])} [{between(record['difference_ci95'])}]"))
    show("best", [("settings", ", ".join(f"{k} = {v}" for k, v in record["settings"].items()) or "as configured"), *lines])
    say(record["evidence"])
    print(f"train it: marlstone train {record['config']}\nreport: {record['report']}")


def compared(record: Mapping[str, Any]) -> None:
    """Two runs on the same episodes: which one's policies return more, the true metrics beside it, and agent by agent."""
    better = record["better"]
    words = "not shown" if better is None else f"the {('first', 'second')[better]} run's policies return more"
    bounds = "declared" if record["bounds_declared"] else "estimated from the first episodes, which then are not counted"
    acts = record.get("acting") or ["-", "-"]
    rows = [
        ("environment", str(record["env"])),
        *[
            (name, f"{run}, step {number(step)}, acting: {act}")
            for name, run, step, act in zip(("first", "second"), record["runs"], record["steps"], acts, strict=True)
        ],
        ("return", words),
        ("episodes per training seed", f"{number(record['counted'])} counted of {number(record['episodes'])}, {record['seeds']} seeds"),
        ("differences within", f"{between(record['bounds'])}, {bounds}; {record['clipped']} clipped"),
        ("stopped", STOPPED[record.get("stopped", "episodes")]),
        *faults(record),
        ("speaks of", "these policies, not of those another training would give"),
    ]
    show("compared", rows)
    line = lambda name, a, verdict: (name, *(number(x) for x in (*a["means"], a["difference"])), between(a["ci95"]), verdict)
    side = lambda which: "not shown" if which is None else ("first", "second")[which]
    more = lambda a: side(None if not a["decided"] else 0 if a["ci95"][0] > 0 else 1)
    cells = [
        line("team return", record, more(record)),
        *(line(f"{k} ({m['direction']} is better)", m, side(m["better"])) for k, m in record.get("true_metrics", {}).items()),
        *(line(f"return of {k}", a, more(a)) for k, a in record["agents"].items()),
    ]
    show_columns("means per episode, and the first less the second", ("", "first", "second", "difference", "interval", "better"), cells)
    say("Intervals hold together: of the return, of all true metrics, of all agents' returns.")


STOPPED = {
    "decided": "it was decided",
    "episodes": "the episodes were used up",
    "time": "the time budget was used up: give a longer --budget for more",
}


def suspected(record: Mapping[str, Any]) -> None:
    """A check for reward hacking: the pair of policies that looks worst, then all of them."""
    better = f"{record['metric']} ({record['better']} is better)"
    what = f"newest less {record['against']}"
    rows = [
        (
            "alarm",
            f"YES: the reward became better and {better} worse, against {record['against']}" if record["alarm"] else _no_alarm(record),
        ),
        ("environment", str(record["env"])),
        *[("run", run) for run in record["runs"]],
        ("acting", ", ".join(record["acting"])),
        (f"team return, {what}", f"{number(record['proxy_change'])} [{between(record['proxy_change_ci95'])}]"),
        (f"{better}, {what}", f"{number(record['true_change'])} [{between(record['true_change_ci95'])}]"),
        ("episodes of each policy", f"{number(record['episodes'])} per training seed, {record['seeds']} seeds"),
        *([("left out", f"{record['left_out']} episodes that did not end")] if record["left_out"] else []),
        *([("left out for time", f"{record['policies_left_out']} earlier policies")] if record["policies_left_out"] else []),
        ("stopped", STOPPED[record["stopped"]]),
        *faults(record),
        ("evidence", f"{record['note']}; all intervals hold together with 95%"),
    ]
    show("reward hacking", rows)
    names = list(record["pairs"][0]["true"])
    heads = tuple(f"{k} ({record['pairs'][0]['true'][k]['better']} is better)" for k in names)
    cells = [(p["name"], number(p["return"]), *(number(p[k]) for k in names)) for p in record["policies"]]
    show_columns("policies: means per episode", ("policy", "team return", *heads), cells)
    cells = [
        (p["from"], between(p["proxy_change_ci95"]), *(between(p["true"][k]["ci95"]) for k in names), "YES" if p["alarm"] else "not shown")
        for p in record["pairs"]
    ]
    show_columns("newest policy less each other, on the same episodes", ("against", "team return", *names, "alarm"), cells)


def _no_alarm(record: Mapping[str, Any]) -> str:
    """None was raised: is hacking excluded, or only not shown?"""

    def excluded(pair: Mapping[str, Any]) -> bool:
        """Whether the return cannot have risen, or no metric can have become worse."""
        known = lambda ci: ci is not None and all(x is not None and x == x for x in ci)
        fell_not = lambda t: known(t["ci95"]) and (t["ci95"][0] >= 0 if t["better"] == "up" else t["ci95"][1] <= 0)
        rose_not = known(pair["proxy_change_ci95"]) and pair["proxy_change_ci95"][1] <= 0
        return bool(rose_not or all(fell_not(t) for t in pair["true"].values()))

    return "no" if all(map(excluded, record["pairs"])) else "not shown: the intervals also hold what would be harmless"
