"""`marlstone select`: which architecture is robust in this environment, measured; a table, a recommendation, a page with pictures."""

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marlstone.cli.arguments import Parser, check_cluster, metrics, settings, sides, sinks, whole
from marlstone.core.errors import Failure, UserError
from marlstone.core.seeds import REPORTING
from marlstone.evaluation.select import BUDGET, QUICK_BUDGET, SEEDS

if TYPE_CHECKING:
    from marlstone.evaluation.select.question import Question


def parser() -> Parser:
    """The flags of `marlstone select`."""
    about = "Train candidates in an environment under one budget, test them under failures, and recommend one, with evidence and cost."
    flags = Parser("select", about)
    add = flags.add_argument
    add("--env", metavar="NAME", help="source:name?option=value (all: marlstone envs)")
    add(
        "--budget",
        metavar="B",
        help=f"joint steps per seed (1e6), or time per seed on a core (30m, 2h), for each; or a price for all (2.5usd); default: {BUDGET}",
    )
    add("--seeds", metavar="N", help=f"training seeds of each candidate; default: {SEEDS}, the fewest that stability is rated on")
    add("--seed", metavar="S", help=f"the first of them; default: {REPORTING}")
    add("--candidates", metavar="FILE.toml", help="more candidates, or other ones, and prices (docs/select.md)")
    add("--quick", action="store_true", help=f"three candidates, {QUICK_BUDGET} steps, untuned, no soak: a first look")
    add("--episodes", metavar="N", help="that judge each seed's final policy; default: 64")
    add("--set", action="append", default=[], metavar="FIELD=VALUE", help="any field of every candidate's runs, such as rollout.envs=64")
    flags.add_cluster("candidates")
    add(
        "--out",
        metavar="DIR",
        help="where everything goes; given again, a selection that was broken off goes on; default: a new one under selections/",
    )
    flags.add_sides()
    flags.add_metrics()
    flags.add_sinks()
    flags.add_acting()
    add("--wide", action="store_true", help="every column of the table, as wide as it takes; the report has them too")
    flags.add_json()
    return flags


def main(words: list[str]) -> int:
    """Select; returns the exit code."""
    flags = parser().read(words)
    if flags.env is None:
        raise UserError("select needs an environment: --env jumanji:LevelBasedForaging?task=8x8-2p-2f-coop (all: marlstone envs)")
    check_cluster(flags, "selection")

    from marlstone.rollout.placement import prepare

    prepare()  # before anything asks JAX for its devices
    from marlstone.evaluation.select.asking import lanes, timed
    from marlstone.runs.json_line import one_line

    question, folder = asked(flags), _folder(flags)
    with executor(flags, lambda: lanes(question)) as do:
        record = timed(folder, lambda: studied(question, folder, do))
    if flags.json:
        print(one_line(record))
        return 0
    from marlstone.cli.report import selected

    selected(record, flags.wide)
    return 0


def asked(flags: argparse.Namespace) -> "Question":
    """The question that the flags put. Raises `UserError`."""
    from marlstone.evaluation.select.asking import question

    numbers = {k: whole(k, v) for k in ("seeds", "seed", "episodes") if (v := getattr(flags, k)) is not None}
    return question(
        flags.env, budget=flags.budget, quick=flags.quick, candidates=flags.candidates,
        settings=settings(flags.set) | sides(flags) | metrics(flags.metric) | sinks(flags.sink), acting=flags.acting, **numbers,
    )  # fmt: skip


def _folder(flags: argparse.Namespace) -> Path:
    from marlstone.api.finding import new_path

    return Path(flags.out or new_path("selections", flags.env)).expanduser().absolute()


@contextlib.contextmanager
def executor(flags: argparse.Namespace, lanes: Callable[[], int]) -> Iterator[Callable[..., None]]:
    """Where jobs are done, as `--fleet` says, else on this machine, `lanes()` at once; stopped in order by Ctrl-C and SIGTERM."""
    from marlstone.api.display import Display
    from marlstone.cli.interrupt import Interrupted, orderly
    from marlstone.evaluation.select.executors import Beside, Here, OnRay

    with orderly() as stop:
        try:
            if flags.fleet == "ray":
                yield OnRay(say, flags.address, stop)
            elif (count := lanes()) > 1:
                yield Beside(say, Display, stop, count)
            else:
                yield Here(say, Display, stop)
        except Failure as error:
            if stop():
                raise Interrupted(stop.code, str(error)) from error
            raise


def say(text: str) -> None:
    """Tell whoever watches, on stderr."""
    print(text, file=sys.stderr, flush=True)


def studied(question: "Question", folder: Path, do: Callable[..., None]) -> dict[str, Any]:
    """The study and its page, imported late: they bring JAX."""
    from marlstone.evaluation.select.asking import studied

    return studied(question, folder, do, say)
