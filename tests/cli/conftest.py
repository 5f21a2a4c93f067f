"""A command line with a stand-in for training: what the commands do around it is what is tested here."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marlstone.cli import evaluate, main, train
from marlstone.config import dump
from marlstone.config.sources import resolved
from marlstone.core.errors import UserError
from marlstone.core.ledger import Costs
from marlstone.runs.checkpoint import load, save
from marlstone.runs.progress import Progress

Result = tuple[int, str, str]
SPENT = Costs({"train": {"a": {"flops": 1000, "decisions": 10}, "shared": {"steps": 10}}})


def pretend(config: Any, run: Any, *, resume: Any, initial: Any, progress: Any, stop: Any, watch: Any = None) -> dict[str, Any]:
    """Adds one to a number per step, checkpoints as configured, and records it."""
    if config.env == "proving:refused":
        raise UserError("group 'all': this environment is refused: choose another")
    step, x = 0, np.zeros(1)
    if resume is not None:
        (x, step), _ = load(resume.path, (x, 0))
    elif initial is not None:
        (x, _), _ = load(initial.path, (x, 0))
    stopped = False
    if resume is not None:
        run.rewind(resume.step, dump(resolved(config)))
    with run.store() as store:
        while step < config.steps and not stopped:
            stride = min(config.steps_between_checkpoints, config.steps - step)
            step, x = step + stride, x + stride
            store.add(step, config.seed, {"return": x[0]})
            store.spend(step, config.seed, SPENT)
            store.flush()
            save(run.checkpoints, step, (x, step), {})
            progress(Progress("training", step, config.steps, config.seeds, 1000.0, float(x[0])))
            stopped = stop()
    return {
        "run": str(run.path),
        "env": config.env,
        "steps": step,
        "stopped": stopped,
        "seeds": list(config.all_seeds),
        "purpose": config.purpose,
        "x": x[0],
        "return_iqm": 1.0,
        "return_ci95": [float("nan"), 1.0],
        "inference": {
            "episodes": 2,
            "agents": {"a": {"decisions": 4, "flops": 8}},
            "by_episode": {"decisions": [[1, 3]], "flops": [[2, 6]]},
        },
        "resumed_from_step": 0 if resume is None else resume.step,
    }


@pytest.fixture
def marlstone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Result]:
    """`marlstone("train", ...) -> (exit code, stdout, stderr)`, in a directory of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "runtime", lambda config: pretend)
    monkeypatch.setattr(evaluate, "runtime", lambda: lambda config, checkpoint, episodes: {"run": "x", "seeds": [1], "return_iqm": 2.0})

    def call(*words: str) -> Result:
        code = main(list(words))
        return code, *capsys.readouterr()

    return call


def record(result: Result) -> dict[str, Any]:
    """The JSON object of a `--json` command that succeeded: exactly one line."""
    code, out, err = result
    assert code == 0, err
    assert out.count("\n") == 1 and out.endswith("\n")
    return json.loads(out)
