"""The docs' tables of credit on the field's tasks and of planted agents, from results/credit_tasks/."""

from pathlib import Path
from typing import Any

from credit_tasks import TASKS, methods_of
from credit_windows import WINDOWS
from record import read
from tables import CORRELATION, between, both, number, table

BEGIN, END = "<!-- credit-tasks: written by benchmarks/render.py -->", "<!-- /credit-tasks -->"


def _both(record: dict[str, Any], name: str, bounds: tuple[float, float] | None = None) -> str:
    return both(record.get(name), record.get(f"{name}_ci95", [None, None]), bounds, 2)


def _slopes(record: dict[str, Any]) -> str:
    known = [x for x in (record.get("slopes") or {}).values() if x is not None]
    return "-" if not known else f"{min(known):.2f} to {max(known):.2f}"


def _results(task: str) -> list[tuple[str, dict[str, Any] | None]]:
    """By method, in their order; a task without any result is one entry."""
    recorded = read("credit_tasks")
    found = [(m, recorded.get(f"{task}-{m}")) for m in methods_of(task)]
    return found if any(r for _, r in found) else [("", None)]


def _told(task: str, method: str, r: dict[str, Any] | None) -> list[str]:
    first = [task, f"`{method}`" if method else "all methods"]
    if r is None:
        return [*first, "not recorded", *[""] * 7]
    a = r["audit"]
    return [
        *first,
        _both(a, "noise_ceiling", (0.0, 1.0)),
        _both(a, "decision_rank_correlation", CORRELATION),
        _both(a, "share_of_ceiling"),
        _slopes(a),
        f"{r['return_iqm']:.3g} ({number(r['return_ci95'][0])} to {number(r['return_ci95'][1])})",
        number(float(max(r["env_steps"]))),
        number(r["steps_per_second"]),
        f"{len(a['seeds'])} seeds, {r['date'][:10]} `{r['commit']}`",
    ]


def _planted(task: str, method: str, r: dict[str, Any] | None) -> list[str]:
    first = [task, f"`{method}`" if method else "all methods"]
    if r is None:
        return [*first, "not recorded", *[""] * 4]
    p, a = r["planted"], r["audit"]
    agent = p["agent"]
    others = [x for k, x in a["contributions"].items() if k != agent]
    return [
        *first,
        f"**{p['named']} of {p['of']}**",
        f"{p['true']} of {p['of']}",
        f"{a['contributions'][agent]:.3g} (others {min(others):.3g} to {max(others):.3g})",
        f"{a['truth_discounted'][agent]:.3g}",
        f"{r['date'][:10]} `{r['commit']}`",
    ]


def _spoken(task: str, method: str, r: dict[str, Any] | None) -> list[str]:
    first = [task, f"`{method}`" if method else "all methods"]
    if r is None:
        return [*first, "not recorded", *[""] * 3]
    a, both_agents = r["audit"], ("scout", "worker")
    beside = lambda found: ", ".join(f"{found[x]:.3g}" for x in both_agents)
    said = beside(a["contributions"]) if a["claims"] else "nothing"
    return [*first, said, beside(a["truth"]), beside(r["closed_form"]), f"{r['date'][:10]} `{r['commit']}`"]


def tasks() -> str:
    """The tables: what claims reach on each task, how far counterfactuals must be played, whether claims name who was planted, and what
    they say of who speaks."""
    head = [
        "task",
        "credit",
        "noise ceiling",
        "rank correlation, decision by decision",
        "share of the ceiling",
        "slopes, of agents",
        "return",
        "environment steps per seed, measured ones too",
        "steps/s, all seeds",
        "measured",
    ]
    plain = [_told(t, m, r) for t in TASKS if "planted" not in TASKS[t] for m, r in _results(t)]
    names = [_planted(t, m, r) for t in TASKS if "planted" in TASKS[t] for m, r in _results(t)]
    who = ["task", "credit", "named by the claims", "by the truth", "claimed of it", "true, discounted", "measured"]
    talk = [_spoken(t, m, r) for t in TASKS if "talk" in TASKS[t] for m, r in _results(t)]
    spoken = ["task", "credit", "claimed of scout, worker", "true", "of the best team, closed form", "measured"]
    return "\n".join([table(head, plain), windows(), table(who, names), table(spoken, talk)])


def windows() -> str:
    """What a difference bootstrapped after so many steps says of decisions, on a trained policy."""
    found = read("credit_windows")
    head = ["task", "noise ceiling", "claimed", *[f"{h} steps" for h in WINDOWS], "to the end", "measured"]
    rows = [
        [
            task,
            f"{r['noise_ceiling']:.2f}",
            f"{r['claimed']:.2f}",
            *[f"{r['windows'][str(h)]['once']:.2f}, {r['windows'][str(h)]['mean']:.2f}" for h in WINDOWS],
            f"{r['whole_episode_once']:.2f}",
            f"1 seed, {number(r['steps'])} steps, {r['acting']}, {r['date'][:10]} `{r['commit']}`",
        ]
        for task, r in found.items()
    ]
    return table(head, rows) if rows else "How far a counterfactual must be played is not recorded yet.\n"


def credit(page: Path) -> str:
    """The page with its tables, between two marks."""
    return between(page.read_text(), BEGIN, tasks(), END)
