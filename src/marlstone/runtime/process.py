"""Processes of ours: how they are started, tied to this process, and ended."""

import os
import socket
import subprocess
import sys

from marlstone.runtime import wire

BOOT = """
from marlstone.core import records
records.PYTREES = False
from marlstone.runtime.worker import serve
serve({link}, {memory}, {lifeline})
"""


class Child:
    """One process of ours, the socket to it, and the lifeline: a pipe whose closing, by whatever cause, ends it.

    `boot`: the Python it runs, in which `{link}` and `{lifeline}` stand for its descriptors; `keep`: descriptors it inherits;
    `threads`: how many NumPy's products may use (None: all). `theirs`: its end of a connection made elsewhere; then ours is not kept here.
    """

    def __init__(self, boot: str, keep: tuple[int, ...] = (), threads: int | None = 1, theirs: socket.socket | None = None) -> None:
        self.hold: int | None
        lifeline, self.hold = os.pipe()
        ours = None
        if theirs is None:
            ours, theirs = socket.socketpair()
        paths = [os.path.abspath(p) for p in sys.path]
        few = {} if threads is None else dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
        environment = {**os.environ, **few, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", boot.format(link=theirs.fileno(), lifeline=lifeline)],
                pass_fds=(theirs.fileno(), lifeline, *keep),
                env=environment,
                stdin=subprocess.DEVNULL,
            )
        os.close(lifeline)
        self._link = ours

    @property
    def link(self) -> socket.socket:
        """Our end of the connection that was made for it."""
        assert self._link is not None
        return self._link

    def end(self, patience: float = 0.0) -> int | None:
        """End it, killing it after `patience` seconds; its exit status before we did, if it had one."""
        status = self.process.poll()
        if status is None and patience:
            try:
                status = self.process.wait(patience)
            except subprocess.TimeoutExpired:
                status = None
        if status is None:
            self.process.kill()
            self.process.wait()
        if self._link is not None:
            self._link.close()
        if self.hold is not None:
            os.close(self.hold)
            self.hold = None
        return status


class WorkerProcess(Child):
    """Steps the environments `low` to `high - 1`, in `memory`."""

    def __init__(self, low: int, high: int, memory: int) -> None:
        self.low, self.high = low, high
        super().__init__(BOOT.replace("{memory}", str(memory)), (memory,))


def shut(processes: list[WorkerProcess], descriptors: list[int]) -> None:
    """End all processes and release the memory; what `close`, the garbage collector and the end of Python all come to."""
    for p in processes:
        try:
            wire.tell(p.link, wire.QUIT)
        except (wire.Closed, OSError):
            continue  # it has gone already
    for p in processes:
        p.end(patience=2.0)
    processes.clear()
    for fd in descriptors:
        os.close(fd)
    descriptors.clear()
