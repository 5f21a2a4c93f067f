"""`marlstone runs list|show|compare|export|archive|delete`: find runs, look at them side by side, send and put them away."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marlstone.cli.arguments import KINDS, Parser, choices, settings
from marlstone.cli.group import dispatched
from marlstone.core.errors import UserError, suggest

if TYPE_CHECKING:
    from marlstone.runs.catalog import Listed

SORTS = ("name", "return", "date", "steps", "size")
STATES = ("training", "finished", "stopped", "begun", "damaged")
COMMANDS = {
    "list": "the runs in a folder, filtered and sorted",
    "show": "one run: what was asked, and what came of it",
    "compare": "learning curves of several runs in one picture, with intervals",
    "export": "send what a run measured to TensorBoard, W&B, MLflow, a CSV file or a sink of yours",
    "archive": "a run as one .tar.gz file",
    "delete": "remove runs",
}


def main(words: list[str]) -> int:
    """Run one of them; returns its exit code."""
    steps = {"list": _list, "show": _show, "compare": _compare, "export": _export, "archive": _archive, "delete": _delete}
    return dispatched("runs", COMMANDS, lambda command, rest: steps[command](rest), words)


def _list(words: list[str]) -> int:
    parser = Parser("runs list", "The runs in a folder and below it.")
    add = parser.add_argument
    add("folder", nargs="?", default="runs", metavar="DIR", help="default: runs")
    add("--env", metavar="TEXT", help="only those whose environment's name has this in it")
    add("--with", dest="parts", action="append", default=[], metavar="KIND", help="only those with this architecture, credit or learner")
    add("--state", metavar="STATE", help=f"only these: {', '.join(STATES)}")
    add("--sort", default="name", metavar="BY", help=f"{', '.join(SORTS)}; best, newest and largest first; default: name")
    add("--top", type=int, metavar="N", help="only the first N")
    parser.add_json()
    flags = parser.read(words)
    for name, value, known in (("--state", flags.state, STATES), ("--sort", flags.sort, SORTS)):
        if value is not None and value not in known:
            raise UserError(f"{name} {value}: there is no such one; {suggest(value, known)}")
    if flags.top is not None and flags.top < 1:
        raise UserError(f"--top is {flags.top}: give at least 1")
    from marlstone.runs.catalog import one_line_of, runs_in

    fits = lambda x: (
        (flags.env is None or flags.env in x.env)
        and set(flags.parts) <= {x.architecture, x.credit, x.learner}
        and flags.state in (None, x.state)
    )
    found = _first(sorted((x for x in runs_in(flags.folder) if fits(x)), key=_order(flags.sort)), flags.top, flags.sort)
    if flags.json:
        print(one_line_of(found))
        return 0
    base = Path(flags.folder).expanduser().resolve()
    names = [str(x.run.path.relative_to(base)) if x.run.path != base else x.run.path.name for x in found]
    _table(f"{len(found)} runs in {flags.folder}", names, found)
    return 0


def _table(title: str, names: list[str], found: "list[Listed]") -> None:
    from marlstone.cli.report import between, number
    from marlstone.cli.tables import show_columns

    heads = ("run", "environment", "architecture / credit / learner", "return", "95% interval", "state")
    rows = zip(names, found, strict=True)
    cells = [(name, x.env, x.parts, number(x.return_iqm), between(x.return_ci95), x.state) for name, x in rows]
    show_columns(title, heads, cells, right=(3,))


def _first(ordered: list["Listed"], top: int | None, by: str) -> list["Listed"]:
    """The first `top` of all; where the next one is as good, that is said."""
    key = _order(by)
    tied = [x for x in ordered[top:] if key(x) == key(ordered[top - 1])] if top is not None and len(ordered) > top else []
    if tied:
        print(f"note: {len(tied)} more run{'s' * (len(tied) > 1)} tied with the last one shown by {by}", file=sys.stderr)
    return ordered[:top]


def _order(by: str) -> "Callable[[Listed], Any]":
    keys: dict[str, Callable[[Listed], Any]] = {
        "name": lambda x: str(x.run.path),
        "return": lambda x: (x.return_iqm is None, -(x.return_iqm or 0.0)),
        "date": lambda x: [-ord(c) for c in x.date],
        "steps": lambda x: -x.steps,
        "size": lambda x: -x.bytes,
    }
    return keys[by]


def _show(words: list[str]) -> int:
    parser = Parser("runs show", "One run: what was asked, and what came of it.")
    parser.add_argument("run", metavar="RUN", help="the run's directory")
    parser.add_json()
    flags = parser.read(words)
    from marlstone.runs.catalog import described
    from marlstone.runs.directory import RunDirectory, one_line

    run = RunDirectory.open(flags.run)
    entry, record = described(run), run.record()
    if flags.json:
        print(one_line(record or entry.json()))
        return 0
    from marlstone.cli.report import show, training

    about = [("state", entry.state), ("last changed", f"{entry.date} UTC"), ("on disk", f"{entry.bytes / 1e6:.1f} MB")]
    if record is None:
        asked = [("environment", entry.env), ("architecture / credit / learner", entry.parts), ("steps per seed", f"{entry.steps:,}")]
        show("run", [*asked, *about, ("run", str(run.path))])
        return 0
    shown = {**record, "run": str(run.path), **({"curve": str(run.curve)} if run.curve.is_file() else {"curve": None})}
    show("run", [*training(shown), *about])
    return 0


def _compare(words: list[str]) -> int:
    about = (
        "Draw the learning curves of several runs into one picture, the IQM over seeds with its 95% interval, and list them, best first."
    )
    parser = Parser("runs compare", about)
    parser.add_argument("runs", nargs="+", metavar="RUN|DIR", help="their directories, or folders that hold runs")
    parser.add_argument("--top", type=int, metavar="N", help="only the N with the best return")
    parser.add_argument("--out", default="curves.png", metavar="FILE.png", help="default: curves.png")
    parser.add_json()
    flags = parser.read(words)
    if flags.top is not None and flags.top < 1:
        raise UserError(f"--top is {flags.top}: give at least 1")
    from marlstone.runs.catalog import described, runs_in
    from marlstone.runs.curve import draw_together
    from marlstone.runs.directory import CONFIG, RunDirectory, one_line

    listed: dict[Path, Listed] = {}
    for where in flags.runs:
        folder = Path(where).expanduser()
        holds = folder.is_dir() and not (folder / CONFIG).is_file()
        many = list(runs_in(folder)) if holds else []
        listed |= {x.run.path: x for x in many or [described(RunDirectory.open(where))]}
    found = _first(sorted(listed.values(), key=_order("return")), flags.top, "return")
    if strange := sorted({x.env for x in found} - {found[0].env}):
        print(f"warning: the runs are of different environments, {found[0].env} and {', '.join(strange)}", file=sys.stderr)
    curves = []
    for x in found:
        with x.run.store() as store:
            curves.append((x.run.path.name, store.series("return")))
    path = draw_together(Path(flags.out).expanduser().absolute(), curves)
    if path is None:
        raise UserError("none of these runs has finished a training episode: there is nothing to draw")
    if flags.json:
        print(one_line({"picture": str(path), "runs": [x.json() for x in found]}))
        return 0
    _table("compared, best first", [x.run.path.name for x in found], found)
    print(f"picture: {path}")
    return 0


def _export(words: list[str]) -> int:
    parser = Parser("runs export", "Send what a run measured, all of it, and its record to a service, as --sink does while it trains.")
    parser.add_argument("run", metavar="RUN", help="the run's directory; it must not be training")
    parser.add_argument("--to", metavar="KIND", help=f"{choices('sink')}, or your own: file.py:Class")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="a field of the sink, such as mode=offline")
    parser.add_json()
    flags = parser.read(words)
    if flags.to is None:
        raise UserError(f"runs export needs to know where to: --to {', '.join(KINDS['sink'])}, or file.py:Class")
    from marlstone.config import load
    from marlstone.config.structure import Word, part
    from marlstone.runs.directory import RunDirectory, one_line
    from marlstone.runs.sinks import Sink
    from marlstone.training.sinks import exported

    run = RunDirectory.open(flags.run)
    sink = part(Sink, {"kind": flags.to, **{k: Word(v) for k, v in settings(flags.set).items()}}, "--to")
    sink.check()
    with run.claimed():
        line = exported(load(run.config, {}), run, sink)
    if flags.json:
        print(one_line({"run": str(run.path), **line}))
    else:
        print(f"{line['name']}: {line['written']:,} figures sent" + (f", {line['dropped']:,} dropped" if line["dropped"] else ""))
    if line["dropped"]:
        print(f"marlstone: {line['name']} did not take all of it: {line['reason']}", file=sys.stderr)
    return 1 if line["dropped"] else 0


def _archive(words: list[str]) -> int:
    parser = Parser("runs archive", "Write each run as one .tar.gz file; `tar xzf` brings it back.")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="their directories")
    parser.add_argument("--to", default="archive", metavar="DIR", help="where the files go; default: archive")
    parser.add_argument("--delete", action="store_true", help="then remove the runs")
    parser.add_json()
    flags = parser.read(words)
    from marlstone.runs.catalog import archive, delete
    from marlstone.runs.directory import RunDirectory, one_line

    archived = []
    for run in [RunDirectory.open(where) for where in flags.runs]:
        path = archive(run, Path(flags.to).expanduser().absolute())
        archived.append({"run": str(run.path), "file": str(path), "bytes": path.stat().st_size, "deleted": bool(flags.delete)})
        if not flags.json:
            print(f"{run.path.name}: {path}, {path.stat().st_size / 1e6:.1f} MB")
        if flags.delete:
            delete(run)
    if flags.json:
        print(one_line({"archived": archived}))
    return 0


def _delete(words: list[str]) -> int:
    parser = Parser("runs delete", "Remove runs, with their checkpoints and policies.")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="their directories")
    parser.add_argument("--yes", action="store_true", help="do it; without, only say what would be removed")
    parser.add_json()
    flags = parser.read(words)
    from marlstone.runs.catalog import delete, described
    from marlstone.runs.directory import RunDirectory, one_line

    found = [RunDirectory.open(where) for where in flags.runs]
    sizes = [delete(run) if flags.yes else described(run).bytes for run in found]
    if flags.json:
        runs = [{"run": str(run.path), "bytes": size} for run, size in zip(found, sizes, strict=True)]
        print(one_line({"removed": bool(flags.yes), "runs": runs}))
        return 0
    for run, size in zip(found, sizes, strict=True):
        print(f"{'removed' if flags.yes else 'would remove'} {run.path}, {size / 1e6:.1f} MB")
    if not flags.yes:
        print("nothing was removed: add --yes")
    return 0
