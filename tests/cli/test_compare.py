"""`marlstone compare` and `check-hacking`, of runs really trained: what they decide, what they are silent about, what they refuse."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.batches import QUICK
from tests.cli.conftest import Result
from tests.runtime.conftest import compiled_once  # noqa: F401

Command = Callable[..., Result]
GROUND = "proving:plan?reach=1&rows=12&exploit="
SMALL = {
    "rollout.envs": 16, "rollout.length": 32, "evaluate.episodes": 2, "evaluate.logged": 0, "architecture.body.hidden": "[32]",
    "learner.lr": "1e-3", "checkpoint_every": 2048, "steps": 12288, "seeds": 2, "credit": "team",
}  # fmt: skip
WORDS = [w for k, v in SMALL.items() for w in ("--set", f"{k}={v}")]


@pytest.fixture(autouse=True)
def as_jax_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """No devices or caches are set up, since JAX runs already; programs are compiled in a hurry, and no machine is measured."""
    monkeypatch.setattr("marlstone.runtime.spread.prepare", lambda: None)
    monkeypatch.setattr("marlstone.runtime.fused.CPU_OPTIONS", QUICK)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, compiled_once: None) -> Path:  # noqa: F811
    """`bad`, in which tampering pays, and `good`, its clean twin: trained alike."""
    import marlstone.runtime.fused as fused
    from marlstone.config import dump, load
    from marlstone.runs.directory import RunDirectory
    from marlstone.runtime.limit import Limit
    from marlstone.runtime.train import train

    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused, "CPU_OPTIONS", QUICK)
        patch.setattr(fused.Fused, "limit", lambda *_: Limit(1.0, 1, 1.0))
        for name, planted in (("bad", "true"), ("good", "false")):
            config = load(None, {**{k: str(v) for k, v in SMALL.items()}, "env": GROUND + planted})
            run = RunDirectory.create(folder / name, dump(config))
            run.finish(train(config, run))
    return folder


def test_a_planted_exploit_is_caught(marlstone: Command, runs: Path) -> None:
    code, out, err = marlstone("check-hacking", str(runs / "bad"), "--json", "--episodes", "96")
    found = json.loads(out)
    print(json.dumps(found, indent=1))
    assert code == 3, err
