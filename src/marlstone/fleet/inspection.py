"""A fleet from outside: its status file, its processes' stacks, its size. Needs nothing of the fleet but its run directory."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from marlstone.core.errors import UserError
from marlstone.core.machine import is_alive, is_stopped, running
from marlstone.runs.directory import RunDirectory

STATUS, STACKS, SIZE, DUMP = "fleet/status.json", "fleet/stacks", "fleet/actors", "fleet/dump"


def status_of(run: RunDirectory) -> dict[str, Any]:
    """What the supervisor last wrote, with `alive`: whether it still runs. Raises `UserError` where there was never a fleet."""
    file = run.within(STATUS)
    if not file.is_file():
        raise UserError(f"run {run.path} has no fleet: start one with marlstone train --fleet local")
    status = json.loads(file.read_text())
    alive = not status.get("ended") and time.time() - status["written"] < 10 and is_alive(status["supervisor"])
    return status | {"alive": alive}


def ask_for(run: RunDirectory, actors: int) -> None:
    """Have a run's fleet go on with so many actors per seed. Raises `UserError` where none runs."""
    if actors < 1:
        raise UserError(f"--actors is {actors}: a fleet needs at least 1 per seed")
    if not status_of(run)["alive"]:
        raise UserError(f"the fleet of run {run.path} has ended: continue it with marlstone train --resume {run.path} --actors {actors}")
    run.write(SIZE, f"{actors}\n")


def asked_for(run: RunDirectory) -> int | None:
    """The last request of `ask_for`, if any."""
    file = run.within(SIZE)
    return int(file.read_text()) if file.is_file() else None


def dump_stacks(run: RunDirectory) -> Path:
    """Have every process of a run's fleet write its Python stacks; they end up in one file, whose path is returned. The supervisor is
    asked only for those on other machines: where it hangs, its own are the ones to read."""
    status = status_of(run)
    members = [m | {"stopped": m["pid"] is not None and m["node"] is None and is_stopped(m["pid"])} for m in status["members"]]
    if status["alive"]:
        members.insert(0, {"name": "supervisor", "pid": status["supervisor"], "doing": "supervising", "since_seconds": status["seconds"],
                           "node": None, "stopped": is_stopped(status["supervisor"])})  # fmt: skip
        run.write(DUMP, "")
    parts = []
    for m in members:
        where = f"process {m['pid']}" + (f" on {m['node']}" if m["node"] else "")
        if m["pid"] is None or m["doing"] == "starting" or (m["node"] is None and not _ours(m["pid"], status)):
            parts.append(f"== {m['name']}: {m['doing']}, no process to ask\n")
            continue
        text = _stacks(run.within(f"{STACKS}/{m['name']}.txt"), m["pid"] if m["node"] is None else None)
        note = " (stopped by a signal: it will answer when it goes on)" if m["stopped"] else ""
        parts.append(f"== {m['name']}, {where}, {m['doing']} since {m['since_seconds']:.1f} s{note}\n{text or 'no answer'}\n")
        for pid in _workers(m["pid"]) if m["node"] is None else ():
            file = run.within(f"{STACKS}/worker-{pid}.txt")
            text = _stacks(file, pid) if file.is_file() else ""  # without one it would not survive being asked
            parts.append(f"== {m['name']}'s worker, process {pid}\n{text or 'no answer'}\n")
    return run.write(f"fleet/stacks-{time.strftime('%Y%m%d-%H%M%S')}.txt", "\n".join(parts))


def _stacks(file: Path, pid: int | None) -> str:
    """What is added to a file within some seconds; by process `pid`, if it is on this machine."""
    size = lambda: file.stat().st_size if file.is_file() else 0
    before, asked, patience = size(), time.time(), 2.0 if pid is not None else 5.0
    if pid is not None:
        os.kill(pid, signal.SIGUSR1)
    elif before and asked - file.stat().st_mtime < 5.0:
        return file.read_text()  # it came while others were asked
    while time.time() < asked + patience and size() == before:
        time.sleep(0.02)
    told = before
    while told != (told := size()):  # until all is written
        time.sleep(0.05)
    return file.read_bytes()[before:].decode() if file.is_file() else ""


def _workers(pid: int) -> list[int]:
    """Worker processes that process `pid` started, as a learner does to judge its policy."""
    return sorted(p.pid for p in running() if p.parent == pid and "marlstone.rollout.worker_process" in p.command)


def _ours(pid: int, status: dict[str, Any]) -> bool:
    """Whether a process is one of a fleet's: SIGUSR1 would end any other."""
    return pid == status["supervisor"] or any("marlstone.fleet" in p.command for p in running(pid))
