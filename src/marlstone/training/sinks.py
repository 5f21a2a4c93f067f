"""A run's sinks while it trains: opened once nothing can refuse the run any more, closed with its record, or with how else it ended."""

import sys
import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from marlstone.config import RunConfig, dump
from marlstone.config.paths import recorded
from marlstone.runs.directory import RunDirectory
from marlstone.runs.sinks.contract import About, Ended, Sink
from marlstone.runs.sinks.follower import DEADLINE, Follower, names_of, title_of
from marlstone.training.callbacks import Callback, Moment

FLUSH = 5.0  # seconds of training after which sinks may see what was measured
STOPPED = 5.0  # seconds that sinks may take where a run is stopped, or has failed


@dataclass
class Sinks(Callback):
    """Which services are told of the run? None where it names none; then nothing here does anything."""

    followers: tuple[Follower, ...] = ()
    flushed: float = field(default_factory=time.monotonic)

    def begin(self, config: RunConfig, run: RunDirectory, since: int, say: Callable[[str], None]) -> None:
        """Start those of a run that begins (`since` -1), or goes on after step `since`. `say`: told of the first failure of each."""
        about = about_of(config, run, since)
        named = zip(config.sinks, names_of(config.sinks), strict=True)
        self.followers = tuple(Follower(sink, name, run, about, say) for sink, name in named)
        for follower in self.followers:
            follower.start()

    def updated(self, now: Moment) -> None:
        """Let sinks see what was measured, now and then."""
        if self.followers and time.monotonic() - self.flushed >= FLUSH:
            now.store.flush()
            self.flushed = time.monotonic()

    def closed(self, ended: Ended, record: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Each sink's line of the record, once it has all, or its time is over."""
        followers, self.followers = self.followers, ()
        until = time.monotonic() + (DEADLINE if ended == "finished" else STOPPED)
        for follower in followers:
            follower.ask(ended, record)
        return [follower.close(max(0.0, until - time.monotonic())) for follower in followers]


def exported(config: RunConfig, run: RunDirectory, sink: Sink, patience: float = 600.0) -> dict[str, Any]:
    """Send all that a run measured to one sink, with its record if it has ended; the sink's line of a record. A sink that has a part of it
    already goes on from there, or begins anew where it can forget. `patience`: seconds that it may take."""
    names = names_of([sink])
    warned = lambda text: print(f"warning: {text}", file=sys.stderr)
    follower = Follower(sink, names[0], run, about_of(config, run, -1), warned)
    follower.start()
    record = run.record()
    follower.ask("stopped" if record is None else "finished", record)
    return follower.close(patience)


def about_of(config: RunConfig, run: RunDirectory, since: int) -> About:
    """What sinks are told of a run: its configuration as `config.toml` has it, but for the sinks themselves."""
    shown = replace(config, sinks=())
    return About(title_of(run.path), run.path, recorded(shown, run.path), tomllib.loads(dump(shown)), config.all_seeds, since)
