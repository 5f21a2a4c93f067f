"""`marlstone check-env NAME`: what an environment is, how fast it steps, and what goes wrong in random play, before anything is trained."""

from collections.abc import Mapping
from typing import Any

from marlstone.cli.arguments import Parser
from marlstone.core.errors import UserError

STEPS = 100


def main(words: list[str]) -> int:
    """Check an environment; returns the exit code: 3 where something went wrong in it."""
    about = "Play an environment with random legal actions: who sees and does what, how fast it steps, what goes wrong."
    parser = Parser("check-env", about)
    parser.add_argument("env", metavar="NAME", help="source:name?option=value, or your own: file.py:make_env")
    parser.add_argument("--steps", type=int, default=STEPS, metavar="N", help=f"joint steps to play; default: {STEPS}")
    parser.add_json()
    flags = parser.read(words)
    if flags.steps < 1:
        raise UserError(f"--steps is {flags.steps}: give at least 1")
    from marlstone.cli.outcome import CHECK, DONE
    from marlstone.runs.json_line import one_line

    record = check()(flags.env, flags.steps)
    if flags.json:
        print(one_line(record))
    else:
        shown(record)
    return CHECK if record["faults"] else DONE


def check() -> Any:
    """The check, imported late."""
    from marlstone.evaluation.check_env import check_env

    return check_env


def shown(record: Mapping[str, Any]) -> None:
    """The tables of a check."""
    from marlstone.cli.report import number, show
    from marlstone.cli.tables import show_columns

    share = lambda x: "all" if x is None else f"{x:.0%}"
    cells = [
        (
            g["name"],
            ", ".join(g["agents"]),
            "; ".join(f"{k}: {v}" for k, v in g["observation"].items()),
            g["action"],
            share(g["legal_share"]),
        )
        for g in record["groups"]
    ]
    show_columns("groups: agents that see and do alike", ("group", "agents", "observation", "action", "legal"), cells)
    ended, many = record["episodes"], "one environment" if record["environments"] == 1 else f"{record['environments']} environments"
    rows = [
        ("environment", str(record["env"])),
        ("stepped by", "JAX, compiled" if record["kind"] == "jax" else "Python, in worker processes"),
        ("global state", f"{record['state']} numbers"),
        ("horizon", "not declared" if record["horizon"] is None else f"about {record['horizon']:,} steps"),
        ("episodes that ended", f"{ended} in {record['steps']:,} steps" + ("" if ended else ": give --steps more")),
        ("their length, mean", number(record["episode_length"])),
        ("return of random play, mean", number(record["random_return"])),
        *((f"{k} (true metric), random play", number(v)) for k, v in record["true_metrics"].items()),
        ("true metrics", "none declared: hacking of the reward cannot be checked") if not record["true_metrics"] else ("", ""),
        ("default actions", ", ".join(record["default_actions"]) or "the first option, or a Box's middle: none other declared"),
        (f"steps/s, {many} on a core", number(record["steps_per_second"])),
        (f"hours of stepping, one seed of 1e6 steps, {record['cores']} cores", f"{record['hours']['train']:.2g}"),
        ("hours of stepping, select with its defaults", f"{record['hours']['select']:.2g}"),
        ("faults", ", ".join(f"{k}: {n:,}" for k, n in record["faults"].items()) or "none"),
    ]
    show("checked", [row for row in rows if row[0]])
