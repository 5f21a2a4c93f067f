"""Ctrl-C: the first asks for a checkpoint and an orderly end, the second ends at once."""

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def orderly() -> Iterator[Callable[[], bool]]:
    """Gives `stop()`: whether the user (SIGINT) or the system (SIGTERM) has asked for an end. Handlers are put back on leaving."""
    asked: list[int] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        print("stopping after a checkpoint; Ctrl-C again to stop at once, without one", file=sys.stderr, flush=True)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
