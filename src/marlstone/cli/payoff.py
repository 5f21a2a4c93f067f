"""`marlstone payoff RUN RUN ...`: who beats whom, as a matrix of returns with intervals."""

import sys
from collections.abc import Mapping
from typing import Any

from marlstone.cli.arguments import Parser
from marlstone.core.errors import UserError

EPISODES = 64


def _parser() -> Parser:
    about = "Let every policy play the team against every policy as its opponents, on the same episodes."
    parser = Parser("payoff", about)
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="finished runs, policies' folders, random or default: each plays both sides, if it can")
    add("--env", metavar="NAME", help="where they play; default: the environment of the first run")
    add("--team", metavar="AGENTS", default="", help="whom the rows play: by name, type or group; default: the environment's own team")
    add("--episodes", type=int, default=EPISODES, metavar="N", help=f"of each training seed and cell; default: {EPISODES}")
    add("--seeds", type=int, metavar="K", help="training seeds that play; default: as many as every run has")
    add("--acting", metavar="HOW", help="mode, sample or temperature=T for all of them; default: each as it is deployed")
    parser.add_json()
    return parser


def main(words: list[str]) -> int:
    """Play; returns the exit code."""
    flags = _parser().read(words)
    if flags.episodes < 2:
        raise UserError(f"--episodes is {flags.episodes}: give at least 2, for an interval")
    if flags.seeds is not None and flags.seeds < 1:
        raise UserError(f"--seeds is {flags.seeds}: give at least 1")
    from marlstone.rollout.placement import prepare

    prepare()  # before anything asks JAX for its devices
    from marlstone.api.questions import payoff_record
    from marlstone.runs.directory import one_line

    tell = lambda line: print(f"payoff: {line}", file=sys.stderr, flush=True)
    record = payoff_record(flags.runs, flags.env, flags.episodes, flags.team, flags.seeds, flags.acting, tell)
    if flags.json:
        print(one_line(record))
        return 0
    show(record)
    return 0


def show(record: Mapping[str, Any]) -> None:
    """The matrix, a table for each side, at 80 columns."""
    from marlstone.cli.tables import show_columns

    names = record["runs"]
    labels = [str(i + 1) for i in range(len(names))]
    for side, agents in (("team", record["team"]), ("opponents", record["opponents"])):
        rows = [
            [f"{label} {name}", *(_cell(cell, side) for cell in line)]
            for label, name, line in zip(labels, names, record["cells"], strict=True)
        ]
        who = ", ".join(agents)
        title = f"return of the {side} ({who}): rows play the team, columns its opponents; {record['episodes']} episodes, 95% intervals"
        show_columns(title, ("", *(f"against {label}" for label in labels)), rows, right=range(1, len(names) + 1))
    for what, why in record["cannot"].items():
        print(f"not played: {what}: {why}")


def _cell(cell: Mapping[str, Any] | None, side: str) -> str:
    if cell is None or cell[side]["mean"] is None:
        return "-"
    mean, (low, high) = cell[side]["mean"], cell[side]["ci95"]
    return f"{mean:.3g}\n[{low:.3g}, {high:.3g}]" if low is not None else f"{mean:.3g}"
