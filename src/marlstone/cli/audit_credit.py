"""`marlstone audit-credit`: what a credit method says each agent was worth, beside what each was worth."""

import tempfile
from pathlib import Path
from typing import Any

from marlstone.cli.arguments import Parser, choices, settings
from marlstone.core.errors import UserError

STEPS = "300000"
DECISIONS = 256


def _parser() -> Parser:
    about = "Check what a credit method says of each agent against the truth: the same states, with the agent's default action instead."
    parser = Parser("audit-credit", about)
    add = parser.add_argument
    add("run", nargs="?", metavar="RUN", help="a trained run, or one of its checkpoints")
    add("--env", metavar="NAME", help="instead of RUN: train here first, then audit")
    add("--credit", metavar="KIND", help=f"the method to train and audit: {choices('credit')}, or your own: file.py:Class")
    add("--architecture", metavar="KIND", help="as for train; default: ctde")
    add("--learner", metavar="KIND", help="as for train; default: policy_gradient")
    add("--steps", metavar="N", help=f"joint steps per seed to train; default: {STEPS}")
    add("--seeds", metavar="K", help="training seeds; default: 5")
    add("--seed", metavar="S", help="the first seed, as for train")
    add("--set", action="append", default=[], metavar="FIELD=VALUE", help="any other field of the training, as for train")
    add("--out", metavar="DIR", help="keep the trained run here; default: it is not kept, only the audit is printed")
    add("--decisions", type=int, metavar="N", help=f"decisions audited per seed; default: {DECISIONS}")
    add(
        "--continuations",
        type=int,
        metavar="K",
        help="play each decision on up to K times; default: 16, where Python steps, and episodes of shares, 4",
    )
    add("--window", type=int, metavar="T", help="play on for T steps only, and measure what that changes; default: to the episode's end")
    add(
        "--from-log",
        metavar="LOG",
        help="say what RUN's credit makes of these logged episodes (evaluate --log); there is no truth to a log",
    )
    parser.add_json()
    return parser


def main(words: list[str]) -> int:
    """Audit; returns the exit code."""
    flags = _parser().read(words)
    trains = {k: getattr(flags, k) for k in ("env", "credit", "architecture", "learner", "steps", "seeds", "seed")}
    given = {k: v for k, v in trains.items() if v is not None}
    if flags.run is None and not {"env", "credit"} <= set(given):
        raise UserError("audit-credit needs a RUN, or --env and --credit, such as --env proving:additive --credit counterfactual")
    if flags.run is not None and (given or flags.set or flags.out):
        raise UserError(f"audit-credit {flags.run} audits that run as it was trained; leave out {next(iter(given), '--set or --out')}")
    if flags.from_log is not None and (flags.run is None or flags.decisions is not None):
        reason = "needs the RUN whose credit is asked" if flags.run is None else "scores whole episodes: leave out --decisions"
        raise UserError(f"audit-credit --from-log {flags.from_log} {reason}")
    decisions = DECISIONS if flags.decisions is None else flags.decisions
    for name, least, value in (("decisions", 1, decisions), ("continuations", 2, flags.continuations), ("window", 1, flags.window)):
        if value is not None and value < least:
            raise UserError(f"--{name} is {value}: give at least {least}")
        if name != "decisions" and value is not None and flags.from_log is not None:
            raise UserError(f"audit-credit --from-log {flags.from_log} plays nothing on: leave out --{name}")
    how = {"continuations": flags.continuations, "window": flags.window}

    from marlstone.rollout.placement import prepare

    prepare()  # before anything asks JAX for its devices
    from marlstone.api.finding import find, reopened
    from marlstone.config import load
    from marlstone.runs.directory import one_line

    if flags.from_log is not None:
        run, checkpoint = find(flags.run)
        config, changed = reopened(run, {})
        record = scoring()(config, checkpoint, Path(flags.from_log).expanduser().absolute())
        record |= {"changed_files": changed} if changed else {}
        run.write("credit_log.json", one_line(record) + "\n")
    elif flags.run is not None:
        run, checkpoint = find(flags.run)
        config, changed = reopened(run, {})
        record = audit()(config, checkpoint, decisions, run.path / "credit_audit.png", **how)
        record |= {"changed_files": changed} if changed else {}
        run.write("credit_audit.json", one_line(record) + "\n")
    else:
        fields = {"architecture": "ctde", "steps": STEPS, "rollout.length": "32", **given, **settings(flags.set)}
        with tempfile.TemporaryDirectory() as spare:
            record = _trained(load(None, fields), Path(flags.out or Path(spare) / "run"), bool(flags.out), decisions, how)
    if flags.json:
        print(one_line(record))
        return 0
    from marlstone.cli.report import audited, scored

    (audited if flags.from_log is None else scored)(record)
    return 0


def _trained(config: Any, path: Path, kept: bool, decisions: int, how: dict[str, int | None]) -> dict[str, Any]:
    """Train into `path`, then audit; a run that is not kept leaves no paths in the record."""
    from marlstone.api.display import Display
    from marlstone.config.paths import files_of, recorded
    from marlstone.evaluation.credit.audit import auditable
    from marlstone.runs.checkpoint import newest
    from marlstone.runs.directory import RunDirectory, one_line
    from marlstone.training.loop import train

    auditable(config)  # before anything is trained
    run = RunDirectory.create(path, recorded(config, path), files_of(config, path))
    with run.claimed():
        with Display() as display:
            run.finish(train(config, run, progress=display))
        record = audit()(config, newest(run.checkpoints), decisions, run.path / "credit_audit.png", **how)
        run.write("credit_audit.json", one_line(record) + "\n")
    return record if kept else {k: v for k, v in record.items() if k not in ("run", "picture")}


def audit() -> Any:
    """The audit, imported late: it brings JAX."""
    from marlstone.evaluation.credit.audit import audit_run

    return audit_run


def scoring() -> Any:
    """How a log is scored, imported late too."""
    from marlstone.evaluation.credit.log_audit import audit_log

    return audit_log
