"""A run in stages: one that changes nothing is the run without, resumes are exact across and inside stages, what was learned fits all."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from marlstone.architectures import Decentralized, Mlp
from marlstone.comms import Broadcast
from marlstone.config import RunConfig, Stage, Stop, dump, parse
from marlstone.config.schema import Evaluation, Rollout
from marlstone.config.sources import staged
from marlstone.core.errors import UserError
from marlstone.core.records import replace
from marlstone.credit import Individual
from marlstone.envs.faults import MessageDelay
from marlstone.learners import PolicyGradient, Pqn, QLearning
from marlstone.runs.checkpoint import listed, newest, read, step_of, verify
from marlstone.runs.directory import RunDirectory
from marlstone.training import loop
from marlstone.training.loop import runtime_of, train
from marlstone.training.pure import PureTraining
from marlstone.training.stages import Stages, judging
from marlstone.training.trained import evaluate

pytestmark = pytest.mark.usefixtures("compiled_once")
EACH = 32  # steps of an update
TWIN = f"{Path(__file__).parents[1] / 'twin.py'}:make"


def config(*stages: Stage, **more: Any) -> RunConfig:
    """Six updates of 4 environments by 8 steps; team sizes may differ, since no agent has an identity."""
    learner = PolicyGradient(epochs=1, minibatches=2)
    plain = RunConfig(
        "proving:swarm?agents=4", Decentralized(Mlp((4,)), agent_ids=False), Individual(), learner, Rollout(4, 8), Evaluation(3, logged=1),
        steps=6 * EACH, seeds=2, seed=0, checkpoint_every=2 * EACH, stages=stages,
    )  # fmt: skip
    return replace(plain, **more)


CURRICULUM = (
    Stage(0.5, {"env.options.agents": 2, "env.options.rows": 3, "learner": {"entropy": 0.1}}),
    Stage(4 * EACH, {"learner.lr": 1e-3}),
)


def trained(folder: Path, what: RunConfig, **more: Any) -> tuple[RunDirectory, dict[str, Any]]:
    run = RunDirectory.create(folder, dump(what))
    return run, train(what, run, limited=False, **more)


@pytest.fixture(scope="module")
def whole(compiled_once: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDirectory, dict[str, Any]]:
    return trained(tmp_path_factory.mktemp("stages") / "run", config(*CURRICULUM))


@pytest.mark.slow
def test_a_stage_that_changes_nothing_is_the_run_without(tmp_path: Path) -> None:
    _, plain = trained(tmp_path / "plain", config())
    _, parted = trained(tmp_path / "staged", config(Stage(0.5, {"learner.lr": 5e-4})))
    assert parted["parameters_sha256"] == plain["parameters_sha256"] and parted["episode_returns"] == plain["episode_returns"]
    assert "stages" not in plain


@pytest.mark.slow
def test_the_record_lists_the_stages_with_their_steps(whole: Any) -> None:
    first = {"env.options.agents": 2, "env.options.rows": 3, "learner.entropy": 0.1}
    assert whole[1]["stages"] == [
        {"from": 0, "until": 96, "set": first},
        {"from": 96, "until": 128, "set": {"learner.lr": 1e-3}},
        {"from": 128, "until": 192, "set": {}},
    ]
    assert whole[1]["env"] == "proving:swarm?agents=4" and len(whole[1]["agent_returns"]) == 4
    assert {ledger["rows"] for ledger in whole[1]["ledger"]} == {6 * EACH}


@pytest.mark.parametrize("at", [pytest.param(1, marks=pytest.mark.slow), 3, pytest.param(5, marks=pytest.mark.slow)])
def test_a_resume_inside_a_stage_and_between_two_is_exact(whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Stopped after one update, at the end of the first stage, and in the last."""
    monkeypatch.setattr(loop, "HOST_CONTACT", 0.0)  # a contact after every update
    run, seen = RunDirectory.create(tmp_path / "run", dump(config(*CURRICULUM))), list[Any]()
    stop = lambda p: seen.append(p) if p.phase == "training" and p.step == at * EACH else None
    stopped = train(config(*CURRICULUM), run, stop=lambda: bool(seen), progress=stop, limited=False)
    assert stopped["stopped"] and stopped["steps"] == at * EACH
    resumed = train(config(*CURRICULUM), run, resume=newest(run.checkpoints), limited=False)
    for field in ("parameters_sha256", "episode_returns", "ledger", "faults", "stages"):
        assert resumed[field] == whole[1][field], field


