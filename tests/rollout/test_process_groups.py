"""What environments start (simulators) ends with the process that steps them, and that with the command, however each of them ends."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from marlstone.envs.guards import Guards
from marlstone.rollout.process import Child
from marlstone.rollout.reaper import REAPER, kill_group
from marlstone.rollout.worker_pool import Workers
from tests.rollout.test_workers import gone, roll, until

SIMULATORS = '''
import os, subprocess, sys, time
from pathlib import Path
sys.path.insert(0, {examples!r})
from host_examples import Toy

class Env(Toy):
    """Two processes of its own, one started by a shell that ignores signals; it never ends them. Fails as it is told to."""

    def __init__(self, log, fault="none", at=2):
        super().__init__(fault=fault, at=at, length=50)
        script = "trap '' TERM INT HUP; sleep 1000 & echo $!; wait"
        shell = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True)
        with open(log, "a") as file:
            file.write(f"{{shell.pid}} {{shell.stdout.readline()}}")

def make(**options):
    return Env(**options)
'''


@pytest.fixture
def simulators(tmp_path: Path):
    """The name of an environment that starts processes, and those it has started so far."""
    file, log = tmp_path / "simulators.py", tmp_path / "log"
    file.write_text(SIMULATORS.format(examples=str(Path(__file__).parents[1] / "envs")))
    log.touch()
    return lambda **options: f"{file}:make?log={log}" + "".join(f"&{k}={v}" for k, v in options.items()), lambda: [
        int(x) for x in log.read_text().split()
    ]


@pytest.mark.parametrize("fault", ["none", "hang", "exit", "raise"])
def test_simulators_end_with_their_workers(simulators, fault) -> None:
    name, started = simulators
    with Workers(name(fault=fault), 2, guards=Guards(timeout=0.5), num_workers=2) as w:
        roll(w, 3)
        lost = started()[:4]
        assert fault in ("none", "raise") or until(lambda: all(gone(p) for p in lost)), "a worker was replaced, its simulators are alive"
    assert len(started()) == (4 if fault == "none" else 8)
    assert until(lambda: all(gone(p) for p in started()))


@pytest.mark.parametrize(
    ("state", "how"),
    [
        ("idle", signal.SIGKILL), ("hang", signal.SIGTERM), ("spin", signal.SIGKILL),
        *(pytest.param(*x, marks=pytest.mark.slow) for x in (("idle", signal.SIGTERM), ("hang", signal.SIGKILL), ("spin", signal.SIGTERM))),
    ],
)  # fmt: skip
def test_simulators_end_with_the_command(simulators, state, how) -> None:
    name, started = simulators
    code = f"""
        import time, numpy as np
        from marlstone.rollout.worker_pool import Workers
        w = Workers({name(fault="none" if state == "idle" else state, at=2)!r}, 2)  # the first step is the probe's too
        w.init([1, 2])
        w.step(None, (np.zeros((2, 2), np.int32),))
        w.send((np.zeros((2, 2), np.int32),))
        print("begun", flush=True)
        time.sleep(60)
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, env=environment) as command:
        command.stdout.readline()
        assert len(started()) == 4 and not any(gone(p) for p in started())
        command.send_signal(how)
    assert until(lambda: all(gone(p) for p in started()))


def test_a_reaper_that_was_killed_is_replaced() -> None:
    """Nobody needs to notice: the next group that is added brings another, which knows the groups from before too."""
    code = """
        import os, subprocess, sys, time
        from marlstone.rollout.reaper import REAPER, PROGRAM
        start = lambda: subprocess.Popen(["sleep", "1000"], start_new_session=True).pid
        one = start(); REAPER.add(one)
        reapers = lambda: [int(p) for p in os.listdir("/proc") if p.isdigit() and PROGRAM.encode() in cmdline(p)]
        def cmdline(p):
            try: return open(f"/proc/{p}/cmdline", "rb").read()
            except OSError: return b""
        mine = [p for p in reapers() if os.stat(f"/proc/{p}/fd/0").st_ino == os.fstat(REAPER._pipe).st_ino]
        assert len(mine) == 1
        os.kill(mine[0], 9)
        while os.path.exists(f"/proc/{mine[0]}"): time.sleep(0.01)
        two = start(); REAPER.add(two)
        print(one, two, flush=True)
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    groups = [int(x) for x in done.stdout.split()]
    assert len(groups) == 2 and until(lambda: all(gone(p) for p in groups))


def test_a_forked_copy_of_the_command_holds_nothing_back() -> None:
    """A copy made by fork has the reaper's pipe too; it lets go of it, and a group that the command gave up is not killed."""
    ours, given_up = (subprocess.Popen(["sleep", "1000"], start_new_session=True) for _ in range(2))
    code = f"""
        import os, sys, time
        from marlstone.rollout.reaper import REAPER
        REAPER.add({ours.pid}); REAPER.add({given_up.pid}); REAPER.discard({given_up.pid})
        if os.fork() == 0:
            os.close(1); os.close(2)
            time.sleep(20)
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, env=environment)
    try:
        assert ours.wait(10) == -signal.SIGKILL and given_up.poll() is None
    finally:
        given_up.kill()
        given_up.wait()


def test_an_ended_child_is_not_killed_twice() -> None:
    """Its number may be another's by then."""
    child = Child("time:sleep", threads=None)
    assert child.process.pid in REAPER._groups
    child.end()
    assert child.process.pid not in REAPER._groups and child.end() == -signal.SIGKILL
    kill_group(child.process.pid)  # no such group: no error
