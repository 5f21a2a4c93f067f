"""`marlstone check-hacking`: did what is paid rise while what is really wanted fell?"""

from typing import Any

from marlstone.cli.arguments import ACTING, ACTING_HELP, Parser
from marlstone.cli.outcome import CHECK, DONE
from marlstone.core.errors import UserError

EPISODES = 256


def main(words: list[str]) -> int:
    """Check; returns the exit code: 3 on an alarm."""
    about = (
        "Raise an alarm where the return rose and a declared true metric became worse, both beyond chance: from an earlier policy of RUN "
        "to its newest, or from the first RUN to the second. Exit code 3 on alarm."
    )
    parser = Parser("check-hacking", about)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="one run, over its training; or two of one environment, before and after")
    parser.add_argument(
        "--episodes", type=int, default=EPISODES, metavar="N", help=f"episodes of each policy per training seed; default: {EPISODES}"
    )
    parser.add_argument(*ACTING, **ACTING_HELP)
    parser.add_argument("--json", action="store_true", help="one line of JSON on stdout")
    flags = parser.read(words)
    if len(flags.runs) > 2:
        raise UserError(f"check-hacking was given {len(flags.runs)} runs: give one, or two to compare")
    if flags.episodes < 2:
        raise UserError(f"--episodes is {flags.episodes}: give at least 2")

    from marlstone.runtime.spread import prepare

    prepare()  # before anything asks JAX for its devices
    from marlstone.cli.find import find_policies
    from marlstone.config import load
    from marlstone.runs.directory import one_line

    found = [find_policies(where) for where in flags.runs]
    record = check()(
        [(load(run.config, {} if flags.acting is None else {"acting": flags.acting}), run, checkpoint) for run, checkpoint in found],
        flags.episodes,
    )
    found[-1][0].write("hacking.json", one_line(record) + "\n")
    if flags.json:
        print(one_line(record))
    else:
        from marlstone.cli.report import suspected

        suspected(record)
    return CHECK if record["alarm"] else DONE


def check() -> Any:
    """The check, imported late: it brings JAX."""
    from marlstone.evaluate.check_hacking import check_hacking

    return check_hacking
