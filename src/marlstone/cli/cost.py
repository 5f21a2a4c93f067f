"""`marlstone cost RUN...`: what runs cost per agent, phase and kind, and what their policies will cost where they are deployed."""

import math
import sys
from pathlib import Path
from typing import Any

from marlstone.cli.arguments import Parser
from marlstone.core.errors import UserError

AGENTS = 16
"""Those that cost most are shown one by one."""


def _parser() -> Parser:
    parser = Parser("cost", "Price what runs have counted, per agent, phase and kind, and what their policies cost as they act.")
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="their directories; also while they train")
    add("--prices", metavar="FILE", help="a table of your own (docs: costs); default: the package's, which only gives a scale")
    add(
        "--traffic", type=float, metavar="DECISIONS_PER_DAY", help="forecast what so many decisions a day will cost, of all agents together"
    )
    add("--days", type=int, default=30, metavar="N", help="how far the forecast reaches; default: 30")
    add("--budget", type=float, metavar="PRICE", help="with --traffic: also say by when so much is spent")
    add("--focus", metavar="FILE", help="also write what was spent as FOCUS rows (CSV), which tools for cloud bills read")
    parser.add_json()
    return parser


def main(words: list[str]) -> int:
    """Price; returns the exit code."""
    flags = _parser().read(words)
    for name, value in (("--traffic", flags.traffic), ("--budget", flags.budget)):
        if value is not None and not 0 < value < math.inf:
            raise UserError(f"{name} is {value}: give a number above 0")
    if not 1 <= flags.days <= 36_500:
        raise UserError(f"--days is {flags.days}: give 1 to 36500")
    if flags.budget is not None and flags.traffic is None:
        raise UserError("--budget says by when it is spent at some traffic: add --traffic DECISIONS_PER_DAY")
    from marlstone.cost import focus, pricing
    from marlstone.cost.prices import PriceTable
    from marlstone.evaluation.cost.counted import counted
    from marlstone.evaluation.cost.statement import statement
    from marlstone.runs.directory import one_line
    from marlstone.runs.files import write_atomic

    if flags.focus is not None and not Path(flags.focus).expanduser().absolute().parent.is_dir():
        raise UserError(f"--focus {flags.focus}: its folder does not exist: make it, or name another")
    table = PriceTable.shipped() if flags.prices is None else PriceTable.read(flags.prices)
    runs = [counted(where) for where in flags.runs]
    if len({run.run.path for run in runs}) < len(runs):
        raise UserError("a run is named twice: name each once, or its costs would be counted twice")
    record = statement(runs, table, flags.traffic, flags.days, flags.budget)
    if flags.focus is not None:
        rows = [(run.run.path.name, x) for run in runs for x in pricing.priced(run.entries, table)]
        target = Path(flags.focus).expanduser().absolute()
        write_atomic(target, focus.text(rows, table).encode())
        record["focus"] = str(target)
    for run, one in zip(runs, record["runs"], strict=True):
        if run.record:
            run.run.write("cost.json", one_line({**one, "prices": record["prices"], "day": record["day"]}) + "\n")
    if flags.json:
        print(one_line(record))
        return 0
    for one in record["runs"]:
        _show(one, table.currency)
    _told(record)
    return 0


def _show(one: dict[str, Any], currency: str) -> None:
    from marlstone.cli.report import number, show
    from marlstone.cli.tables import show_columns

    money = lambda x: "-" if x is None else f"{number(x)} {currency}"
    by, inference = one["price_by"], one["inference"] or {}
    shown = sorted(by["agent"], key=lambda a: -by["agent"][a])[:AGENTS]
    of = lambda phase, agent, kind: one["phases"].get(phase, {}).get(agent, {}).get(kind)
    count = lambda x: "-" if x is None else f"{x:,}"
    cells = [
        (agent if i == 0 else "", kind, *(count(of(phase, agent, kind)) for phase in one["phases"]))
        for agent, amounts in one["agents"].items()
        if agent in shown
        for i, kind in enumerate(amounts)
    ]
    phases = tuple(one["phases"])
    show_columns(f"counted: {Path(one['run']).name}", ("agent", "kind", *phases), cells, right=tuple(range(2, 2 + len(phases))))
    own = inference.get("per_decision_by_agent") or {}
    agents = [(a, money(x), money(own.get(a))) for a, x in by["agent"].items() if a in shown]
    if others := [a for a in by["agent"] if a not in shown]:
        agents.append((f"{len(others)} others", money(sum(by["agent"][a] for a in others)), "-"))
    show_columns("price, by agent", ("agent", "spent", "a decision as deployed"), agents, right=(1, 2))
    pairs = [(f"spent on {name}", money(x)) for name, x in (by["phase"] | by["kind"]).items()]
    pairs += [
        ("spent in all", money(one["price"])),
        ("an episode as deployed", money(one["per_episode"])),
        ("a decision as deployed", money(one["per_decision"])),
        ("a unit of return as deployed", money(one["per_return"])),
        ("inference has cost more after", "-" if one["crossover_decisions"] is None else f"{one['crossover_decisions']:,} decisions"),
    ]
    if (ahead := one["forecast"]) is not None:
        between = "" if ahead["low"] is None else f" ({number(ahead['low'])} to {number(ahead['high'])} with {ahead['level']:.0%})"
        pairs.append((f"{ahead['days']} days of {number(ahead['decisions_per_day'])} decisions a day", money(ahead["total"]) + between))
        if ahead["budget"] is not None:
            pairs.append((f"a budget of {money(ahead['budget'])}", f"spent by {ahead['spent_by']}" if ahead["spent_by"] else "lasts"))
    show("cost", pairs)


def _told(record: dict[str, Any]) -> None:
    prices = record["prices"]
    print(f"prices: {prices['source']}, version {prices['version']}, sha256 {prices['sha256'][:12]}", file=sys.stderr)
    if record["unpriced"]:
        print(f"note: the table has no price of {', '.join(record['unpriced'])}, which cost nothing here", file=sys.stderr)
    for one in record["runs"]:
        for note in one["notes"]:
            print(f"note: {Path(one['run']).name}: {note}", file=sys.stderr)
    if len(record["runs"]) > 1:
        print(f"all runs together: {record['price']:.4g} {prices['currency']}", file=sys.stderr)
    if "focus" in record:
        print(f"FOCUS rows: {record['focus']}", file=sys.stderr)
