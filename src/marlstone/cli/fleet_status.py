"""`marlstone fleet status`: who is doing what, who waits for what, and since when; live, until the fleet ends."""

import sys
import time
from typing import Any

from rich.box import SIMPLE
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from marlstone.api.display import duration
from marlstone.cli.arguments import Parser
from marlstone.cli.outcome import DONE

LONG = 2.0  # seconds from which being at one thing, or silent, is worth a word


def main(words: list[str]) -> int:
    """Show a fleet; returns the exit code."""
    parser = Parser("fleet status", "Show a run's fleet: live on a terminal, once elsewhere.")
    add = parser.add_argument
    add("run", metavar="RUN", help="the directory that marlstone train printed")
    add("--once", action="store_true", help="show it once")
    parser.add_json()
    flags = parser.read(words)

    from marlstone.fleet.inspection import status_of
    from marlstone.runs.directory import RunDirectory
    from marlstone.runs.json_line import one_line

    run = RunDirectory.open(flags.run)
    status = status_of(run)
    if flags.json:
        print(one_line(status))
    elif flags.once or not sys.stdout.isatty():
        Console().print(shown(status))
    else:
        with Live(shown(status), refresh_per_second=2) as live:
            while status["alive"]:
                time.sleep(0.5)
                status = status_of(run)
                live.update(shown(status))
    return DONE


def shown(status: dict[str, Any]) -> Group:
    """The status, readable at 80 columns: a line for each process; then trajectories, locks and what happened, in words."""
    members = Table(
        title=f"fleet, {duration(status['seconds'])}" + ("" if status["alive"] else ", ended"), title_justify="left", box=SIMPLE
    )
    for head in ("process", "seed", "doing", "for", "steps/s", "steps", "lag", "lives"):
        members.add_column(head, justify="left" if head in ("process", "doing") else "right", no_wrap=head not in ("process", "doing"))
    for m in status["members"]:
        name = m["name"] + (f" on {m['node']}" if m["node"] else "")
        members.add_row(
            name, "-" if m["seed"] is None else str(m["seed"]), _doing(m), f"{m['since_seconds']:.1f} s", f"{m['steps_per_second']:,.0f}",
            f"{m['steps']:,}", "-" if m["lag"] is None else str(m["lag"]), str(m["lives"]),
        )  # fmt: skip
    lines = [line for i, f in enumerate(status["seeds"]) for line in _trajectories(f, f"seed {_seed(status, i)}")]
    lines += [_lock(x) for x in status["locks"] if x["holder"] or x["waited_seconds"] >= 0.005]
    lines += [f"straggler ratio (p99 over median seconds per step): {status['straggler_ratio']:.2f}; restarts: {status['restarts']}"]
    lines += [f"in quarantine: episode seed {q['scenario']} ({q['deaths']} deaths; {q['last']})" for q in status["quarantined"]]
    lines += [status["because"]] if status["because"] else []
    return Group(members, *(Text(line) for line in lines), *(Text(n, style="dim") for n in status["news"][-5:]))


def _doing(m: dict[str, Any]) -> str:
    """What a process is at, where, and whether it is silent."""
    where = f" environment {m['environment']}" if m["doing"] in ("stepping", "resetting") and m["environment"] >= 0 else ""
    episode = f", episode seed {m['episode_seed']}" if m["since_seconds"] > LONG and m["episode_seed"] >= 0 else ""
    silent = f", silent for {m['heartbeat_seconds']:.0f} s" if m["heartbeat_seconds"] > LONG else ""
    return m["doing"] + where + episode + silent + (" (stopped by a signal)" if m["held"] else "")


def _seed(status: dict[str, Any], index: int) -> int:
    """The training seed that has this place."""
    seeds = sorted({m["seed"] for m in status["members"] if m["seed"] is not None})
    return seeds[index] if index < len(seeds) else index


def _trajectories(f: dict[str, Any], name: str) -> list[str]:
    """What became of a seed's trajectories."""
    waits = "" if f["learner_waiting_seconds"] is None else f"; the learner waits for {f['learner_waiting_seconds']:.1f} s"
    room = f"; {f['actors_waiting_for_room']} actors wait for room" if f["actors_waiting_for_room"] else ""
    lost = ", ".join(f"{f[k]:,} {k.replace('_', ' ')}" for k in ("dropped", "rolled_back", "refused") if f[k])
    return [
        f"trajectories of {name}: {f['depth']} of {f['capacity']} wait, the oldest for {f['oldest_seconds']:.1f} s{room}{waits}",
        f"  {f['accepted']:,} accepted, {f['trained'] + f['unsaved']:,} trained, {f['in_hand']:,} in hand; {lost or 'none lost'}",
    ]


def _lock(x: dict[str, Any]) -> str:
    """Who holds a lock, and who waits for it."""
    held = f"held by {x['holder']} for {x['held_seconds']:.1f} s" if x["holder"] else "free"
    waiters = ", ".join(w["name"] for w in x["waiters"])
    return f"lock of {x['name']}: {held}{f', {waiters} wait' if waiters else ''}; waited for {x['waited_seconds']:.2f} s so far"
