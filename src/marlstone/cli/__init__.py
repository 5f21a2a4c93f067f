"""The command line: `marlstone COMMAND ...`, one file a command, imported only when it is called."""

import importlib
import os
import sys
from collections.abc import Sequence

from marlstone.cli.interrupt import ended_at_once
from marlstone.cli.outcome import conclude
from marlstone.core.errors import UserError, suggest

COMMANDS = {
    "select": "find which architecture is robust in an environment, by measuring",
    "tune": "find which settings of one configuration return most, by successive halving",
    "train": "train agents in an environment, or continue a run",
    "evaluate": "play a run's final policy and report its return",
    "runs": "find runs, look at them side by side, put them away",
    "compare": "which of two runs' policies earns more, on the same episodes",
    "trim": "what a finished run can do without, proven, as a new run",
    "payoff": "who beats whom: every policy as the team against every policy as its opponents",
    "cost": "what runs cost per agent, phase and kind, and what their policies will cost as they act",
    "budget": "where budgets stand, how fast they are spent, by when they will be",
    "check-hacking": "did the reward rise while what is really wanted fell?",
    "audit-credit": "check what a credit method says of each agent against the truth",
    "check-env": "who sees and does what in an environment, how fast it is, what goes wrong in it",
    "check-credit": "run a credit method, yours too, through the laws that every one keeps",
    "check-encoder": "run an encoder of observations, yours too, through the laws that every one keeps",
    "check-comms": "run a channel between agents, yours too, through the laws that every one keeps",
    "check-learner": "run a learner, yours too, through the laws that every one keeps",
    "fleet": "many actors, one learner: inspect, resize or simulate a fleet",
    "envs": "list the environments, and what each needs installed",
}

ORDERLY = ("train", "select", "tune")
"""Those that keep what was done when Ctrl-C or SIGTERM ends them; see to it themselves."""

USAGE = """usage: marlstone COMMAND [options]

{commands}

marlstone COMMAND --help explains a command. Every command takes --json: one line of JSON on stdout, everything else on stderr.
Exit codes: 0 done, 2 a mistake in what was asked, 3 a check that did not hold, 130 or 143 ended by Ctrl-C
or SIGTERM, 1 anything else."""


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(USAGE.format(commands="\n".join(f"  {name:<13} {about}" for name, about in COMMANDS.items())))
        return 0 if words else 2
    if words[0] == "--version":
        from marlstone import __version__

        print(f"marlstone {__version__}")
        return 0
    command, *rest = words
    if command not in COMMANDS:
        raise UserError(f"there is no command {command!r}; {suggest(command, COMMANDS)}")
    run = importlib.import_module(f"marlstone.cli.{command.replace('-', '_')}").main
    return run(rest) if command in ORDERLY else ended_at_once(lambda: run(rest))


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code. A user's mistake is one message on stderr, never a traceback."""
    words = list(sys.argv[1:] if argv is None else argv)
    return conclude(lambda: _dispatch(words), as_json="--json" in words)


def entry() -> None:
    """The `marlstone` program."""
    code = main()
    if code > 128:  # ended by a signal: a thread may still be in compiled code, which Python cannot end
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)
    sys.exit(code)
