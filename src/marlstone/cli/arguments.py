"""Flags: the parser every command uses, whose errors are one message with a suggestion."""

import argparse
import json
from collections.abc import Sequence
from typing import NoReturn

from marlstone.core.errors import UserError, suggest

KINDS = {
    "architecture": ("decentralized", "ctde", "hierarchical"),
    "credit": (
        "individual", "team", "counterfactual", "difference", "measured", "attention", "shaping", "decoupled", "vdn", "qmix", "qplex",
    ),
    "learner": ("policy_gradient", "q_learning", "pqn"),
    "comms": ("none", "broadcast", "targeted"),
    "body": ("mlp", "gru"),
    "encoder": ("image", "vector"),
    "sink": ("tensorboard", "wandb", "mlflow", "csv"),
}  # fmt: skip
"""The kinds of each part, for help, which imports none of them; a test holds them against the parts themselves."""
PAPERS = {
    "counterfactual": "COMA", "shaping": "LIIR", "attention": "TAR2", "decoupled": "PRD", "policy_gradient": "PPO", "q_learning": "DQN",
    "broadcast": "CommNet, IC3Net", "targeted": "TarMAC",
}  # fmt: skip
"""What the field calls a kind, where that is another name; it is taken too (`config.kinds.ALIASES`)."""


def choices(part: str) -> str:
    """The kinds of a part, for help."""
    return ", ".join(f"{k} ({PAPERS[k]})" if k in PAPERS else k for k in KINDS[part])


class Parser(argparse.ArgumentParser):
    """`argparse` that raises `UserError` instead of printing usage and leaving, and knows what an unknown flag was meant to be."""

    def __init__(self, command: str, about: str) -> None:
        wide = lambda prog: argparse.HelpFormatter(prog, max_help_position=32, width=120)
        super().__init__(prog=f"marlstone {command}", description=about, allow_abbrev=False, formatter_class=wide)

    def add_acting(self) -> None:
        """`--acting`, as every command that judges policies has it."""
        text = "how policies act when they are judged: mode, sample, temperature=T, or auto: the better of mode and sample"
        self.add_argument("--acting", metavar="HOW", help=text)

    def add_metrics(self) -> None:
        """`--metric`, as every command that judges policies has it."""
        text = (
            "also measure a true metric of your own: file.py:Class or file.py:function (docs: your own parts), or one that infos have: "
            "delivered=up; may be repeated"
        )
        self.add_argument("--metric", action="append", default=[], metavar="KIND", help=text)

    def add_sides(self) -> None:
        """`--team` and `--opponent`, as every command that plays an environment by a configuration has them."""
        self.add_argument("--team", metavar="AGENTS", help="whose rewards are the team's: by name, type or group, such as 'wolf*' or a+b")
        text = "agents that do not learn, and who plays them: 'sheep*=RUN' (or a policy's folder, random, default); may be repeated"
        self.add_argument("--opponent", action="append", default=[], metavar="AGENTS=WHO", help=text)

    def add_sinks(self) -> None:
        """`--sink`, as every command that trains has it."""
        text = f"also send what is measured to a service: {choices('sink')}, or your own: file.py:Class (docs: sinks); may be repeated"
        self.add_argument("--sink", action="append", default=[], metavar="KIND", help=text)

    def add_cluster(self, jobs: str) -> None:
        """`--fleet` and `--address`, as commands have them whose `jobs` may be done on a Ray cluster; checked by `check_cluster`."""
        self.add_argument("--fleet", metavar="KIND", help=f"ray: {jobs} at once on a Ray cluster whose nodes see the same files")
        self.add_address()

    def add_address(self) -> None:
        """`--address`, as every command has it that may run on a Ray cluster."""
        text = "of the Ray cluster; none: RAY_ADDRESS, or one of our own on this machine"
        self.add_argument("--address", metavar="HOST:PORT", help=text)

    def add_playing_time(self, default: str) -> None:
        """`--budget`, as commands have it that play episodes until something is decided."""
        self.add_argument("--budget", default=default, metavar="TIME", help=f"time to play in, such as 90s or 1h; default: {default}")

    def add_json(self) -> None:
        """`--json`, as every command has it."""
        self.add_argument("--json", action="store_true", help="one line of JSON on stdout")

    def error(self, message: str) -> NoReturn:
        """Raises `UserError` with what `argparse` found wrong, in place of leaving with a usage text."""
        raise UserError(f"{self.prog}: {message}; see {self.prog} --help")

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """The parsed flags. Raises `UserError` for an unknown one; `--help` prints and leaves with 0."""
        found, unknown = self.parse_known_args(list(words))
        if unknown:
            flags = [s for a in self._actions for s in a.option_strings if s.startswith("--")]
            first = next((u for u in unknown if u.startswith("-")), unknown[0]).partition("=")[0]
            if not first.startswith("-"):
                raise UserError(f"{self.prog}: {first!r} is one argument too many; see {self.prog} --help")
            raise UserError(f"{self.prog}: unknown flag {first!r}; {suggest(first, flags)}")
        return found


def metrics(kinds: Sequence[str]) -> dict[str, str]:
    """`--metric` as `config.load` takes it."""
    return {"metric": json.dumps(list(kinds))} if kinds else {}


def sides(flags: argparse.Namespace) -> dict[str, str]:
    """`--team` and `--opponent` as `config.load` takes them. Raises `UserError` where one does not read, or is given twice."""
    found: dict[str, str] = {}
    for pair in flags.opponent:
        pattern, equals, who = (x.strip() for x in pair.partition("="))
        if not equals or not pattern or not who:
            raise UserError(f"--opponent {pair!r} does not read; write --opponent 'sheep*=runs/x' (or =random, =default)")
        if pattern in found:
            raise UserError(f"--opponent {pattern} is given twice; give it once")
        found[pattern] = who
    team = {} if flags.team is None else {"team": flags.team}
    return team | ({"opponent": json.dumps(found)} if found else {})


def check_cluster(flags: argparse.Namespace, what: str) -> None:
    """Raises `UserError` where `--fleet` or `--address`, of `add_cluster`, ask for what a `what` (the word for it) cannot have."""
    if flags.fleet not in (None, "ray"):
        raise UserError(f"--fleet {flags.fleet}: a {what}'s trials run on this machine's cores, or on a cluster's with --fleet ray")
    if flags.address is not None and flags.fleet is None:
        raise UserError(f"--address {flags.address} is that of a Ray cluster: add --fleet ray")


def whole(name: str, text: str) -> int:
    """`--seeds 5` as a number. Raises `UserError`."""
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if number != number or number != int(number):
        raise UserError(f"--{name} {text}: expected a whole number, such as 5")
    return int(number)


def sinks(kinds: Sequence[str]) -> dict[str, str]:
    """`--sink` as `config.load` takes it."""
    return {"sink": json.dumps(list(kinds))} if kinds else {}


def settings(pairs: Sequence[str]) -> dict[str, str]:
    """`--set learner.lr=1e-3` as `{"learner.lr": "1e-3"}`. Raises `UserError` where it does not read, or is given twice."""
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {pair!r} does not read; write --set learner.lr=1e-3")
        if key.strip() in found:
            raise UserError(f"--set {key.strip()} is given twice; give it once")
        found[key.strip()] = value.strip()
    return found
