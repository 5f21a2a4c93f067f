"""Errors a user can fix, whose message alone is enough: what was asked, why it cannot be done, and the remedy."""

import difflib
import linecache
import traceback
from collections.abc import Iterable
from types import TracebackType


class UserError(ValueError):
    """What was asked cannot be done, and the message says why: part, field, value and remedy. The command line prints it and exits 2."""


class Diverging(UserWarning):
    """Training diverges; the message says which setting to change."""


class Failure(RuntimeError):
    """Something outside failed for good (an environment, say), and the message is enough. The command line prints it and exits 1."""


class BudgetUsedUp(Failure):
    """A hard budget would be passed: what was begun can go on once it renews or is raised. The command line prints it and exits 3."""


def suggest(word: str, known: Iterable[str]) -> str:
    """`did you mean 'x'?` where something close exists, else the list of what there is. In the order given. For the end of a sentence."""
    names = list(known)
    folded = {name.lower(): name for name in names}
    close = difflib.get_close_matches(word.lower(), folded, n=1, cutoff=0.6)
    if close:
        return f"did you mean {folded[close[0]]!r}?"
    return f"choose one of: {', '.join(names)}" if names else "there is nothing to choose from"


def _raised_by_us(trace: TracebackType | None) -> bool:
    """Whether the line that failed is a `raise` of this package: not a bug that Python noticed in it, nor anyone else's error."""
    where = list(traceback.walk_tb(trace))
    if not where:
        return False
    frame, line = where[-1]
    ours = frame.f_globals.get("__name__", "").partition(".")[0] == "marlstone"
    return ours and linecache.getline(frame.f_code.co_filename, line).lstrip().startswith("raise ")


def is_refusal(error: BaseException) -> bool:
    """Whether an error is our own refusal of what was asked: a `ValueError`, or a missing package, that this package raised
    itself. The same from JAX, an environment or a user's file is a failure and keeps its traceback."""
    return isinstance(error, UserError) or _raised_by_us(error.__traceback__)
