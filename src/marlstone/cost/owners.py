"""Who holds a reservation: a process, by its number and when it began, so that a number used again is no mistake.

Whether a process is alive can be known from the same system and namespace of processes only. For one elsewhere (another container that
shares the file) a lease stands in: it is renewed while that process lives, and what it holds is never given away while the lease runs.
"""

import os
import platform
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True)
class Owner:
    """A process. `host`: the system it runs on, and its namespace of processes; `started`: when it began, as the system says it."""

    host: str
    pid: int
    started: str

    @classmethod
    def me(cls) -> "Owner":
        """This process."""
        return cls(here(), os.getpid(), started(os.getpid()) or "")

    @property
    def alive(self) -> bool | None:
        """Whether it still runs; None where that cannot be seen from here."""
        if self.host != here() or not self.started:
            return None
        return started(self.pid) == self.started


@cache
def here() -> str:
    """The boot of this system and the namespace in which its processes are numbered."""
    try:
        return f"{(PROC / 'sys/kernel/random/boot_id').read_text().strip()} {os.readlink(PROC / 'self/ns/pid')}"
    except OSError:
        return platform.node()


def started(pid: int) -> str | None:
    """When a process began, in the system's own words; None where there is none, or only what its parent has not collected yet."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None if (PROC / "self").exists() else _by_ps(pid)
    return None if fields[0] in "ZXx" else fields[19]


def _by_ps(pid: int) -> str | None:
    done = subprocess.run(["ps", "-o", "state=,lstart=", "-p", str(pid)], capture_output=True, text=True, timeout=10)
    state, _, since = done.stdout.strip().partition(" ")
    return since.strip() if since and not state.startswith("Z") else None
