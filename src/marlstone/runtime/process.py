"""One worker process: how it is started without JAX, tied to this process, and ended."""

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


class WorkerProcess:
    """One worker process, the socket to it, and the lifeline: a pipe whose closing, by whatever cause, ends it."""

    def __init__(self, low: int, high: int, memory: int) -> None:
        self.low, self.high = low, high
        self.hold: int | None
        lifeline, self.hold = os.pipe()
        ours, theirs = socket.socketpair()
        boot = BOOT.format(link=theirs.fileno(), memory=memory, lifeline=lifeline)
        paths = [os.path.abspath(p) for p in sys.path]
        single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        environment = {**os.environ, **single, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", boot],
                pass_fds=(theirs.fileno(), memory, lifeline),
                env=environment,
                stdin=subprocess.DEVNULL,
            )
        os.close(lifeline)
        self.link = ours

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
        self.link.close()
        if self.hold is not None:
            os.close(self.hold)
            self.hold = None
        return status


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
