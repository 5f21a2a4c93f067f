"""`evaluate --suite messages`: what links are worth, what messages cost, and the alarm on chatter."""

import json
from pathlib import Path

import numpy as np
import pytest

from marlstone.cli import main
from marlstone.comms import Broadcast, Link, Targeted
from marlstone.config import Case, dump
from marlstone.config.schema import Evaluation, Rollout
from marlstone.core.acting import Acting
from marlstone.core.errors import UserError
from marlstone.core.records import replace
from marlstone.envs.faults import MessageCut, MessageDelay, MessageLoss, Noise
from marlstone.evaluation.messages.chatter import chatter_record
from marlstone.evaluation.messages.links import LinkJudge, worth_record
from marlstone.evaluation.messages.suite import messages_record, refuse_silence
from marlstone.evaluation.robustness.edge_cases import edge_cases
from marlstone.play.evaluator import Episodes
from marlstone.runs.checkpoint import save
from marlstone.runs.directory import RunDirectory
from marlstone.training.loop import runtime_of
from tests.evaluation.messages.small import config

LINE = f"{Path(__file__).parents[2] / 'twin.py'}:make"
pytestmark = pytest.mark.usefixtures("compiled_once")


def test_a_link_is_removable_by_the_whole_interval_of_its_loss() -> None:
    """Below 1% of what was learned, above it, or across it; nothing changed at all: removable, whatever was learned."""
    whole, chance = np.ones((5, 4)), np.zeros((5, 4))
    jitter = np.linspace(-0.001, 0.001, 5)[:, None] * np.ones(4)
    by = lambda lost, count=1: worth_record(whole, whole - lost, chance, count)
    assert by(0.003 + jitter)["removable"] is True and by(0.003 + jitter)["worth"] == pytest.approx(0.003)
    assert by(0.5 + jitter)["removable"] is False
    for near in (0.009, 0.011):
        assert by(near + 3 * jitter)["removable"] is None and "more seeds" in by(near + 3 * jitter)["note"]
    assert worth_record(chance, chance, chance, 1)["removable"] is True
    one = worth_record(whole[:1], whole[:1] - 0.5, chance[:1], 1)
    assert one["removable"] is None and one["loss_ci95"] == [None, None] and one["worth"] == 0.5
    wide = [np.diff(by(0.05 + jitter, count)["loss_ci95"])[0] for count in (1, 56)]
    assert wide[1] > 2 * wide[0]  # of all links together


def test_cutting_every_link_is_losing_every_message() -> None:
    """Two ways to the same silence: returns are equal, episode by episode; cutting one link is neither."""
    talk = Broadcast(size=2)
    runtime = runtime_of(config("proving:signal", comms=talk))
    state = runtime.start()
    cuts = [MessageCut(("*>*",)), MessageCut(("scout>worker",)), MessageCut(("worker>scout",))]
    silent, deaf, scout = (e.ended_only() for e in runtime.under_each(state, 16, cuts))
    lost = runtime_of(config("proving:signal", comms=replace(talk, link=Link(to_bad=1.0, to_good=0.0))))
    whole = runtime.evaluate(state, 16).ended_only()
    assert (silent == lost.evaluate(state, 16).ended_only()).all() and (silent != whole).any()
    assert (deaf == silent).all() and (scout == whole).all()  # only the worker earns anything
    assert len(runtime._cut) == 1  # one program


def test_large_teams_are_judged_by_sender_first() -> None:
    runtime = runtime_of(config("proving:swarm?agents=9", comms=Broadcast(size=1)))
    state = runtime.start()
    agents, told = runtime.algorithm.spec.team.agents, list[str]()
    whole, chance = np.ones((2, 2)), np.zeros((2, 2))
    record = LinkJudge(runtime, state, 2, "mode", whole, chance, told.append).record()
    assert [s["sender"] for s in record["senders"]] == list(agents)
    assert len({x["sender"] for x in record["links"]}) == 2 and len(record["links"]) == 16
    assert "most and the least valuable" in record["judged"]


def test_what_is_sent_is_reported_as_deployed_and_unenforced() -> None:
    """Gates open, 2 messages of 64 bits a step: a budget of 64 refuses half of them; without it twice as much is sent."""
    talk = Targeted(size=1, signature=1, gate=False, budget_bits=(64.0,))
    c = config("proving:signal", comms=talk)
    runtime = runtime_of(c)
    record = messages_record(runtime, runtime.start(), c, 4, "mode", lambda name: None)
    assert record["messages_per_step"] == 1 and record["bits_per_step"] == record["bits_p95"] == 64 and record["refused"] == 0.5
    assert record["unenforced"]["messages_per_step"] == 2 and record["unenforced"]["bits_p95"] == 128
    assert record["agents"]["scout"]["bits_per_step"] + record["agents"]["worker"]["bits_per_step"] == 64
    assert {(x["sender"], x["recipient"]): x["bits_per_step"] for x in record["links"]} == {
        ("scout", "worker"): 32, ("worker", "scout"): 32,
    }  # fmt: skip
    assert record["alarm"] is False and "return" in record["unenforced"]


