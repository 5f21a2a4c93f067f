"""Idempotency keys: a call that was served is not done twice, however often its answer was lost on the way.

The caller sends one key with every attempt of a call (`Attempt.key`, header `Idempotency-Key`); the one who serves asks `Served`:

    served = Served()
    answer, again = served.once(key, lambda: charge(order), fingerprint=body_digest)

An attempt that arrives while the first is at work waits for it and gets its answer; a failure is not kept, so a retry does the work.

Source: IETF draft-ietf-httpapi-idempotency-key-header. Departure: a concurrent attempt waits, where the draft suggests status 409.
"""

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from math import inf
from typing import Any, TypeVar

from marlstone.cost.deadlines import Clock, DeadlinePassed, left

T = TypeVar("T")
HEADER = "Idempotency-Key"


class KeyReused(ValueError):
    """One idempotency key came with two different requests: the caller has to draw a key for each call."""


@dataclass
class _Entry:
    """One key: its request, its outcome as soon as there is one, and when that may be forgotten."""

    fingerprint: str | None
    outcome: Future[Any] = field(default_factory=Future)
    until: float = inf


class Served:
    """What was served, by key: thread-safe, in this process's memory.

    Args:
      ttl: seconds for which an answer is kept.
      most: answers kept at most; the oldest go first. Calls at work are never forgotten.
      clock: monotonic seconds.
    """

    def __init__(self, ttl: float = 3600.0, most: int = 10_000, clock: Clock = time.monotonic) -> None:
        if not ttl > 0 or most < 1:
            raise ValueError(f"Served(ttl={ttl}, most={most}): give seconds above 0, and 1 or more answers to keep")
        self.ttl, self.most, self.clock = ttl, most, clock
        self._lock = threading.Lock()
        self._working: dict[str, _Entry] = {}
        self._done: OrderedDict[str, _Entry] = OrderedDict()  # oldest first

    def __len__(self) -> int:
        with self._lock:
            return len(self._working) + len(self._done)

    def once(self, key: str, do: Callable[[], T], fingerprint: str | None = None) -> tuple[T, bool]:
        """`do()`, or what it returned under this key before; and whether it was that.

        `fingerprint`: a digest of the request, to notice a key that is used for another one. Raises `KeyReused` then, what `do` raises,
        and `DeadlinePassed` where the caller's deadline ends while another attempt is at work.
        """
        while True:
            entry, mine = self._claim(key, fingerprint)
            if mine:
                try:
                    answer = do()
                except BaseException:
                    self._failed(key, entry)
                    raise
                return self._succeeded(key, entry, answer), False
            try:
                outcome = entry.outcome.result(left())
            except TimeoutError as error:
                raise DeadlinePassed("another attempt with the same idempotency key is still at work") from error
            if outcome is not _FAILED:
                return outcome, True

    async def once_async(self, key: str, do: Callable[[], Awaitable[T]], fingerprint: str | None = None) -> tuple[T, bool]:
        """As `once`, for coroutines: waiting for another attempt gives way to other tasks."""
        while True:
            entry, mine = self._claim(key, fingerprint)
            if mine:
                try:
                    answer = await do()
                except BaseException:
                    self._failed(key, entry)
                    raise
                return self._succeeded(key, entry, answer), False
            try:
                outcome = await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(entry.outcome)), left())
            except TimeoutError as error:
                raise DeadlinePassed("another attempt with the same idempotency key is still at work") from error
            if outcome is not _FAILED:
                return outcome, True

    def _claim(self, key: str, fingerprint: str | None) -> tuple[_Entry, bool]:
        """The entry of a key, and whether it was made just now."""
        with self._lock:
            self._forget()
            entry = self._working.get(key) or self._done.get(key)
            if entry is None:
                entry = self._working[key] = _Entry(fingerprint)
                return entry, True
            if entry.fingerprint != fingerprint:
                raise KeyReused("an idempotency key was used for two different requests: draw a new key for each call")
            return entry, False

    def _failed(self, key: str, entry: _Entry) -> None:
        with self._lock:
            del self._working[key]
        entry.outcome.set_result(_FAILED)

    def _succeeded(self, key: str, entry: _Entry, answer: T) -> T:
        with self._lock:
            entry.until = self.clock() + self.ttl
            self._done[key] = self._working.pop(key)
            self._forget()
        entry.outcome.set_result(answer)
        return answer

    def _forget(self) -> None:
        """The oldest answers, of too many or after their time. With the lock held."""
        now = self.clock()
        while self._done and (len(self._done) > self.most or next(iter(self._done.values())).until <= now):
            self._done.popitem(last=False)


_FAILED = object()
