"""Nobody spends what another was promised: threads and processes at once, killed ones too."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from marlstone.core.errors import UserError
from marlstone.cost.accounts import Account, Reservation
from marlstone.cost.budgets import Budget, BudgetRefused, Refusal, units, words
from marlstone.cost.owners import Owner
from marlstone.cost.spending import alerts, balances, series, spent

CALLS = Budget("calls", 100, "tool_calls", scope="account")
NOVEMBER = 1_793_491_200.0  # 2026-11-01


class At:
    """A clock that is set."""

    def __init__(self, now: float = NOVEMBER) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["memory", "file"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return None if request.param == "memory" else tmp_path / "account"


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "deep" / "account"


def child(program: str, *words: object) -> "subprocess.Popen[str]":
    """A process that runs `program` with an account on `words[0]`, says what it has to say, and waits."""
    start = "import sys, time\nfrom marlstone.cost.accounts import Account\naccount = Account(sys.argv[1])\n"
    end = "\nprint('ready', flush=True)\nsys.stdin.read()\n"
    command = [sys.executable, "-c", start + program + end, *map(str, words)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def killed(process: "subprocess.Popen[str]") -> None:
    """Not waited for yet: what its parent has not collected is dead all the same."""
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


def collected(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate()


def left(account: Account, name: str = "calls") -> tuple[int, int, int]:
    """Spent, reserved and left."""
    found = next(b for b in balances(account) if b.budget.name == name)
    return found.spent, found.reserved, found.left


class Machine(RuleBasedStateMachine):
    """Whatever is asked, begun, settled and released in whatever order: never over, but by what passed its own reservation."""

    def __init__(self) -> None:
        super().__init__()
        month = Budget("month", 0.00006, period="month", zone="Europe/Berlin", scope="account")
        self.clock = At()
        self.account = Account(None, [CALLS, month, Budget("each", 30, "tool_calls", scope="agent")], clock=self.clock)
        self.held: list[Reservation] = []
        self.passed = 0

    @rule(calls=st.integers(0, 40), money=st.integers(0, 40), agent=st.sampled_from(["a", "b", ""]))
    def ask(self, calls: int, money: int, agent: str) -> None:
        found = self.account.ask({"tool_calls": calls, "money": money}, agent=agent)
        if isinstance(found, Reservation):
            self.held.append(found)
        else:
            assert found.wanted > found.left and str(found.budget.name) in found.message

    @precondition(lambda self: self.held)
    @rule(data=st.data(), more=st.integers(0, 3))
    def settle(self, data: Any, more: int) -> None:
        this = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        actual = {k: max(0, n - 2 + more) for k, n in this.amounts.items()}
        over = self.account.settle(this, actual)
        self.passed += sum(over.values())
        assert over.get("calls", 0) == max(0, actual["tool_calls"] - this.amounts["tool_calls"])

    @rule(days=st.integers(1, 20))
    def later(self, days: int) -> None:
        self.clock.now += days * 86_400

    @invariant()
    def never_over(self) -> None:
        for b in balances(self.account):
            assert 0 <= b.reserved and b.spent + b.reserved - b.overrun <= b.budget.units

    @invariant()
    def nothing_is_lost(self) -> None:
        calls = next(b for b in balances(self.account) if b.budget.name == "calls")
        assert calls.reserved == sum(r.amounts["tool_calls"] for r in self.held)
        assert calls.spent == sum(x.amount for x in spent(self.account) if x.kind == "tool_calls")


Machine.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestReservations = Machine.TestCase


def test_a_refusal_says_what_would_have_to_change_and_when_it_renews(where: Path | None) -> None:
    clock = At()
    with Account(
        where, [Budget("team", 2.5, period="month", scope="account", zone="Europe/Berlin", fallback="default")], clock=clock
    ) as account:
        first = account.reserve({"money": units("money", 2.0)})
        with pytest.raises(
            BudgetRefused, match=r"1.00 wanted, 0.50 left .* renews on 2026-12-01 00:00 \(Europe/Berlin\); raise it by 0.50"
        ) as caught:
            account.reserve({"money": units("money", 1.0)})
        assert caught.value.refusal.fallback == "default" and caught.value.refusal.left == 500_000
        account.settle(first, {"money": units("money", 1.4)})
        assert account.settle(account.reserve({"money": 1_000_000})) == {}
        clock.now = float(caught.value.refusal.renews or 0)
        account.release(account.reserve({"money": 2_500_000}))  # renewed


def test_an_overrun_is_counted_and_told(where: Path | None) -> None:
    with Account(where, [CALLS], clock=At()) as account:
        assert account.settle(account.reserve({"tool_calls": 90}), {"tool_calls": 130}) == {"calls": 40}
        assert account.settle(account.reserve({"steps": 1}), {"steps": 1, "tool_calls": 2}) == {"calls": 2}  # of a kind nobody asked for
        assert [(a.what, a.amount) for a in alerts(account)] == [("overrun", 42)] and left(account) == (132, 0, 0)
        assert isinstance(account.ask({"tool_calls": 1}), Refusal)


def test_a_soft_budget_admits_and_alerts(where: Path | None) -> None:
    soft = Budget("soft", 10, "tool_calls", scope="run", limit="soft")
    with Account(where, [soft], clock=At()) as account:
        assert account.reserve({"tool_calls": 10}, run="r").over == () and account.reserve({"tool_calls": 1}, run="r").over == ("soft",)
        assert account.reserve({"tool_calls": 11}, run="other").over == ("soft",)
        assert {(a.key, a.what) for a in alerts(account)} == {("r", "soft"), ("other", "soft")}


def test_each_run_agent_and_request_is_limited_by_itself(where: Path | None) -> None:
    scopes = [Budget(f"per {s}", 5, "tool_calls", scope=s) for s in ("run", "agent", "request")]  # type: ignore[arg-type]
    with Account(where, scopes, clock=At()) as account:
        account.reserve({"tool_calls": 5}, run="r", agent="a", request="q")
        for whom in ({"run": "r"}, {"agent": "a"}, {"request": "q"}):
            assert isinstance(account.ask({"tool_calls": 1}, **whom), Refusal)
        account.reserve({"tool_calls": 5}, run="s", agent="b", request="t")
        account.reserve({"tool_calls": 50})  # names nobody
        shared = account.reserve({"tool_calls": 7}, by={"c": {"tool_calls": 3}, "d": {"tool_calls": 4}})
        assert isinstance(account.ask({"tool_calls": 3}, agent="c"), Refusal) and account.ask({"tool_calls": 2}, agent="c")
        account.settle(shared, {"tool_calls": 2}, by={"c": {"tool_calls": 2}})
        account.reserve({"tool_calls": 5}, agent="d")


def test_spending_is_read_back_by_agent_kind_and_day() -> None:
    clock = At(NOVEMBER + 23.5 * 3600)
    with Account(None, [CALLS], clock=clock) as account:
        account.settle(account.reserve({"tool_calls": 2, "money": 5}, run="r", agent="a"))
        clock.now += 3600
        account.settle(account.reserve({"tool_calls": 4}, run="r"), {"tool_calls": 3}, by={"a": {"tool_calls": 1}, "b": {"tool_calls": 2}})
        rows = [(x.agent, x.kind, x.day, x.amount) for x in spent(account, ("agent", "day"))]
        assert rows == [("a", "money", "2026-11-01", 5), ("a", "tool_calls", "2026-11-01", 2), ("a", "tool_calls", "2026-11-02", 1),
                        ("b", "tool_calls", "2026-11-02", 2)]  # fmt: skip
        assert {x.day for x in spent(account, ("day",), zone="Asia/Tokyo")} == {"2026-11-02"}
        slots, amounts = series(account, CALLS, "", NOVEMBER, NOVEMBER + 86_400)
        assert len(slots) == 288 and amounts.sum() == 2 and amounts[-6] == 2
        with pytest.raises(ValueError, match="choose of"):
            spent(account, ("hour",))


def test_threads_never_pass_a_budget(where: Path | None) -> None:
    with Account(where, [CALLS]) as account:
        taken: list[int] = []

        def caller() -> None:
            for _ in range(20):
                found = account.ask({"tool_calls": 3})
                if isinstance(found, Reservation):
                    account.settle(found, {"tool_calls": 2})
                    taken.append(2)

        threads = [threading.Thread(target=caller) for _ in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert sum(taken) == left(account)[0] and 98 <= sum(taken) <= 100


def test_processes_never_pass_a_budget(file: Path) -> None:
    program = "print(sum(1 for _ in range(60) if hasattr(r := account.ask({'tool_calls': 1}), 'number') and account.settle(r) == {}))"
    start = "import sys\nfrom marlstone.cost.accounts import Account\naccount = Account(sys.argv[1])\n"
    with Account(file, [CALLS]) as account:
        each = [subprocess.Popen([sys.executable, "-c", start + program, str(file)], stdout=subprocess.PIPE, text=True) for _ in range(3)]
        got = [int(p.communicate()[0]) for p in each]
        assert sum(got) == 100 == left(account)[0] and account.sweep() <= 3 and left(account) == (100, 0, 0)


def test_kill_leaks_nothing_and_frees_nothing_of_the_living(file: Path) -> None:
    held = "account.reserve({'tool_calls': 20}); account.reserve({'tool_calls': 30}, agent='a', run='r', begun=True)"
    with Account(file, [CALLS]) as account:
        alive, dead = child(held, file), None
        try:
            assert left(account) == (0, 50, 50) and account.sweep() == 0 and left(account) == (0, 50, 50)
            dead = child(held, file)
            assert isinstance(account.ask({"tool_calls": 1}), Refusal)
            killed(dead)
            time.sleep(0.05)  # looking for the dead rests a while
            mine = account.reserve({"tool_calls": 20})  # swept because it would have been refused
            assert left(account) == (30, 70, 0)  # what had begun counts as spent; of the living all is held
            assert [(a.what, a.amount) for a in alerts(account) if a.what != "refused"] == [("presumed", 30)]
            assert [(x.agent, x.amount) for x in spent(account, ("agent",))] == [("a", 30)]
            account.release(mine)
        finally:
            collected(alive)
            if dead is not None:
                collected(dead)


def test_a_number_used_again_is_another_process(file: Path) -> None:
    me = Owner.me()
    assert me.alive and Owner(me.host, me.pid, "1").alive is False and Owner("elsewhere", me.pid, me.started).alive is None


def test_elsewhere_a_lease_stands_in_and_what_returns_late_is_refused_or_put_right(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = At()
    far = Account(file, [CALLS], clock=clock, lease=60)
    with monkeypatch.context() as m:
        m.setattr(Owner, "me", classmethod(lambda cls: Owner("another container", 7, "9")))
        idle, going = far.reserve({"tool_calls": 40}), far.reserve({"tool_calls": 40}, begun=True)
    with Account(file, clock=clock) as near:
        clock.now += 59
        assert isinstance(near.ask({"tool_calls": 30}), Refusal)
        clock.now += 2
        near.sweep()
        assert left(near) == (40, 0, 60)
        with pytest.raises(UserError, match="lease"):
            far.begin(idle)
        far.settle(going, {"tool_calls": 15})  # it was alive after all
        assert left(near) == (15, 0, 85) and [x.amount for x in spent(near)] == [15]
    far.close()


def test_closing_returns_what_is_held_and_a_fork_has_an_owner_of_its_own(file: Path) -> None:
    forks = f"""
