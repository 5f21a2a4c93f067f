"""What `check-credit`, `check-learner`, `check-encoder` and `check-comms` print of laws, and the exit code that follows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from marlstone.cli.outcome import CHECK, DONE

if TYPE_CHECKING:  # help imports no JAX
    from marlstone.evaluation.laws import Verdict

SHOWN = {True: "holds", False: "BROKEN", None: "skipped"}


def show_verdicts(title: str, about: dict[str, Any], verdicts: "Sequence[Verdict]", as_json: bool) -> int:
    """Print a table under `title`, or `about` and the laws as one line of JSON; 3 where a law is broken."""
    broken = [v.law for v in verdicts if v.held is False]
    if as_json:
        from marlstone.runs.json_line import one_line

        laws = [{"law": v.law, "held": v.held, "says": v.says} for v in verdicts]
        print(one_line({**about, "laws": laws, "broken": broken}))
    else:
        from marlstone.cli.report import show

        show(title, [(v.law, SHOWN[v.held] + (f": {v.says}" if v.says else "")) for v in verdicts])
    return CHECK if broken else DONE
