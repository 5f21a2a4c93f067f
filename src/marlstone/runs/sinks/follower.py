"""Sends what a run's store holds to one sink, on a thread of its own: training writes to the store, as ever, and waits for no service.

The follower reads the store behind training and knows the last step that the service has, which it keeps in `RUN/sinks/NAME.json`. What a
service refuses stays in the store and is tried again: an outage loses nothing unless it lasts to the end, and nothing piles up in memory.

    cursor <- -1 of a new run, else the step kept       a sink that rewinds: min(kept, the step that the run resumes from)
    repeat    points of all steps beyond the cursor but the newest, which may lack some    -> write    -> cursor <- their last step
"""

import contextlib
import json
import os
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from marlstone.runs.directory import RunDirectory
from marlstone.runs.files import write_atomic
from marlstone.runs.sinks.contract import About, Ended, Sink, Writer, name_of
from marlstone.runs.store import Store

ANYTHING = (Exception, SystemExit)  # whatever a service's client raises is told and counted, and stops no training
LOOK = 5.0  # seconds between looks at the store: one takes about .3 ms of a core per seed and metric
BACKOFF = 1.0, 60.0  # seconds before a sink that failed is tried again: at first, and at most
DEADLINE = 15.0  # seconds that a sink may take at the end
EACH = 500  # points of one seed and metric that are read at once
SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD", re.IGNORECASE)
Say = Callable[[str], None]


@dataclass(frozen=True)
class Progress:
    """What `RUN/sinks/NAME.json` keeps: the last `step` that the service has, -1 for none, and what its writer asked to have kept."""

    step: int = -1
    kept: Mapping[str, Any] = field(default_factory=dict)


def redacted(text: str) -> str:
    """One line of a service's message, without passwords in addresses, and without the values of secret environment variables."""
    text = re.sub(r"://[^/\s@]+@", "://***@", " ".join(text.split()))
    for name, value in os.environ.items():
        if len(value) >= 8 and SECRET.search(name):
            text = text.replace(value, "***")
    return text[:300]


class Follower:
    """One sink of a run, from `start` to `close`."""

    def __init__(self, sink: Sink, name: str, run: RunDirectory, about: About, say: Say) -> None:
        """`name`: of its file; `about`: the run, `since` being the step that it resumes from, -1 for a new one; `say`: told of the first
        failure."""
        self.sink, self.name, self.run, self.say = sink, name, run, say
        self.file = run.path / "sinks" / f"{name}.json"
        known = _read(self.file)
        self.cursor = min(known.step, about.since) if sink.rewinds else known.step
        self.about = replace(about, kept=known.kept)
        self.written, self.failures, self.reason = 0, 0, ""
        self.writer: Writer | None = None
        self.ended: Ended | None = None
        self.record: Mapping[str, Any] | None = None
        self.done = self.concluded = False
        self.wake = threading.Event()
        self.thread = threading.Thread(target=self._follow, name=f"sink {name}", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self.thread.start()

    def ask(self, ended: Ended, record: Mapping[str, Any] | None = None) -> None:
        """Tell it that the run has `ended`, with the `record` of one that finished: nothing more will come into the store."""
        self.record, self.ended = record, ended
        self.wake.set()

    def close(self, deadline: float = DEADLINE) -> dict[str, Any]:
        """Wait until all is sent; what is not after `deadline` seconds is dropped. Returns the sink's line of a record: `name`, points
        `written` and `dropped`, and the `reason` where something was."""
        self.thread.join(deadline)
        with self.run.store() as store:
            dropped = store.count_after(self.cursor)
        if self.thread.is_alive():
            self.reason = self.reason or f"not done {deadline:.0f} s after the run's end"
        elif self.concluded and not dropped:
            self.reason = ""  # it failed for a while, and has everything now
        return {"name": self.name, "written": self.written, "dropped": dropped, "reason": self.reason}

    # ---- on its own thread
    def _follow(self) -> None:
        store: Store | None = None
        while not self.done:
            ended = self.ended  # before the store is read: what was flushed by then is all
            try:
                store = store or self.run.store()
                self._catch_up(store, whole=ended is not None)
                if ended is not None:
                    self._conclude(ended)
            except ANYTHING as error:
                self._failed(error)
                self.done = ended is not None and self.failures > 1  # one more try at the end
                if not self.done:
                    self._wait(min(BACKOFF[0] * 2 ** (self.failures - 1), BACKOFF[1]))
            else:
                if not self.done:
                    self._wait(LOOK)
        self._let_go()
        if store is not None:
            store.close()

    def _wait(self, seconds: float) -> None:
        if self.ended is None:
            self.wake.wait(seconds)
        else:
            time.sleep(min(seconds, BACKOFF[0]))

    def _catch_up(self, store: Store, whole: bool) -> None:
        """Send everything beyond the cursor; the newest step only if it is `whole`."""
        if self.writer is None:
            self.writer = self.sink.open(replace(self.about, since=self.cursor))
            self.about = replace(self.about, kept=self.writer.keep())
            self._keep()
        while points := store.after(self.cursor, EACH, newest=whole):
            self.writer.write(points)
            self.cursor = points[-1].step
            self.written += len(points)
            self.failures = 0
            self._keep()

    def _conclude(self, ended: Ended) -> None:
        assert self.writer is not None
        if self.record is not None:
            self.writer.finish(self.record)
        self.writer.close(ended)
        self.writer, self.done, self.concluded = None, True, True

    def _failed(self, error: BaseException) -> None:
        text = redacted(f"{type(error).__name__}: {error}")
        self.failures += 1
        if not self.reason:
            self.say(f"sink {self.name} does not take the run's figures ({text}); training goes on, and it is tried again")
        self.reason = text
        self._let_go()

    def _let_go(self) -> None:
        """Close a writer that failed; the next one goes on after the cursor."""
        writer, self.writer = self.writer, None
        if writer is not None:
            with contextlib.suppress(*ANYTHING):
                writer.close(self.ended or "stopped")

    def _keep(self) -> None:
        self.file.parent.mkdir(exist_ok=True)
        write_atomic(self.file, (json.dumps({"step": self.cursor, "kept": dict(self.about.kept)}) + "\n").encode())


def _read(file: Path) -> Progress:
    try:
        found = json.loads(file.read_text())
    except OSError:
        return Progress()
    return Progress(int(found["step"]), found["kept"])


def names_of(sinks: Sequence[Sink]) -> list[str]:
    """A name for each, numbered where there are several of a kind."""
    kinds = [name_of(sink) for sink in sinks]
    return [kind if kinds.count(kind) == 1 else f"{kind}-{kinds[: i + 1].count(kind)}" for i, kind in enumerate(kinds)]


def title_of(path: Path) -> str:
    """What people know a run by: its folder's name; within a selection or a sweep, that one's name before it."""
    for home in path.parents[:2]:
        if (home / "question.json").is_file():
            return str(path.relative_to(home.parent))
    return path.name
