"""TensorBoard's event files, written by tensorboardX: a folder per seed, a scalar per metric, against joint env steps of that seed.

Where a run goes on, the new file begins with TensorBoard's own mark of a restart (`SessionLog.START`), which has it forget what older files
hold from that step on: nothing is doubled.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar

from marlstone.runs.json_line import one_line
from marlstone.runs.sinks.contract import About, Ended, Sink, final_figures, returns_by_seed
from marlstone.runs.store import Point


@dataclass(frozen=True)
class TensorBoard(Sink):
    """`dir`: a folder in which every run gets one of its own; none: the run's own directory, `RUN/tensorboard`."""

    kind: ClassVar[str] = "tensorboard"
    package: ClassVar[str] = "tensorboardX"
    extra: ClassVar[str] = "tensorboard"
    rewinds: ClassVar[bool] = True
    dir: str | None = None

    def open(self, about: About) -> "TensorBoardWriter":
        """New event files, which go on after `about.since`."""
        return TensorBoardWriter(about.path / "tensorboard" if self.dir is None else Path(self.dir).expanduser() / about.name, about)


class TensorBoardWriter:
    """One run's event files below `folder`: `seed-K/` each seed's scalars; at the top the configuration, and in the end the record."""

    def __init__(self, folder: Path, about: About) -> None:
        from tensorboardX.event_file_writer import EventsWriter  # the synchronous one: errors are ours to see
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self.event, self.last = Event, max(about.since, 0)
        places: dict[int | None, Path] = {None: folder}
        places |= {seed: folder / f"seed-{seed}" for seed in about.seeds}
        self.files: dict[int | None, Any] = {}
        for seed, place in places.items():
            place.mkdir(parents=True, exist_ok=True)
            self.files[seed] = file = EventsWriter(str(place / "events"), f".{time.time_ns()}")
            restart = SessionLog(status=SessionLog.START)
            file.write_event(Event(wall_time=time.time(), step=about.since + 1, session_log=restart))
        self._text("config", "```toml\n" + about.toml + "```", about.since + 1)
        self._flush()

    def keep(self) -> dict[str, Any]:
        """Nothing: a run's files are found by its name."""
        return {}

    def write(self, points: Sequence[Point]) -> None:
        """One event per seed and step, with all its scalars."""
        for (seed, step), group in groupby(points, lambda p: (p.seed, p.step)):
            mine = list(group)
            self._scalars(seed, {p.name: p.value for p in mine}, step, mine[0].time)
            self.last = max(self.last, step)
        self._flush()

    def finish(self, record: Mapping[str, Any]) -> None:
        """The record as text, and its figures as scalars at the last step."""
        now = time.time()
        self._scalars(None, final_figures(record), self.last, now)
        for seed, value in returns_by_seed(record).items():
            if seed in self.files:
                self._scalars(seed, {"final/return": value}, self.last, now)
        self._text("record", "```json\n" + one_line(record) + "\n```", self.last)
        self._flush()

    def close(self, ended: Ended) -> None:
        """Close the files."""
        for file in self.files.values():
            file.close()

    def _scalars(self, seed: int | None, values: Mapping[str, float], step: int, when: float) -> None:
        from tensorboardX.proto.summary_pb2 import Summary

        summary = Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()])
        self.files[seed].write_event(self.event(wall_time=when, step=step, summary=summary))

    def _text(self, tag: str, text: str, step: int) -> None:
        from tensorboardX.summary import text as text_summary

        self.files[None].write_event(self.event(wall_time=time.time(), step=step, summary=text_summary(tag, text)))

    def _flush(self) -> None:
        for file in self.files.values():
            file.flush()
