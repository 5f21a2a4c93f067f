"""The fused runtime: however training is cut into segments, spread over devices, killed and resumed, the bits are the same."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from marlstone.algorithm import Algorithm
from marlstone.architectures import Ctde, Gru
from marlstone.architectures.body import Body
from marlstone.config import RunConfig, dump
from marlstone.config.schema import Evaluation, Rollout
from marlstone.core.compile_options import known
from marlstone.core.errors import UserError
from marlstone.core.ledger import Costs
from marlstone.core.records import replace
from marlstone.credit import Team
from marlstone.envs.make import make
from marlstone.envs.vectorized import Vectorized
from marlstone.learners import PolicyGradient
from marlstone.runs.checkpoint import listed, load, newest, save, step_of, verify
from marlstone.runs.directory import RunDirectory
from marlstone.runs.leaves import parameters_sha256
from marlstone.runs.policies import kept, read_policies
from marlstone.training import loop
from marlstone.training.fused import Fused
from marlstone.training.loop import runtime_of, train
from marlstone.training.trained import evaluate
from tests.conserved import conserved, untimed

pytestmark = pytest.mark.usefixtures("compiled_once")
LEARNER = PolicyGradient(epochs=1, minibatches=2)
GRU = Gru(6, 5, (4,))


def fused(seeds: tuple[int, ...] = (5, 6), body: Body = GRU) -> Fused:
    """Central critics on a game that draws on every row; trajectories end in the middle of episodes."""
    env = make("proving:match")
    return Fused(Vectorized(env, 4), Algorithm(env.spec, Ctde(body), Team(), LEARNER), 7, 8, seeds)


@pytest.fixture(scope="module")
def two(compiled_once: None) -> tuple[Fused, Any]:
    runtime = fused()
    return runtime, runtime.compile(runtime.start(), 4)


def bits(tree: Any) -> str:
    return parameters_sha256(jax.device_get(tree))


def entry(tree: Any, i: int) -> Any:
    return jax.tree.map(lambda x: x[i], tree)


@pytest.mark.slow
def test_four_updates_at_once_are_four_updates(two: Any, tmp_path: Path) -> None:
    """To the bit, in everything that is carried, also through a checkpoint; and the reports are the same."""
    runtime, advance = two
    whole, report = advance(runtime.start(), 4)
    parts, reports = runtime.start(), []
    for i in range(4):
        parts, one = advance(parts, 1)
        reports.append(jax.tree.map(lambda x: np.asarray(x[:, 0]), one))
        if i == 1:
            path = save(tmp_path, 2, runtime.placement.trim(parts), {})
            kept, _ = load(path, runtime.placement.trim(parts))
            parts = runtime.restored(runtime.placement.pad(kept))
    assert bits(whole) == bits(parts)
    for k, x in enumerate(jax.tree.leaves(report)):
        np.testing.assert_array_equal(np.asarray(x)[:, :4], np.stack([jax.tree.leaves(r)[k] for r in reports], 1))
    assert int(whole.train.version[0]) == 4 and (np.asarray(report.steps)[:, :4] > 0).all()


@pytest.mark.slow
def test_seeds_trained_together_are_seeds_trained_alone(two: Any) -> None:
    runtime, advance = two
    together, _ = advance(runtime.start(), 3)
    first = fused((5,))
    alone = first.compile(first.start(), 4)
    for i, seed in enumerate((5, 6)):
        one, _ = alone(fused((seed,)).start(), 3)
        assert bits(entry(together, i)) == bits(entry(one, 0)), f"seed {seed}"
    assert bits(entry(together, 0).train.nets) != bits(entry(together, 1).train.nets)


DEVICES = """
import tempfile
from pathlib import Path
import jax
import numpy as np
jax.config.update("jax_num_cpu_devices", 2)
from marlstone.architectures import Mlp
from marlstone.runs.checkpoint import load, save
from tests.training.test_fused import bits, entry, fused
many, one = fused((5, 6, 7), Mlp((4,))), fused((6,), Mlp((4,)))
assert len(many.placement.devices) == 2 and many.placement.each == 2 and len(one.placement.devices) == 1
advance = many.compile(many.start(), 4)
whole, _ = advance(many.start(), 3)
begun, _ = advance(many.start(), 1)
with tempfile.TemporaryDirectory() as folder:
    kept, _ = load(save(Path(folder), 1, many.placement.trim(begun), {}), many.placement.trim(begun))
