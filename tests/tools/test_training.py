"""Training with tools and a memory: resumed it goes on to the bit, in Python environments, worker processes and fleets as in JAX."""

import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from marlstone.config import dump, load
from marlstone.config.paths import files_of, recorded
from marlstone.core.records import replace
from marlstone.envs.faults.contract import KeyDraws
from marlstone.envs.make import make
from marlstone.policy.policy import Policy
from marlstone.runs.checkpoint import verify
from marlstone.runs.directory import RunDirectory
from marlstone.tools import DelayLine, ExternalMemory, FunctionTool, Toolbox
from marlstone.tools.tooled import STREAM
from marlstone.training.loop import train
from tests.twin import Twin

pytestmark = pytest.mark.usefixtures("compiled_once")
ROOT = Path(__file__).parents[2]
LINE = f"{ROOT / 'tests' / 'twin.py'}:make"
SOURCES = Path(__file__).parent / "sources.py"
SMALL = {
    "seeds": "1", "seed": "0", "rollout.envs": "4", "rollout.length": "8", "architecture.body.hidden": "[6]", "learner.epochs": "1",
    "learner.minibatches": "1", "evaluate.episodes": "2", "evaluate.logged": "0", "acting": "mode", "checkpoint_every": "64",
}  # fmt: skip
LOOK = DelayLine("look", reads="symbol", size=2, latency=(1, 3), failure=0.3, attempts=2, price=(0.5, 2.0), changes=0.2, team_calls=4)
SLOTS = ExternalMemory(2, 2, symbols=True, shared=True, read_price=0.25)
EYE = DelayLine("eye", reads="obs", size=1, arguments=3, latency=(1, 2), failure=0.2, price=(0.5, 2.0), changes=0.2, calls=4)


def test_a_resumed_run_is_one_that_was_never_stopped(tmp_path: Path) -> None:
    """To the bit: pending calls, prices and what was written are part of a checkpoint."""
    config = load(None, {**SMALL, "env": "proving:match?rows=6", "steps": "128"})
    config = replace(config, tools=(LOOK,), memory=SLOTS)
    run = RunDirectory.create(tmp_path / "run", dump(config))
    record = train(config, run, limited=False)
    copy = RunDirectory(Path(shutil.copytree(run.path, tmp_path / "copy")))
    again = train(config, copy, resume=verify(copy.checkpoints / "step-000000000064"), limited=False)
    assert again["resumed_from_step"] == 64
    for field in ("parameters_sha256", "returns", "ledger", "tool_calls", "memory_reads", "usage_price"):
        assert again[field] == record[field], field
    assert load(str(run.path / "config.toml"), {}).toolbox == config.toolbox
    assert Policy.load(record["policy"][0]).toolbox == config.toolbox


def test_host_and_jax_environments_have_the_same_tools_under_the_same_draws() -> None:
    """Step by step: every leaf, mask, metric and reward."""
    box = Toolbox((EYE,), ExternalMemory(2, 2, lookup="attention", read_price=0.1))
    host = box.over(make(LINE))
    env = box.over(Twin(make(LINE).spec))
    rng = np.random.default_rng(0)
    (group,) = env.spec.groups

    class Same:
        """The draws of a key, as NumPy's arrays."""

        def __init__(self, key: Any) -> None:
            self.draw = KeyDraws(key, STREAM)

        def uniform(self, shape: Any = ()) -> Any:
            return np.asarray(self.draw.uniform(shape))

    init, move, used = jax.jit(env.init), jax.jit(env.step), 0.0
    for episode in range(4):
        key = jax.random.key(100 * episode)
        state, theirs = init(key)
        host.reset(episode)
        host._state = host.layout.begin(host.layout.draws(Same(key)), np)
        ours = host._shown(host.env.reset(episode))
        for t in range(5):
            for a, b in zip(jax.tree.leaves(theirs), jax.tree.leaves(ours), strict=True):
                np.testing.assert_allclose(a, b, atol=1e-5, err_msg=f"step {t}")
            used += float(ours.obs[0]["usage"].sum())
            head, noise = rng.normal(size=(2, group.space.head)).astype(np.float32), group.space.noise(rng, (2,))
            action = group.space.emit(group.space.sample(head, np.asarray(theirs.legal[0]), noise))
            key = jax.random.key(100 * episode + t + 1)
            host._draw = Same(key)
            (state, theirs), ours = move(state, (action,), key), host.step((action,))
    assert used > 10


def test_a_function_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the TOML that names it, by a path of its own in a run's configuration, and among the files whose changes are noticed."""
    here = tmp_path / "here"
    here.mkdir()
    shutil.copy(SOURCES, here / "sources.py")
    (here / "run.toml").write_text(f'env = "{LINE}"\n[[tools]]\nkind = "function"\nname = "f"\nfunction = "sources.py:double"\nsize = 2\n')
    config = load(str(here / "run.toml"), {})
    run = tmp_path / "runs" / "run"
    run.mkdir(parents=True)
    (run / "config.toml").write_text(recorded(config, run))
    assert 'function = "../../here/sources.py:double"' in (run / "config.toml").read_text()
    assert files_of(config, run)["tools[0].function"]["at"] == str(here / "sources.py")
    monkeypatch.chdir("/")
    (tool,) = load(str(run / "config.toml"), {}).tools
    assert tool.caller().__name__ == "double"


@pytest.mark.slow
def test_python_environments_train_with_real_tools_in_worker_processes(tmp_path: Path) -> None:
    """Workers load a function by its file; its calls, attempts and prices are recorded."""
    ask = FunctionTool("ask", function=f"{SOURCES}:double", size=2, sends=("obs",), wait=2.0, price=0.5)
    config = replace(load(None, {**SMALL, "env": LINE, "steps": "64"}), tools=(ask, EYE), memory=ExternalMemory(1, 2))
    run = RunDirectory.create(tmp_path / "run", dump(config))
    record = train(config, run, limited=False)
    assert record["tool_calls"] > 0 and record["usage_price"] > 0
    policy = Policy.load(record["policy"][0])
    assert [type(t).kind for t in policy.toolbox.tools] == ["external", "delay_line"]


@pytest.mark.slow
def test_fleets_have_tools(tmp_path: Path) -> None:
    """Actors in processes of their own step the same environment."""
    config = replace(load(None, {**SMALL, "env": LINE, "steps": "64", "fleet.kind": "local", "fleet.actors": "1"}), tools=(EYE,))
    record = train(config, RunDirectory.create(tmp_path / "run", dump(config)), limited=False)
    assert record["tool_calls"] >= 0 and record["ledger"][0]["steps"] > 0
