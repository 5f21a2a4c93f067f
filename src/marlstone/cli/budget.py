"""`marlstone budget ACCOUNT`: where budgets stand, how fast they are being spent, by when they will be, and what is to be told."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from marlstone.cli.arguments import Parser
from marlstone.cli.outcome import CHECK, DONE
from marlstone.core.errors import UserError, suggest

if TYPE_CHECKING:
    from marlstone.cost.accounts import Account
    from marlstone.cost.outlook import Outlook
    from marlstone.cost.spending import Balance

SHOWN = 20
"""Runs, agents and requests that spent most are shown one by one."""
WORDS = {
    "soft": "passed its amount, which it only tells of",
    "refused": "was used up, and something was refused",
    "overrun": "was passed by more than had been reserved",
    "presumed": "has spending of processes that died, counted in full",
}
ALERTS = ("soft", "refused", "overrun")
"""Those that make the exit code 3; what a process left that died is only said."""


def main(words: list[str]) -> int:
    """Look at an account; returns the exit code."""
    about = "Where the budgets of an account stand, how fast they are being spent, and by when they will be. Exit code 3: an alert."
    parser = Parser("budget", about)
    add = parser.add_argument
    add("account", metavar="ACCOUNT", help="the account's file, or a run's directory")
    add("--declare", metavar="FILE.toml", help="declare its [[budgets]] first: they hold for everybody who spends from the account")
    add("--withdraw", action="append", default=[], metavar="NAME", help="first end a budget; may be repeated")
    add("--by", action="append", default=[], metavar="WHAT", help="also what was spent by run, agent, kind or day; may be repeated")
    add("--zone", default="UTC", metavar="ZONE", help="the time zone of days, such as Europe/Berlin; default: UTC")
    parser.add_json()
    flags = parser.read(words)

    from marlstone.cost.accounts import Account
    from marlstone.cost.budget_file import read_budgets
    from marlstone.cost.outlook import outlook
    from marlstone.cost.spending import GROUPS, alerts, balances, spent

    for word in flags.by:
        if word not in GROUPS:
            raise UserError(f"--by {word}: there is no such one; {suggest(word, GROUPS)}")
    _zone(flags.zone)
    declared = [] if flags.declare is None else read_budgets(flags.declare)
    with Account(_file(flags.account), create=bool(declared)) as account:
        account.declare(declared)
        for name in flags.withdraw:
            account.withdraw(name)
        account.sweep()
        now = account.clock()
        found = [(b, outlook(account, b, now)) for b in balances(account, now)]
        told = alerts(account, now)
        rows = spent(account, tuple(flags.by), zone=flags.zone) if flags.by else []
        record = {
            "account": str(account.path), "now": now, "budgets": [_record(b, look) for b, look in found], "alerts": [vars(a) for a in told],
            "alert": any(look.alert for _, look in found) or any(a.what in ALERTS for a in told), "spent": [vars(x) for x in rows],
        }  # fmt: skip
        if flags.json:
            from marlstone.runs.json_line import one_line

            print(one_line(record))
        else:
            _show(account, found, record)
    return CHECK if record["alert"] else DONE


def _file(name: str) -> Path:
    """The account's file: itself, or a run's. Raises `UserError`."""
    path = Path(name).expanduser()
    if not path.is_dir():
        return path
    import tomllib

    config = path / "config.toml"
    if not config.is_file():
        raise UserError(f"account {name!r} is a directory and no run: name an account's file")
    own = tomllib.loads(config.read_text()).get("account", "none")
    return path / "account.sqlite" if own == "none" else Path(own)


def _zone(name: str) -> None:
    from marlstone.cost.periods import Calendar

    try:
        Calendar("day", name)
    except ValueError as error:
        raise UserError(f"--{error}") from error


def _record(b: "Balance", look: "Outlook") -> dict[str, Any]:
    ahead = look.forecast
    return {
        "name": b.budget.name, "of": b.budget.of, "limit": b.budget.limit, "scope": b.budget.scope, "key": b.key, "period": b.period.name,
        "ends": None if b.budget.calendar is None else b.period.end, "amount": b.budget.units, "spent": b.spent, "reserved": b.reserved,
        "left": b.left, "overrun": b.overrun, "refused": b.refused,
        "burn_rates": [
            {"rule": x.rule.name, "threshold": x.rule.burn, "long": x.long, "short": x.short, "alert": x.alert} for x in look.burns
        ],
        "forecast": None if ahead is None else {
            "total": ahead.total, "low": ahead.low, "high": ahead.high, "level": ahead.level, "probability_of_passing": ahead.over,
            **{k: None if (day := getattr(ahead, k)) is None else day.isoformat() for k in ("gone", "gone_low", "gone_high")},
            "said": ahead.sentence,
        },
    }  # fmt: skip


def _show(account: "Account", found: "list[tuple[Balance, Outlook]]", record: dict[str, Any]) -> None:
    from marlstone.cli.tables import say, short, show_columns
    from marlstone.cost.budgets import words

    cells = []
    most = sorted(found, key=lambda x: -x[0].spent / max(1, x[0].budget.units))[:SHOWN]
    for b, _ in (x for x in found if x in most):
        amount = lambda n, of=b.budget.of: words(of, n)
        name = f"{b.budget.name} {short(b.key)}".strip()
        share = f"{b.spent / b.budget.units:.0%}" if b.budget.units else "-"
        cells.append((name, b.budget.of, b.budget.limit, b.period.name, amount(b.budget.units), amount(b.spent), share, amount(b.left)))
    heads = ("budget", "of", "limit", "period", "amount", "spent", "share", "left")
    show_columns(f"account {short(str(account.path))}", heads, cells, right=(4, 5, 6, 7))
    if len(found) > SHOWN:
        say(f"and {len(found) - SHOWN} more, of which less was spent (all: --json)")
    for budget in account.budgets:
        if budget.name not in {b.budget.name for b, _ in found}:
            say(f"{budget.name}: {words(budget.of, budget.units)} {budget.of} for each {budget.scope}; nothing is spent in this period")
    for b, look in found:
        name = f"{b.budget.name} {short(b.key)}".strip()
        if look.forecast is not None:
            say(f"{name}: {look.forecast.sentence}")
        for x in look.burns:
            if x.alert:
                say(f"ALERT {name}: spent at {x.long:.3g} times its rate over a {x.rule.name} (alert from {x.rule.burn:.3g})")
    for a in record["alerts"]:
        at = datetime.fromtimestamp(a["first"], ZoneInfo("UTC"))
        head = "ALERT " if a["what"] in ALERTS else ""
        say(f"{head}{a['budget']} {short(a['key'])}".strip() + f" {WORDS[a['what']]}: {a['times']:,} times since {at:%Y-%m-%d %H:%M} UTC")
    if record["spent"]:
        rows = [(x["day"], short(x["run"]), x["agent"], x["kind"], words(x["kind"], x["amount"])) for x in record["spent"]]
        kept = [j for j in range(5) if j in (3, 4) or any(row[j] for row in rows)]
        pick = lambda row: tuple(row[j] for j in kept)
        show_columns("spent", pick(("day", "run", "agent", "kind", "amount")), [pick(r) for r in rows], right=(len(kept) - 1,))