def test_faults_of_messages_reach_learning_but_no_policy() -> None:
    c = config("proving:signal", comms=Broadcast(size=1), faults=(MessageDelay(2),))
    assert runtime_of(c).algorithm.channel.link == Link(delay=2) and c.comms.link == Link()


def test_faults_of_messages_are_edge_cases_of_the_one_program() -> None:
    """Beside a fault of sensors; everything lost is what a cut of everything is."""
    c = config("proving:signal", comms=Broadcast(size=2))
    runtime = runtime_of(c)
    state = runtime.start()
    cases = [Case("lost", (MessageLoss(1.0, 0.0),)), Case("noise", (Noise(0.1),)), Case("cut", (MessageCut(("*>*",)),))]
    lost, noise, cut = edge_cases(runtime, state, c, 16, "mode", cases)
    assert lost["return_per_seed"] == cut["return_per_seed"] != noise["return_per_seed"]


def test_worker_processes_cut_links_and_lose_messages_too() -> None:
    """Where Python steps: nothing is sent on cut links; what is lost was sent."""
    c = config(LINE, comms=Broadcast(size=1), rollout=Rollout(2, 4, 1), seeds=1)
    runtime = runtime_of(c)
    try:
        state = runtime.start()
        cuts = (MessageCut(("*>*",)), MessageLoss(1.0, 0.0))
        cut, lost = (e.metrics["messages_per_step"] for e in runtime.under_each(state, 2, cuts))
        assert (cut == 0).all() and (lost == 2).all()
    finally:
        runtime.close()


def test_nothing_to_count_is_refused() -> None:
    c = config("proving:additive")
    with pytest.raises(UserError, match="nobody talks"):
        refuse_silence(c, runtime_of(c).algorithm.spec)


def test_the_alarm_is_of_the_lower_end_of_somebody_who_asks_too_much() -> None:
    """Two agents, one asking half of its steps, the other hardly: the alarm names the first, at a bound below what is sure of it."""
    random = np.random.default_rng(0)
    asked = np.stack([random.binomial(16, 0.5, (5, 8)), random.binomial(16, 0.05, (5, 8))], -1)
    counts = {"requests": asked, "asking": asked + 1, "decisions": np.full((5, 8, 2), 16)}
    zeros, played = np.zeros((5, 8)), np.ones((5, 8), bool)
    of = lambda some: Episodes(zeros, zeros[..., None], zeros + 16, {}, played[some], 0, {k: v[some] for k, v in counts.items()})
    found = chatter_record(of(slice(None)), ("asker", "doer"), 0.3)
    assert found["alarm"] and len(found["chatter_alarms"]) == 1 and found["chatter_alarms"][0].startswith("asker spends 5")
    asker = found["chatter"]["asker"]
    assert asker["ci95"][0] < asker["steps"] < asker["ci95"][1] and asker["time"] == pytest.approx(asker["steps"] + 1 / 16)
    assert not chatter_record(of(slice(None)), ("asker", "doer"), asker["ci95"][0] + 0.01)["alarm"]
    assert chatter_record(of(slice(1)), ("asker", "doer"), 0.2)["alarm"]  # one seed: its episodes are the unit


def test_the_alarm_ends_the_command_with_3_and_is_an_event(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Random play of errands asks in a sixth of its steps, above a bound of 1%. No channel is needed."""
    asked = config("proving:errands?workers=2", evaluate=Evaluation(4, 0, chatter=0.01), seeds=1, acting=Acting("sample"))
    run = RunDirectory.create(tmp_path / "run", dump(asked))
    runtime = runtime_of(asked)
    save(run.checkpoints, 0, runtime.placement.trim(runtime.start()), {})  # as if it had been trained
    assert main(["evaluate", str(run.path), "--episodes", "16", "--suite", "messages"]) == 3
    assert "of its steps on requests" in capsys.readouterr().out
    record = json.loads((run.path / "evaluation.json").read_text())
    assert record["alarm"] and all(0.05 < x["ci95"][0] < x["steps"] < 0.3 and x["time"] > x["steps"] for x in record["chatter"].values())
    assert "links" not in record and set(record["chatter"]) == {"worker_0", "worker_1"}
    with run.store() as store:
        assert sum(n for (name, _), n in store.counts().items() if name == "chatter") == 2
