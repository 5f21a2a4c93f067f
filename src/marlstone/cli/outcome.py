"""How a command ends: an exit code, and one message where it failed."""

import linecache
import os
import sys
import traceback
from collections.abc import Callable
from types import TracebackType

from marlstone.core.errors import Failure, UserError

DONE, FAILED, MISTAKE, CHECK = 0, 1, 2, 3


def _raised_by_us(trace: TracebackType | None) -> bool:
    """Whether the line that failed is a `raise` of this package: not a bug that Python noticed in it, nor anyone else's error."""
    where = list(traceback.walk_tb(trace))
    if not where:
        return False
    frame, line = where[-1]
    ours = frame.f_globals.get("__name__", "").partition(".")[0] == "marlstone"
    return ours and linecache.getline(frame.f_code.co_filename, line).lstrip().startswith("raise ")


def refused(error: Exception) -> bool:
    """Whether an error is our own refusal of what was asked: a `ValueError`, or a missing package, that this package raised
    itself. The same from JAX, an environment or a user's file is a failure and keeps its traceback."""
    return isinstance(error, UserError) or _raised_by_us(error.__traceback__)


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
        if not refused(error):
            raise
        return ended("error", " ".join(str(error).split()), MISTAKE)
    except Failure as error:
        return ended("marlstone", str(error), FAILED)
    except KeyboardInterrupt:
        return ended("marlstone", "interrupted", FAILED)
    except BrokenPipeError:  # the reader of our output is gone, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
