"""`marlstone fleet resize`: actors join or leave while training runs."""

from marlstone.cli.arguments import Parser
from marlstone.cli.outcome import DONE


def main(words: list[str]) -> int:
    """Ask for another number of actors; returns the exit code."""
    parser = Parser("fleet resize", "Let actors join or leave a run's fleet while it trains.")
    parser.add_argument("run", metavar="RUN", help="the directory that marlstone train printed")
    parser.add_argument("--actors", metavar="N", type=int, required=True, help="per seed")
    parser.add_json()
    flags = parser.read(words)

    from marlstone.fleet.inspection import ask_for
    from marlstone.runs.directory import RunDirectory
    from marlstone.runs.json_line import one_line

    ask_for(RunDirectory.open(flags.run), flags.actors)
    print(one_line({"run": flags.run, "actors": flags.actors}) if flags.json else f"{flags.actors} actors per seed, within a second or two")
    return DONE
