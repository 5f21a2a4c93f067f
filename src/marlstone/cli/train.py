"""`marlstone train`: from a configuration to a run, new, resumed or started from another's parameters."""

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from marlstone.cli.arguments import Parser, choices, metrics, settings, sides, sinks
from marlstone.core.errors import UserError
from marlstone.core.seeds import REPORTING

if TYPE_CHECKING:
    from marlstone.config import RunConfig
    from marlstone.runs.checkpoint import Checkpoint
    from marlstone.runs.directory import RunDirectory

FIELDS = (
    "env",
    "architecture",
    "credit",
    "learner",
    "comms",
    "body",
    "encoder",
    "sharing",
    "steps",
    "seeds",
    "seed",
    "checkpoint_every",
    "acting",
    "out",
)
"""Flags that are fields of the configuration, by their names in TOML."""
FLEET = {"fleet": "fleet.kind", "actors": "fleet.actors", "address": "fleet.address", "self_play": "self_play.opponents"}
"""Flags that are fields of a table."""
RESUMABLE = ("steps", "checkpoint_every", "checkpoint_minutes", "acting", "env", "sink", "account", "prices")
"""What a resumed run may change: how far it goes, how often it is kept, how it is judged, where its environment lies, which sinks it has
beside those it had; its account, prices, fleet, and the rules that end it early."""

RULES = {"return": "at_return"}
"""Rules that end a run whose fields have other names."""


def _parser() -> Parser:
    parser = Parser("train", "Train agents in an environment, or continue a run. Flags override the file; both use the same names.")
    add = parser.add_argument
    add("config", nargs="?", metavar="CONFIG.toml", help="the run's configuration; flags alone will do")
    add("--env", metavar="NAME", help="source:name?option=value (all: marlstone envs); with --resume: the same one in another place")
    for part in ("architecture", "credit", "learner", "comms"):
        add(f"--{part}", metavar="KIND", help=f"{choices(part)}, or your own: file.py:Class")
    add("--body", metavar="KIND", help=f"{choices('body')}, or your own: architecture.body")
    add("--encoder", metavar="KIND", help=f"{choices('encoder')}, or your own, of every observation it accepts: architecture.encoders.all")
    add("--sharing", metavar="HOW", help="all, type or none: architecture.sharing")
    add("--steps", metavar="N", help="joint environment steps per seed, rounded up to whole updates (envs x length)")
    add("--seeds", metavar="K", help="how many training seeds")
    add("--seed", metavar="S", help=f"the first seed; below {REPORTING} is for tuning, else for reporting")
    add("--tuning", action="store_true", help="start at seed 0: for choosing settings, never for reporting them")
    add("--checkpoint-every", metavar="STEPS", help="joint steps per seed between checkpoints")
    add(
        "--fleet",
        metavar="KIND",
        help="actors in processes of their own, and a learner that waits for none of them: local, or ray for a cluster (docs/fleet.md)",
    )
    add("--actors", metavar="N", help="of a fleet, per seed: fleet.actors")
    parser.add_address()
    parser.add_sides()
    add("--self-play", metavar="AGENTS", help="agents that are played by past policies of this very run: self_play.opponents")
    parser.add_metrics()
    parser.add_sinks()
    parser.add_acting()
    add("--out", metavar="DIR", help="the run's directory, new or empty; default: a new one under runs/")
    add("--set", action="append", default=[], metavar="FIELD=VALUE", help="any field, such as learner.lr=1e-3; may be repeated")
    add("--resume", metavar="RUN", help="continue a run exactly, from its newest checkpoint or from the one named")
    add("--from", dest="origin", metavar="RUN", help="a new run that starts from this run's parameters, as far as they fit")
    parser.add_json()
    return parser


def overrides(flags: argparse.Namespace) -> dict[str, str]:
    """What the flags say, by field. Raises `UserError` where two say different things of one field."""
    from marlstone.config.sources import SHORTCUTS

    given = {FLEET.get(f, f): v for f in (*FIELDS, *FLEET) if (v := getattr(flags, f)) is not None}
    fields = settings(flags.set)
    if twice := sorted(f for f in given if {f, SHORTCUTS.get(f, f)} & set(fields)):
        raise UserError(f"--{twice[0].replace('_', '-')} and --set {SHORTCUTS.get(twice[0], twice[0])} are both given; give one")
    if flags.tuning:
        if "seed" in {**given, **fields}:
            raise UserError("--tuning and --seed are both given; give one (--tuning is --seed 0)")
        given["seed"] = "0"
    return {**given, **fields, **metrics(flags.metric), **sides(flags), **sinks(flags.sink)}


