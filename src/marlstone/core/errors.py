"""Mistakes a person can mend: an error whose message alone is enough."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """What was asked cannot be done, and the message says why: part, field, value and remedy. The command line prints it and exits 2."""


class Diverging(UserWarning):
    """Learning runs away; says which setting to change."""


class Failure(RuntimeError):
    """Something outside failed for good (an environment, say), and the message is enough. The command line prints it and exits 1."""


def suggest(word: str, known: Iterable[str]) -> str:
    """`did you mean 'x'?` where something close exists, else the list of what there is. In the order given. For the end of a sentence."""
    names = list(known)
    folded = {name.lower(): name for name in names}
    close = difflib.get_close_matches(word.lower(), folded, n=1, cutoff=0.6)
    if close:
        return f"did you mean {folded[close[0]]!r}?"
    return f"choose one of: {', '.join(names)}" if names else "there is nothing to choose from"
