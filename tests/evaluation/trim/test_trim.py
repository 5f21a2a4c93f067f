"""`marlstone trim`: what is of no use goes, what is needed stays, the whole is proven, and what is deployed decides as what was judged."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from marlstone.architectures import Decentralized, Gru
from marlstone.cli import main
from marlstone.comms import Broadcast
from marlstone.core.errors import UserError
from marlstone.core.records import replace
from marlstone.evaluation.trim.activity import importance, unmeasured
from marlstone.evaluation.trim.candidates import calls, leaves
from marlstone.evaluation.trim.loss import loss_of
from marlstone.evaluation.trim.networks import Networks
from marlstone.evaluation.trim.new_run import acting
from marlstone.evaluation.trim.removals import Removals, config_without
from marlstone.evaluation.trim.search import largest
from marlstone.evaluation.trim.trials import Trials
from marlstone.policy.policy import Policy
from marlstone.tools import DelayLine, ExternalMemory
from marlstone.training.loop import runtime_of
from tests.evaluation.messages.small import config as small
from tests.evaluation.trim.planted import as_run, configured, planted

pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.fixture(scope="module")
def trimmed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """A planted run, what `trim` made of it, and the record."""
    home = tmp_path_factory.mktemp("runs")
    config = configured()
    kept = as_run(config, planted(config), home / "talking")[1].path
    assert main(["trim", str(kept), "--episodes", "32", "--out", str(home / "lean"), "--json"]) == 0
    return home / "talking", home / "lean", json.loads((home / "lean" / "trim.json").read_text())


def test_what_is_of_no_use_goes_and_what_is_needed_stays(trimmed: tuple[Path, Path, dict[str, Any]]) -> None:
    """Of two links, two leaves, six numbers and two layers of eleven units: the worker's, the role, two numbers and three units each."""
    record = trimmed[2]
    gone = {(x["kind"], x["name"]) for x in record["removed"]}
    stays = {(x["kind"], x["name"]) for x in record["candidates"] if x["loss"] > 0.1}
    assert {("link", "worker>scout"), ("leaf", "team:role")} <= gone and {("link", "scout>worker"), ("leaf", "team:symbol")} <= stays
    assert not gone & stays and record["return_difference_ci95"] == [0, 0] and record["loss_ci95"] == [0, 0]
    units = {x["name"].partition(":")[0] for x in record["removed"] if x["kind"] == "units"}
    assert units == {"hidden 0", "hidden 1"} and any(x["kind"] == "numbers" for x in record["removed"])
    assert record["after"]["messages"] == 1 and record["before"]["messages"] == 2 and record["after"]["flops"] < record["before"]["flops"]
    assert record["saved_shares"]["bits"] > 0.5 < record["saved_share"] + 0.5


