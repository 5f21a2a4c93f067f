"""What a sink is: a frozen dataclass that opens a writer for a run. What a writer is told, it is told in this order:

    open(about)      the run: its name, folder, configuration and seeds, and after which step points follow
    write(points)    again and again: figures of the store, steps ascending, each step whole; on return the service has them
    finish(record)   the record of a run that ended well
    close(ended)     always

All of it happens on one thread of the sink's own, so a slow service keeps nobody waiting. An exception from any of these closes the writer;
another is opened later, and goes on after the last step that `write` returned from.
"""

import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from marlstone.core.errors import UserError
from marlstone.runs.store import Point

Ended = Literal["finished", "stopped", "failed"]
"""How a run ended: with its record, by whoever asked it to stop, or by an error."""


@dataclass(frozen=True)
class About:
    """The run whose figures a writer is opened for.

    Fields: `name`, by which people find it; `path`, its directory; `toml` and `config`, how it was configured, as text and as a nested
    mapping of plain values; `seeds`, its training seeds, a series each; `since`, the joint env step (per seed) after which points follow,
    -1: all of them; `kept`, what an earlier writer of this run and sink had to `keep`.
    """

    name: str
    path: Path
    toml: str
    config: Mapping[str, Any]
    seeds: tuple[int, ...]
    since: int = -1
    kept: Mapping[str, Any] = field(default_factory=dict)


class Writer(Protocol):
    """An open connection to a service, for one run. Raises whatever its service raises."""

    def keep(self) -> dict[str, Any]:
        """By what the run is found again when it goes on, as JSON; asked once it is open. No secrets: it lies in the run's directory."""

    def write(self, points: Sequence[Point]) -> None:
        """Hand over points, all figures of each of their steps, and wait until the service, or the disk, has them."""

    def finish(self, record: Mapping[str, Any]) -> None:
        """Hand over the record of `marlstone train --json`; `record["policy"]` are the folders of the policies."""

    def close(self, ended: Ended) -> None:
        """Let go of everything."""


class Sink:
    """A service that figures of runs are sent to. Derive a frozen dataclass whose fields are its options, and write `open`.

    `package`: what is imported when it is opened, and `extra`, the extra of this package that installs it; `rewinds`: whether a writer
    opened with `since` forgets what the service has after that step. Where it cannot, steps that were sent once are not sent again.
    """

    kind: ClassVar[str]
    package: ClassVar[str] = ""
    extra: ClassVar[str] = ""
    rewinds: ClassVar[bool] = False

    def check(self) -> None:
        """Before anything trains: raises `UserError` where a package, or what else cannot be had later, is missing."""
        if self.package and importlib.util.find_spec(self.package) is None:
            install = f"pip install 'marlstone[{self.extra}]'" if self.extra else f"install {self.package}"
            raise UserError(f"sink {name_of(self)} needs the package {self.package}, which is not installed: {install}")

    def open(self, about: About) -> Writer:
        """A writer for a run; connects to the service."""
        raise NotImplementedError(f"{type(self).__name__} lacks open(about): see marlstone.runs.sinks.contract")


def name_of(sink: Sink) -> str:
    """What a sink is called in messages and records."""
    return getattr(type(sink), "kind", type(sink).__name__)


def check_all(sinks: Sequence[Sink]) -> None:
    """Refuse sinks that could never be opened. Raises `UserError`."""
    for sink in sinks:
        sink.check()


def final_figures(record: Mapping[str, Any]) -> dict[str, float]:
    """A record's figures over all seeds, by name: what services show of a run that is done."""
    names = ("return_iqm", "return_worst_seed", "steps_per_second", "share_of_limit", "wall_seconds", "messages_per_step", "bits_per_step")
    low, high = record.get("return_ci95") or (None, None)
    found = {name: record.get(name) for name in names} | {"return_ci95_low": low, "return_ci95_high": high}
    found |= {f"metric/{k}": v for k, v in (record.get("true_metrics") or {}).items()}
    return {f"final/{k}": float(v) for k, v in found.items() if v is not None and math.isfinite(v)}


def returns_by_seed(record: Mapping[str, Any]) -> dict[int, float]:
    """Each seed's final return, where there is one."""
    pairs = zip(record.get("seeds") or (), record.get("returns") or (), strict=False)
    return {int(seed): float(value) for seed, value in pairs if value is not None and math.isfinite(value)}


def flat(config: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """A nested configuration by dotted fields: `{"learner.lr": 1e-3}`."""
    out: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            out |= flat(value, f"{above}{key}.")
        else:
            out[f"{above}{key}"] = value
    return out
