"""Commands that are several: `marlstone GROUP COMMAND ...`."""

from collections.abc import Callable, Mapping

from marlstone.core.errors import UserError, suggest

USAGE = """usage: marlstone {group} COMMAND [options]

{commands}

marlstone {group} COMMAND --help explains a command."""


def dispatched(group: str, commands: Mapping[str, str], run: Callable[[str, list[str]], int], words: list[str]) -> int:
    """Run the one of `commands` (name -> about) that `words` name, as `run(command, rest)`; its exit code."""
    if not words or words[0] in ("-h", "--help", "help"):
        print(USAGE.format(group=group, commands="\n".join(f"  {name:<13} {about}" for name, about in commands.items())))
        return 0 if words else 2
    command, *rest = words
    if command not in commands:
        raise UserError(f"marlstone {group} has no command {command!r}; {suggest(command, commands)}")
    return run(command, rest)
