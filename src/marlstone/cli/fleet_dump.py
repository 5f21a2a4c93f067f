"""`marlstone fleet dump`: every process's Python stacks, in one file of the run."""

from marlstone.cli.arguments import Parser
from marlstone.cli.outcome import DONE


def main(words: list[str]) -> int:
    """Write the file; returns the exit code."""
    parser = Parser("fleet dump", "Write what every process of a run's fleet is at, all threads' Python stacks, to one file.")
    parser.add_argument("run", metavar="RUN", help="the directory that marlstone train printed")
    parser.add_json()
    flags = parser.read(words)

    from marlstone.fleet.inspection import dump_stacks
    from marlstone.runs.directory import RunDirectory
    from marlstone.runs.json_line import one_line

    path = dump_stacks(RunDirectory.open(flags.run))
    print(one_line({"run": flags.run, "stacks": str(path)}) if flags.json else path)
    return DONE
