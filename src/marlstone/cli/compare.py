"""`marlstone compare RUN RUN`: which of two runs' final policies earns more, on the same episodes."""

import argparse
import sys
from typing import Any

from marlstone.cli.arguments import Parser, metrics
from marlstone.core.errors import UserError

EPISODES, BUDGET = 256, "8m"


def _parser() -> Parser:
    about = "Play two runs' final policies on the same episodes, until it is decided which earns more, or the episodes are used up."
    parser = Parser("compare", about)
    add = parser.add_argument
    add("runs", nargs=2, metavar="RUN", help="a run's directory, one of its checkpoints, or a policy's folder; both of one environment")
    add("--episodes", type=int, default=EPISODES, metavar="N", help=f"at most so many per training seed; default: {EPISODES}")
    add(
        "--bounds", nargs=2, type=float, metavar=("LO", "HI"),
        help="the least and the greatest team return an episode can have; default: estimated from the first 32 episodes, then not counted",
    )  # fmt: skip
    parser.add_playing_time(BUDGET)
    add("--env", metavar="NAME", help="the runs' environment, where it lies in another place now")
    parser.add_metrics()
    parser.add_acting()
    parser.add_json()
    return parser


def main(words: list[str]) -> int:
    """Compare; returns the exit code."""
    flags = _parser().read(words)
    check(flags)
    from marlstone.evaluation.paired.pace import seconds_of

    budget = seconds_of(flags.budget)
    from marlstone.rollout.placement import prepare

    prepare()  # before anything asks JAX for its devices
    from marlstone.api.finding import find_sides
    from marlstone.evaluation.paired.players import home
    from marlstone.runs.directory import CONFIG, RunDirectory, one_line

    changes = ({} if flags.acting is None else {"acting": flags.acting}) | metrics(flags.metric)
    sides, changed = find_sides(flags.runs, changes, flags.env)
    tell = lambda line: print(f"compare: {line}", file=sys.stderr, flush=True)
    record = comparison()(*sides, flags.episodes, flags.bounds, budget, tell)
    record["changed_files"] = changed
    where = home(sides[0][1])
    if (where / CONFIG).is_file():  # a policy's folder keeps nothing but the policy
        RunDirectory.open(where).write("comparison.json", one_line(record) + "\n")
    if flags.json:
        print(one_line(record))
        return 0
    from marlstone.cli.report import compared

    compared(record)
    return 0


def check(flags: argparse.Namespace) -> None:
    """Raises `UserError` where nothing could be compared."""
    if flags.bounds is not None and not flags.bounds[0] < flags.bounds[1]:
        raise UserError(f"--bounds {flags.bounds[0]:g} {flags.bounds[1]:g}: give the least return, then the greatest")
    least = 1 if flags.bounds is not None else 2
    if flags.episodes < least:
        raise UserError(
            f"--episodes is {flags.episodes}: give at least {least}" + ("" if least == 1 else ", of which the first show the bounds")
        )


def comparison() -> Any:
    """The comparison, imported late: it brings JAX."""
    from marlstone.evaluation.paired.compare import compare

    return compare
