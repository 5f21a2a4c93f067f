"""`marlstone budget`: what an account says, its alerts in the exit code, and budgets that a file declares."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from marlstone.cli import main
from marlstone.cost.accounts import Account
from marlstone.cost.budgets import Budget

Result = tuple[int, str, str]
DECLARED = '[[budgets]]\nname = "calls"\namount = 10\nof = "tool_calls"\nscope = "account"\nperiod = "quarter"\nzone = "Europe/Berlin"\n'


@pytest.fixture
def budget(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.toml").write_text(DECLARED)

    def run(*words: str) -> Result:
        code = main(["budget", *words])
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


def test_a_file_declares_budgets_and_the_table_fits_80_columns(budget: Callable[..., Result]) -> None:
    code, out, _ = budget("a.sqlite", "--declare", "b.toml")
    assert code == 0 and "calls" in out and "10" in out
    with Account("a.sqlite") as account:
        account.declare([Budget("a name that is rather long", 123_456.789, period="month", scope="account")])
        account.settle(account.reserve({"tool_calls": 3, "money": 5_000_000}, run="/some/where/runs/one", agent="scout"))
    code, out, _ = budget("a.sqlite", "--by", "agent", "--by", "day")
    assert code == 0 and "scout" in out and "5.00" in out and max(map(len, out.splitlines())) <= 80


def test_alerts_make_the_exit_code_3_and_json_has_all(budget: Callable[..., Result]) -> None:
    budget("a.sqlite", "--declare", "b.toml")
    with Account("a.sqlite") as account:
        account.settle(account.reserve({"tool_calls": 9}), {"tool_calls": 11})
        account.ask({"tool_calls": 1})
    code, out, _ = budget("a.sqlite", "--json", "--by", "kind")
    record = json.loads(out)
    assert code == 3 and record["alert"] and {a["what"] for a in record["alerts"]} == {"overrun", "refused"}
    (one,) = record["budgets"]
    assert (one["spent"], one["left"], one["overrun"], one["refused"]) == (11, 0, 2, 1) and one["ends"]
    assert record["spent"] == [{"run": "", "agent": "", "kind": "tool_calls", "day": "", "amount": 11}]
    code, out, _ = budget("a.sqlite")
    assert code == 3 and "ALERT calls was used up" in out
    assert budget("a.sqlite", "--withdraw", "calls")[0] == 0  # nothing is limited any more


def test_a_burn_is_told_with_the_day_by_which_all_is_spent(budget: Callable[..., Result]) -> None:
    now, at = time.time(), [0.0]
    amount = Budget("year", 365, period="year", scope="account")
    with Account("a.sqlite", [amount], clock=lambda: at[0]) as account:
        for hour in range(20 * 24, 0, -1):
            at[0] = now - hour * 3600
            account.settle(account.reserve({"money": 1_000_000 // 24 * (5 if hour <= 36 else 1)}))
    code, out, _ = budget("a.sqlite", "--json")
    (one,) = json.loads(out)["budgets"]
    fast = next(x for x in one["burn_rates"] if x["rule"] == "day")
    assert code == 3 and fast["alert"] and 3 < fast["long"] < 7 and one["forecast"]["said"]
    assert "ALERT year: spent at" in budget("a.sqlite")[1]


def test_what_is_no_account_or_budget_is_refused(budget: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "odd.toml").write_text('[[budgets]]\nname = "x"\namount = "much"\n')
    (tmp_path / "none.toml").write_text("steps = 1\n")
    for words, word in (
        (("nothing.sqlite",), "not there"), (("a", "--by", "hour"), "choose"), (("a", "--zone", "Moon"), "IANA"),
        (("a", "--declare", "odd.toml"), "amount"), (("a", "--declare", "none.toml"), "[[budgets]]"), ((".",), "no run"),
    ):  # fmt: skip
        code, _, err = budget(*words)
        assert code == 2 and word in err, (words, err)
