"""`marlstone evaluate RUN`: play the final policy of every seed, and report the return with its interval."""

from pathlib import Path
from typing import Any

from marlstone.cli.arguments import Parser


def main(words: list[str]) -> int:
    """Evaluate a run; returns the exit code."""
    parser = Parser("evaluate", "Play a run's final policy, acting by mode, and report its return.")
    parser.add_argument("run", metavar="RUN", help="the run's directory, or one of its checkpoints")
    parser.add_argument("--episodes", metavar="N", help="episodes per seed; default: as the run was configured")
    parser.add_argument("--log", metavar="DIR", help="also write the episodes here, row by row: a new directory")
    parser.add_argument("--json", action="store_true", help="one line of JSON on stdout")
    flags = parser.read(words)

    from marlstone.runtime.spread import prepare

    prepare()  # before anything asks JAX for its devices
    from marlstone.cli.find import find
    from marlstone.config import load
    from marlstone.runs.directory import one_line

    run, checkpoint = find(flags.run)
    config = load(run.config, {} if flags.episodes is None else {"evaluate.episodes": flags.episodes})
    record: dict[str, Any] = (
        runtime()(config, checkpoint, config.evaluate.episodes)
        if flags.log is None
        else logging()(config, checkpoint, config.evaluate.episodes, Path(flags.log).expanduser().absolute())
    )
    run.write("evaluation.json", one_line(record) + "\n")
    if flags.json:
        print(one_line(record))
        return 0
    from marlstone.cli.report import returns, show

    kept = [("log", record["log"])] if flags.log is not None else []
    show("evaluated", [*returns(record), ("episodes per seed", str(config.evaluate.episodes)), ("run", str(run.path)), *kept])
    return 0


def runtime() -> Any:
    """The evaluation loop, imported late: it brings JAX."""
    from marlstone.runtime.train import evaluate

    return evaluate


def logging() -> Any:
    """The same, into a log."""
    from marlstone.runtime.episode_log import evaluate_logged

    return evaluate_logged
