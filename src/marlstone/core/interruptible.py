"""Work that no signal can interrupt, such as compiled code, on a thread of its own, so that its caller can be interrupted."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")
LOOK = 0.2  # seconds between looks at whether to stop


class Abandoned(RuntimeError):
    """Work was left unfinished: an end was asked for. Its thread may run on until the process ends."""


def interruptible(work: Callable[[], T], stop: Callable[[], bool], patience: float = 0.0) -> T:
    """`work()`; whatever it raises is raised here. Signal handlers run meanwhile, if this is the main thread.

    Raises `Abandoned` where `stop()`, asked now and then in this thread, says True and the work then takes longer than `patience` seconds.
    A process whose work was abandoned must end by `os._exit`: Python cannot end threads that are in compiled code.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True, name="interruptible").start()
    deadline: float | None = None
    while True:
        try:
            return outcome.result(LOOK)
        except TimeoutError:
            if outcome.done():
                return outcome.result()  # its own TimeoutError, or it ended just now
        if deadline is None and stop():
            deadline = time.monotonic() + patience
        if deadline is not None and time.monotonic() >= deadline:
            raise Abandoned("left unfinished")
