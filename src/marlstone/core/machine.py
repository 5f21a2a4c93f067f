"""The machine we run on: its cores, its memory, and other processes on it. Linux by /proc and cgroups, elsewhere (macOS) by POSIX."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Process:
    """A process: `state` is one letter as `ps` shows it (T or t: stopped by a signal), `command` its whole command line."""

    pid: int
    parent: int
    state: str
    command: str


def cores() -> list[int]:
    """Numbers of the cores that this process may use. Where processes are not tied to cores (macOS), all there are."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def memory() -> int:
    """Bytes that are free, within the limit of the container this process is in, if there is one. Where the system does not report what
    is free: all there is."""
    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = 1024 * int(lines["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        pass
    for limit, used in (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")):
        try:
            left = int((CGROUP / limit).read_text()) - int((CGROUP / used).read_text())
        except (OSError, ValueError):  # no such group, or no limit ("max")
            continue
        free = min(free, max(left, 0))
    return free


def pin_to_core(core: int) -> None:
    """Tie this process to one core, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})


def is_alive(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal; False where that cannot be known."""
    return any(p.state[:1] in ("T", "t") for p in running(pid))


def running(pid: int | None = None) -> Iterator[Process]:
    """All processes that can be seen, or only `pid`: from /proc, or by `ps` where there is none. Nothing where neither is there."""
    return _in_proc(pid) if (PROC / "self").exists() else _by_ps(pid)


def _in_proc(pid: int | None) -> Iterator[Process]:
    for folder in PROC.iterdir() if pid is None else [PROC / str(pid)]:
        if not folder.name.isdigit():
            continue
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:  # it has ended meanwhile
            continue
        yield Process(int(folder.name), int(parent), state, command)


def _by_ps(pid: int | None) -> Iterator[Process]:
    which = ["-A"] if pid is None else ["-p", str(pid)]
    try:
        done = subprocess.run(
            ["ps", *which, "-ww", "-o", "pid=,ppid=,state=,command="], capture_output=True, text=True, errors="replace", timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return
    for line in done.stdout.splitlines():
        fields = line.split(None, 3)
        if len(fields) >= 3 and fields[0].isdigit() and fields[1].isdigit():
            yield Process(int(fields[0]), int(fields[1]), fields[2], fields[3] if len(fields) == 4 else "")
