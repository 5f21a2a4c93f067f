"""Ctrl-C (SIGINT) and SIGTERM: a command that keeps something ends orderly, others at once; a repeated request ends both at once.

Nothing here waits for compiled code: whatever takes long runs on a thread of its own (`interruptible`), and the main thread, which
alone handles signals, looks at it. `entry` leaves by `os._exit`, because such a thread may still be running.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from marlstone.core.interruptible import Abandoned, interruptible

SAME = 2.0  # seconds in which further signals are the same request: timeout(1), for one, signals a process and its group


class Interrupted(Exception):
    """The command was ended by a signal. `code`: its exit code, 128 and the signal's number; the message says how to go on."""

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        super().__init__(message)


class Stop:
    """Whether, and by which signal, an end was asked for. Called, it says whether; `code` is the exit code that belongs to it."""

    def __init__(self, message: str) -> None:
        self.message, self.number, self.at = message, 0, 0.0

    def __call__(self) -> bool:
        return bool(self.number)

    @property
    def code(self) -> int:
        """The exit code of a command that a signal ended: 128 and the signal's number."""
        return 128 + self.number

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """The first signal asks for an orderly end; one that comes later than `SAME` seconds ends at once."""
        if not self.number:
            self.number, self.at = number, time.monotonic()
            if self.message:
                print(self.message, file=sys.stderr, flush=True)
        elif time.monotonic() - self.at > SAME:
            print("stopped at once", file=sys.stderr, flush=True)
            os._exit(128 + number)  # processes of ours end with this one (`rollout.reaper`)


@contextlib.contextmanager
def orderly(message: str = "stopping after a checkpoint, within seconds; again to stop at once, without one") -> Iterator[Stop]:
    """Gives `stop`: whether the user (SIGINT) or the system (SIGTERM) has asked for an end. Handlers are put back on leaving."""
    stop = Stop(message)
    if threading.current_thread() is not threading.main_thread():
        yield stop  # signals are the main thread's
        return
    before = {number: signal.signal(number, stop.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ended_at_once(command: Callable[[], int]) -> int:
    """Run a command that has nothing to keep. Raises `Interrupted` as soon as an end is asked for, even in compiled code."""
    with orderly("") as stop:
        try:
            return interruptible(command, stop)
        except Abandoned:
            raise Interrupted(stop.code, "interrupted") from None
