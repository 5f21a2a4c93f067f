"""`marlstone fleet status`: who is doing what, who waits for what, and since when; live, until the fleet ends."""

import sys
import time
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from marlstone.cli.arguments import Parser
from marlstone.cli.display import duration
from marlstone.cli.outcome import DONE


def main(words: list[str]) -> int:
    """Show a fleet; returns the exit code."""
    parser = Parser("fleet status", "Show a run's fleet: live on a terminal, once elsewhere.")
    add = parser.add_argument
    add("run", metavar="RUN", help="the directory that marlstone train printed")
    add("--once", action="store_true", help="show it once")
    add("--json", action="store_true", help="one line of JSON on stdout")
    flags = parser.read(words)

    from marlstone.runs.directory import RunDirectory
    from marlstone.runs.json_line import one_line
    from marlstone.runtime.fleet.sight import status_of

    run = RunDirectory.open(flags.run)
    said = status_of(run)
    if flags.json:
        print(one_line(said))
    elif flags.once or not sys.stdout.isatty():
        Console().print(shown(said))
    else:
        with Live(shown(said), refresh_per_second=2) as live:
            while said["alive"]:
                time.sleep(0.5)
                said = status_of(run)
                live.update(shown(said))
    return DONE


def shown(said: dict[str, Any]) -> Group:
    """The status as tables."""
    members = Table(title=f"fleet, {duration(said['seconds'])}" + ("" if said["alive"] else ", ended"))
    for head in (
        "process", "seed", "doing", "since", "heartbeat", "steps/s", "policy version", "lag", "steps", "lives", "environment, episode seed",
    ):  # fmt: skip
        members.add_column(head, justify="left" if head in ("process", "doing") else "right")
    for m in said["members"]:
        where = f"{m['environment']}, {m['episode_seed']}" if m["episode_seed"] >= 0 else "-"
        name = m["name"] + (f" on {m['node']}" if m["node"] else "")
        members.add_row(
            name, "-" if m["seed"] is None else str(m["seed"]), m["doing"] + (" (stopped by a signal)" if m["held"] else ""),
            f"{m['since_seconds']:.1f} s", f"{m['heartbeat_seconds']:.1f} s", f"{m['steps_per_second']:,.0f}", str(m["version"]),
            "-" if m["lag"] is None else str(m["lag"]), f"{m['steps']:,}", str(m["lives"]), where,
        )  # fmt: skip
    queues = Table(title="chunks, per seed")
    heads = (
        "waiting",
        "oldest",
        "accepted",
        "in hand",
        "trained",
        "dropped",
        "rolled back",
        "refused",
        "actors waiting for room",
        "learner waits",
    )
    for head in heads:
        queues.add_column(head, justify="right")
    for f in said["seeds"]:
        waits = "-" if f["learner_waiting_seconds"] is None else f"{f['learner_waiting_seconds']:.1f} s"
        counts = (f["in_hand"], f["trained"] + f["unsaved"], f["dropped"], f["rolled_back"], f["refused"], f["actors_waiting_for_room"])
        queues.add_row(f"{f['depth']} of {f['capacity']}", f"{f['oldest_seconds']:.1f} s", f"{f['accepted']:,}", *map(str, counts), waits)
    locks = Table(title="locks")
    for head in ("of", "holder", "since", "waiters", "longest wait", "waited so far"):
        locks.add_column(head, justify="left" if head in ("of", "holder", "waiters") else "right")
    for x in said["locks"]:
        since, waiters = (f"{x['held_seconds']:.1f} s", ", ".join(w["name"] for w in x["waiters"])) if x["holder"] else ("-", "")
        longest = max((w["seconds"] for w in x["waiters"]), default=0.0)
        locks.add_row(x["name"], x["holder"] or "-", since, waiters or "-", f"{longest:.1f} s", f"{x['waited_seconds']:.2f} s")
    lines = [f"straggler ratio (p99 over median seconds per step): {said['straggler_ratio']:.2f}; restarts: {said['restarts']}"]
    lines += [f"in quarantine: episode seed {q['scenario']} ({q['deaths']} deaths; {q['last']})" for q in said["quarantined"]]
    lines += [said["because"]] if said["because"] else []
    return Group(members, queues, locks, *(Text(line) for line in lines), *(Text(n, style="dim") for n in said["news"][-5:]))