resumed = many.restored(many.placement.pad(kept))
ended, _ = many.compile(resumed, 4)(resumed, 2)
assert bits(many.placement.trim(whole)) == bits(many.placement.trim(ended)), "resumed is not undisturbed"
alone, _ = one.compile(one.start(), 4)(one.start(), 3)
for a, b in zip(jax.tree.leaves(entry(whole, 1).train.nets), jax.tree.leaves(entry(alone, 0).train.nets), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
"""

SHARDS = """
import tempfile
from dataclasses import replace
from pathlib import Path
import jax
import numpy as np
jax.config.update("jax_num_cpu_devices", 2)
from marlstone.core.flops import Flops
from marlstone.architectures import Gru
from marlstone.learners import PolicyGradient
from marlstone.runs.checkpoint import load, save
from tests.training.test_fused import bits, fused
whole = fused((6,), Gru(6, 5, (4,)))
whole = replace(whole, algorithm=replace(whole.algorithm, learner=PolicyGradient(epochs=2, minibatches=1)))
parts = replace(whole, algorithm=replace(whole.algorithm, shards=2))
assert len(parts.placement.devices) == 2 and len(whole.placement.devices) == 1
begun, advance = whole.start(), parts.compile(parts.start(), 4)
begins = lambda state: jax.tree.leaves((state.train, state.acting.step))
for a, b in zip(begins(begun), begins(parts.start()), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
one, said = whole.compile(begun, 4)(begun, 3)
two, told = advance(parts.start(), 3)
kept = lambda state, report: jax.tree.leaves((state.train, state.acting.step, state.tally, report))
for a, b in zip(kept(one, said), kept(two, told), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
begun, _ = advance(parts.start(), 1)
with tempfile.TemporaryDirectory() as folder:
    kept, _ = load(save(Path(folder), 1, parts.placement.trim(begun), {}), parts.placement.trim(begun))
resumed = parts.restored(parts.placement.pad(kept))
ended, _ = parts.compile(resumed, 4)(resumed, 2)
assert bits(two) == bits(ended), "resumed is not undisturbed"
assert np.isfinite(np.asarray(parts.evaluate(two, 3).team_return)).all()
assert parts.limit(Flops(500, 500, {(64, 8, 4): 1000.0})).steps_per_second > 0
"""


@pytest.fixture
def hurried() -> dict[str, str]:
    """Environment variables under which programs compile in half the time; an XLA that does not know the flag would end the process."""
    return {"XLA_FLAGS": "--xla_cpu_use_fusion_emitters=false"} if known("xla_cpu_use_fusion_emitters", False) else {}


@pytest.mark.slow
def test_two_devices_that_share_a_seed_learn_what_one_learns(hurried: dict[str, str]) -> None:
    """Environments split in two: the same noise, the same gradients, moments and figures up to rounding; and resumed to the bit."""
    run_python(SHARDS, **hurried)


def run_python(code: str, check: bool = True, **more: str) -> subprocess.CompletedProcess[bytes]:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *sys.path]), **more}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, cwd=root)
    assert not check or done.returncode == 0, done.stderr.decode()
    return done


def test_two_cores_train_what_one_trains_and_resume_exactly(hurried: dict[str, str]) -> None:
    """Three seeds on two devices, saved and loaded in between: the same bits. One device gives the same numbers up to the last bits
    only: a program for two devices is another program."""
    run_python(DEVICES, **hurried)


def test_environments_are_what_minibatches_are_made_of() -> None:
    env = make("proving:climbing")
    algorithm = Algorithm(env.spec, Ctde(), Team(), PolicyGradient(minibatches=3))
    with pytest.raises(ValueError, match=r"rollout\.envs is 4, no.* multiple of learner\.minibatches = 3"):
        Fused(Vectorized(env, 4), algorithm, 7, 8, (0,))


# ---- whole runs, killed and resumed
def config(steps: int = 8 * 32) -> RunConfig:
    """Eight updates of 4 environments by 8 rows, kept every second one."""
    return RunConfig(
        "proving:climbing", Ctde(GRU), Team(), LEARNER, Rollout(4, 8), Evaluation(3), steps=steps, seeds=2, seed=0,
        checkpoint_every=64,
    )  # fmt: skip


def start(path: Path) -> RunDirectory:
    return RunDirectory.create(path, dump(config()))


@pytest.fixture(scope="module")
def undisturbed(compiled_once: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDirectory, dict[str, Any]]:
    run = start(tmp_path_factory.mktemp("undisturbed") / "run")
    return run, train(config(), run)


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.training.test_fused import config, start
from marlstone.training.loop import train
import marlstone.training.loop as module
module.HOST_CONTACT = 0.0  # a contact after every update
def progress(p):
    if p.phase == "training" and p.step >= 5 * 32:
        os.kill(os.getpid(), signal.SIGKILL)
train(config(), start(Path(sys.argv[1])), progress=progress)
"""


@pytest.mark.slow
def test_killed_and_resumed_is_undisturbed(undisturbed: Any, tmp_path: Path) -> None:
    """`kill -9` after update 5 of 8, with update 4 kept: resumed, parameters and record are those of a run left alone."""
    _, whole = undisturbed
    done = run_python(f"import sys; sys.argv.append({str(tmp_path / 'run')!r})\n{KILLED}", check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    run = RunDirectory.open(tmp_path / "run")
    kept = newest(run.checkpoints)
    assert kept.step == 4 * 32 and not run.result.exists()
    resumed = train(config(), run, resume=kept)
    assert resumed["resumed_from_step"] == 128
    for field in ("parameters_sha256", "returns", "ledger", "steps", "agent_returns", "faults"):
        assert resumed[field] == whole[field], field
    with run.store() as store, undisturbed[0].store() as other:
        mine, theirs = store.episodes(), other.episodes()
    assert set(mine.step) == {64, 128, 192, 256} and set(mine.seed) == set(config().all_seeds)
    for a, b in zip(jax.tree.leaves(vars(mine)), jax.tree.leaves(vars(theirs)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_stopped_and_resumed_is_undisturbed(undisturbed: Any, tmp_path: Path) -> None:
    """An orderly stop writes a checkpoint where it is, and says so; what comes after is what would have come."""
    _, whole = undisturbed
    run, seen = start(tmp_path / "run"), []
    stopped = train(config(), run, stop=lambda: bool(seen), progress=lambda p: seen.append(p) if 0 < p.step else None)
    assert stopped["stopped"] and 0 < stopped["steps"] < 8 * 32
    resumed = train(config(), run, resume=newest(run.checkpoints))
    assert resumed["parameters_sha256"] == whole["parameters_sha256"] and "stopped" not in resumed
    with run.store() as store:
        for series in store.series("episodes"):
            assert series.step[-1] == 8 * 32


def test_checkpoints_by_time_serve_resuming_alone(undisturbed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after every update: episodes are logged and policies kept on the schedule only, nothing that is learned changes, and what
    resumes from one, between two of the schedule, becomes what was never stopped."""
    whole_run, whole = undisturbed
    monkeypatch.setattr(loop, "HOST_CONTACT", 0.0)  # a contact after every update
    hurried, run = replace(config(), checkpoint_minutes=1e-9), start(tmp_path / "run")
    record = train(hurried, run)
    assert record["parameters_sha256"] == whole["parameters_sha256"] and record["returns"] == whole["returns"]
    assert [step_of(p) for p in listed(run.checkpoints)] == [192, 224, 256]
    assert [step_of(p) for p in listed(run.policies)] == [step_of(p) for p in listed(whole_run.policies)] == [64, 128, 192, 256]
    with run.store() as store:
        assert set(store.episodes().step) == {64, 128, 192, 256}
    again = train(hurried, run, resume=verify(run.checkpoints / "step-000000000224"))
    assert again["resumed_from_step"] == 224
    for field in ("parameters_sha256", "returns", "ledger", "faults", "inference"):
        assert again[field] == whole[field], field
    assert untimed(conserved(again, run)) == untimed(conserved(whole, whole_run)) == untimed(Costs.read(record["costs"]))


def test_a_run_is_judged_as_it_was(undisturbed: Any) -> None:
    """`evaluate` on the last checkpoint says what the run's own record says, since both play the same episodes."""
    run, whole = undisturbed
    record = evaluate(config(), newest(run.checkpoints), 3)
    assert record["returns"] == whole["returns"] and record["agent_returns"] == whole["agent_returns"]


def test_ledger_counts_joint_steps_without_resets(undisturbed: Any) -> None:
    """Climbing's episodes are four rows and a reset: of the 64 rows after the first, 5, 10 ... are resets, 4, 9 ... ends."""
    _, whole = undisturbed
    resets, ends = len(range(5, 65, 5)), len(range(4, 65, 5))
    for ledger in whole["ledger"]:
        assert ledger["rows"] == 4 * 64 and ledger["steps"] == 4 * (64 - resets) and ledger["episodes"] == 4 * ends


def test_a_run_keeps_what_acted_at_every_checkpoint(undisturbed: Any, tmp_path: Path) -> None:
    """Of four checkpoints the last three are whole; policies say the same out of either, for as many seeds as are asked; a run that
    kept none of its own is read from what is whole; and going back forgets what comes after."""
    run, _ = undisturbed
    assert [k.step for k in kept(run)] == [64, 128, 192, 256] and len(listed(run.checkpoints)) == 3
    shapes = runtime_of(config()).shapes().train.policy
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype), shapes)
    small, whole = (read_policies(folder / "step-000000000256", like, 1) for folder in (run.policies, run.checkpoints))
    for a, b in zip(jax.tree.leaves(small), jax.tree.leaves(whole), strict=True):
        np.testing.assert_array_equal(a, b)
    earlier = read_policies(run.policies / "step-000000000064", like, 1)
    assert any((np.asarray(a) != b).any() for a, b in zip(jax.tree.leaves(small), jax.tree.leaves(earlier), strict=True))
    with pytest.raises(UserError, match="of another configuration"):
        read_policies(run.policies / "step-000000000064", {"actor": like.actor}, 1)
    copy = RunDirectory(Path(shutil.copytree(run.path, tmp_path / "copy")))
    copy.rewind(128, "")
    assert [k.step for k in kept(copy)] == [64, 128]
    shutil.rmtree(copy.policies)
    assert [(k.step, k.path.parent) for k in kept(copy)] == [(128, copy.checkpoints)]