import os
from marlstone.cost.accounts import Account
account = Account({str(file)!r})
account.reserve({{"tool_calls": 10}})
pid = os.fork()
if pid == 0:
    account.reserve({{"tool_calls": 5}})
    os._exit(0)
os.waitpid(pid, 0)
print(account.sweep())
account.close()
"""  # in a process of its own: this one may have JAX's threads
    with Account(file, [CALLS]) as account:
        told = subprocess.run([sys.executable, "-c", forks], check=True, capture_output=True, text=True).stdout
        assert told.split() == ["1"] and left(account) == (0, 0, 100)


def test_declarations_hold_for_everybody_and_change_for_everybody(file: Path) -> None:
    with Account(file, [CALLS]) as one, Account(file) as two:
        assert two.budgets == (CALLS,) and isinstance(two.ask({"tool_calls": 101}), Refusal)
        one.declare([Budget("calls", 200, "tool_calls", scope="account")])
        two.reserve({"tool_calls": 150})
        one.withdraw("calls")
        two.reserve({"tool_calls": 10_000})
        with pytest.raises(UserError, match="none"):
            one.withdraw("calls")


def test_a_budget_counts_what_was_spent_in_its_period_before_it_was_declared(where: Path | None) -> None:
    clock = At()
    with Account(where, clock=clock) as account:
        account.settle(account.reserve({"tool_calls": 50}, run="r"))
        clock.now += 40 * 86_400
        account.settle(account.reserve({"tool_calls": 7}, run="r"))
        month = Budget("month", 10, "tool_calls", "month", "account")
        account.declare([month, Budget("each", 60, "tool_calls")])
        assert left(account, "month") == (7, 0, 3) and left(account, "each") == (57, 0, 3)
        account.declare([Budget("month", 10, "tool_calls", "year", "account")])
        assert left(account, "month") == (57, 0, 0)


def test_amounts_are_exact() -> None:
    assert units("money", 0.1) + units("money", 0.2) == units("money", 0.3) == 300_000 and words("money", 300_000) == "0.30"
    assert units("tool_calls", 1e6) == 1_000_000 and words("money", 1_234_567_891_234) == "1,234,567.891234"
    for of, amount, word in (
        ("money", 1e-7, "millionths"),
        ("tool_calls", 0.5, "whole"),
        ("money", -1.0, "at least 0"),
        ("steps", float("nan"), "number"),
    ):
        with pytest.raises(ValueError, match=word):
            units(of, amount)


def test_what_is_no_budget_or_account_is_refused(tmp_path: Path) -> None:
    for fields, word in (({"name": " "}, "name"), ({"of": "Tool calls"}, "counted"), ({"scope": "x"}, "choose"), ({"zone": "No"}, "IANA"),
                         ({"limit": "firm"}, "soft"), ({"fallback": ""}, "stop"), ({"amount": 0.5, "of": "steps"}, "whole")):  # fmt: skip
        with pytest.raises(ValueError, match=word):
            Budget(**{"name": "b", "amount": 1, **fields})
    with pytest.raises(ValueError, match="twice"):
        Account(None, [CALLS, CALLS])
    (tmp_path / "text").write_text("no database, but long enough to be read as one" * 30)
    for path in (tmp_path / "text", tmp_path):
        with pytest.raises(UserError, match="of its own"):
            Account(path)
    with pytest.raises(UserError, match="not there"):
        Account(tmp_path / "nothing", create=False)
    with Account(None) as account, pytest.raises(ValueError, match="whole"):
        account.ask({"money": 0.5})  # type: ignore[dict-item]
