"""A fleet from outside: its status file, its processes' stacks, its size. Needs nothing of the fleet but its run directory."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from marlstone.core.errors import UserError
from marlstone.runs.directory import RunDirectory

STATUS, STACKS, SIZE = "fleet/status.json", "fleet/stacks", "fleet/actors"


def status_of(run: RunDirectory) -> dict[str, Any]:
    """What the supervisor last wrote, with `alive`: whether it still runs. Raises `UserError` where there was never a fleet."""
    file = run.within(STATUS)
    if not file.is_file():
        raise UserError(f"run {run.path} has no fleet: start one with marlstone train --fleet local")
    said = json.loads(file.read_text())
    alive = not said.get("ended") and time.time() - said["written"] < 10 and Path(f"/proc/{said['supervisor']}").is_dir()
    return said | {"alive": alive}


def ask_for(run: RunDirectory, actors: int) -> None:
    """Have a run's fleet go on with so many actors per seed. Raises `UserError` where none runs."""
    if actors < 1:
        raise UserError(f"--actors is {actors}: a fleet needs at least 1 per seed")
    if not status_of(run)["alive"]:
        raise UserError(f"the fleet of run {run.path} has ended: continue it with marlstone train --resume {run.path} --actors {actors}")
    run.write(SIZE, f"{actors}\n")


def asked_for(run: RunDirectory) -> int | None:
    """What `ask_for` said last, if anything."""
    file = run.within(SIZE)
    return int(file.read_text()) if file.is_file() else None


def held(pid: int) -> bool:
    """Whether a process is stopped by a signal."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"
    except OSError:
        return False


def dump_stacks(run: RunDirectory) -> Path:
    """Have every process of a run's fleet write its Python stacks; they end up in one file, whose path is returned."""
    said = status_of(run)
    parts = []
    for m in said["members"]:
        if m["pid"] is None or not _ours(m["pid"]):
            parts.append(f"== {m['name']}: {m['doing']}, no process\n")
            continue
        file = run.within(f"{STACKS}/{m['name']}.txt")
        before = file.stat().st_size if file.is_file() else 0
        os.kill(m["pid"], signal.SIGUSR1)
        deadline = time.monotonic() + 2.0
        while time.monotonic() < deadline and (not file.is_file() or file.stat().st_size == before):
            time.sleep(0.02)
        time.sleep(0.05)
        text = file.read_text()[before:] if file.is_file() else ""
        note = " (stopped by a signal: it will answer when it goes on)" if held(m["pid"]) else ""
        parts.append(
            f"== {m['name']}, process {m['pid']}, {m['doing']} since {m['since_seconds']:.1f} s{note}\n{text or 'no answer within 2 s'}\n"
        )
    return run.write(f"fleet/stacks-{time.strftime('%Y%m%d-%H%M%S')}.txt", "\n".join(parts))


def _ours(pid: int) -> bool:
    """Whether a process is one of a fleet's: SIGUSR1 would end any other."""
    try:
        return b"marlstone.runtime.fleet" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
