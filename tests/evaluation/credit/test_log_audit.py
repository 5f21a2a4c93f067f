"""Logged episodes come back as they were played, and are scored as if they had just been."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np
import pytest

from marlstone.architectures import Decentralized, Mlp
from marlstone.config import RunConfig
from marlstone.config.schema import Rollout
from marlstone.core.acting import Acting
from marlstone.core.episodes import WholeEpisodes, whole_episodes
from marlstone.core.errors import UserError
from marlstone.core.records import replace
from marlstone.credit import Team
from marlstone.evaluation.credit.log_audit import audit_log, summary, trajectories_for
from marlstone.evaluation.episode_log import Log, difference, evaluate_logged, open_log, refuse_taken, write
from marlstone.learners import PolicyGradient
from marlstone.runs.arrays import ARRAYS
from marlstone.runs.checkpoint import Checkpoint, save
from marlstone.training.loop import runtime_of

pytestmark = pytest.mark.usefixtures("compiled_once")


@dataclass(frozen=True)
class Paid(Team):
    """Says that an agent contributed what it was paid, and that these are shares of the return."""

    kind: ClassVar[str] = "paid"
    claims: ClassVar[Any] = "shares"

    def contribution(self, p: Any, views: Any, trajectory: Any) -> Any:
        return trajectory.step.reward[1:]


CONFIG = RunConfig(
    "proving:dummy?rows=3",
    Decentralized(Mlp((4,))),
    Paid(),
    PolicyGradient(epochs=1, minibatches=1),
    Rollout(16, 2),
    steps=32,
    seeds=2,
    seed=5,
    acting=Acting("sample"),
)


@dataclass(frozen=True)
class Kept:
    checkpoint: Checkpoint
    record: dict[str, Any]
    log: Path


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """A run that has learned nothing yet, and 35 of its episodes per seed, played 16 at a time."""
    folder = tmp_path_factory.mktemp("run")
    runtime = runtime_of(CONFIG)
    checkpoint = Checkpoint(save(folder / "checkpoints", 0, runtime.placement.trim(runtime.start()), {}), 0, {})
    log = folder / "logs" / "first"
    return Kept(checkpoint, evaluate_logged(CONFIG, checkpoint, 35, log), log)


@pytest.fixture(scope="module")
def opened(kept: Kept) -> Log:
    return open_log(kept.log)


# ---- on the disk
def test_a_log_holds_what_was_played_and_its_record_is_of_that(kept: Kept, opened: Log) -> None:
    runtime = runtime_of(CONFIG)
    assert opened.spec == runtime.algorithm.spec and opened.env == CONFIG.env and list(opened.trajectories) == [5, 6]
    for i, c in enumerate(opened.trajectories.values()):
        whole = whole_episodes(c.step, np.zeros((*c.logp.shape[:2], 0)), opened.spec.metrics)
        assert (whole.length == 3).all() and whole.env.tolist() == list(range(35))
        assert kept.record["returns"][i] == pytest.approx(whole.team_return.mean())
        seen = c.step.obs[0]["symbol"][:, 0].reshape(35, -1)
        assert len(np.unique(seen, axis=0)) > 20  # rounds are not each other's copies
    assert kept.record["episodes"] == 35 and kept.record["log"] == str(kept.log)


def test_what_is_written_comes_back_bit_for_bit(opened: Log, tmp_path: Path) -> None:
    again = open_log(write(tmp_path / "a" / "b", opened.env, "sample", opened.spec, opened.trajectories))
    for a, b in zip(jax.tree.leaves(opened.trajectories), jax.tree.leaves(again.trajectories), strict=True):
        np.testing.assert_array_equal(a, b)
    assert jax.tree.structure(opened.trajectories) == jax.tree.structure(again.trajectories) and again.act == "sample"


def test_what_is_no_log_is_refused(kept: Kept, tmp_path: Path, opened: Log) -> None:
    with pytest.raises(UserError, match="already there"):
        refuse_taken(kept.log)
    with pytest.raises(UserError, match="does not exist"):
        open_log(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no log of episodes"):
        open_log(kept.checkpoint.path)
    path = write(tmp_path / "log", opened.env, "mode", opened.spec, opened.trajectories)
    data = bytearray((path / ARRAYS).read_bytes())
    data[-1] ^= 1
    (path / ARRAYS).write_bytes(data)
    with pytest.raises(UserError, match=f"{ARRAYS} is altered"):
        open_log(path)


def test_the_first_difference_is_named(opened: Log) -> None:
    spec = opened.spec
    (group,) = spec.groups
    assert difference(spec, spec) is None
    renamed = replace(spec, groups=(replace(group, agents=("boss", *group.agents[1:])),))
    assert difference(renamed, spec) == "groups.0.agents.0 is 'boss' in the log and 'worker_0' in the run"
    assert difference(spec, replace(spec, horizon=9)) == "horizon is 3 in the log and 9 in the run"
    assert "metrics.score is" in str(difference(spec, replace(spec, metrics={})))


# ---- scored
def test_a_method_that_says_what_agents_were_paid_is_believed_of_a_log(kept: Kept, opened: Log) -> None:
    """Of each seed's own episodes, however many are scored at once."""
    record = audit_log(CONFIG, kept.checkpoint, kept.log)
    assert record["claims"] == "shares" and record["episodes"] == [35, 35] and record["efficiency_error"] < 1e-5
    assert record["contributions"] == pytest.approx(record["own_returns"], abs=1e-6)
    assert record["team_return"] == pytest.approx(np.mean(kept.record["returns"]))
    assert record["truth"] is record["rank_correlation"] is record["success"] is None
    assert record["success_correlation"] == dict.fromkeys(opened.spec.agents) and record["return_correlation"]["worker_1"] > 0.5


def test_a_log_of_another_environment_is_refused(kept: Kept) -> None:
    with pytest.raises(UserError, match=r"does not fit a run in proving:dummy\?rows=4: horizon is 3 in the log and 4 in the run"):
        audit_log(replace(CONFIG, env="proving:dummy?rows=4"), kept.checkpoint, kept.log)


def test_seeds_score_their_own_episodes_or_all(opened: Log) -> None:
    own, foreign = trajectories_for(opened, (6, 7))
    np.testing.assert_array_equal(own.step.reward, opened.trajectories[6].step.reward)
    assert len(foreign.logp) == 70


def test_contributions_that_go_with_success_are_told_from_those_that_do_not() -> None:
    def seed(sign: float) -> WholeEpisodes:
        wins = np.array([0.0, 1, 0, 1, 1])
        said = np.stack([wins + 1, -wins, sign * np.arange(5), np.ones(5)], -1)
        count = np.zeros(5, int)
        return WholeEpisodes(count, count, count + 2, 10 * wins, said, said, {"success": wins})

    record = summary([seed(1), seed(1), seed(1)], ("helper", "saboteur", "other", "idle"), False)
    assert record["success"] == pytest.approx(0.6) and record["team_return"] == pytest.approx(6)
    assert record["success_correlation"]["helper"] == pytest.approx(1) and record["success_correlation"]["saboteur"] == pytest.approx(-1)
    assert record["return_correlation"]["idle"] is None and record["efficiency_error"] is None
    assert abs(record["return_correlation"]["other"]) < 0.9
    mixed = summary([seed(1), seed(-1), seed(1), seed(-1)], ("helper", "saboteur", "other", "idle"), False)
    low, high = mixed["success_correlation_ci95"]["other"]
    assert low < 0 < high
