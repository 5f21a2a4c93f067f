"""The machine, on systems that lack what Linux has: no affinity of processes to cores, no /proc."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from marlstone.core import machine
from marlstone.core.machine import cores, is_alive, is_stopped, pin_to_core, running
from marlstone.runs.versions import versions

AS_ON_MACOS = """
import os, sys
for name in ("sched_getaffinity", "sched_setaffinity", "memfd_create"):
    if hasattr(os, name):
        delattr(os, name)
"""


def python(code: str, **more: Any) -> Any:
    return subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, **more)


def until(condition: Any, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return bool(condition())


def test_cores_without_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sched_getaffinity", "sched_setaffinity"):
        monkeypatch.delattr(os, name, raising=False)
    assert cores() == list(range(os.cpu_count() or 1)) and versions()["machine"]["cores"] == os.cpu_count()
    pin_to_core(0)


def test_jax_and_workers_start_without_what_only_linux_has() -> None:
    """Cores are prepared, and worker processes step environments in a temporary file."""
    code = (
        AS_ON_MACOS
        + """
import json, jax, numpy as np
from marlstone.rollout.placement import prepare
prepare()
from marlstone.rollout.worker_pool import Workers
with Workers("tests/envs/host_examples.py:toy", 2, num_workers=1) as env:
    _, step = env.init(jax.random.split(jax.random.key(0), 2))
    print(json.dumps([jax.local_device_count(), bool(np.asarray(step.first).all())]))
"""
    )
    with python(code, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as process:
        out, _ = process.communicate(timeout=120)
    assert json.loads(out) == [os.cpu_count(), True]


@pytest.mark.parametrize("proc", [True, False], ids=["proc", "ps"])
def test_processes_are_seen_either_way(proc: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if not proc:
        monkeypatch.setattr(machine, "PROC", tmp_path)
    with python("import time; time.sleep(60)  # marlstone.rollout.worker_process") as child:
        try:
            (found,) = [p for p in running() if p.pid == child.pid]
            assert found.parent == os.getpid() and "marlstone.rollout.worker_process" in found.command
            assert is_alive(child.pid) and not is_stopped(child.pid)
            child.send_signal(signal.SIGSTOP)
            assert until(lambda: is_stopped(child.pid))
        finally:
            child.kill()
    assert not is_alive(child.pid) and not is_stopped(child.pid) and not list(running(child.pid))


def test_nothing_is_known_of_processes_without_proc_and_ps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "PROC", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert list(running()) == [] and not is_stopped(os.getpid()) and is_alive(os.getpid())
