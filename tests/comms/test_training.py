"""Training with a channel: resumed it goes on to the bit, from another run it begins with what fits, in Python environments, worker
processes and fleets as in JAX."""

import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from marlstone.comms import Link, Targeted
from marlstone.comms.exchange import draws
from marlstone.config import dump, load
from marlstone.core.records import replace
from marlstone.envs.faults.contract import KeyDraws
from marlstone.envs.make import make
from marlstone.policy.policy import Policy
from marlstone.runs.checkpoint import newest, verify
from marlstone.runs.directory import RunDirectory
from marlstone.training.loop import train
from marlstone.training.trained import evaluate
from tests.conserved import conserved, untimed
from tests.twin import Twin

pytestmark = pytest.mark.usefixtures("compiled_once")
ROOT = Path(__file__).parents[2]
LINE = f"{ROOT / 'tests' / 'twin.py'}:make"
SMALL = {
    "seeds": "1", "seed": "0", "rollout.envs": "4", "rollout.length": "8", "architecture.body.hidden": "[6]", "learner.epochs": "1",
    "learner.minibatches": "1", "evaluate.episodes": "2", "evaluate.logged": "0", "acting": "mode", "checkpoint_every": "64",
}  # fmt: skip
LOSSY = {"comms.link.loss_good": "0.3", "comms.link.delay": "1", "comms.link.copies": "0.2", "comms.hold": "1"}
THINNED = {"comms": f"{ROOT / 'examples' / 'my_channel.py'}:Thinned", "comms.size": "2", "comms.keep": "0.5"}


def configured(more: dict[str, str], **given: str) -> Any:
    return load(None, {**SMALL, **more, **given})


THINNED_RUN = configured(
    {**THINNED, **LOSSY, "comms.message": "dithered", "comms.budget_bits": "[4.0]"}, env="proving:climbing", steps="256"
)


@pytest.fixture(scope="module")
def whole(compiled_once: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDirectory, dict[str, Any]]:
    """A run with the example's channel over a lossy link: eight updates, a checkpoint after every second one."""
    run = RunDirectory.create(tmp_path_factory.mktemp("comms") / "run", dump(THINNED_RUN))
    return run, train(THINNED_RUN, run, limited=False)


def test_a_resumed_run_is_one_that_was_never_stopped(whole: Any, tmp_path: Path) -> None:
    """To the bit, what is on its way, budgets and prices too; and messages are counted once."""
    run, record = whole
    copy = RunDirectory(Path(shutil.copytree(run.path, tmp_path / "copy")))
    again = train(THINNED_RUN, copy, resume=verify(copy.checkpoints / "step-000000000128"), limited=False)
    assert again["resumed_from_step"] == 128
    for field in ("parameters_sha256", "returns", "ledger", "sent", "true_metrics", "inference"):
        assert again[field] == record[field], field
    costs = conserved(record, run)
    assert untimed(conserved(again, copy)) == untimed(costs) and costs.total("evaluate")["messages"] > 0
    senders = np.array(record["sent"]["messages"]).sum(1).astype(int).tolist()
    assert [costs.of("train", a, "messages") for a in record["sent"]["agents"]] == senders
    assert record["comms"] == "Thinned"


def test_judged_again_it_says_the_same_and_its_budget_is_kept(whole: Any) -> None:
    run, record = whole
    again = evaluate(THINNED_RUN, newest(run.checkpoints), 2)
    assert again["returns"] == record["returns"] and again["true_metrics"] == record["true_metrics"]
    assert 0 <= record["bits_per_step"] <= 4.0 and record["messages_per_step"] <= 2


def test_its_policy_needs_the_class_alone(whole: Any) -> None:
    _, record = whole
    (folder,) = record["policy"]
    policy = Policy.load(folder, parts=[type(THINNED_RUN.comms)])
    assert policy.channel == THINNED_RUN.comms and policy.channel.drawing


@pytest.mark.slow
def test_a_run_begins_with_what_another_learned_to_say(whole: Any, tmp_path: Path) -> None:
    """Of the same channel everything fits: with a learning rate of next to nothing, it acts as the other did."""
    run, record = whole
    slow = replace(THINNED_RUN, steps=64, learner=replace(THINNED_RUN.learner, lr=1e-9))
    into = RunDirectory.create(tmp_path / "run", dump(slow))
    after = train(slow, into, initial=newest(run.checkpoints), limited=False)
    assert after["returns"] == pytest.approx(record["returns"], abs=1e-3) and after["parameters_sha256"] != record["parameters_sha256"]


@pytest.mark.slow
def test_python_environments_train_with_a_channel_in_worker_processes(tmp_path: Path) -> None:
    """A user's channel too: workers load it by its file, and what was said is counted."""
    config = configured({**THINNED, **LOSSY, "comms.gate": "false"}, env=LINE, steps="64")
    record = train(config, RunDirectory.create(tmp_path / "run", dump(config)), limited=False)
    conserved(record, RunDirectory(tmp_path / "run"))
    assert record["sent"] and 0 < record["messages_per_step"] < 2
    steps = record["ledger"][0]["steps"]
    assert 0.2 < record["ledger"][0]["messages"] / (2 * steps) < 0.8


def test_host_and_jax_environments_say_and_hear_the_same_under_the_same_draws() -> None:
    """Step by step over a link that loses, delays and repeats: every leaf, metric and reward."""
    channel = Targeted("dithered", 2, signature=2, hold=1, link=Link(0.2, 0.5, 0.9, 0.2, 2, 0.4), budget_bits=(12.0,))
    host = channel.over(make(LINE))
    env = channel.over(Twin(make(LINE).spec))
    rng = np.random.default_rng(0)
    (group,) = env.spec.groups

    class Same:
        """The draws of a key, as NumPy's arrays."""

        def __init__(self, key: Any) -> None:
            self.draw = KeyDraws(key, 0x6D736773)

        def uniform(self, shape: Any = ()) -> Any:
            return np.asarray(self.draw.uniform(shape))

    init, move, heard = jax.jit(env.init), jax.jit(env.step), 0
    for episode in range(4):
        key = jax.random.key(100 * episode)
        state, theirs = init(key)
        host.reset(episode)
        u, level = Same(key).uniform((draws(channel), 2, 2)), host.layout.level(None, np)
        host._wire, host._budget, ours = host.layout.begin(host.env.reset(episode), u, level)
        for t in range(5):
            for a, b in zip(jax.tree.leaves(theirs), jax.tree.leaves(ours), strict=True):
                np.testing.assert_allclose(a, b, atol=1e-5, err_msg=f"step {t}")
            heard += int((ours.obs[0]["links"][:, :2] > 0).sum())
            head, noise = rng.normal(size=(2, group.space.head)).astype(np.float32) * 2, group.space.noise(rng, (2,))
            action = group.space.sample(head, np.asarray(theirs.legal[0]), noise)
            key = jax.random.key(100 * episode + t + 1)
            host._draw = Same(key)
            (state, theirs), ours = move(state, (action,), key), host.step((action,))
    assert heard > 4
