"""`marlstone evaluate RUN`: play the final policy of every seed, and report the return with its interval; with suites, more."""

import argparse
import sys
from pathlib import Path
from typing import Any

from marlstone.cli.arguments import Parser, metrics, sides
from marlstone.cli.audit_credit import DECISIONS
from marlstone.cli.outcome import CHECK, DONE
from marlstone.core.errors import UserError, suggest

SUITES = ("edge-cases", "credit", "messages")


def main(words: list[str]) -> int:
    """Evaluate a run; returns the exit code."""
    parser = Parser("evaluate", "Play a run's final policy, acting as it is deployed, and report its return.")
    parser.add_argument("run", metavar="RUN", help="the run's directory, or one of its checkpoints or kept policies")
    parser.add_argument(
        "--checkpoint", metavar="WHICH", default="final", help="final (default), or best: kept on validation episodes (keep_best)"
    )
    parser.add_argument("--env", metavar="NAME", help="another environment, or the run's own where it lies in another place now")
    parser.add_argument("--episodes", metavar="N", help="episodes per seed; default: as the run was configured")
    parser.add_sides()
    parser.add_metrics()
    parser.add_acting()
    parser.add_argument("--log", metavar="DIR", help="also write the episodes here, step by step: a new directory")
    parser.add_argument(
        "--suite",
        action="append",
        default=[],
        metavar="SUITE",
        help="also: edge-cases (what is left when something goes wrong), credit (the audit), or messages (what each link is worth, what "
        "they cost, and chatter: exit code 3 on its alarm); may be repeated",
    )
    parser.add_argument("--cases", metavar="FILE.toml", help="edge cases of your own ([[evaluate.cases]]) instead of the run's")
    parser.add_argument("--film", metavar="FILE", help="also show its first episodes in a film: .gif, or .mp4 (marlstone[film])")
    parser.add_argument("--film-episodes", metavar="N", help="episodes of the film, of the first training seed; default: 1")
    parser.add_json()
    flags = parser.read(words)
    for suite in flags.suite:
        if suite not in SUITES:
            raise UserError(f"--suite {suite}: there is no such suite; {suggest(suite, SUITES)}")
    if flags.cases is not None and "edge-cases" not in flags.suite:
        raise UserError("--cases are played by a suite: add --suite edge-cases")
    if flags.log is not None and flags.suite:
        raise UserError("--log keeps undisturbed episodes, --suite plays others: give one at a time")
    if flags.film is not None and (flags.suite or flags.log is not None):
        raise UserError(f"--film shows undisturbed episodes: leave {'--suite' if flags.suite else '--log'} out")
    shown = _count(flags)

    from marlstone.rollout.placement import prepare

    prepare()  # before anything asks JAX for its devices
    from marlstone.api.finding import find_policies, reopened
    from marlstone.config.paths import trained_env
    from marlstone.config.sources import with_cases
    from marlstone.envs.make import same_name
    from marlstone.runs.directory import one_line

    run, checkpoint = find_policies(flags.run, flags.checkpoint)
    given = {"evaluate.episodes": flags.episodes, "acting": flags.acting}
    changes = {k: v for k, v in given.items() if v is not None} | metrics(flags.metric) | sides(flags)
    config, changed = reopened(run, changes, flags.env, elsewhere=True)
    if "credit" in flags.suite and checkpoint.path.parent in (run.policies, run.best):
        raise UserError(f"--suite credit asks what learned, and {checkpoint.path} keeps only what acts: name a checkpoint of the run")
    elsewhere = flags.env is not None and not same_name(trained_env(run) or config.env, config.env)
    if elsewhere and flags.suite:
        raise UserError(f"--suite {flags.suite[0]} asks of a run in its own environment, {trained_env(run)}: leave --env out, or the suite")
    if flags.cases is not None:
        config = with_cases(config, flags.cases)
    episodes = config.evaluate.episodes
    record: dict[str, Any]
    if flags.log is not None:
        record = logging()(config, checkpoint, episodes, Path(flags.log).expanduser().absolute())
    elif flags.film is not None:
        record = filming()(config, checkpoint, episodes, Path(flags.film).expanduser().absolute(), shown)
    elif "edge-cases" in flags.suite:
        record = cases()(config, checkpoint, episodes, tell=_tell)
        if "messages" in flags.suite:
            record |= messages()(config, checkpoint, episodes, tell=_tell)
    elif "messages" in flags.suite:
        record = messages()(config, checkpoint, episodes, tell=_tell)
    else:
        record = runtime()(config, checkpoint, episodes)
    if "credit" in flags.suite:
        _tell("credit")
        record["credit"] = credit()(config, checkpoint, DECISIONS, run.path / "credit_audit.png")
    record["changed_files"] = changed
    run.write("elsewhere.json" if elsewhere else "evaluation.json", one_line(record) + "\n")
    code = CHECK if record.get("alarm") else DONE
    if flags.json:
        print(one_line(record))
        return code
    from marlstone.cli.report import audited, edge_cases, faults, returns, show, warn_of_acting

    warn_of_acting(record)

    kept = [("log", record["log"])] if flags.log is not None else []
    kept += [("film", record["film"]["path"])] if flags.film is not None else []
    kept += [("policies", "the best on validation episodes")] if flags.checkpoint == "best" else []
    kept += [("environment", config.env), ("trained in", str(trained_env(run)))] if elsewhere else []
    kept += [("changed since it was trained", ", ".join(changed))] if changed else []
    show(
        "evaluated",
        [*returns(record), ("episodes per seed", str(config.evaluate.episodes)), *faults(record), ("run", str(run.path)), *kept],
    )
    if "cases" in record:
        edge_cases(record)
    if "credit" in record:
        audited(record["credit"])
    if "chatter" in record:
        from marlstone.cli.messages_report import messages_tables

        messages_tables(record)
    return code


def _count(flags: argparse.Namespace) -> int:
    """How many episodes the film shows. Raises `UserError` where there is no film, or no such number."""
    if flags.film_episodes is None:
        return 1
    if flags.film is None:
        raise UserError("--film-episodes are of a film: add --film out.gif")
    if not flags.film_episodes.isdecimal():
        raise UserError(f"--film-episodes {flags.film_episodes}: give a whole number, such as 3")
    return int(flags.film_episodes)


def _tell(name: str) -> None:
    """What is played now: suites take their time."""
    print(f"evaluating: {name}", file=sys.stderr)


def runtime() -> Any:
    """The evaluation loop, imported late: it brings JAX."""
    from marlstone.training.trained import evaluate

    return evaluate


def logging() -> Any:
    """The same, into a log."""
    from marlstone.evaluation.episode_log import evaluate_logged

    return evaluate_logged


def filming() -> Any:
    """The same, as a film."""
    from marlstone.evaluation.filming import evaluate_filmed

    return evaluate_filmed


def cases() -> Any:
    """The same, and every edge case."""
    from marlstone.evaluation.robustness.edge_cases import evaluate_cases

    return evaluate_cases


def messages() -> Any:
    """The same, and what messages are worth and cost."""
    from marlstone.evaluation.messages.suite import evaluate_messages

    return evaluate_messages


def credit() -> Any:
    """The credit audit."""
    from marlstone.evaluation.credit.audit import audit_run

    return audit_run
