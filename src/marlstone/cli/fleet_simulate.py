"""`marlstone fleet simulate`: what a fleet would do, before anyone pays for it. Needs no JAX."""

import argparse
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from marlstone.cli.arguments import Parser
from marlstone.core.errors import UserError
from marlstone.fleet.scenario import Scenario, Service, flag

MEASURED = "fleet.json"
PICTURE = "fleet.png"


def _parser() -> Parser:
    about = "Simulate a fleet of actors and a learner, asynchronous and synchronous side by side. All times are simulated."
    parser = Parser("fleet simulate", about)
    for title, kind in (("the fleet, and what goes wrong", Scenario), ("how long things take, and what they weigh", Service)):
        group = parser.add_argument_group(title)
        for field in dataclasses.fields(kind):
            if field.metadata:
                default = f"; default: {field.default:,g}"
                group.add_argument(flag(field.name), type=field.type, metavar="N", help=field.metadata["about"] + default)
    group = parser.add_argument_group("the simulation")
    group.add_argument("--unsupervised", action="store_true", help="nobody restarts what stalled or died")
    group.add_argument(
        "--run", metavar="RUN", help=f"take these times and bytes from RUN/{MEASURED}, as a fleet run measured them; flags override"
    )
    group.add_argument("--seconds", type=float, metavar="N", help="simulated seconds to measure for; default: 3,600")
    group.add_argument(
        "--events", type=int, metavar="N", help="events of one simulation, at least 20 per actor; ends it early; default: 1,000,000"
    )
    group.add_argument("--seed", type=int, default=0, metavar="S", help="the same seed gives the same answer; default: 0")
    group.add_argument("--out", metavar="PATH", help=f"draw fewer and more actors too: a file.png, or a directory for {PICTURE}")
    group.add_argument("--json", action="store_true", help="one line of JSON on stdout")
    return parser


def main(words: list[str]) -> int:
    """Simulate; returns the exit code."""
    flags = _parser().read(words)
    scenario = Scenario(**_given(flags, Scenario), supervised=not flags.unsupervised)
    service = Service(**{**_measured(flags.run), **_given(flags, Service)})
    for name, least in (("seconds", 1), ("events", 1000), ("seed", 0)):
        value = getattr(flags, name)
        if value is not None and not least <= value < math.inf:
            raise UserError(f"--{name} is {value:g}: give {'a finite number, ' if value > least else ''}at least {least}")

    from marlstone.fleet.forecast import draw, forecast, sweep
    from marlstone.fleet.simulate import EVENTS, SECONDS

    seconds = SECONDS if flags.seconds is None else flags.seconds
    events = EVENTS if flags.events is None else flags.events
    target = None if flags.out is None else _target(flags.out)
    found = forecast(service, scenario, seconds, flags.seed, events)
    record = {**found, "seed": flags.seed, "scenario": dataclasses.asdict(scenario), "service": dataclasses.asdict(service)}
    if target is not None:
        record["picture"] = draw(target, list(sweep(service, scenario, found, seconds, flags.seed, events)), scenario.actors)
    if flags.json:
        from marlstone.runs.json_line import one_line

        print(one_line(record))
        return 0
    from marlstone.cli.report import fleet

    fleet(record)
    return 0


def _given(flags: argparse.Namespace, kind: type) -> dict[str, Any]:
    """The fields of `kind` that the flags set."""
    values = {f.name: getattr(flags, f.name, None) for f in dataclasses.fields(kind)}
    return {name: value for name, value in values.items() if value is not None}


def _measured(run: str | None) -> dict[str, float]:
    """What a fleet run measured. Raises `UserError` where it is not there, or does not read."""
    if run is None:
        return {}
    path = Path(run).expanduser() / MEASURED
    remedy = "give the directory of a run that a fleet trained, or leave out --run and give the times by flags, such as --row-seconds"
    try:
        found = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"--run {run}: {path} cannot be read ({error.strerror}): {remedy}") from error
    except ValueError as error:
        raise UserError(f"--run {run}: {path} is no JSON: {remedy}") from error
    known = [f.name for f in dataclasses.fields(Service)]
    times = {k: v for k, v in found.items() if k in known and v is not None} if isinstance(found, dict) else {}
    wrong = [k for k, v in times.items() if isinstance(v, bool) or not isinstance(v, int | float)]
    if wrong or not times:
        problem = f"{wrong[0]} is {times[wrong[0]]!r}, no number" if wrong else f"has none of {', '.join(known)}"
        raise UserError(f"--run {run}: {path}: {problem}: {remedy}")
    return times


def _target(out: str) -> Path:
    """Where the picture goes; its directory is made. Raises `UserError` where it cannot be."""
    path = Path(out).expanduser().absolute()
    target = path if path.suffix == ".png" else path / PICTURE
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out} cannot be made: {error.strerror}: name a directory you may write to") from error
    return target
