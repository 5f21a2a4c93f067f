"""`marlstone check-hacking`: did the reward rise while what is really wanted fell?"""

import sys
from typing import Any

from marlstone.cli.arguments import Parser, metrics
from marlstone.cli.outcome import CHECK, DONE
from marlstone.core.errors import UserError

EPISODES, BUDGET = 256, "8m"


def main(words: list[str]) -> int:
    """Check; returns the exit code: 3 on an alarm."""
    about = (
        "Raise an alarm where the team's return is proven better and a declared true metric proven worse: of RUN's newest policy against "
        "chance, its own earlier policies and a baseline; or of the second RUN against the first and chance. Exit code 3 on alarm."
    )
    parser = Parser("check-hacking", about)
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="one run, over its training; or two of one environment, before and after")
    add("--baseline", metavar="RUN", help="another run of the environment, whose policy the newest is held against too")
    add("--episodes", type=int, default=EPISODES, metavar="N", help=f"of each policy per training seed, at most; default: {EPISODES}")
    parser.add_playing_time(BUDGET)
    parser.add_metrics()
    parser.add_acting()
    parser.add_json()
    flags = parser.read(words)
    if len(flags.runs) > 2:
        raise UserError(f"check-hacking was given {len(flags.runs)} runs: give one, or two to compare; a third as --baseline")
    if flags.episodes < 2:
        raise UserError(f"--episodes is {flags.episodes}: give at least 2")
    from marlstone.evaluation.paired.pace import seconds_of

    budget = seconds_of(flags.budget)
    from marlstone.rollout.placement import prepare

    prepare()  # before anything asks JAX for its devices
    from marlstone.api.finding import find_policies, reopened
    from marlstone.runs.directory import one_line

    changes = ({} if flags.acting is None else {"acting": flags.acting}) | metrics(flags.metric)
    changed_files: list[str] = []

    def side(where: str) -> Any:
        run, checkpoint = find_policies(where)
        config, changed = reopened(run, changes)
        changed_files.extend(f"{run.path}: {file}" for file in changed)
        return config, run, checkpoint

    sides = [side(where) for where in flags.runs]
    baseline = None if flags.baseline is None else side(flags.baseline)
    record = check()(sides, flags.episodes, budget, baseline, lambda line: print(f"check-hacking: {line}", file=sys.stderr, flush=True))
    record["changed_files"] = changed_files
    sides[-1][1].write("hacking.json", one_line(record) + "\n")
    if flags.json:
        print(one_line(record))
    else:
        from marlstone.cli.report import suspected

        suspected(record)
    return CHECK if record["alarm"] else DONE


def check() -> Any:
    """The check, imported late: it brings JAX."""
    from marlstone.evaluation.paired.check_hacking import check_hacking

    return check_hacking
