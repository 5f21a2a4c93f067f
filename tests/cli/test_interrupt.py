"""Ctrl-C and SIGTERM, by whole commands in processes of their own: an orderly end whatever they are in, and how to go on."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from marlstone.core.interruptible import Abandoned, interruptible
from marlstone.runs.checkpoint import listed, newest, step_of

SLOW_HOST = '''
import os, sys, time
sys.path.insert(0, {examples!r})
from host_examples import Toy

class Env(Toy):
    """Its steps take for ever once there is a file `slow`."""

    def step(self, actions):
        while os.path.exists({slow!r}):
            time.sleep(0.05)
        return super().step(actions)

def make():
    return Env(length=3)
'''
SLOW_JAX = '''
import os, time
from dataclasses import dataclass
from typing import Any
import jax
import jax.numpy as jnp
from marlstone.core.records import replace
from marlstone.envs.proving import Climbing

def wait(x):
    """In compiled code: a step takes for ever once there is a file `slow`."""
    while os.path.exists({slow!r}):
        time.sleep(0.05)
    return x

@dataclass(frozen=True)
class Env:
    game: Climbing = Climbing()

    @property
    def spec(self) -> Any:
        return self.game.spec

    def init(self, key):
        return self.game.init(key)

    def step(self, state, action, key):
        while os.path.exists({compiling!r}):  # traced, so this is compiling
            time.sleep(0.05)
        state, row = self.game.step(state, action, key)
        reward = jax.pure_callback(wait, jax.ShapeDtypeStruct(row.reward.shape, row.reward.dtype), row.reward, vmap_method="sequential")
        return state, replace(row, reward=reward)

def make():
    return Env()
'''
SMALL = "--steps 6400000 --seeds 1 --checkpoint-every 3200000 --set rollout.envs=4 --set rollout.length=8 --set evaluate.episodes=2".split()
HASTY = """
import sys
from marlstone.training import loop as train
train.PATIENCE = 0.0  # every update is one that may be given up, and is
from marlstone.cli import entry
entry()
"""


class Command:
    """`marlstone` as a process; its stderr is read as it comes."""

    def __init__(self, *words: str, cwd: Path, program: tuple[str, ...] = ("-m", "marlstone")) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        self.process = subprocess.Popen(
            [sys.executable, *program, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=cwd
        )
        self.lines: list[str] = []
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        with self.process.stderr as lines:  # type: ignore[union-attr]
            self.lines.extend(lines)

    def until(self, condition: Callable[[str], bool]) -> None:
        end = time.monotonic() + 120
        while not condition("".join(self.lines)):
            assert self.process.poll() is None and time.monotonic() < end, "".join(self.lines)
            time.sleep(0.02)

    def ended(self) -> tuple[int, str, str]:
        with self.process.stdout as pipe:  # type: ignore[union-attr]
            out = pipe.read()
        code = self.process.wait(60)
        self.reader.join()
        return code, out, "".join(self.lines)


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[dict[str, Path]]:
    """Environments that stall while a file is there."""
    flags = {k: tmp_path / k for k in ("slow", "compiling")}
    examples = str(Path(__file__).parents[1] / "envs")
    for name, text in (("host.py", SLOW_HOST), ("fused.py", SLOW_JAX)):
        (tmp_path / name).write_text(text.format(examples=examples, **{k: str(v) for k, v in flags.items()}))
    yield flags
    for flag in flags.values():
        flag.unlink(missing_ok=True)


@pytest.mark.slow
@pytest.mark.parametrize(("env", "number"), [("host.py:make", signal.SIGINT), ("jax:fused.py:make", signal.SIGTERM)])
def test_in_a_long_update(slow: dict[str, Path], tmp_path: Path, env: str, number: signal.Signals) -> None:
    """The update is given up, what was trained before it is kept; two signals at once are one request; it resumes to the end."""
    it = Command("train", "--env", env, *SMALL, "--out", "run", cwd=tmp_path, program=("-c", HASTY))
    it.until(lambda said: "steps/s" in said)
    slow["slow"].touch()
    time.sleep(0.5)
    it.process.send_signal(number)
    it.process.send_signal(number)
    code, out, err = it.ended()
    assert code == 128 + number, err
    assert err.count("stopping after a checkpoint") == 1 and "Traceback" not in err and "terminate" not in err and "FATAL" not in err
    step = step_of(listed(tmp_path / "run/checkpoints")[-1])
    assert 0 < step and f"stopped at step {step:,}; continue with: marlstone train --resume" in out
    assert newest(tmp_path / "run/checkpoints").step == step
    slow["slow"].unlink()
    again = Command("train", "--resume", "run", "--steps", str(step + 64), "--json", cwd=tmp_path)
    code, out, err = again.ended()
    record = json.loads(out)
    assert code == 0 and record["resumed_from_step"] == step and record["wall_seconds"] > sum(record["phases"].values())


def test_while_compiling(slow: dict[str, Path], tmp_path: Path) -> None:
    """Nothing was trained yet: nothing is left behind, and the same command begins anew."""
    slow["compiling"].touch()
    it = Command("train", "--env", "jax:fused.py:make", *SMALL, "--out", "run", cwd=tmp_path)
    it.until(lambda said: "starting" in said)
    time.sleep(1.0)
    it.process.send_signal(signal.SIGINT)
    code, out, err = it.ended()
    assert code == 130 and "nothing is kept" in out and "Traceback" not in err and "FATAL" not in err, err
    assert not (tmp_path / "run").exists()


def test_a_command_that_keeps_nothing_ends_at_once(slow: dict[str, Path], tmp_path: Path) -> None:
    slow["compiling"].touch()
    words = ("audit-credit", "--env", "jax:fused.py:make", "--credit", "individual", "--json")
    it = Command(*words, cwd=tmp_path)
    time.sleep(4.0)
    it.process.send_signal(signal.SIGTERM)
    code, out, err = it.ended()
    assert code == 143 and json.loads(out)["exit_code"] == 143 and "interrupted" in err and "Traceback" not in err


def test_a_later_request_ends_it_at_once(tmp_path: Path) -> None:
    """However little the command looks at `stop`."""
    code = """
        import sys, time
        from marlstone.cli import interrupt
        interrupt.SAME = 0.3
        with interrupt.orderly() as stop:
            print("begun", flush=True)
            time.sleep(60)
    """
    it = Command(cwd=tmp_path, program=("-c", textwrap.dedent(code)))
    it.process.stdout.readline()  # type: ignore[union-attr]
    for _ in range(3):
        it.process.send_signal(signal.SIGINT)
        time.sleep(0.5)
    code, _, err = it.ended()
    assert code == 130 and "stopped at once" in err


# ---- the way it is done
def test_what_work_gives_and_raises_is_its_own() -> None:
    assert interruptible(lambda: 3, lambda: True) == 3
    with pytest.raises(TimeoutError, match="its own"):
        interruptible(lambda: (_ for _ in ()).throw(TimeoutError("its own")), lambda: False)
    with pytest.raises(SystemExit):
        interruptible(lambda: sys.exit(3), lambda: False)


def test_work_is_given_up_only_after_patience() -> None:
    done = threading.Event()
    with pytest.raises(Abandoned):
        interruptible(lambda: done.wait(30), lambda: True)
    done.set()
    assert interruptible(lambda: time.sleep(0.6) or 5, lambda: True, patience=20.0) == 5
