"""What to expect of a fleet: both ways of coupling it, as asked and healthy, for one number of actors or for many."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from marlstone.fleet.scenario import MOST_ACTORS, Scenario, Service
from marlstone.fleet.simulate import EVENTS, SECONDS, simulate
from marlstone.runs.picture import saved

WAYS = ("asynchronous", "synchronous")
OCTAVES = range(-6, 3)
"""A picture goes from a 64th of the actors asked for to four times as many."""


def limit(service: Service, scenario: Scenario) -> float:
    """Steps per second of a learner that never waits."""
    return scenario.batch * scenario.length / service.update_seconds


def forecast(service: Service, scenario: Scenario, seconds: float = SECONDS, seed: int = 0, events: int = EVENTS) -> dict[str, Any]:
    """A record of both ways: each one's `Outcome`, with `healthy_steps_per_second` beside it."""
    record: dict[str, Any] = {"actors": scenario.actors, "learner_limit": limit(service, scenario)}
    for way in WAYS:
        run = lambda s, way=way: simulate(service, s, seconds, seed, synchronous=way == WAYS[1], events=events)
        found = run(scenario)
        healthy = found if scenario == scenario.healthy else run(scenario.healthy)
        record[way] = {**dataclasses.asdict(found), "healthy_steps_per_second": healthy.steps_per_second}
    return record


def sweep(service: Service, scenario: Scenario, asked: dict[str, Any], seconds: float, seed: int, events: int) -> Iterator[dict[str, Any]]:
    """Forecasts for fewer and for more actors, in order; `asked` is the one already there. Each gets a fifth of the events."""
    for octave in OCTAVES:
        actors = round(scenario.actors * 2.0**octave)
        if octave == 0:
            yield asked
        elif 1 <= actors <= MOST_ACTORS:
            yield forecast(service, dataclasses.replace(scenario, actors=actors), seconds, seed, max(events // 5, 1))


def draw(path: Path, records: list[dict[str, Any]], actors: int) -> Path:
    """Draw throughput against the number of actors, both ways, healthy and as asked, to a PNG at `path`, atomically."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, NullFormatter

    at = [r["actors"] for r in records]
    figure = Figure(figsize=(7.2, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for way, color in zip(WAYS, ("#1f77b4", "#d62728")):
        healthy = [r[way]["healthy_steps_per_second"] for r in records]
        found = [r[way]["steps_per_second"] for r in records]
        axes.plot(at, healthy, color=color, linestyle=":", linewidth=1.5, label=f"{way}, without stalls and deaths")
        axes.plot(at, [y or float("nan") for y in found], color=color, linewidth=2, marker="o", markersize=4, label=f"{way}, as asked")
    axes.axhline(records[0]["learner_limit"], color="0.5", linestyle="--", linewidth=1, label="what the learner can train")
    axes.axvline(actors, color="0.8", linewidth=1, zorder=0)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(at, [f"{n:,}" for n in at])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set(title=f"a fleet around {actors:,} actors, simulated", xlabel="actors", ylabel="steps trained per second")
    axes.grid(alpha=0.25)
    figure.legend(frameon=False, loc="outside lower center", ncols=2, fontsize="small")
    return saved(figure, path)
