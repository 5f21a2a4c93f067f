"""How a command ends: an exit code, and one message where it failed."""

import os
import signal
import sys
from collections.abc import Callable

from marlstone.cli.interrupt import Interrupted
from marlstone.core.errors import BudgetUsedUp, Failure, is_refusal

DONE, FAILED, MISTAKE, CHECK = 0, 1, 2, 3


def conclude(command: Callable[[], int], as_json: bool) -> int:
    """Run `command`; its exit code, or the one of how it failed. With `as_json`, how it failed is one JSON object on stdout too."""

    def ended(prefix: str, message: str, code: int) -> int:
        print(f"{prefix}: {message}", file=sys.stderr)
        if as_json:
            from marlstone.runs.json_line import one_line

            print(one_line({"error": message, "exit_code": code}))
        return code

    try:
        return command()
    except (ValueError, ModuleNotFoundError) as error:
        if not is_refusal(error):
            raise
        return ended("error", " ".join(str(error).split()), MISTAKE)
    except BudgetUsedUp as error:
        return ended("marlstone", str(error), CHECK)
    except Failure as error:
        return ended("marlstone", str(error), FAILED)
    except Interrupted as error:
        return ended("marlstone", str(error), error.code)
    except KeyboardInterrupt:
        return ended("marlstone", "interrupted", 128 + signal.SIGINT)
    except BrokenPipeError:  # the reader of our output is gone, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