def _resumed(flags: argparse.Namespace, changes: dict[str, str]) -> "tuple[RunConfig, RunDirectory, Checkpoint, list[str]]":
    """The run to continue, and the user's files that have changed. Raises `UserError` for flags that would make it another run, and where
    nothing is left to do."""
    from marlstone.api.finding import find, reopened

    if flags.config is not None or flags.origin is not None:
        other = "a configuration" if flags.config is not None else "--from"
        raise UserError(f"--resume and {other} are both given; a run continues as it was configured, so leave that out")
    if foreign := sorted(c for c in changes if c not in RESUMABLE and not c.startswith(("fleet.", "stop."))):
        raise UserError(f"--resume continues a run as it was configured, and {foreign[0]} would change it; for a new run use --from")
    run, checkpoint = find(flags.resume)
    config, changed = reopened(run, {k: v for k, v in changes.items() if k != "env"}, changes.get("env"))
    if checkpoint.step >= config.steps and run.result.is_file():
        raise UserError(
            f"run {run.path} is already trained to step {checkpoint.step} of {config.steps}; give --steps more than that, or use --from"
        )
    ended = run.record() or {}
    further = any(c == "steps" or c.startswith("stop.") for c in changes)
    if not further and (by := ended.get("stopped_by", "steps")) != "steps" and checkpoint.step >= ended["steps"]:
        rule = f"stop.{RULES.get(by, by)}"
        raise UserError(
            f"run {run.path} is finished: {rule} ended it at step {ended['steps']} of {config.steps}; to go on, change the rule "
            f"(--set {rule}=none), or give --steps"
        )
    return config, run, checkpoint, changed


def _begun(flags: argparse.Namespace, changes: dict[str, str]) -> "tuple[RunConfig, RunDirectory, Checkpoint | None]":
    """A new run, and the checkpoint its parameters come from, if any."""
    from marlstone.api.finding import find
    from marlstone.api.training import new_run
    from marlstone.config import load

    file, initial = flags.config, None
    if flags.origin is not None:
        source, initial = find(flags.origin)
        file = source.config if file is None else file
    config = load(file, changes)
    return config, new_run(config), initial


def _warn_of_changes(run: "RunDirectory") -> None:
    """A resume is exact only with the same versions on the same machine: say where that is not so."""
    import json

    from marlstone.runs.versions import differences, versions

    then = json.loads(run.versions.read_text()) if run.versions.is_file() else {}
    for line in differences(then, versions()):
        print(f"warning: resumed with a difference, so not bit for bit: {line}", file=sys.stderr)


def main(words: list[str]) -> int:
    """Train; returns the exit code."""
    flags = _parser().read(words)
    changes = overrides(flags)

    from marlstone.rollout.placement import prepare

    prepare()  # before anything asks JAX for its devices
    resume: Checkpoint | None = None
    initial: Checkpoint | None = None
    changed: list[str] = []
    if flags.resume is not None:
        config, run, resume, changed = _resumed(flags, changes)
        _warn_of_changes(run)
    else:
        config, run, initial = _begun(flags, changes)
    from marlstone.api.display import Display
    from marlstone.api.training import trained
    from marlstone.cli.interrupt import orderly

    with orderly() as stop, Display() as display:
        record = trained(
            config, run, resume=resume, initial=initial, changed=changed, progress=display, stop=stop, train=runtime(config)
        )  # fmt: skip
    return _conclude(record, run, flags.json, stop.code if record.get("stopped") and stop() else 0)


def runtime(config: "RunConfig") -> Callable[..., dict[str, Any]]:
    """The training loop, or the supervisor of the processes that run it; imported late: it brings JAX."""
    from marlstone.api.training import backend

    return backend(config)


def _conclude(record: dict[str, Any], run: "RunDirectory", as_json: bool, interrupted: int) -> int:
    from marlstone.cli.outcome import CHECK, DONE
    from marlstone.runs.directory import one_line

    used_up = record.get("budget")
    code = interrupted or (CHECK if record.get("alerts") or used_up else DONE)
    if as_json:
        print(one_line(record))
        return code
    from marlstone.cli.report import show, training, warn_of_acting

    if record.get("stopped"):
        if used_up:
            print(f"the budget is used up: {used_up['message']}")
        if record["steps"]:
            print(f"stopped at step {record['steps']:,}; continue with: marlstone train --resume {run.path}")
        else:
            print("stopped before the first checkpoint, so nothing is kept: start it again with the same command")
        return code
    shown = {**record, **({"curve": run.curve} if run.curve.is_file() else {})}
    show("trained", training(shown))
    warn_of_acting(record)
    return code
