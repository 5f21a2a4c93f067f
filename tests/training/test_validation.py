"""Validation while a run trains: it changes nothing that is learned, keeps the best policies, ends runs, and survives resumes."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from marlstone.api.finding import find_policies
from marlstone.architectures import Decentralized, Mlp
from marlstone.cli.train import _parser, _resumed, overrides
from marlstone.config import RunConfig, Stop, dump, load, parse
from marlstone.config.schema import Evaluation, Rollout
from marlstone.core.errors import UserError
from marlstone.core.records import replace
from marlstone.core.seeds import seeds_of
from marlstone.credit import Team
from marlstone.learners import PolicyGradient
from marlstone.play.judging import CHOICE_KEY, VALIDATION_KEY
from marlstone.runs.checkpoint import listed, newest, step_of
from marlstone.runs.directory import RunDirectory
from marlstone.runs.policies import read_policies
from marlstone.training.loop import runtime_of, train
from marlstone.training.trained import evaluate
from marlstone.training.validation import VALIDATED, flat

pytestmark = pytest.mark.usefixtures("compiled_once")
EVERY = 32


def config(**more: Any) -> RunConfig:
    """Eight updates of 4 environments by 8 steps, each with a checkpoint; learned so fast that returns go up and down."""
    learner = PolicyGradient(lr=0.1, epochs=1, minibatches=2)
    plain = RunConfig(
        "proving:climbing", Decentralized(Mlp((4,))), Team(), learner, Rollout(4, 8), Evaluation(4, logged=0), steps=8 * EVERY, seeds=2,
        seed=0, checkpoint_every=EVERY,
    )  # fmt: skip
    return replace(plain, **more)


def start(folder: Path, what: RunConfig) -> RunDirectory:
    return RunDirectory.create(folder, dump(what))


def trained(folder: Path, what: RunConfig, **more: Any) -> tuple[RunDirectory, dict[str, Any]]:
    run = start(folder, what)
    return run, train(what, run, limited=False, **more)


@pytest.fixture(scope="module")
def best(compiled_once: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDirectory, dict[str, Any]]:
    return trained(tmp_path_factory.mktemp("best") / "run", config(keep_best=True))


def validations(run: RunDirectory) -> np.ndarray:
    """`[seeds checkpoints]`"""
    with run.store() as store:
        return np.stack([series.value for series in store.series(VALIDATED)])


def test_validation_changes_nothing_that_is_learned_and_nothing_that_is_reported(best: Any, tmp_path: Path) -> None:
    _, plain = trained(tmp_path / "run", config())
    for field in ("parameters_sha256", "episode_returns", "acting", "ledger", "steps", "stopped_by"):
        assert best[1][field] == plain[field], field
    assert "best" not in plain and plain["stopped_by"] == "steps"


def test_validation_episodes_are_drawn_from_keys_of_their_own() -> None:
    most = seeds_of(10**6, 1000)[-1]
    assert most < CHOICE_KEY and CHOICE_KEY + 10**6 < VALIDATION_KEY and VALIDATION_KEY + 10**6 < 2**31


def test_the_best_is_the_first_of_the_highest_validations_seed_by_seed(best: Any) -> None:
    """Its steps, and the policies themselves: those that were kept at those steps."""
    run, record = best
    values = validations(run)
    at = values.argmax(1)
    assert record["best"]["steps"] == ((at + 1) * EVERY).tolist() and values.shape == (2, 8)
    np.testing.assert_allclose(record["best"]["chosen_on"]["returns"], values.max(1), rtol=1e-6)
    shapes = runtime_of(config()).shapes().train.policy
    kept = read_policies(newest(run.best).path, shapes, 2)
    for i, step in enumerate(record["best"]["steps"]):
        then = read_policies(run.policies / f"step-{step:012d}", shapes, 2)
        for a, b in zip(jax.tree.leaves(kept), jax.tree.leaves(then), strict=True):
            np.testing.assert_array_equal(np.asarray(a)[i], np.asarray(b)[i])


def test_the_best_is_reported_on_fresh_episodes_beside_the_final_policy_which_stays_deployed(best: Any) -> None:
    """`evaluate --checkpoint best` plays what the record reports, saved policies lie beside the deployed ones."""
    run, record = best
    run.finish(record)
    checkpoint = find_policies(str(run.path), "best")[1]
    again = evaluate(config(keep_best=True), checkpoint, 4)
    assert again["checkpoint"] == "best" and again["steps"] == record["best"]["steps"]
    assert again["returns"] == record["best"]["returns"] and again["acting"] == record["best"]["acting"]
    assert evaluate(config(keep_best=True), newest(run.checkpoints), 4)["returns"] == record["returns"]
    assert record["best"]["deployed"] == "final"
    assert sorted(p.name for p in run.artifacts.iterdir()) == ["best-seed-0", "best-seed-1", "seed-0", "seed-1"]
    with pytest.raises(UserError, match=r"--checkpoint bset: .*did you mean 'best'"):
        find_policies(str(run.path), "bset")


def test_a_resumed_run_keeps_the_best_of_one_that_never_stopped(best: Any, tmp_path: Path) -> None:
    """Stopped in the middle, and gone back to before that: what was the best by then is still known."""
    run, seen = start(tmp_path / "run", what := config(keep_best=True)), []
    stopped = train(what, run, stop=lambda: bool(seen), progress=lambda p: seen.append(p) if p.step >= 5 * EVERY else None, limited=False)
    assert stopped["stopped"] and 5 * EVERY <= stopped["steps"] < 8 * EVERY
    earliest = listed(run.checkpoints)[0]
    assert min(map(step_of, listed(run.best))) <= step_of(earliest)
    resumed = train(what, run, resume=newest(run.checkpoints), limited=False)
    for field in ("steps", "chosen_on", "returns", "return_iqm", "over_final", "acting"):
        assert resumed["best"][field] == best[1]["best"][field], field
    np.testing.assert_array_equal(validations(run), validations(best[0]))


def test_a_return_that_is_reached_ends_a_run_for_all_seeds(best: Any, tmp_path: Path) -> None:
    """At the first checkpoint whose IQM over seeds reaches it; the record says so; a resume asks for more steps or another rule, and then
    becomes the run that never stopped."""
    curve = validations(best[0]).mean(0)
    first = int(np.argmax(curve >= curve[2]))
    run, record = trained(tmp_path / "run", what := config(stop=Stop(at_return=float(curve[2]))))
    assert (record["stopped_by"], record["steps"], record["steps_asked"]) == ("return", (first + 1) * EVERY, 8 * EVERY)
    assert {ledger["rows"] for ledger in record["ledger"]} == {record["steps"]} and (run.artifacts / "seed-0").is_dir()
    run.finish(record)
    asked = lambda *words: _parser().read(["--resume", str(run.path), *words])
    with pytest.raises(
        UserError, match=rf"finished: stop\.at_return ended it at step {record['steps']} of 256; .*--set stop\.at_return=none"
    ):
        _resumed(flags := asked(), overrides(flags))
    flags = asked("--set", "stop.return=none")
    without, _, checkpoint, _ = _resumed(flags, overrides(flags))
    assert without.stop == Stop() and checkpoint.step == record["steps"]
    resumed = train(without, run, resume=checkpoint, limited=False)
    assert resumed["parameters_sha256"] == best[1]["parameters_sha256"] and resumed["stopped_by"] == "steps"
    assert what.stop.validates


def test_minutes_end_a_run_where_it_stands(tmp_path: Path) -> None:
    _, record = trained(tmp_path / "run", config(stop=Stop(minutes=1e-6)))
    assert record["stopped_by"] == "minutes" and 0 < record["steps"] < 8 * EVERY


def test_a_rule_that_holds_at_the_end_did_not_end_the_run(tmp_path: Path) -> None:
    _, record = trained(tmp_path / "run", config(steps=EVERY, stop=Stop(at_return=-1e9)))
    assert record["stopped_by"] == "steps" and record["steps"] == EVERY


def test_a_plateau_is_a_window_without_an_improvement_beyond_the_interval() -> None:
    """Of five seeds: a steady rise is none; one that ended is, once the window is behind it; a rise of one seed alone shows nothing."""
    random = np.random.default_rng(0)
    noise = {step: random.normal(0, 0.01, 5) for step in range(10, 101, 10)}
    rising = {step: step / 10 + x for step, x in noise.items()}
    assert not flat(rising, 30)
    ended = {step: min(step, 50) / 10 + x for step, x in noise.items()}
    at = lambda last: flat({s: x for s, x in ended.items() if s <= last}, 30)
    assert [last for last in noise if at(last)] == [80, 90, 100]
    one = {step: 5.0 + x + (np.arange(5) == 0) * (step > 50) for step, x in noise.items()}
    assert flat(one, 30)
    assert not flat({10: np.array([1.0, np.nan])}, 5) and not flat({}, 5)


def test_rules_are_read_and_refused() -> None:
    told = parse('env = "any"\n[stop]\nreturn = 0.9\nminutes = 30\nplateau = 0.2')
    assert told.stop == Stop(0.9, 30.0, 0.2) and parse(dump(told)) == told
    assert load(None, {"env": "any", "stop.return": "0.5"}).stop.at_return == 0.5
    for text, why in (
        ("[stop]\nreturn = 1\nat_return = 2", "both given"),
        ("[stop]\nplateau = 1.5", r"plateau is 1\.5: give a share"),
        ("[stop]\nminutes = 0", "positive number of minutes"),
        ("seeds = 1\n[stop]\nplateau = 0.2", "one seed, which has no interval"),
        ("[evaluate]\nvalidation = 8", "nothing asks for it: set keep_best"),
    ):
        with pytest.raises(UserError, match=why):
            parse(f'env = "any"\n{text}')
