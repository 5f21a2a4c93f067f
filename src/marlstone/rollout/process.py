"""Processes of ours: how they are started, and ended with all that they started themselves."""

import os
import socket
import subprocess
import sys
import time

from marlstone.rollout import boot, messages
from marlstone.rollout.reaper import REAPER, kill_group

CLOSING = 2.0  # seconds that environments may take to close, all together


WORKER = "marlstone.rollout.worker_process:serve"


class Child:
    """One process of ours and the socket to it. It leads a session, and so a process group, of its own: what it starts, simulators above
    all, ends with it, and both end with this process, however that ends (`reaper`).

    Args:
      program: the function that it runs, `module:name` (`boot`), with the descriptor of the socket as the first number.
      keep: descriptors it inherits, the next numbers.
      more: the last numbers.
      threads: how many NumPy's products may use (None: all).
      theirs: its end of a connection made elsewhere; then ours is not kept here.
    """

    def __init__(
        self,
        program: str,
        keep: tuple[int, ...] = (),
        more: tuple[int, ...] = (),
        threads: int | None = 1,
        theirs: socket.socket | None = None,
    ) -> None:
        ours = None
        if theirs is None:
            ours, theirs = socket.socketpair()
        paths = [os.path.abspath(p) for p in sys.path]
        few = {} if threads is None else dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
        environment = {**os.environ, **few, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", boot.__name__, program, *map(str, (theirs.fileno(), *keep, *more))],
                pass_fds=(theirs.fileno(), *keep),
                env=environment,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        REAPER.add(self.process.pid)  # before anything is asked of it: until then it starts nothing
        self._link, self._over = ours, False

    @property
    def link(self) -> socket.socket:
        """Our end of the connection that was made for it."""
        assert self._link is not None
        return self._link

    def end(self, patience: float = 0.0) -> int | None:
        """End it and its group, killing both after `patience` seconds; its exit status before we did, if it had one."""
        status = self.process.poll()
        if self._over:  # its number may be another's by now
            return status
        self._over = True
        if status is None and patience:
            try:
                status = self.process.wait(patience)
            except subprocess.TimeoutExpired:
                status = None
        kill_group(self.process.pid)
        self.process.wait()
        REAPER.discard(self.process.pid)
        if self._link is not None:
            self._link.close()
        return status


class WorkerProcess(Child):
    """Steps the environments `low` to `high - 1`, in `memory`."""

    def __init__(self, low: int, high: int, memory: int) -> None:
        self.low, self.high = low, high
        super().__init__(WORKER, (memory,))


def end_workers(processes: list[WorkerProcess], descriptors: list[int]) -> None:
    """End all processes and release the memory; what `close`, the garbage collector and the end of Python all come to."""
    for p in processes:
        try:
            messages.send(p.link, messages.QUIT)
        except (messages.Closed, OSError):
            continue  # it has gone already
    until = time.monotonic() + CLOSING
    for p in processes:
        p.end(patience=max(0.0, until - time.monotonic()))
    processes.clear()
    for fd in descriptors:
        os.close(fd)
    descriptors.clear()
