"""A CSV file, `seed,step,name,value,time`: for spreadsheets, and for programs that read nothing else."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from marlstone.runs.files import write_atomic
from marlstone.runs.json_line import one_line
from marlstone.runs.sinks.contract import About, Ended, Sink
from marlstone.runs.store import Point

HEAD = ("seed", "step", "name", "value", "time")


@dataclass(frozen=True)
class Csv(Sink):
    """`metrics.csv` and, of a run that ended well, `record.json`. `dir`: a folder in which every run gets one of its own; none: the run's
    own directory, `RUN/csv`."""

    kind: ClassVar[str] = "csv"
    rewinds: ClassVar[bool] = True
    dir: str | None = None

    def open(self, about: About) -> "CsvWriter":
        """The run's file, without what lies after `about.since`."""
        return CsvWriter(about.path / "csv" if self.dir is None else Path(self.dir).expanduser() / about.name, about.since)


class CsvWriter:
    """One run's CSV file in `folder`, which goes on after step `since`."""

    def __init__(self, folder: Path, since: int) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "metrics.csv"
        if file.is_file() and since >= 0:
            lines = file.read_text().splitlines(keepends=True)
            whole = [line for line in lines[1:] if line.endswith("\n") and int(line.split(",", 2)[1]) <= since]
            write_atomic(file, "".join([*lines[:1], *whole]).encode())
        else:
            write_atomic(file, (",".join(HEAD) + "\n").encode())
        self.out = file.open("a", newline="")
        self.rows = csv.writer(self.out, lineterminator="\n")

    def keep(self) -> dict[str, Any]:
        """Nothing: a run's file is found by its name."""
        return {}

    def write(self, points: Sequence[Point]) -> None:
        """Append a line per point."""
        self.rows.writerows((p.seed, p.step, p.name, "" if p.value != p.value else repr(p.value), f"{p.time:.3f}") for p in points)
        self.out.flush()

    def finish(self, record: Mapping[str, Any]) -> None:
        """Write the record beside it."""
        write_atomic(self.folder / "record.json", (one_line(record) + "\n").encode())

    def close(self, ended: Ended) -> None:
        """Close the file."""
        self.out.close()