def test_the_new_run_is_a_run(trimmed: tuple[Path, Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    """It is evaluated, acts by itself on less, says where it came from, can be trimmed again, and learns no more."""
    old, new, record = trimmed
    assert main(["evaluate", str(new), "--episodes", "8", "--json"]) == 0
    played = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert played["return_iqm"] == pytest.approx(1.0) and played["messages_per_step"] == 1
    kept = json.loads((new / "result.json").read_text())
    assert kept["trimmed_from"]["run"] == str(old) and kept["trimmed_from"]["removed"] == record["removed"]
    policy = Policy.load(new / "policy" / "seed-0")
    assert (
        policy.channel is not None
        and policy.channel.cut == ("worker>scout",)
        and set(policy.spec_without_goals.groups[0].observation) == {"symbol"}
    )
    see = lambda k: {"scout": {"symbol": np.eye(4)[k]}, "worker": {"symbol": np.zeros(4)}}
    _, memory = policy.act(see(2))
    actions, memory = policy.act(see(0), memory)
    assert actions["worker"] == 3 and memory.wire.sent.sum() == 1
    assert main(["trim", str(new), "--episodes", "8", "--kinds", "links,leaves", "--json"]) == 3
    again = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [x["name"] for x in again["candidates"]] == ["scout>worker"] and again["removed"] == []
    assert main(["train", "--resume", str(new)]) == 2 and "was trimmed and only acts" in capsys.readouterr().err
    with pytest.raises(UserError, match="is already there"):
        main_refuses(new)


def main_refuses(out: Path) -> None:
    """What `--out` is checked by."""
    from marlstone.evaluation.trim.new_run import refuse_taken

    refuse_taken(out)


@pytest.mark.parametrize(
    ("gru", "sharing"),
    [(False, "all"), *(pytest.param(*x, marks=pytest.mark.slow) for x in ((False, "none"), (True, "all"), (True, "none")))],
)
def test_what_is_deployed_decides_as_what_was_judged(gru: bool, sharing: Any) -> None:
    """Of random networks, one or one per agent: silenced arrays in the whole program, and smaller ones in that of the trimmed
    configuration, take the same actions and earn the same; nothing removed is the same to the bit."""
    c = small("proving:signal", comms=configured().comms)
    body = Gru(7, 6, (5,)) if gru else c.architecture.body
    c = replace(c, architecture=Decentralized(replace(body, hidden=(8, 6)) if not gru else body, sharing))
    runtime = runtime_of(c)
    state = runtime.start()
    policies, gain = jax.device_get(runtime.placement.trim(state.train.policy)), 1.0
    shaken = jax.tree.map(lambda x: x + np.float32(gain) * np.random.default_rng(1).normal(size=x.shape).astype(x.dtype), policies.actor)
    policies = replace(policies, actor=shaken)
    actors = runtime.algorithm.architecture.actors(runtime.algorithm.spec)
    assert not unmeasured(actors)
    played = runtime.player(4, "mode")(state)
    networks = Networks(actors, policies, importance(actors, policies, [jax.device_get(t) for t in played], c.comms))
    trials = Trials(runtime, networks, 8, "sample", lambda nth: (10 * nth, 10 * nth + 1))
    assert (
        trials.without(Removals(), 1).team_return
        == runtime.evaluate(None, 8, "sample", policies=runtime.placement.pad(policies), keys=(10, 11)).team_return
    ).all()
    units = {"before": 3, "recurrent": 2, "after 0": 2} if gru else {"hidden 0": 3, "hidden 1": 2}
    gone = Removals(frozenset({("worker", "scout")}), leaves=frozenset({"team:role"}), units=units, numbers=2)
    judged = trials.without(gone, 1)
    with acting(config_without(c, gone), networks.cut(gone), 0) as (after, smaller):
        deployed = after.evaluate(smaller, 8, "sample", keys=(10, 11))
    assert (deployed.team_return == judged.team_return).all() and (deployed.team_return != trials.whole(1).team_return).any()


def test_a_call_that_nobody_needs_is_one_that_is_illegal() -> None:
    """Without it agents act by what is left, and nobody calls; other agents go on calling."""
    c = small("proving:errands?workers=2")
    runtime = runtime_of(c)
    state = runtime.start()
    networks = Networks(
        runtime.algorithm.architecture.actors(runtime.algorithm.spec), jax.device_get(runtime.placement.trim(state.train.policy)), ({},)
    )
    trials = Trials(runtime, networks, 8, "sample", lambda nth: (nth, nth + 1))
    made = [np.asarray(trials.without(Removals(calls=frozenset(x)), 0).told["calls"]).sum((0, 1)) for x in ((), ("worker_1:5",))]
    assert (made[0] > 0).all() and made[1][1] == 0 and made[1][0] > 0


def test_a_tool_that_nobody_needs_is_one_that_nobody_has() -> None:
    """With it masked in the whole program, and with the toolbox of the trimmed configuration: the same calls, the same returns."""
    tool = DelayLine(name="radar", reads="symbol", size=4, price=0.5, hidden=False)
    c = replace(small("proving:signal"), tools=(tool,), memory=ExternalMemory(slots=1, width=2))
    runtime = runtime_of(c)
    policies = jax.device_get(runtime.placement.trim(runtime.start().train.policy))
    networks = Networks(runtime.algorithm.architecture.actors(runtime.algorithm.spec), policies, ({},))
    trials = Trials(runtime, networks, 8, "sample", lambda nth: (nth, nth + 1), c.toolbox)
    found = {x.name: x for x in calls(trials.whole(0), runtime.algorithm, c.toolbox)}
    assert set(found) == {f"{a}:{k}" for a in ("scout", "worker") for k in ("radar", "write(0)", "read(0)")}
    assert found["worker:radar"].saves["paid"] == pytest.approx(0.5 * found["worker:radar"].saves["calls"]) and not leaves(networks, c)
    gone = Removals(calls=frozenset({"worker:radar", "scout:read(0)"}))
    judged = trials.without(gone, 0)
    with acting(config_without(c, gone), policies, 0) as (after, state):
        deployed = after.evaluate(state, 8, "sample", keys=(0, 1))
    assert after.env.spec.metrics.keys() == runtime.env.spec.metrics.keys()
    for k in ("tool_calls", "memory_reads", "usage_price"):
        assert (deployed.metrics[k] == judged.metrics[k]).all() and deployed.metrics[k].sum() < trials.whole(0).metrics[k].sum()
    with pytest.raises(ValueError, match=r"cut_calls has 'worker:sonar': give 'agent:choice', with one of the choices radar"):
        replace(c, cut_calls=("worker:sonar",))


@pytest.mark.slow  # worker processes
def test_links_of_an_environment_that_python_steps_go_alike() -> None:
    """Refused by name in worker processes, or not there in the trimmed configuration: the same returns."""
    c = small(f"{Path(__file__).parents[2] / 'twin.py'}:make", comms=Broadcast(size=2, gate=False))
    runtime = runtime_of(c)
    policies = jax.device_get(runtime.placement.trim(runtime.start().train.policy))
    networks = Networks(runtime.algorithm.architecture.actors(runtime.algorithm.spec), policies, ({},))
    trials = Trials(runtime, networks, 4, "mode", lambda nth: (nth, nth + 1))
    gone = Removals(frozenset({("puller", "pusher")}))
    judged, whole = trials.without(gone, 0), trials.whole(0)
    runtime.close()
    with acting(config_without(c, gone), policies, 0) as (after, state):
        deployed = after.evaluate(state, 4, "mode", keys=(0, 1))
    assert (np.asarray(deployed.team_return) == judged.team_return).all()
    assert deployed.metrics["messages_per_step"].max() == 1 < whole.metrics["messages_per_step"].min()


def test_a_loss_is_within_the_bound_by_its_whole_interval_and_for_every_seed() -> None:
    """Nothing lost; half a percent; one and a half; one seed that loses all; nothing learned; one episode."""
    random = np.random.default_rng(0)
    whole, chance = 1 + 0.1 * random.normal(size=(5, 400)), 0.1 * random.normal(size=(5, 400))
    noise = 0.01 * random.normal(size=whole.shape)
    lost = lambda x: loss_of(whole, whole - x, chance, 0.01)
    assert lost(0 * noise).within(0.01) and lost(0 * noise).ci == (0, 0)
    assert lost(0.005 + noise).within(0.01) and not lost(0.015 + noise).within(0.01) and not lost(0.015 + noise).within(0.0149)
    one = noise.copy()
    one[3] += 0.04
    assert lost(one).ci[1] < 0.01 and lost(one).harmed == (3,) and not lost(one).within(0.01)
    assert not loss_of(chance, chance, chance, 0.01).within(0.01) and not loss_of(whole[:, :1], whole[:, :1], chance[:, :1], 0.01).within(
        0.01
    )
    wide = [np.diff(loss_of(whole, whole - noise, chance, 0.01, count).ci)[0] for count in (1, 50)]
    assert wide[1] > 1.5 * wide[0]


def test_intervals_of_a_loss_cover_it() -> None:
    """Nineteen in twenty, also where few episodes lose much."""
    random, held = np.random.default_rng(0), 0
    for _ in range(400):
        whole, chance = 2 + random.normal(size=(3, 128)), random.normal(size=(3, 128))
        ends = loss_of(whole, whole - 0.4 * (random.uniform(size=whole.shape) < 0.1), chance, 0.01).ci
        held += ends[0] <= 0.02 <= ends[1]
    assert held >= 0.92 * 400


def test_a_whole_that_loses_more_than_the_bound_removes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As found on episodes that selected nothing: no run, and exit code 3."""
    from marlstone.evaluation.trim import trim as module

    config = configured(seeds=1)
    kept = as_run(config, planted(config), tmp_path / "talking")[1].path
    monkeypatch.setattr(module, "config_without", lambda c, gone: config_without(c, gone | Removals(frozenset({("scout", "worker")}))))
    words = ["trim", str(kept), "--episodes", "16", "--kinds", "links", "--out", str(tmp_path / "lean"), "--json"]
    assert main(words) == 3 and not (tmp_path / "lean").exists()
    record = json.loads((tmp_path / "talking" / "trim.json").read_text())
    assert record["removed"] == [] and record["saved_share"] == 0 and "not shown to be within" in record["why"] and record["loss"] > 0.1


def test_a_log_says_which_links_change_no_decision(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without playing: the worker's link never did, the scout's did; and of leaves."""
    config = configured()
    run, checkpoint = as_run(config, planted(config), tmp_path / "talking")
    assert main(["evaluate", str(checkpoint.path), "--episodes", "4", "--log", str(tmp_path / "log")]) == 0
    capsys.readouterr()
    assert main(["trim", str(checkpoint.path), "--from-log", str(tmp_path / "log"), "--kinds", "links,leaves", "--json"]) == 0
    logged = {x["name"]: x for x in json.loads(capsys.readouterr().out.splitlines()[-1])["logged"]}
    assert logged["worker>scout"]["changed"] == logged["team:role"]["changed"] == 0 < logged["worker>scout"]["upper"] < 1
    assert logged["scout>worker"]["changed"] > 0 and logged["scout>worker"]["saved"]["messages"] == 1
    assert (
        logged["team:symbol"]["changed"] == 0 < logged["team:symbol"]["said"] and logged["team:role"]["said"] == 0
    )  # the scout may only speak
    assert not (run.path / "lean").exists()


def test_of_a_ladder_the_highest_rung_is_reported() -> None:
    from marlstone.evaluation.trim.candidates import Candidate
    from marlstone.evaluation.trim.search import Found

    zero = loss_of(np.ones((1, 4)), np.ones((1, 4)), np.zeros((1, 4)), 0.01)
    rung = lambda n: Found(Candidate("units", f"{n} of 8", Removals(units={"hidden 0": n}), {"flops": n}, "hidden 0"), zero, True)
    link = lambda s, r, kind="link": Found(Candidate(kind, f"{s}>{r}", Removals(frozenset({(s, r)})), {}), zero, True)
    names = [f.candidate.name for f in largest([rung(2), rung(4), rung(1), link("a", "b"), link("a", "*", "sender"), link("b", "a")])]
    assert names == ["4 of 8", "a>*", "b>a"]


def test_the_command_refuses_what_makes_no_sense(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (["--kinds", "link"], "there is no such kind; did you mean 'links'"),
        (["--loss", "2"], "give a share above 0 and below 1"),
        (["--episodes", "1"], "give at least 2"),
    ):
        assert main(["trim", str(tmp_path), *words]) == 2 and message in capsys.readouterr().err