def test_the_end_of_a_stage_is_kept_and_policies_of_any_are_judged_in_the_runs_own_environment(whole: Any) -> None:
    run, _ = whole
    assert 3 * EACH in {step_of(path) for path in listed(run.checkpoints)}
    record = evaluate(config(*CURRICULUM), verify(run.checkpoints / f"step-{3 * EACH:012d}"), 3)
    assert len(record["agent_returns"]) == 4 and record["step"] == 3 * EACH
    with run.store() as store:
        assert set(store.episodes().agents) == {f"speaker_{i}" for i in range(4)}


@pytest.mark.slow
def test_a_run_that_ends_in_its_first_stage_is_judged_by_its_own_configuration(tmp_path: Path) -> None:
    _, record = trained(tmp_path / "run", config(*CURRICULUM, stop=Stop(at_return=-1e9)))
    assert (record["steps"], record["stopped_by"]) == (2 * EACH, "return") and len(record["agent_returns"]) == 4
    assert [stage["until"] for stage in record["stages"]] == [2 * EACH]


@pytest.mark.slow
def test_stages_go_on_in_worker_processes(tmp_path: Path) -> None:
    """The learner's options change under the same processes, the environment's in new ones; what was learned goes along."""
    plain = replace(config(), env=TWIN, architecture=Decentralized(Mlp((4,))), rollout=Rollout(4, 8, 1), seeds=1)
    stages = (Stage(0.4, {"env.options.length": 3}), Stage(0.7, {"learner.lr": 1e-3}))
    run, record = trained(tmp_path / "run", replace(plain, stages=stages))
    assert [stage["until"] // EACH for stage in record["stages"]] == [3, 5, 6] and record["steps"] == 6 * EACH
    again = train(replace(plain, stages=stages), run, resume=verify(listed(run.checkpoints)[0]), limited=False)
    assert np.isfinite(again["return_iqm"]) and again["resumed_from_step"] > 0


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"credit": "team"}, r"stages\[0\]\.set: credit would be team instead of individual"),
        ({"learner.optimizer": "sgd"}, r"learner\.optimizer would be sgd instead of adam"),
        ({"learner.minibatches": 3}, r"learner\.minibatches is 3, and rollout\.envs 4 no multiple"),
        ({"env": "proving:climbing"}, r"stages\[0\] \(env\): group .*: (its actions are|leaf)"),
        ({"architecture.body.hidden": [5]}, r"stages\[0\] \(architecture\.body\.hidden\): nets\..* would be .* instead of"),
        ({"learner.lrr": 1}, r"stages\[0\]\.set: unknown key 'learner\.lrr'.* did you mean 'lr'"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_trained(change: dict[str, Any], why: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=why):
        trained(tmp_path / "run", config(Stage(0.5, change)))


def test_stages_are_read_written_and_refused(tmp_path: Path) -> None:
    text = 'env = "proving:additive?rows=8"\n[[stages]]\nuntil = 0.3\nset = { "env.options.rows" = 2, learner = { entropy = 0.1 } }\n'
    told = parse(text + '[[stages]]\nuntil = 900_000\n[stages.set]\nfaults = [{ kind = "noise", scale = 0.1 }]\n')
    assert told.stages[0] == Stage(0.3, {"env.options.rows": 2, "learner.entropy": 0.1}) and parse(dump(told)) == told
    assert staged(told, 0).env == "proving:additive?rows=2" and staged(told, 1).faults[0].scale == 0.1  # type: ignore[attr-defined]
    for change, why in (
        ("until = 1.0", "until is 1, the end of the run"),
        ("until = 0", "until is 0"),
        ('until = 0.5\nset = { "rollout.envs" = 4 }', "'rollout.envs', which holds for the whole run"),
    ):
        with pytest.raises(UserError, match=why):
            parse(f'env = "proving:additive"\n[[stages]]\n{change}')
    with pytest.raises(UserError, match=r"stages\[1\]\.until is 0\.2, update 2 of 6: .* after the one before, update 3"):
        trained(tmp_path / "run", config(Stage(0.5), Stage(0.2)))
    with pytest.raises(UserError, match="a fleet's actors step one environment"):
        parse(f'{text}[fleet]\nkind = "local"')
    with pytest.raises(UserError, match="make_train: stages are of runs"):
        PureTraining(config(Stage(0.5)))
    assert runtime_of(config()).total == 6


def ramped(**ramps: tuple[float, float]) -> RunConfig:
    return config(ramps={f"learner.{name}": ends for name, ends in ramps.items()})


@pytest.mark.slow
def test_a_ramp_that_stays_is_the_number_itself(tmp_path: Path) -> None:
    """Up to rounding, since a number that a program is given is multiplied in another order than one built in. One that moves differs."""
    nets = lambda name, what: newest(trained(tmp_path / name, what)[0].checkpoints)
    plain, still, moving = (
        read(nets(str(i), what).path)
        for i, what in enumerate((config(), ramped(entropy=(0.01, 0.01), lr=(5e-4, 5e-4)), ramped(entropy=(0.01, 5.0))))
    )
    actor = [name for name in plain if name.startswith("train.nets.actor")]
    far = lambda other: max(np.abs(plain[name].array - other[name].array).max() for name in actor)
    assert far(still) < 1e-5 < 1e-4 < far(moving)


@pytest.mark.parametrize("learner", [PolicyGradient(epochs=1, minibatches=1), QLearning(), Pqn(epochs=1, minibatches=1)])
def test_what_may_move_can_be_traced(learner: Any) -> None:
    """Every field that a learner says may move, all at once, in the program of an update."""
    what = config(learner=learner, architecture=Decentralized(Mlp((4,))))
    runtime = runtime_of(replace(what, ramps={f"learner.{name}": (getattr(learner, name),) * 2 for name in learner.rampable}))
    assert {name for name, _, _ in runtime.algorithm.ramps} == set(learner.rampable)
    shapes = jax.eval_shape(runtime.begin, np.uint32(0))  # type: ignore[attr-defined]
    jax.eval_shape(runtime.cycle, shapes)  # type: ignore[attr-defined]


def test_ramps_are_read_written_and_refused() -> None:
    told = parse('env = "any"\n[ramps]\nlearner.entropy = [0.02, 0.001]\n"learner.clip" = [0.2, 0.1]')
    assert told.ramped == (("entropy", 0.02, 0.001), ("clip", 0.2, 0.1)) and parse(dump(told)) == told
    for text, why in (
        ("learner.epochs = [1, 4]", r"ramps has 'learner\.epochs': learner\.lr, .* may move; for anything else use \[\[stages\]\]"),
        ("learner.clip = [0.2, -1]", r"PolicyGradient\.clip is -1\.0: out of range"),
        ("learner.clip = 0.2", "a list, such as"),
        ("learner.entropy = [1, 0]\n[learner]\nentropy_end = 0.1", "entropy_end is set, which is a ramp too"),
        ('learner.lr = [1, 2]\n[[stages]]\nuntil = 0.5\nset = { "learner.lr" = 1 }', "ramps and stages both set 'learner.lr'"),
    ):
        with pytest.raises(UserError, match=why):
            parse(f'env = "any"\n[ramps]\n{text}')


def test_a_later_stage_learns_over_the_link_that_faults_make() -> None:
    """Under the same worker processes: messages may be as old as a fault of training lets them come."""
    told = replace(
        config(Stage(0.5, {"learner.lr": 1e-3})), env=TWIN, architecture=Decentralized(Mlp((4,))), rollout=Rollout(4, 8, 1), seeds=1,
        comms=Broadcast(size=1), faults=(MessageDelay(2),),
    )  # fmt: skip
    judge = judging(told, runtime_of)
    stages = Stages(told, judge, runtime_of)
    try:
        stages.begin(None)
        first = stages.backend.algorithm.channel
        stages.enter(1, None)  # type: ignore[arg-type]
        assert stages.backend.algorithm.channel == first == told.channel and first.history == 3
    finally:
        stages.close()
        judge.close()
