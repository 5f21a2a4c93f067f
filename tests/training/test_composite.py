"""An action of several parts goes through everything a run does: training, resuming, judging, logs, faults, the policy that is deployed."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import marlstone as ms
from marlstone.architectures import Ctde, Decentralized, Mlp
from marlstone.config import RunConfig, dump
from marlstone.config.schema import Evaluation, Rollout
from marlstone.core.distributions import Composite
from marlstone.core.records import replace
from marlstone.credit import Counterfactual, Individual
from marlstone.envs.make import make
from marlstone.evaluation.check_env import check_env
from marlstone.evaluation.episode_log import evaluate_logged, open_log
from marlstone.learners import PolicyGradient
from marlstone.runs.checkpoint import newest
from marlstone.runs.directory import RunDirectory
from marlstone.training.loop import train

pytestmark = pytest.mark.usefixtures("compiled_once")
CASES = Path(__file__).parents[1] / "cases"
PYTHON, COMPILED = f"{CASES / 'composite.py'}:make_env?masks=nested", f"jax:{CASES / 'composite_jax.py'}:make_env"
B, T = 4, 6


@pytest.mark.parametrize(
    ("architecture", "credit"),
    [(Decentralized(Mlp((6,))), Individual()), pytest.param(Ctde(Mlp((6,))), Counterfactual(), marks=pytest.mark.slow)],
    ids=["individual", "counterfactual"],
)
def test_stopped_and_resumed_is_undisturbed(architecture: Any, credit: Any, tmp_path: Path) -> None:
    """Sharpening, and with counterfactual credit exploration, included: the same parameters, to the bit."""
    learner, more = PolicyGradient(epochs=1, minibatches=1, sharpen=2.0), {"steps": 4 * B * T, "seeds": 1, "seed": 0}
    it = RunConfig(COMPILED, architecture, credit, learner, Rollout(B, T, 1), Evaluation(3, logged=0), checkpoint_every=B * T, **more)
    whole = train(it, RunDirectory.create(tmp_path / "whole", dump(it)))
    run, seen = RunDirectory.create(tmp_path / "run", dump(it)), []
    stopped = train(it, run, stop=lambda: bool(seen), progress=lambda p: seen.append(p) if p.step else None)
    assert stopped["stopped"] and stopped["steps"] < whole["steps"]
    resumed = train(it, run, resume=newest(run.checkpoints))
    assert resumed["parameters_sha256"] == whole["parameters_sha256"] and resumed["returns"] == whole["returns"]


@pytest.fixture(scope="module")
def trained(compiled_once: None, tmp_path_factory: Any) -> ms.Run:
    tiny = {"rollout": {"envs": B, "length": T}, "evaluate": {"episodes": 3, "logged": 0}, "architecture.body.hidden": [6]}
    return ms.train(
        PYTHON, steps=2 * B * T, seeds=1, progress=False, out=tmp_path_factory.mktemp("runs") / "run", faults=["action_loss"], **tiny
    )


@pytest.mark.slow
def test_it_is_judged_and_logged(trained: ms.Run, tmp_path: Path) -> None:
    """Returns and the declared metric; logged actions are the indices and numbers of every part."""
    result = trained.result
    assert result is not None and np.isfinite(result.returns).all()
    assert set(result.record["true_metrics"]) == {"right_tool"}
    assert np.isfinite(ms.evaluate(trained, episodes=3).returns).all()
    evaluate_logged(trained.config, newest(RunDirectory(trained.path).checkpoints), 3, tmp_path / "log")
    log = open_log(tmp_path / "log")
    (group,), (trajectory,) = log.spec.groups, log.trajectories.values()
    assert isinstance(group.space, Composite) and group.space.names == ("flags", "throttle", "tool")
    (action,) = trajectory.action
    parts = group.space.split(action)
    assert action.shape[2:] == (2, 5) and action.dtype == np.float32
    assert set(np.unique(parts["tool"])) <= {0, 1, 2} and set(np.unique(parts["flags"])) <= {0, 1}
    (legal,) = trajectory.step.legal
    chosen = np.take_along_axis(legal[:, :-1, :, 6:], parts["tool"][..., None], -1)[..., 0]
    assert chosen[trajectory.acts].all(), "no forbidden tool was taken"


PLAY = """
import sys, json
import numpy as np
from marlstone.policy.policy import Policy
sys.path.insert(0, sys.argv[2])
from composite import make_env
policy, env, out = Policy.load(sys.argv[1]), make_env("nested"), []
seen, infos = env.reset(seed=3)
memory = None
while env.agents:
    actions, memory = policy.act(seen, memory, infos=infos, rng=np.random.default_rng(0))
    assert all(env.action_space(a).contains(x) for a, x in actions.items())
    out.append({a: {k: np.asarray(v).tolist() for k, v in x.items()} for a, x in actions.items()})
    seen, _, _, _, infos = env.step(actions)
