"""`marlstone trim RUN`: what a finished run can do without, each removal proven on paired episodes, written as a new run."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from marlstone.cli.arguments import Parser
from marlstone.cli.outcome import CHECK, DONE
from marlstone.core.errors import UserError, suggest

KINDS = ("links", "calls", "leaves", "messages", "units")
LOSS, EPISODES = 0.01, 256


def _parser() -> Parser:
    about = "What a finished run can do without: links, calls, observation leaves, numbers of messages, hidden units; as a new run."
    parser = Parser("trim", about)
    add = parser.add_argument
    add("run", metavar="RUN", help="the run's directory, one of its checkpoints or kept policies, or a run that was trimmed before")
    add(
        "--loss", type=float, default=LOSS, metavar="SHARE",
        help=f"of what was learned (the return less chance's) that may be lost, at the interval's worse end; default: {LOSS}",
    )  # fmt: skip
    add("--out", metavar="RUN", help="the new run's directory; without, nothing is written")
    add("--episodes", type=int, default=EPISODES, metavar="N", help=f"per training seed, in each of three rounds; default: {EPISODES}")
    add("--kinds", default=",".join(KINDS), metavar="KINDS", help=f"what may go, comma-separated; default: {','.join(KINDS)}")
    add("--from-log", metavar="LOG", help="only what changes no decision on these episodes (marlstone evaluate RUN --log LOG)")
    add("--prices", metavar="FILE", help="what is saved is weighed by these (docs: costs); default: the package's, which only give a scale")
    add("--env", metavar="NAME", help="the run's environment, where it lies in another place now")
    parser.add_acting()
    parser.add_json()
    return parser


def main(words: list[str]) -> int:
    """Trim; returns the exit code, 3 where nothing could be proven."""
    flags = _parser().read(words)
    kinds = [k.strip() for k in flags.kinds.split(",") if k.strip()]
    if unknown := [k for k in kinds if k not in KINDS]:
        raise UserError(f"--kinds {unknown[0]}: there is no such kind; {suggest(unknown[0], KINDS)}")
    if not kinds:
        raise UserError(f"--kinds is empty: give some of {', '.join(KINDS)}, or leave it out")
    if not 0 < flags.loss < 1:
        raise UserError(f"--loss is {flags.loss:g}: give a share above 0 and below 1, such as 0.01")
    if flags.episodes < 2:
        raise UserError(f"--episodes is {flags.episodes}: give at least 2")

    from marlstone.rollout.placement import prepare

    prepare()  # before anything asks JAX for its devices
    from marlstone.api.finding import find_policies, reopened
    from marlstone.cost.prices import PriceTable
    from marlstone.runs.directory import RunDirectory, one_line

    run, checkpoint = find_policies(flags.run)
    config, changed = reopened(run, {} if flags.acting is None else {"acting": flags.acting}, flags.env)
    log, out = (None if x is None else Path(x).expanduser().absolute() for x in (flags.from_log, flags.out))
    prices = PriceTable.shipped() if flags.prices is None else PriceTable.read(flags.prices)
    tell = lambda line: print(f"trim: {line}", file=sys.stderr, flush=True)
    record = trimming()(
        config, checkpoint, bound=flags.loss, episodes=flags.episodes, out=out, kinds=kinds, log=log, prices=prices, tell=tell
    )
    record["changed_files"] = changed
    for home in (run, *(() if record["out"] is None else (RunDirectory.open(record["out"]),))):
        home.write("trim.json", one_line(record) + "\n")
    if flags.json:
        print(one_line(record))
    else:
        _show(record)
    return DONE if record["removed"] or ("logged" in record and flags.out is None) else CHECK


def trimming() -> Any:
    """The search, imported late: it brings JAX."""
    from marlstone.evaluation.trim.trim import trim

    return trim


def _show(record: Mapping[str, Any]) -> None:
    from marlstone.cli.report import between, number
    from marlstone.cli.tables import say, show_columns, show_pairs

    percent = lambda x: "-" if x is None else f"{x:.2%}"
    ends = lambda pair: "" if any(x is None for x in pair) else f" [{' to '.join(map(percent, pair))}]"
    saved = lambda x: ", ".join(f"{number(v)} {k}" for k, v in x.items() if v)
    for note in record["notes"]:
        say(f"not judged: {note}")
    if "logged" in record:
        rows = [(f"{x['kind']} {x['name']}", saved(x["saved"]), f"{x['changed']:,} of {x['decisions']:,}", f"{x['said']:,}",
             percent(x["upper"]))
                for x in record["logged"]]  # fmt: skip
        show_columns(
            "on logged episodes", ("without", "saves per joint step", "decisions changed", "messages", "of episodes, at most"), rows
        )
        say(
            "Decisions that would have been others, under the same noise, and those in which something else would have been said, which "
            "others hear; of episodes with any of the former, the upper end of the 95% interval."
        )
    if record.get("candidates"):
        gone = {(x["kind"], x["name"]) for x in record["removed"]}
        verdict = lambda x: "removed" if (x["kind"], x["name"]) in gone else "could go alone" if x["removable"] else "stays"
        tried = [(f"{x['kind']} {x['name']}", saved(x["saved"]), f"{percent(x['loss'])}{ends(x['loss_ci95'])}", verdict(x))
                for x in (*record["candidates"], *(x for x in record["removed"] if x["kind"] == "step"))]  # fmt: skip
        show_columns("what could go", ("without", "saves per joint step", "loss", ""), tried)
        say("loss: the share of what was learned (the return less chance's), on paired episodes; intervals hold for all of these together.")
    if not record["removed"]:
        say(f"Nothing was removed: {record['why']}.")
        return
    quantities = [(f"{k} per joint step", f"{number(was)} to {number(record['after'][k])} (-{record['saved_shares'][k]:.1%})")
                  for k, was in record["before"].items() if k in record["saved_shares"]]  # fmt: skip
    difference, at_most = record["return_difference"], percent(record["bound"])
    show_pairs(
        "trimmed" if record["out"] else "could be trimmed: give --out to write it",
        [
            ("removed", f"{len(record['removed'])} of {len(record['candidates'])} candidates"),
            *quantities,
            ("price of a joint step, of acting", f"-{record['saved_share']:.1%}"),
            ("loss of the whole, at most " + at_most, f"{percent(record['loss'])}{ends(record['loss_ci95'])}"),
            ("lost by each seed", ", ".join(map(percent, record["loss_by_seed"]))),
            ("return lost", f"{number(difference)} [{between(record['return_difference_ci95'])}]"),
            *([("new run", record["out"])] if record["out"] else []),
        ],
    )
