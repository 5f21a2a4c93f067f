"""The messages of a run as people read them: what they cost, what each link is worth, and who asks instead of acting."""

from collections.abc import Mapping, Sequence
from typing import Any

from marlstone.cli.report import VERDICTS, between, number, show
from marlstone.cli.tables import say, show_columns


def messages_tables(record: Mapping[str, Any]) -> None:
    """The tables of `--suite messages`."""
    if "messages_per_step" in record:
        show("messages, as deployed", _costs(record))
        _worth(record)
    _chatter(record)


def _costs(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [
        ("channel", str(record["comms"])),
        ("messages per joint step", number(record["messages_per_step"])),
        ("bits per joint step", f"{number(record['bits_per_step'])}; in 19 of 20 episodes at most {number(record['bits_p95'])}"),
    ]
    if record["budget_bits"]:
        rows.append(("budget, bits per joint step", ", ".join(map(number, record["budget_bits"]))))
    if (free := record["unenforced"]) is not None:
        rows += [
            ("without enforcing it", f"{number(free['bits_per_step'])}; in 19 of 20 episodes at most {number(free['bits_p95'])}"),
            ("return without enforcing it", number(free["return"])),
            *_budgets(free["budgets"]),
            ("messages that enforcing refuses", "-" if record["refused"] is None else f"{record['refused']:.2%}"),
        ]
    return rows


def _budgets(found: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Of several budgets, what is sent under each where it is not enforced."""
    words = lambda x: f"{number(x['bits_per_step'])}; in 19 of 20 of {x['episodes']} episodes at most {number(x['bits_p95'])}"
    return [(f"  under a budget of {number(x['budget_bits'])}", words(x)) for x in found] if len(found) > 1 else []


def _worth(record: Mapping[str, Any]) -> None:
    percent = lambda x: "-" if x is None else f"{x:.1%}"
    span = lambda pair: "-" if all(x is None for x in pair) else " to ".join(map(percent, pair))
    both = lambda x, pair: x if pair == "-" else f"{x} [{pair}]"
    heads = ("sender > recipient", "messages/step", "bits/step", "worth", "loss", "removable")
    rows = [
        (f"{x['sender']} > {x.get('recipient', 'all')}", number(x["messages_per_step"]), number(x["bits_per_step"]),
         both(number(x["worth"]), between(x["worth_ci95"])), both(percent(x["loss"]), span(x["loss_ci95"])), VERDICTS[x["removable"]])
        for x in (*record["senders"], *record["links"])
    ]  # fmt: skip
    show_columns("what links are worth", heads, rows, sections=(len(record["senders"]) - 1,) if record["senders"] else ())
    say(
        f"Judged: {record['judged']}. worth: the return lost without it; loss: its share of the learned gain (as deployed less chance). "
        "removable: yes where the whole interval of the loss lies below 1%, no where above. Intervals hold for all judged together."
    )
    notes: Sequence[str] = list(dict.fromkeys(x["note"] for x in (*record["senders"], *record["links"]) if x["note"]))
    say(*(f"not shown: {note}" for note in notes))
    if (found := record["removable_together"]) is not None:
        all_links = ", ".join(found["links"])
        lost = f"{percent(found['loss'])} of the gain is lost ({span(found['loss_ci95'])})"
        say(f"Without all {len(found['links'])} removable ones at once ({all_links}) {lost}.")


def _chatter(record: Mapping[str, Any]) -> None:
    share = lambda x: "-" if x is None else f"{x:.1%}"
    bound, found = record["chatter_bound"], record["chatter"]
    over = lambda x: x["ci95"][0] is not None and x["ci95"][0] > bound
    ends = lambda x: "-" if any(e is None for e in x["ci95"]) else " to ".join(map(share, x["ci95"]))
    rows = [(a, share(x["steps"]), ends(x), share(x["time"]), "alarm" if over(x) else "no alarm") for a, x in found.items()]
    heads = ("agent", "steps spent on requests", "95% interval", "time, with waiting", f"more than {bound:.0%}")
    show_columns("asking instead of acting", heads, rows, red=[(i, 4) for i, row in enumerate(rows) if row[4] == "alarm"])
    say(*(f"alarm: {words}" for words in record["chatter_alarms"]))
