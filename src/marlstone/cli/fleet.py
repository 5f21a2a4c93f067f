"""`marlstone fleet COMMAND ...`: commands about fleets of actors, one file each, imported only when it is called."""

import importlib

from marlstone.core.errors import UserError, suggest

COMMANDS = {
    "status": "who is doing what in a run's fleet, who waits for what, and since when",
    "dump": "every process's Python stacks, in one file",
    "resize": "let actors join or leave while training runs",
    "simulate": "what a fleet of up to 100,000 actors would do, asynchronous and synchronous",
}

USAGE = """usage: marlstone fleet COMMAND [options]

{commands}

marlstone fleet COMMAND --help explains a command."""


def main(words: list[str]) -> int:
    """Run a fleet command; returns its exit code."""
    if not words or words[0] in ("-h", "--help", "help"):
        print(USAGE.format(commands="\n".join(f"  {name:<13} {about}" for name, about in COMMANDS.items())))
        return 0 if words else 2
    command, *rest = words
    if command not in COMMANDS:
        raise UserError(f"marlstone fleet has no command {command!r}; {suggest(command, COMMANDS)}")
    return importlib.import_module(f"marlstone.cli.fleet_{command}").main(rest)
