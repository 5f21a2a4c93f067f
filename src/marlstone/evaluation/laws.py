"""What checks of credit methods, learners and encoders share: a law is a function that returns where it holds, raises `Broken` with the
numbers where it does not, and `Skipped` with the reason where it does not apply."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax

Law = Callable[[Any], None]


class Broken(AssertionError):
    """A law does not hold; says where, and by how much."""


class Skipped(Exception):
    """A law does not apply here; says why."""


@dataclass(frozen=True)
class Verdict:
    """`held`: True, False, or None where the law does not apply; `says`: why, with numbers."""

    law: str
    held: bool | None
    says: str = ""


def title(law: Law) -> str:
    """A law in words, as the commands print it."""
    return law.__name__.replace("_", " ")


def judged(law: Law, case: Any) -> Verdict:
    """Whether a law holds of a case: kept, broken with the reason, or not applicable (None)."""
    try:
        law(case)
    except Skipped as reason:
        return Verdict(title(law), None, str(reason))
    except Broken as reason:
        return Verdict(title(law), False, str(reason))
    except jax.errors.JAXTypeError as error:
        return Verdict(title(law), False, f"it cannot be compiled: {' '.join(str(error).split())[:200]}")
    return Verdict(title(law), True)


def all_judged(laws: Sequence[Law], judge: Callable[[Law], Verdict], why: str) -> list[Verdict]:
    """Every law's verdict. Where the first is broken the others are not asked, and `why` says so."""
    first = judge(laws[0])
    if first.held is False:
        return [first, *(Verdict(title(law), None, why) for law in laws[1:])]
    return [first, *(judge(law) for law in laws[1:])]
