"""`marlstone tune`: which settings of one configuration return most: successive halving, then the winner on seeds it was not chosen by."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marlstone.cli.arguments import Parser, check_cluster, settings, sinks, whole
from marlstone.core.errors import UserError
from marlstone.evaluation.tune import ETA, SAMPLERS, SEEDS, TRIALS, TUNING_SEEDS

if TYPE_CHECKING:
    from marlstone.evaluation.tune.question import Question

FIELDS = ("env", "architecture", "credit", "learner", "comms", "body", "sharing", "steps", "acting")


def parser() -> Parser:
    """The flags of `marlstone tune`."""
    about = "Try settings of one configuration on tuning seeds, drop the worst as they train, and report the best on other seeds."
    flags = Parser("tune", about)
    add = flags.add_argument
    add("config", nargs="?", metavar="CONFIG.toml", help="a run's configuration, with [tune.space] (docs/tune.md); flags alone will do")
    add("--env", metavar="NAME", help="source:name?option=value (all: marlstone envs)")
    add("--space", action="append", default=[], metavar="FIELD=VALUES", help="learner.lr=1e-4..1e-2:log, or learner.epochs=1|2|4; repeat")
    for part in ("architecture", "credit", "learner", "comms", "body", "sharing"):
        add(f"--{part}", metavar="KIND", help="as marlstone train has it")
    add("--steps", metavar="N", help="joint environment steps per seed of a trial that is not dropped, and of the report")
    add("--trials", metavar="N", help=f"settings that are tried, the configuration as it is among them; default: {TRIALS}")
    add("--eta", metavar="N", help=f"of so many trials one goes on, so many times as long; default: {ETA}")
    add("--tuning-seeds", metavar="N", help=f"that trials are judged on; default: {TUNING_SEEDS}")
    add("--seeds", metavar="N", help=f"that the winner is reported on; default: the configuration's, or {SEEDS}")
    add("--seed", metavar="S", help="the first of them")
    add("--sampler", metavar="NAME", help=f"{', '.join(SAMPLERS)} (an extra); default: random")
    add("--no-baseline", action="store_true", help="do not train the configuration as it is on the reporting seeds")
    add("--set", action="append", default=[], metavar="FIELD=VALUE", help="any other field of every run, such as rollout.envs=64")
    flags.add_cluster("trials")
    add("--out", metavar="DIR", help="given again, a sweep that was broken off goes on; default: a new one under sweeps/")
    flags.add_sinks()
    flags.add_acting()
    flags.add_json()
    return flags


def main(words: list[str]) -> int:
    """Tune; returns the exit code."""
    flags = parser().read(words)
    check_cluster(flags, "sweep")

    from marlstone.rollout.placement import prepare

    prepare()  # before anything asks JAX for its devices
    from marlstone.api.finding import new_path
    from marlstone.cli.select import executor
    from marlstone.evaluation.select.asking import timed
    from marlstone.evaluation.tune.asking import lanes
    from marlstone.runs.json_line import one_line

    question = asked(flags)
    folder = Path(flags.out or new_path("sweeps", question.config({}, 0, 1).env)).expanduser().absolute()
    with executor(flags, lambda: lanes(question)) as do:
        record = timed(folder, lambda: swept(question, folder, do))
    if flags.json:
        print(one_line(record))
        return 0
    from marlstone.cli.report import tuned

    tuned(record)
    return 0


def asked(flags: argparse.Namespace) -> "Question":
    """The question that the flags put. Raises `UserError`."""
    from marlstone.evaluation.tune.question import question, spaces

    fields = {f: v for f in FIELDS if (v := getattr(flags, f)) is not None}
    more = settings(flags.set)
    if twice := sorted(set(fields) & set(more)):
        raise UserError(f"--{twice[0]} and --set {twice[0]} are both given; give one")
    numbers = ("trials", "eta", "tuning_seeds", "seeds", "seed")
    given: dict[str, Any] = {k: whole(k.replace("_", "-"), v) for k in numbers if (v := getattr(flags, k)) is not None}
    if flags.sampler is not None:
        given["sampler"] = flags.sampler
    if flags.no_baseline:
        given["baseline"] = False
    return question(flags.config, {**fields, **more, **sinks(flags.sink)}, spaces(flags.space), **given)


def swept(question: "Question", folder: Path, do: Callable[..., None]) -> dict[str, Any]:
    """The sweep and its page, imported late: they bring JAX."""
    from marlstone.cli.select import say
    from marlstone.evaluation.tune.asking import tuned

    return tuned(question, folder, do, say)
