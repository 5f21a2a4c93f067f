"""Where trajectories wait for the learner and weights for actors: bounded, counted, and alive when either of them dies.

It lives in the process that supervises the fleet and touches no socket: `serve` does. Every trajectory that was `accepted` is
counted exactly once as one of: waiting, in hand (with the learner, or trained since its last checkpoint), trained (within a
checkpoint), dropped (too stale when the learner took it), rolled back (in hand when a learner died).
"""

import threading
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Any

from marlstone.fleet.observable_lock import Lock
from marlstone.fleet.payload import Parcel, Weights

REMEMBERED = 4096  # sequence numbers below the highest that are still told apart from duplicates
WORDS = 1 << 24  # bytes of a frame beside its trajectories: a description of the environment, figures, error messages
GLANCE = 0.5  # seconds that a look waits for the lock
NOW = time.monotonic


@dataclass
class Counts:
    """Of one seed's trajectories, one per environment and unroll; `refused`: duplicates, damaged ones, others' shapes."""

    accepted: int = 0
    trained: int = 0
    dropped: int = 0
    rolled_back: int = 0
    refused: int = 0
    bytes: int = 0


@dataclass
class Channel:
    """One training seed's queue and weights."""

    capacity: int
    waiting: deque[tuple[float, Parcel]] = field(default_factory=deque)
    depth: int = 0  # trajectories in `waiting`
    in_hand: int = 0  # with the learner, whose fate is not reported yet
    unsaved: int = 0  # trained, but in no checkpoint yet
    unsaved_drops: int = 0
    counts: Counts = field(default_factory=Counts)
    weights: Weights | None = None
    published: float = 0.0
    putters: int = 0
    getter_since: float | None = None


