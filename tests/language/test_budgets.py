"""Calls of language models are reserved of budgets before they are made: never over, and what is done instead is what was declared."""

from datetime import date

import pytest

from examples.language_agents import Crossing
from examples.stub_language_model import Stub
from marlstone.core.errors import UserError
from marlstone.cost.accounts import Account
from marlstone.cost.budgets import Budget
from marlstone.cost.prices import Price, PriceTable
from marlstone.cost.pricing import on_day, priced, total
from marlstone.cost.retries import RetryPolicy
from marlstone.cost.root_requests import root_request
from marlstone.cost.spending import balances, spent
from marlstone.language.agents import LanguageAgent
from marlstone.language.endpoint import Endpoint, LanguageModel
from marlstone.language.parsers import Choice
from marlstone.language.playing import Played, play

PRICES = PriceTable("1", "USD", (Price("input_tokens", 3e-6), Price("output_tokens", 1.5e-5)), "prices.toml")
QUICK = RetryPolicy(attempts=2, timeout=20.0, wait_initial=0.0, wait_jitter=0.0)


def crossed(stub: Stub, account: Account, episodes: int = 3, **more: object) -> Played:
    model = LanguageModel(Endpoint("stub", stub.url, max_tokens=8, seed=3, retries=QUICK), account, run="crossing", **more)  # type: ignore[arg-type]
    agent = LanguageAgent(model, Choice(("wait", "go")))
    return play(Crossing(), {"north": agent, "east": agent, "bell": lambda *_: 0}, episodes, tell=lambda _: None)


def test_what_is_charged_is_what_was_used_by_agent_and_kind() -> None:
    with Account(budgets=[Budget("tokens", 10**6, "output_tokens")]) as account, Stub(failing=1) as stub:
        played = crossed(stub, account, prices=PRICES)
        found = {(s.agent, s.kind): s.amount for s in spent(account, ("agent", "kind"))}
        (balance,) = balances(account)
    for agent in ("north", "east"):
        used = played.amounts[agent]
        assert {k: found[agent, k] for k in ("input_tokens", "output_tokens", "attempts")} == {
            k: used[k] for k in ("input_tokens", "output_tokens", "attempts")
        }
        assert found[agent, "money"] == 3 * used["input_tokens"] + 15 * used["output_tokens"]
    assert sum(played.amounts[a].get("retries", 0) for a in ("north", "east")) == 1
    assert balance.spent == sum(played.amounts[a]["output_tokens"] for a in ("north", "east")) and balance.reserved == 0


def test_a_budget_that_is_used_up_gives_the_default_action_and_is_never_passed() -> None:
    with Account(budgets=[Budget("tokens", 60, "output_tokens", fallback="default")]) as account, Stub() as stub:
        played = crossed(stub, account)
        (balance,) = balances(account)
        asked = stub.sampled
    statuses = [d.parse for d in played.decisions if d.kind == "language"]
    assert "refused" in statuses and len(statuses) == 36 and asked == sum(d.sampled for d in played.decisions) < 36
    assert all(d.taken_default for d in played.decisions if d.parse == "refused")
    assert 60 - 2 * 16 < balance.spent <= 60 and balance.overrun == 0 and balance.reserved == 0
    assert any("refused" in sentence for sentence in played.told)


def test_a_budget_whose_fallback_is_to_stop_ends_play_after_a_whole_step() -> None:
    with Account(budgets=[Budget("tokens", 60, "output_tokens")]) as account, Stub() as stub:
        played = crossed(stub, account)
        (balance,) = balances(account)
    assert balance.spent == sum(
        played.amounts[a]["output_tokens"] for a in ("north", "east")
    )  # an answer to the step that was not made, too
    last = played.decisions[-1]
    assert 0 < len(played.decisions) < 54 and len(played.decisions) % 3 == 0
    assert played.stopped.startswith(f"stopped at episode {last.episode}, step {last.step + 1}: budget 'tokens' of run crossing")
    assert played.told[0] == played.stopped and not any(d.parse == "refused" for d in played.decisions)


def test_a_root_request_is_charged_by_its_id_and_prices_need_an_account() -> None:
    with Account(budgets=[Budget("each", 10, "attempts", scope="request", fallback="default")]) as account, Stub() as stub:
        with root_request(retries=3, attempts=100) as root:
            played = crossed(stub, account)
        keys = {b.key for b in balances(account)}
        assert keys == {root.id} and sum(d.sampled for d in played.decisions) in (9, 10)
        with pytest.raises(ValueError, match="prices and no account"):
            LanguageModel(Endpoint("stub", stub.url), prices=PRICES)


def test_money_is_never_spent_unpriced() -> None:
    with Account(budgets=[Budget("month", 1.0)]) as account, Stub() as stub:
        with pytest.raises(ValueError, match="no prices, and budget 'month' of its account is of money: give prices"):
            crossed(stub, account)
        half = PriceTable("1", "USD", PRICES.entries[:1], "half.toml")
        with pytest.raises(UserError, match=r"half\.toml: no price of output_tokens for agent .*: add one, or 0 if they are free"):
            crossed(stub, account, prices=half)
        assert stub.asked == 0 and balances(account) == []


def test_amounts_are_priced_as_the_ledgers_are() -> None:
    with Account() as account, Stub() as stub:
        played = crossed(stub, account, prices=PRICES)
        money = sum(s.amount for s in spent(account, ("kind",)) if s.kind == "money")
    kinds = {kind for used in played.amounts.values() for kind in used}
    assert played.costs.total() == {kind: sum(used.get(kind, 0) for used in played.amounts.values()) for kind in kinds}
    assert total(priced(on_day(played.costs, date(2026, 1, 1)), PRICES)) == pytest.approx(money / 1e6)