assert "jax" not in sys.modules
defaults = policy.default_actions()
assert all(env.action_space(a).contains(x) for a, x in defaults.items())
print(json.dumps([out, {a: {k: np.asarray(v).tolist() for k, v in x.items()} for a, x in defaults.items()}]))
"""


def test_the_deployed_policy_gives_what_the_environment_takes(trained: ms.Run) -> None:
    """Without JAX, and compiled: the same nested actions, and declared defaults in the environment's own form."""
    (folder,) = (trained.path / "policy").iterdir()
    found = subprocess.run([sys.executable, "-c", PLAY, folder, CASES], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    played, defaults = json.loads(found.stdout)
    env = make(PYTHON)._env  # type: ignore[union-attr]
    for agent, declared in env.default_actions.items():
        assert defaults[agent]["tool"] == declared["tool"] and defaults[agent]["flags"] == declared["flags"]
        np.testing.assert_allclose(defaults[agent]["throttle"], declared["throttle"], atol=1e-5)
    compiled = ms.Policy.load(folder, backend="jax")
    seen, infos = env.reset(seed=3)
    memory = None
    for step in played:
        actions, memory = compiled.act(seen, memory, infos=infos, rng=np.random.default_rng(0))
        for agent, x in actions.items():
            assert type(x["tool"]) is int and x["tool"] == step[agent]["tool"] and x["flags"].tolist() == step[agent]["flags"]
            np.testing.assert_allclose(x["throttle"], step[agent]["throttle"], atol=1e-4)
        seen, _, _, _, infos = env.step(actions)
    answer = compiled.with_fallback({"robot_0": {"tool": 1, "throttle": [4.0], "flags": [1, 1]}}).fallback_actions()["robot_0"]
    assert (answer["tool"], answer["flags"].tolist()) == (1, [1, 1]) and answer["throttle"] == pytest.approx(4.0)


def test_a_policy_of_an_environment_without_dictionaries_takes_actions_as_it_emits_them() -> None:
    """Written in JAX: an action is the flat array, masks are over the options, with or without entries for the numbers."""
    from marlstone.policy.dictionaries import Dictionaries

    env = make(COMPILED)
    it = Dictionaries(env.spec, None)
    np.testing.assert_allclose(it.recorded("robot_0", [1, 0, 0.5, 2]), [1, 0, np.arctanh(0.5), 2])
    for wrong in ([1, 0, 0.5, 3], [1, 0, 1.5, 2], [1, 0.5, 0.5, 2], [1, 0, 0.5]):
        with pytest.raises(ValueError):
            it.recorded("robot_0", wrong)
    seen = {a: np.zeros(6, np.float32) for a in env.spec.agents}
    masks = {"robot_0": {"action_mask": [1, 1, 1, 0, 1, 0, 0]}, "robot_1": {"action_mask": [1, 1, 1, 0, 1, 1, 0, 0]}}
    _, (legal,) = it.groups(seen, masks)
    np.testing.assert_array_equal(legal, [[1, 1, 1, 0, 1, 1, 0, 0]] * 2)


def test_check_env_names_every_part() -> None:
    record = check_env(PYTHON, 30)
    assert record["groups"][0]["action"] == "flags: one of 2 and one of 2; throttle: 2 numbers; tool: one of 3"
    assert record["groups"][0]["legal_share"] == pytest.approx(6 / 7) and not record["faults"]
    assert record["default_actions"] == ["robot_0", "robot_1"]


@pytest.mark.parametrize("learner", ["q_learning", "pqn"])
def test_learners_of_action_values_refuse_numbers_by_name(learner: str) -> None:
    with pytest.raises(ValueError, match=r"cannot maximize over a Composite \(throttle is a Box\): use learner = 'policy_gradient'"):
        ms.train(COMPILED, learner=learner, credit="individual", steps=100, progress=False)


@pytest.mark.slow
def test_every_part_is_learned(tmp_path: Path) -> None:
    """Of 16 that can be earned in an episode; with flags at random it is 12 at most, with tools or throttles less."""
    run = ms.train(
        PYTHON, steps=40_000, seeds=1, progress=False, out=tmp_path / "run", credit="individual", rollout={"envs": 16, "length": 16},
        evaluate={"episodes": 32}, learner={"lr": 3e-3}, **{"architecture.body.hidden": [32]},
    )  # fmt: skip
    assert run.result is not None and run.result.returns[0] > 13.5
    assert run.result.record["true_metrics"]["right_tool"] > 0.9


def test_actions_in_a_batch_are_kept_as_they_were_sampled(trained: ms.Run) -> None:
    """What is emitted is what `split` takes apart: whole numbers stay exact in float32, and only numbers are squashed."""
    env = make(COMPILED)
    (group,) = env.spec.groups
    space = group.space
    action = space.sample(np.zeros((500, space.head), np.float32), None, space.noise(np.random.default_rng(0), (500,)))
    emitted = space.split(space.emit(action))
    recorded = space.split(action)
    for name in ("tool", "flags"):
        np.testing.assert_array_equal(emitted[name], recorded[name])
    np.testing.assert_allclose(emitted["throttle"], np.tanh(recorded["throttle"]), atol=1e-6)
    state, row = jax.jit(env.init)(jax.random.key(0))
    assert row.legal[0].shape == (2, space.width) and replace(row, first=row.last).first.shape == ()
    _, after = jax.jit(env.step)(state, (jax.numpy.asarray(space.emit(action[:2])),), jax.random.key(1))
    assert np.isfinite(after.reward).all()
