"""From what a model said to an action: the contract of an answer parser, and those that ship.

A parser is a frozen dataclass. It never guesses: an answer that is not understood has a status that says why, is counted, and the agent
takes its declared default action. A parser of your own derives from `AnswerParser`.

| parser | `"I will go. ANSWER: left"` |
|---|---|
| `Whole()` | the whole text, for Text spaces |
| `Choice(("left", "right"))` | `left`, the one option that occurs as a word; as a number where the space is Discrete |
| `Pattern(r"ANSWER: (\\w+)")` | what the group matches, last match first |
| `Json("action")` | of the last JSON object in the text, the value of a key |
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium.spaces as gs
import numpy as np

OK, NO_MATCH, AMBIGUOUS, NOT_JSON = "ok", "no_match", "ambiguous", "not_json"
NOT_IN_SPACE, NOT_LEGAL, REFUSED, FAILED = "not_in_space", "not_legal", "refused", "call_failed"
"""What became of an answer. `not_legal`: the environment's mask forbids it now; `refused`: a budget allowed no call; `call_failed`: no
answer came."""
STATUSES = (OK, NO_MATCH, AMBIGUOUS, NOT_JSON, NOT_IN_SPACE, NOT_LEGAL, REFUSED, FAILED)


@dataclass(frozen=True)
class Parsed:
    """An answer understood, or why not.

    Attributes:
      status: `ok`, or one of `STATUSES`.
      action: as the agent's space takes it; None unless `ok`.
    """

    status: str
    action: Any = None


class AnswerParser(ABC):
    """What turns an answer into an action.

    Attributes:
      spaces: kinds of action spaces that it can give actions of.
    """

    spaces: ClassVar[tuple[type[gs.Space], ...]]

    @abstractmethod
    def value(self, text: str, space: gs.Space) -> Parsed:
        """What the text says, before it is known to lie in the space."""

    def parse(self, text: str, space: gs.Space) -> Parsed:
        """An action that the space holds, or why there is none."""
        found = self.value(text, space)
        if found.status != OK:
            return found
        action = in_space(found.action, space)
        return Parsed(NOT_IN_SPACE) if action is None else Parsed(OK, action)


def in_space(value: Any, space: gs.Space) -> Any:
    """A plain value as the space takes it, or None where it does not hold it. Texts of digits are numbers to a Discrete space."""
    if isinstance(space, gs.Text):
        return value if isinstance(value, str) and space.contains(value) else None
    if isinstance(space, gs.Discrete):
        if isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,9}\s*", value):
            value = int(value)
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        return int(value) if whole and space.contains(int(value)) else None
    if isinstance(space, gs.Box | gs.MultiDiscrete | gs.MultiBinary):
        try:
            given = np.asarray(value, dtype=float)
        except (TypeError, ValueError):
            return None
        exact = np.isfinite(given).all() and (isinstance(space, gs.Box) or (given == np.round(given)).all())
        array = given.astype(space.dtype) if exact else given
        return array if exact and space.contains(array) else None
    return None


@dataclass(frozen=True)
class Whole(AnswerParser):
    """The whole answer is the action.

    Attributes:
      strip: whether white space around it is left out.
      longest: characters above which an answer is cut, where the space has no shorter limit of its own; 0: never cut.
    """

    strip: bool = True
    longest: int = 0
    spaces = (gs.Text,)

    def value(self, text: str, space: gs.Space) -> Parsed:
        """The text."""
        said = text.strip() if self.strip else text
        return Parsed(OK, said[: self.longest] if self.longest else said)


@dataclass(frozen=True)
class Choice(AnswerParser):
    """One of several options; the answer has to hold exactly one of them, as a word.

    Attributes:
      options: words; to a Discrete space the first is its first action.
      any_case: whether upper and lower case are the same.
    """

    options: tuple[str, ...] = ()
    any_case: bool = True
    spaces = (gs.Discrete, gs.Text)

    def __post_init__(self) -> None:
        folded = [o.lower() if self.any_case else o for o in self.options]
        if not self.options or not all(o.strip() for o in self.options) or len(set(folded)) < len(folded):
            raise ValueError(f"Choice.options is {self.options}: give one or more different words")

    def value(self, text: str, space: gs.Space) -> Parsed:
        """The option, or its number."""
        flags = re.IGNORECASE if self.any_case else 0
        longest = sorted(range(len(self.options)), key=lambda k: -len(self.options[k]))  # so that "go left" is not "go"
        pattern = "|".join(f"(?P<o{k}>{re.escape(self.options[k])})" for k in longest)
        found = {int(str(m.lastgroup)[1:]) for m in re.finditer(rf"(?<!\w)(?:{pattern})(?!\w)", text, flags)}
        if len(found) != 1:
            return Parsed(AMBIGUOUS if found else NO_MATCH)
        k = found.pop()
        return Parsed(OK, int(getattr(space, "start", 0)) + k if isinstance(space, gs.Discrete) else self.options[k])


@dataclass(frozen=True)
class Pattern(AnswerParser):
    """What a regular expression finds: its first group, or all of it where there is none.

    Attributes:
      regex: of Python's `re`.
      which: `last` match, `first`, or the `only` one.
    """

    regex: str = r"ANSWER:\s*(\S+)"
    which: str = "last"
    spaces = (gs.Text, gs.Discrete)

    def __post_init__(self) -> None:
        if self.which not in ("last", "first", "only"):
            raise ValueError(f"Pattern.which is {self.which!r}: choose last, first or only")
        try:
            re.compile(self.regex)
        except re.error as error:
            raise ValueError(f"Pattern.regex is {self.regex!r}: {error}") from error

    def value(self, text: str, space: gs.Space) -> Parsed:
        """The text found."""
        found = [m.group(1) if m.re.groups else m.group(0) for m in re.finditer(self.regex, text)]
        if not found:
            return Parsed(NO_MATCH)
        if self.which == "only" and len(found) > 1:
            return Parsed(AMBIGUOUS)
        return Parsed(OK, found[0 if self.which == "first" else -1])


@dataclass(frozen=True)
class Json(AnswerParser):
    """A value of the last JSON object in the answer, whatever is said around it.

    Attributes:
      key: of the object.
    """

    key: str = "action"
    spaces = (gs.Text, gs.Discrete, gs.Box, gs.MultiDiscrete, gs.MultiBinary)

    def value(self, text: str, space: gs.Space) -> Parsed:
        """The value under the key."""
        decoder, found, at = json.JSONDecoder(), None, text.find("{")
        while at >= 0:
            try:
                value, end = decoder.raw_decode(text, at)
                found = value if isinstance(value, Mapping) else found
            except (ValueError, RecursionError):
                end = at + 1
            at = text.find("{", end)
        if found is None:
            return Parsed(NOT_JSON)
        return Parsed(OK, found[self.key]) if self.key in found else Parsed(NO_MATCH)
