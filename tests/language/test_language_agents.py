"""Language models as agents, against a real server whose log-probs are known exactly: ids as sampled, answers counted, credit of each."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium.spaces as gs
import numpy as np
import pytest

from examples.language_agents import Crossing
from examples.stub_language_model import END, Stub, tokenize
from marlstone.core.errors import UserError
from marlstone.cost.http_calls import CallRefused
from marlstone.cost.retries import RetryPolicy
from marlstone.language.agents import LanguageAgent
from marlstone.language.credit import Credit, default_action, difference, individual, leave_one_out, team
from marlstone.language.decisions import Decision, read_decisions, write_decisions
from marlstone.language.endpoint import Endpoint, LanguageModel
from marlstone.language.export import export, training_rows
from marlstone.language.on_policy import OffPolicy, check_on_policy
from marlstone.language.parsers import Choice, Json, Pattern, Whole
from marlstone.language.playing import Played, play

QUICK = RetryPolicy(attempts=3, timeout=20.0, wait_initial=0.0, wait_jitter=0.0)
WORDS = Choice(("wait", "go"))
LETTERS = "abcdefghijklmnopqrstuvwxyz "


@pytest.fixture(scope="module")
def stub() -> Iterator[Stub]:
    with Stub() as served:
        yield served


def model(stub: Stub, **more: Any) -> LanguageModel:
    return LanguageModel(Endpoint("stub", stub.url, max_tokens=8, seed=3, retries=QUICK, **more))


def crossed(stub: Stub, episodes: int = 3, **more: Any) -> Played:
    agent = LanguageAgent(model(stub), WORDS, **more)
    return play(Crossing(), {"north": agent, "east": agent, "bell": lambda name, seen: 1}, episodes, tell=lambda _: None)


@pytest.fixture(scope="module")
def played(stub: Stub) -> Played:
    return crossed(stub, system="you are a traffic light", turns=6)


def retokenized(decision: Decision) -> Decision:
    """What a program records that has only the text."""
    return replace(decision, response_ids=(*tokenize(decision.text), END))


def test_on_policy_ratios_are_exactly_one_and_a_retokenizing_control_is_caught(stub: Stub, played: Played) -> None:
    found = check_on_policy(model(stub), played.decisions).require()
    assert found.exact and found.decisions == 36 and found.tokens == sum(len(d.response_ids) for d in played.decisions)
    control = [retokenized(d) if d.sampled else d for d in played.decisions]
    changed = [d for d, c in zip(played.decisions, control) if d.response_ids != c.response_ids]
    assert changed  # the model speaks in pieces now and then
    caught = check_on_policy(model(stub), control)
    assert len(caught.problems) == len(changed) and not caught.exact
    where = f"episode {changed[0].episode}, step {changed[0].step}, agent '{changed[0].agent}'"
    with pytest.raises(OffPolicy, match=where):
        caught.require()


def test_other_ids_of_the_same_number_are_caught_by_their_ratio(stub: Stub, played: Played) -> None:
    one = next(d for d in played.decisions if d.sampled and len(d.response_ids) == 2)
    other = replace(one, response_ids=(tokenize(".")[0], one.response_ids[1]))
    with pytest.raises(OffPolicy, match=r"at token 0, id .* the ratio is .* and not 1"):
        check_on_policy(model(stub), [other]).require()
    with pytest.raises(OffPolicy, match="1 response ids and 2 log-probs"):  # though the ratio of the one that is left is 1
        check_on_policy(model(stub), [replace(one, response_ids=one.response_ids[:1])]).require()
    with pytest.raises(OffPolicy, match="no decision"):
        check_on_policy(model(stub), [d for d in played.decisions if not d.sampled]).require()


def test_other_weights_are_off_policy(played: Played) -> None:
    with Stub(weights=1) as trained:
        found = check_on_policy(model(trained), played.decisions, most=3)
    assert len(found.problems) == 3 and found.largest > 0.0
    assert not check_on_policy_tolerates(found.largest)


def check_on_policy_tolerates(largest: float) -> bool:
    return largest <= 0.05


def test_a_prompt_continues_the_turn_before_only_where_its_ids_do(played: Played) -> None:
    by_agent: dict[tuple[int, str], Decision] = {}
    told = {True: 0, False: 0}
    for d in played.decisions:
        if not d.sampled:
            continue
        before = by_agent.get((d.episode, d.agent))
        if before is not None:
            ids = before.prompt_ids + before.response_ids
            assert d.continues == (d.prompt_ids[: len(ids)] == ids)
            told[d.continues] += 1
        by_agent[d.episode, d.agent] = d
    assert told[True] and told[False]  # an answer in pieces comes back as whole words


def test_playing_again_with_the_same_seeds_is_the_same(stub: Stub, played: Played) -> None:
    again = crossed(stub, system="you are a traffic light", turns=6)
    timeless = lambda ds: [replace(d, latency_us=0) for d in ds]
    assert timeless(again.decisions) == timeless(played.decisions)


def test_everything_is_counted_per_agent(played: Played) -> None:
    for agent in ("north", "east"):
        of = [d for d in played.decisions if d.agent == agent]
        used = played.amounts[agent]
        assert used["decisions"] == used["attempts"] == len(of) == 18 and "retries" not in used
        assert used["input_tokens"] == sum(len(d.prompt_ids) for d in of)
        assert used["output_tokens"] == sum(len(d.response_ids) for d in of)
        assert sum(played.parses[agent].values()) == 18
    assert played.amounts["bell"] == {"decisions": 18} and "bell" not in played.parses


def test_an_answer_that_is_not_understood_is_counted_told_and_the_default_taken(stub: Stub) -> None:
    told = list[str]()
    agents = {
        "north": LanguageAgent(model(stub), Pattern("never said"), default="wait"),
        "east": LanguageAgent(model(stub), Json()),
        "bell": lambda name, seen: 0,
    }
    played = play(Crossing(), agents, tell=told.append)
    assert played.parses == {"north": {"no_match": 6}, "east": {"not_json": 6}}
    assert told == [
        "agent 'north': 6 of 6 decisions took the default action (6 no_match)",
        "agent 'east': 6 of 6 decisions took the default action (6 not_json)",
    ]
    assert {(d.agent, d.action, d.taken_default) for d in played.decisions if d.kind == "language"} == {
        ("north", "wait", True),
        ("east", 0, True),
    }
    assert set(default_action(played.decisions, Crossing).rewards) == {0.0, None}


def test_a_failing_endpoint_is_retried_under_one_key_and_then_the_default_is_taken() -> None:
    with Stub(failing=2) as flaky:
        first = model(flaky).chat([{"role": "user", "content": "go or wait"}])
        assert (first.attempts, first.retries, flaky.asked, flaky.sampled) == (3, 2, 3, 1)
    with Stub(failing=10**6) as down:
        played = crossed(down, episodes=1)
        asked = down.asked
    assert played.parses["north"] == {"call_failed": 6} and all(d.taken_default for d in played.decisions if d.kind == "language")
    used = [played.amounts[a] for a in ("north", "east")]
    assert sum(u["attempts"] for u in used) == asked == 12 + sum(u["retries"] for u in used)  # what failed was used, too


def test_an_action_that_the_environment_forbids_now_is_no_answer(stub: Stub) -> None:
    class Closed(Crossing):
        def reset(self, seed: int | None = None, options: Any = None) -> Any:
            seen, infos = super().reset(seed)
            return seen, {**infos, "east": {"action_mask": [0, 1]}}

    agent = LanguageAgent(model(stub), WORDS)
    waits = {"north": lambda *_: "wait", "bell": lambda *_: 0}
    by_seed = [play(Closed(), {**waits, "east": agent}, seed=s, tell=lambda _: None).decisions[0:3] for s in range(6)]
    first = [next(d for d in ds if d.agent == "east") for ds in by_seed]
    assert {d.parse for d in first} == {"ok", "not_legal"}  # some said wait
    assert all(d.action == 1 and d.taken_default == (d.parse == "not_legal") for d in first)  # its default is forbidden as well


def test_an_endpoint_without_ids_is_refused_and_so_is_a_wrong_key(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        Stub(gives_ids=False) as plain,
        pytest.raises(CallRefused, match=r"lacks prompt_token_ids and choices\[\]\.token_ids: serve .* vLLM"),
    ):
        crossed(plain)
    with pytest.raises(UserError, match="MARLSTONE_TEST_KEY', which is not set: export it"):
        model(stub, key_variable="MARLSTONE_TEST_KEY")
    monkeypatch.setenv("MARLSTONE_TEST_KEY", "sk-very-secret")
    with Stub(key="sk-other") as locked:
        asked = model(locked, key_variable="MARLSTONE_TEST_KEY")
        with pytest.raises(CallRefused, match="answered 401") as caught:
            asked.chat([{"role": "user", "content": "go"}])
        assert "secret" not in f"{caught.value!r} {asked.endpoint!r} {vars(asked)}" and "[key]" in str(caught.value)
    with Stub(key="sk-very-secret") as open_to_us:
        assert model(open_to_us, key_variable="MARLSTONE_TEST_KEY").chat([{"role": "user", "content": "go"}]).response_ids


def test_an_answer_that_is_too_large_is_refused(stub: Stub) -> None:
    with pytest.raises(CallRefused, match="answered with more than 100 bytes"):
        model(stub, most_bytes=100).chat([{"role": "user", "content": "go"}])


def test_credit_of_each_agent(played: Played) -> None:
    ds = played.decisions
    own, all_of, by_replay, left_out = individual(ds), team(ds), default_action(ds, Crossing), leave_one_out(ds, Crossing)
    language = [i for i, d in enumerate(ds) if d.kind == "language"]
    assert {c.rewards[i] for c in (own, all_of, by_replay, left_out) for i, d in enumerate(ds) if d.agent == "bell"} == {None}
    for episode in range(3):
        of = [i for i in language if ds[i].episode == episode]
        assert sum(own.rewards[i] for i in of) == played.returns[episode]  # nobody else is paid
        for step in range(6):
            assert len({all_of.rewards[i] for i in of if ds[i].step == step}) == 1
    # a default taken is worth nothing, and at the last step the difference is the step's own
    for i in language:
        d = ds[i]
        if d.action in ("wait", 0):
            assert by_replay.rewards[i] == 0.0
        elif d.step == 5:
            other = next(x for x in ds if (x.episode, x.step) == (d.episode, 5) and x.kind == "language" and x.agent != d.agent)
            worth = by_replay.rewards[i]
            assert worth is not None and (worth < d.team_reward if other.action in ("go", 1) else worth == d.team_reward)
    assert len({by_replay.rewards[i] for i in language}) > 2 and by_replay.rewards != all_of.rewards
    one_step = default_action(ds, Crossing, horizon=1)
    last = [i for i in language if ds[i].step == 5]
    assert [one_step.rewards[i] for i in last] == [by_replay.rewards[i] for i in last]


def test_one_decision_and_the_whole_episode_left_out_agree_where_it_decided_once() -> None:
    spoken = iter(["wait", "wait", "go", "wait", "wait", "wait"])
    played = play(Crossing(), {"north": lambda *_: next(spoken), "east": lambda *_: 0, "bell": lambda *_: 0})
    ds = [replace(d, kind="language") if d.agent == "north" else d for d in played.decisions]
    once, whole = ([r for r in c(ds, Crossing).rewards if r is not None] for c in (default_action, leave_one_out))
    assert [bool(r) for r in once] == [False, False, True, False, False, False]
    assert whole == [0.0] * 5 + [once[2]] and once[2] == played.returns[0] > 0


def test_difference_by_a_function_is_the_functions_and_only_the_environments(played: Played) -> None:
    ds = [d for d in played.decisions if d.episode == 0]
    by_step = {d.step: d.team_reward for d in ds}
    right = lambda episode, step, actions: by_step[step] if actions["east"] == recorded[step] else -7.0
    recorded = {d.step: d.action for d in ds if d.agent == "east"}
    credit = difference(ds, right, {"north": "wait", "east": 0})
    for d, reward in zip(ds, credit.rewards):
        assert reward == (None if d.agent == "bell" else by_step[d.step] + 7.0 if (d.agent, d.action) == ("east", 1) else 0.0)
    with pytest.raises(UserError, match=r"where .* was recorded: give the environment's own function"):
        difference(ds, lambda *_: 99.0, {"north": "wait", "east": 0})
    with pytest.raises(UserError, match="agent 'north' has no default action"):
        difference(ds, right, {"east": 0})


def test_an_environment_that_cannot_be_replayed_is_refused(played: Played) -> None:
    class Moody(Crossing):
        def reset(self, seed: int | None = None, options: Any = None) -> Any:
            return super().reset(None if seed is None else seed + 1000)

    with pytest.raises(UserError, match="cannot be replayed: with the seed and actions of episode 0 it gave other rewards"):
        default_action(played.decisions, Moody)


def test_what_a_trainer_reads(played: Played, tmp_path: Path) -> None:
    ds, credit = played.decisions, default_action(played.decisions, Crossing)
    assert export(tmp_path / "flat.jsonl", ds, credit, run="r") == 36 == export(tmp_path / "triplets.jsonl", ds, credit, layout="triplets")
    flat = [json.loads(line) for line in (tmp_path / "flat.jsonl").read_text().splitlines()]
    triplets = [json.loads(line) for line in (tmp_path / "triplets.jsonl").read_text().splitlines()]
    sampled = [(d, r) for d, r in zip(ds, credit.rewards) if d.sampled]
    for row, triplet, (d, reward) in zip(flat, triplets, sampled):
        assert tuple(row["prompt_ids"]) == d.prompt_ids and tuple(row["response_ids"]) == d.response_ids
        assert tuple(row["logprobs"]) == d.logprobs and row["reward"] == reward == triplet["reward"]  # bit for bit
        assert triplet["prompt"]["token_ids"] == row["prompt_ids"] and triplet["response"]["token_ids"] == row["response_ids"]
        assert triplet["response"]["logprobs"] == triplet["response"]["log_probs"] == row["logprobs"]
    assert [row["turn"] for row in flat if row["agent"] == "east"] == [*range(6)] * 3
    assert sum(row["last"] for row in flat) == 6 and {row["reward_of"] for row in flat} == {"to_go"}
    differing = {(row["rollout_id"], row["step"]): set[float]() for row in flat}
    for row in flat:
        differing[row["rollout_id"], row["step"]].add(row["reward"])
    assert any(len(rewards) > 1 for rewards in differing.values())  # not the same for all agents of a step
    with pytest.raises(UserError, match="exists already"):
        export(tmp_path / "flat.jsonl", ds, credit)
    with pytest.raises(UserError, match="its reward by odd is nan"):
        list(training_rows(ds, Credit("odd", "step", (float("nan"),) * len(ds))))
    with pytest.raises(UserError, match="1 rewards and there are 54 decisions"):
        list(training_rows(ds, Credit("short", "step", (0.0,))))


def test_decisions_are_kept_and_read_exactly(played: Played, tmp_path: Path) -> None:
    file = write_decisions(tmp_path / "decisions.jsonl", played.decisions)
    assert read_decisions(file) == played.decisions
    file.write_text(file.read_text() + '{"episode": 0}\n')
    with pytest.raises(UserError, match="line 55 is no decision"):
        read_decisions(file)


@pytest.mark.parametrize(
    ("parser", "text", "space", "status", "action"),
    [
        (Whole(), " go north ", gs.Text(10, charset=LETTERS), "ok", "go north"),
        (Whole(), "go north now", gs.Text(10, charset=LETTERS), "not_in_space", None),
        (Whole(longest=10), "go north now", gs.Text(10, charset=LETTERS), "ok", "go north n"),
        (Choice(("left", "right")), "I'd say LEFT.", gs.Discrete(2), "ok", 0),
        (Choice(("left", "right")), "right, or left?", gs.Discrete(2), "ambiguous", None),
        (Choice(("left", "right")), "leftovers", gs.Discrete(2), "no_match", None),
        (Choice(("go", "go left")), "go left", gs.Discrete(2, start=5), "ok", 6),
        (Choice(("left", "right"), any_case=False), "Left", gs.Text(5), "no_match", None),
        (Pattern(), "ANSWER: 3 no, ANSWER: 2", gs.Discrete(3), "ok", 2),
        (Pattern(which="first"), "ANSWER: 3 no, ANSWER: 2", gs.Discrete(3), "not_in_space", None),
        (Pattern(which="only"), "ANSWER: 3 no, ANSWER: 2", gs.Discrete(3), "ambiguous", None),
        (Pattern(), "3", gs.Discrete(3), "no_match", None),
        (Json(), 'so {"action": 1} then {"action": 2}', gs.Discrete(3), "ok", 2),
        (Json(), '{"action": true}', gs.Discrete(3), "not_in_space", None),
        (Json(), '{"act": 1} {', gs.Discrete(3), "no_match", None),
        (Json(), "{" * 5000, gs.Discrete(3), "not_json", None),
        (Json(), '{"action": NaN}', gs.Discrete(3), "not_in_space", None),
        (Json(), '{"action": 1.5}', gs.Discrete(3), "not_in_space", None),
    ],
)
def test_parsers_understand_or_say_why_not(parser: Any, text: str, space: gs.Space, status: str, action: Any) -> None:
    found = parser.parse(text, space)
    assert (found.status, found.action) == (status, action)
    assert action is None or space.contains(found.action)


def test_json_gives_vectors_too() -> None:
    box = gs.Box(-1.0, 1.0, (2,), np.float32)
    found = Json("throttle").parse('{"throttle": [0.5, -1]}', box)
    assert found.status == "ok" and box.contains(found.action)
    for wrong in ("[0.5, -2]", "[0.5]", '["a", "b"]', "[0.5, NaN]"):
        assert Json("throttle").parse(f'{{"throttle": {wrong}}}', box).status == "not_in_space"


def test_what_does_not_fit_is_refused_before_anything_is_asked(stub: Stub) -> None:
    asked, agent = stub.asked, LanguageAgent(model(stub), WORDS)
    whole = {"north": agent, "east": agent, "bell": agent}
    for agents, words in (
        ({**whole, "bell": LanguageAgent(model(stub), Choice(("a", "b", "c")))}, r"'bell' has 2 actions and Choice\.options names 3"),
        ({**whole, "east": LanguageAgent(model(stub), Whole())}, "'east' acts in Discrete.* and Whole gives actions of Text"),
        ({**whole, "north": LanguageAgent(model(stub), WORDS, default="a long way to go")}, "default action .* is not in Text"),
        ({"north": agent, "east": agent}, "nobody plays agent 'bell'"),
        ({**whole, "nroth": agent}, "no agent 'nroth'; did you mean 'north'"),
        ({**whole, "bell": 3}, "'bell' is played by a int"),
        (
            {"north": lambda *_: "go", "east": lambda *_: 7, "bell": lambda *_: 0},
            "'east' was given the action 7 at step 0, which is not in",
        ),
    ):
        with pytest.raises(UserError, match=words):
            play(Crossing(), agents)  # type: ignore[arg-type]
    for wrong, words in (
        ({"url": "ftp://x"}, "is no address"),
        ({"url": "http://model.example/v1", "key_variable": "KEY"}, "a key would travel unencrypted"),
        ({"temperature": -1.0}, r"Endpoint\.temperature is -1\.0: give"),
        ({"extra": {"n": 2}}, "these fields are set by Endpoint itself"),
        ({"url": "http://user:secret@127.0.0.1/v1"}, "give the key by an environment variable"),
    ):
        with pytest.raises(ValueError, match=words):
            Endpoint("m", **wrong)  # type: ignore[arg-type]
    assert stub.asked == asked