class Broker:
    """Thread-safe. `capacity`: trajectories that may wait per seed; a parcel is accepted while there is room for one trajectory.
    `chunk_bytes`: the most that a trajectory has, as the learner declared; None before that."""

    def __init__(self, seeds: int, capacity: int) -> None:
        self.channels = [Channel(capacity) for _ in range(seeds)]
        self._seen: dict[tuple[int, int, int], tuple[int, set[int]]] = defaultdict(lambda: (-1, set()))
        self.chunk_bytes: int | None = None
        self.lock = Lock("trajectories and weights")
        self.changed = threading.Condition(self.lock)  # type: ignore[arg-type]
        self.moved = NOW()

    # ---- actors
    def most(self, envs: int) -> int:
        """Bytes of the largest frame that an actor of `envs` environments may send."""
        return WORDS + envs * (self.chunk_bytes or 0)

    def put(self, parcel: Parcel, patience: float) -> str:
        """`accepted`, `duplicate`, or after `patience` seconds without room `full`: ask again."""
        channel, deadline = self.channels[parcel.seed], NOW() + patience
        with self.changed:
            if self._known(parcel):
                channel.counts.refused += parcel.envs
                return "duplicate"
            channel.putters += 1
            try:
                while channel.depth >= channel.capacity:
                    if not self.changed.wait(deadline - NOW()) and NOW() >= deadline:
                        return "full"
                if self._known(parcel):  # its twin came while this one waited
                    channel.counts.refused += parcel.envs
                    return "duplicate"
            finally:
                channel.putters -= 1
            self._remember(parcel)
            channel.waiting.append((NOW(), parcel))
            channel.depth += parcel.envs
            channel.counts.accepted += parcel.envs
            channel.counts.bytes += parcel.bytes
            self._stir()
            return "accepted"

    def refuse(self, seed: int, trajectories: int) -> None:
        """Count trajectories that came damaged or in another shape."""
        with self.changed:
            self.channels[seed].counts.refused += trajectories

    def latest(self, seed: int, have: int, patience: float) -> Weights | None:
        """Weights newer than version `have`, waiting for them up to `patience` seconds; None: there are none."""
        deadline = NOW() + patience
        channel = self.channels[seed]
        with self.changed:
            while channel.weights is None or channel.weights.version == have:
                if NOW() >= deadline:
                    return None
                self.changed.wait(max(0.0, deadline - NOW()))
            return channel.weights

    # ---- learner
    def take(self, seed: int, patience: float) -> Parcel | None:
        """The oldest parcel, or None after `patience` seconds without one."""
        channel, deadline = self.channels[seed], NOW() + patience
        with self.changed:
            if channel.getter_since is None:
                channel.getter_since = NOW()
            while not channel.waiting:
                if NOW() >= deadline:
                    return None  # it waits on: it will ask again
                self.changed.wait(max(0.0, deadline - NOW()))
            channel.getter_since = None
            _, parcel = channel.waiting.popleft()
            channel.depth -= parcel.envs
            channel.in_hand += parcel.envs
            self._stir()
            return parcel

    def settle(self, seed: int, trained: int, dropped: int) -> None:
        """What became of trajectories in hand."""
        channel = self.channels[seed]
        with self.changed:
            channel.in_hand -= trained + dropped
            channel.unsaved += trained
            channel.unsaved_drops += dropped
            self._stir()

    def publish(self, seed: int, weights: Weights) -> None:
        """New weights of a training seed, for whoever asks next; they replace the old ones."""
        channel = self.channels[seed]
        with self.changed:
            channel.weights = weights
            channel.published = NOW()
            self._stir()

    def saved(self) -> None:
        """A checkpoint holds all that was trained so far: it cannot be rolled back any more."""
        with self.changed:
            for channel in self.channels:
                channel.counts.trained += channel.unsaved
                channel.counts.dropped += channel.unsaved_drops
                channel.unsaved = channel.unsaved_drops = 0

    def rollback_lost(self) -> int:
        """The learner died: what it had in hand, and had trained since its last checkpoint, is rolled back. Returns how much."""
        with self.changed:
            lost = 0
            for channel in self.channels:
                gone = channel.in_hand + channel.unsaved
                channel.counts.rolled_back += gone
                channel.counts.dropped += channel.unsaved_drops
                channel.in_hand = channel.unsaved = channel.unsaved_drops = 0
                channel.getter_since = None
                lost += gone
            self._stir()
            return lost

    # ---- status
    def facts(self) -> list[dict[str, Any]]:
        """Per seed: counts, depth, capacity, age of the oldest waiting trajectory, version, who waits. Where the lock is not to be had, as
        things stand: status must not hang on what it should show."""
        mine, now = self.lock.acquire(timeout=GLANCE), NOW()
        try:
            return [
                {
                    **vars(c.counts), "in_hand": c.in_hand, "unsaved": c.unsaved, "depth": c.depth, "capacity": c.capacity,
                    "oldest_seconds": now - c.waiting[0][0] if c.waiting else 0.0,
                    "version": c.weights.version if c.weights else -1,
                    "published_seconds_ago": now - c.published if c.published else None,
                    "actors_waiting_for_room": c.putters,
                    "learner_waiting_seconds": None if c.getter_since is None else now - c.getter_since,
                }
                for c in self.channels
            ]  # fmt: skip
        finally:
            if mine:
                self.lock.release()

    def still(self) -> float:
        """Seconds since anything moved."""
        return NOW() - self.moved

    def _stir(self) -> None:
        self.moved = NOW()
        self.changed.notify_all()

    def _known(self, parcel: Parcel) -> bool:
        highest, seen = self._seen[parcel.name[:3]]
        return parcel.seq in seen or parcel.seq <= highest - REMEMBERED

    def _remember(self, parcel: Parcel) -> None:
        highest, seen = self._seen[parcel.name[:3]]
        highest = max(highest, parcel.seq)
        seen.add(parcel.seq)
        if len(seen) > 2 * REMEMBERED:
            seen = {s for s in seen if s > highest - REMEMBERED}
        self._seen[parcel.name[:3]] = highest, seen
