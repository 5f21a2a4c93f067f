"""Training, judging and selecting stay within budgets, end in order where one is used up, and go on as though nothing had been."""

import json
from pathlib import Path
from typing import Any

import pytest

from marlstone.config import RunConfig, load
from marlstone.config.paths import recorded
from marlstone.core.errors import BudgetUsedUp, UserError
from marlstone.cost.accounts import Account
from marlstone.cost.budgets import Budget
from marlstone.cost.spending import alerts, balances, spent
from marlstone.runs.checkpoint import newest
from marlstone.runs.directory import RunDirectory
from marlstone.training.loop import train
from marlstone.training.trained import evaluate

pytestmark = pytest.mark.usefixtures("compiled_once")
SMALL = {
    "env": "proving:additive", "steps": "2048", "seeds": "2", "rollout.envs": "8", "rollout.length": "8", "evaluate.episodes": "2",
    "evaluate.logged": "1", "acting": "mode", "checkpoint_every": "1024",
}  # fmt: skip
UPDATE = 2 * 64  # joint steps of both seeds


def config(tmp_path: Path, **more: str) -> RunConfig:
    return load(None, {**SMALL, "account": str(tmp_path / "account"), **more})


def run_in(tmp_path: Path, name: str = "run") -> RunDirectory:
    where = tmp_path / name
    return RunDirectory.create(where, recorded(config(tmp_path), where))


def steps_budget(tmp_path: Path, amount: int, **more: Any) -> None:
    with Account(tmp_path / "account", [Budget("steps", amount, "steps", scope="account", **more)]):
        pass


def test_a_budget_ends_training_with_a_checkpoint_and_it_goes_on_exactly(tmp_path: Path) -> None:
    steps_budget(tmp_path, 12 * UPDATE + 5)
    run = run_in(tmp_path)
    record = train(config(tmp_path), run, limited=False)
    assert record["stopped"] and record["stopped_by"] == "budget" and record["steps"] == newest(run.checkpoints).step < 2048
    assert "raise it by" in record["budget"]["message"] and not run.result.is_file()
    with Account(tmp_path / "account") as account:
        here = balances(account)[0]
        assert here.spent <= 12 * UPDATE + 5 and here.reserved == 0 and here.overrun == 0 and here.left < UPDATE
        account.declare([Budget("steps", 10**6, "steps", scope="account")])
    resumed = train(config(tmp_path), run, resume=newest(run.checkpoints), limited=False)
    whole = train(load(None, SMALL), run_in(tmp_path, "whole"), limited=False)
    assert not resumed.get("stopped") and resumed["parameters_sha256"] == whole["parameters_sha256"]
    assert resumed["episode_returns"] == whole["episode_returns"]


def test_the_account_knows_what_the_ledger_counts_by_agent_and_kind(tmp_path: Path) -> None:
    (tmp_path / "prices.toml").write_text('version = "1"\ncurrency = "EUR"\n[[price]]\nkind = "decisions"\nprice = 0.001\n')
    run = run_in(tmp_path)
    record = train(config(tmp_path, prices=str(tmp_path / "prices.toml"), steps="512"), run, limited=False)
    counted: dict[tuple[str, str], int] = {}
    for phase in record["costs"].values():
        for agent, kinds in phase.items():
            for kind, n in kinds.items():
                counted[("" if agent == "shared" else agent, kind)] = counted.get(("" if agent == "shared" else agent, kind), 0) + n
    with Account(tmp_path / "account") as account:
        told = {(x.agent, x.kind): x.amount for x in spent(account, ("agent",))}
    exact = [k for k in counted if not k[1].endswith("_us")]
    assert len(exact) > 5 and all(told[k] == counted[k] for k in exact)
    decisions = {agent: n for (agent, kind), n in counted.items() if kind == "decisions"}
    assert {a: told[(a, "money")] for a in decisions} == {a: 1000 * n for a, n in decisions.items()}
    assert record["spending"]["prices"]["currency"] == "EUR"


def test_judging_is_refused_before_anything_is_played_and_is_counted(tmp_path: Path) -> None:
    run, asked = run_in(tmp_path), config(tmp_path, steps="512")
    run.finish(train(asked, run, limited=False))
    with Account(tmp_path / "account") as account:
        before = sum(x.amount for x in spent(account) if x.kind == "steps")
    record = evaluate(asked, newest(run.checkpoints), 2)
    with Account(tmp_path / "account") as account:
        after = sum(x.amount for x in spent(account) if x.kind == "steps")
        assert after - before == 2 * 2 * 2 * record["episode_length"]  # two ways, two seeds, two episodes each
        account.declare([Budget("steps", after, "steps", scope="account")])
    with pytest.raises(BudgetUsedUp, match="wanted"):
        evaluate(asked, newest(run.checkpoints), 2)
    with Account(tmp_path / "account") as account:
        assert sum(x.amount for x in spent(account) if x.kind == "steps") == after and balances(account)[0].reserved == 0


def test_a_run_has_an_account_of_its_own_and_soft_budgets_only_alert(tmp_path: Path) -> None:
    text = "[{name = 'few', amount = 100, of = 'steps', limit = 'soft'}]"
    asked = load(None, {**SMALL, "steps": "512", "budgets": text})
    run = run_in(tmp_path)
    record = train(asked, run, limited=False)
    assert not record.get("stopped") and {a["what"] for a in record["spending"]["alerts"]} == {"soft"}
    with Account(run.within("account.sqlite"), create=False) as account:
        assert [a.budget for a in alerts(account)] == ["few"] and balances(account)[0].key == str(run.path)
    json.dumps(record["spending"])


def test_budgets_that_cannot_be_kept_are_refused(tmp_path: Path) -> None:
    for text, word in (
        ("[{name = 'a', amount = 1, of = 'steps', scope = 'account'}]", "account = "),
        ("[{name = 'a', amount = 1, of = 'steps', fallback = 'default'}]", "only stop"),
        ("[{name = 'a', amount = 0.5, of = 'steps'}]", "whole"),
        ("[{name = 'a', amount = 1}, {name = 'a', amount = 2}]", "twice"),
    ):
        with pytest.raises(UserError, match=word):
            load(None, {**SMALL, "budgets": text})
    with pytest.raises(UserError, match="steps"):
        train(load(None, {**SMALL, "budgets": "[{name = 'a', amount = 1, of = 'step'}]"}), run_in(tmp_path))
