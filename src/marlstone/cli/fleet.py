"""`marlstone fleet COMMAND ...`: commands about fleets of actors, one file each, imported only when it is called."""

import importlib

from marlstone.cli.group import dispatched

COMMANDS = {
    "status": "who is doing what in a run's fleet, who waits for what, and since when",
    "dump": "every process's Python stacks, in one file",
    "resize": "let actors join or leave while training runs",
    "simulate": "what a fleet of up to 100,000 actors would do, asynchronous and synchronous",
}


def main(words: list[str]) -> int:
    """Run a fleet command; returns its exit code."""
    run = lambda command, rest: int(importlib.import_module(f"marlstone.cli.fleet_{command}").main(rest))
    return dispatched("fleet", COMMANDS, run, words)
