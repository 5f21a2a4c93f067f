"""Policies play in other environments than they were trained in, where groups are alike; else group, leaf and sizes are named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marlstone.api.finding import find_policies, reopened
from marlstone.architectures import Ctde, Mlp
from marlstone.cli import main
from marlstone.config import RunConfig, dump
from marlstone.config.schema import Evaluation, Rollout
from marlstone.core.errors import UserError
from marlstone.learners import PolicyGradient
from marlstone.runs.checkpoint import save
from marlstone.runs.directory import RunDirectory
from marlstone.training.loop import runtime_of
from marlstone.training.record import write_spec
from marlstone.training.trained import evaluate

pytestmark = pytest.mark.usefixtures("compiled_once")


def left(folder: Path, **architecture: Any) -> RunDirectory:
    """What a run of a team of four leaves, with central critics, which see a state: a checkpoint, its best policies, a record."""
    config = RunConfig(
        "proving:swarm?agents=4", Ctde(Mlp((4,)), **architecture), learner=PolicyGradient(epochs=1, minibatches=1), rollout=Rollout(2, 4),
        evaluate=Evaluation(2, logged=0), steps=8, seeds=2, seed=0, keep_best=True,
    )  # fmt: skip
    run, runtime = RunDirectory.create(folder, dump(config)), runtime_of(config)
    state = runtime.placement.trim(runtime.start())
    write_spec(run, runtime)
    save(run.checkpoints, 8, state, {})
    save(run.best, 8, state.train.policy, {"steps": [8, 8]}, keep=None)
    run.finish({"acting": "sample", "best": {"acting": "mode"}, "steps": 8})
    return run


@pytest.fixture(scope="module")
def shared(compiled_once: None, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return left(tmp_path_factory.mktemp("shared") / "run", agent_ids=False)


def elsewhere(run: RunDirectory, env: str, which: str = "final") -> dict[str, Any]:
    run, checkpoint = find_policies(str(run.path), which)
    config, _ = reopened(run, {}, env, elsewhere=True)
    return evaluate(config, checkpoint, 2)


@pytest.mark.parametrize("which", ["final", "best"])
def test_shared_parameters_carry_to_a_larger_team(shared: RunDirectory, which: str) -> None:
    record = elsewhere(shared, "proving:swarm?agents=7", which)
    assert record["acting"] == {"final": "sample", "best": "mode"}[which]
    assert len(record["agent_returns"]) == 7 and np.isfinite(record["return_iqm"])
    assert (record["env"], record["trained_env"]) == ("proving:swarm?agents=7", "proving:swarm?agents=4")


def test_the_environment_itself_gives_what_the_run_reports(shared: RunDirectory) -> None:
    """Written with its defaults, it has another name: policies alone are taken, and play the same episodes."""
    named, own = elsewhere(shared, "proving:swarm?agents=4&rows=8"), elsewhere(shared, "proving:swarm?agents=4")
    assert named["episode_returns"] == own["episode_returns"] and named["trained_env"] != named["env"]


def test_agents_with_identities_carry_to_a_smaller_team_only(tmp_path: Path) -> None:
    """Agent i of a smaller team is who agent i was: the same episodes, the same actions as with the identities of the first ones."""
    run = left(tmp_path / "run")
    assert len(elsewhere(run, "proving:swarm?agents=3")["agent_returns"]) == 3
    with pytest.raises(
        UserError, match=r"group 'workers': actor\.0\.fuse\.agent of .* is \[4, 4\] and would be \[5, 4\]; .*agent_ids = false"
    ):
        elsewhere(run, "proving:swarm?agents=5")


def test_what_does_not_fit_is_refused(shared: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot play there: group .*: (its actions are|its observation)"):
        elsewhere(shared, "proving:climbing")
    apart = left(tmp_path / "run", sharing="none")
    with pytest.raises(UserError, match=r"group 'workers': actor\.0\..* would be .*; train with parameters that all agents share"):
        elsewhere(apart, "proving:swarm?agents=3")
    with pytest.raises(UserError, match="is another environment than run"):  # a resume is no evaluation
        reopened(shared, {}, "proving:swarm?agents=7")


def test_the_command_says_both_environments(shared: RunDirectory, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """And leaves what was evaluated in its own alone; suites ask of its own."""
    words = ["evaluate", str(shared.path), "--env", "proving:swarm?agents=6", "--episodes", "2"]
    assert main([*words, "--json", "--film", str(tmp_path / "out.gif")]) == 0
    out, err = capsys.readouterr()
    record = json.loads(out)
    assert record["trained_env"] == "proving:swarm?agents=4" and "its policies play elsewhere" in err
    assert record["film"]["frames"] == 9 and (tmp_path / "out.gif").is_file()
    np.testing.assert_allclose(record["film"]["returns"][0], record["episode_returns"][0][0], rtol=1e-4, atol=1e-5)
    assert (shared.path / "elsewhere.json").is_file() and not (shared.path / "evaluation.json").exists()
    assert main([*words, "--suite", "edge-cases"]) == 2
    assert "in its own environment" in capsys.readouterr().err
    assert main(["evaluate", str(shared.path), "--film-episodes", "2"]) == 2
    assert "add --film out.gif" in capsys.readouterr().err
