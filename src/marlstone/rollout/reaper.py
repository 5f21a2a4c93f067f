"""Process groups end with the process that started them, however it ends: by itself, by a crash, by kill -9.

What has just been killed can clean up nothing, so a small process of its own session does: it reads from a pipe whose only writer is
the process it watches, keeps the list of groups that are alive, and kills them when the pipe closes. Works wherever POSIX does.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading

PROGRAM = """
import os, signal
if os.fork():
    os._exit(0)
os.setsid()
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
groups, rest = set(), b""
while data := os.read(0, 4096):
    *lines, rest = (rest + data).split(b"\\n")
    for line in lines:
        (groups.add if line[:1] == b"+" else groups.discard)(int(line[1:]))
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except OSError:
        pass
"""
"""The watching process. It forks once more, so that it is nobody's child: who kills a process's children does not kill it."""


def kill_group(group: int) -> None:
    """Kill every process of a group; none may be left."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: PermissionError where only zombies are left
        os.killpg(group, signal.SIGKILL)


class Reaper:
    """This process's list of the process groups that must end with it. The watching process starts with the first group."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pipe: int | None = None
        self._groups: set[int] = set()

    def add(self, group: int) -> None:
        """From now on `group` ends with this process."""
        with self._lock:
            self._groups.add(group)
            if self._pipe is None or not self._write(f"+{group}\n"):
                self._start()

    def discard(self, group: int) -> None:
        """`group` has ended."""
        with self._lock:
            self._groups.discard(group)
            if self._pipe is not None and not self._write(f"-{group}\n"):
                self._pipe = None  # it was killed: the next group starts another

    def forget(self) -> None:
        """In a forked copy of this process: the groups are the original's."""
        if self._pipe is not None:
            os.close(self._pipe)
        self.__init__()  # type: ignore[misc]

    def _start(self) -> None:
        theirs, ours = os.pipe()
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", PROGRAM], stdin=theirs, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(theirs)
        process.wait()
        self._pipe = ours
        self._write("".join(f"+{group}\n" for group in self._groups))

    def _write(self, text: str) -> bool:
        assert self._pipe is not None
        try:
            os.write(self._pipe, text.encode())
        except BrokenPipeError:
            os.close(self._pipe)
            self._pipe = None
            return False
        return True


REAPER = Reaper()
os.register_at_fork(after_in_child=REAPER.forget)
