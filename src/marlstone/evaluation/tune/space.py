"""The space of a sweep: options by dotted field, each a range or a list of choices.

    [tune.space]
    "learner.lr" = { low = 1e-4, high = 1e-2, scale = "log" }
    "learner.epochs" = { low = 1, high = 8 }                        # both ends whole: whole numbers
    "architecture.body.hidden" = { choices = [[64], [64, 64]] }

On the command line: `--space learner.lr=1e-4..1e-2:log`, `--space learner.epochs=1..8`, `--space 'architecture.body.hidden=[64]|[64,64]'`.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from marlstone.config.structure import Word
from marlstone.core.errors import UserError, suggest

FORBIDDEN = {
    "env": "returns of different environments do not compare: tune in each",
    "steps": "it is the budget of every trial: give --steps",
    "seed": "trials share the tuning seeds",
    "seeds": "trials share the tuning seeds: give --tuning-seeds",
    "evaluate": "it is how trials are judged, all alike",
    "acting": "it is how trials are judged, all alike",
    "metrics": "they measure, and change nothing",
    "faults": "returns under different faults do not compare",
    "guards": "returns under different guards do not compare",
    "sinks": "they change no return",
    "fleet": "trials run on this machine's cores: tune without",
    "out": "a sweep keeps its runs in its own folder",
    "checkpoint_every": "trials are judged at their checkpoints",
    "checkpoint_minutes": "it changes no return",
}
"""Fields of a run that no space may have, and why."""
RANGE = re.compile(r"(?P<low>[^.|][^|]*?)\.\.(?P<high>[^:|]+)(?::(?P<scale>\w+))?")


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; drawn evenly, or in their logarithm (`scale` log). Whole ones where both ends are."""

    low: float
    high: float
    scale: str = "linear"

    def __post_init__(self) -> None:
        if self.scale not in ("linear", "log"):
            raise ValueError(f"scale = {self.scale!r}: {suggest(self.scale, ('linear', 'log'))}")
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"low = {self.low}, high = {self.high}: low must be less than high")
        if self.scale == "log" and self.low <= 0:
            raise ValueError(f"low = {self.low} on a log scale: give a positive one")

    @property
    def whole(self) -> bool:
        """Whether it has whole numbers alone."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def draw(self, random: np.random.Generator) -> int | float:
        """A value by chance."""
        low, high = (self.low - 0.5, self.high + 0.5) if self.whole else (self.low, self.high)
        if self.scale == "log":
            x = math.exp(random.uniform(math.log(max(low, 0.5) if self.whole else low), math.log(high)))
        else:
            x = random.uniform(low, high)
        if self.whole:
            return int(min(max(round(x), self.low), self.high))
        return float(f"{min(max(x, self.low), self.high):.4g}")  # as people write them

    @property
    def ends(self) -> tuple[Any, ...]:
        """Values that must all fit for the others to fit."""
        return self.low, self.high


@dataclass(frozen=True)
class Choices:
    """One of these `values`."""

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if len(self.values) < 2:
            raise ValueError(f"choices = {list(self.values)!r}: give at least two")

    def draw(self, random: np.random.Generator) -> Any:
        """A value by chance."""
        return self.values[int(random.integers(len(self.values)))]

    @property
    def ends(self) -> tuple[Any, ...]:
        """All of them."""
        return self.values


Option = Range | Choices
Space = Mapping[str, Option]


def option(name: str, given: Any) -> Option:
    """What a table of `[tune.space]` says of one field. Raises `UserError`."""
    where = f"tune.space.{json.dumps(name)}"
    if (why := FORBIDDEN.get(name.split(".")[0])) is not None:
        raise UserError(f"{where}: a sweep cannot vary {name}: {why}")
    if not isinstance(given, Mapping):
        raise UserError(f"{where} = {given!r}: give {{ low = ..., high = ... }} or {{ choices = [...] }}")
    known = ("choices",) if "choices" in given else ("low", "high", "scale")
    if stray := [key for key in given if key not in known]:
        raise UserError(f"{where}: unknown key {stray[0]!r}; {suggest(stray[0], known)}")
    try:
        if "choices" in given:
            values = given["choices"]
            if not isinstance(values, list | tuple):
                raise ValueError(f"choices = {values!r}: give a list")
            return Choices(tuple(values))
        ends = [given.get("low"), given.get("high")]
        if any(isinstance(x, bool) or not isinstance(x, int | float) for x in ends):
            raise ValueError(f"low = {ends[0]!r}, high = {ends[1]!r}: give two numbers, or choices = [...]")
        return Range(ends[0], ends[1], given.get("scale", "linear"))  # type: ignore[arg-type]
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error


def flag(pair: str) -> tuple[str, Mapping[str, Any]]:
    """`--space FIELD=LOW..HIGH[:log]` or `FIELD=A|B|C`, as the table that says the same. Raises `UserError`."""
    name, equals, text = pair.partition("=")
    wrong = UserError(f"--space {pair!r} does not read; write learner.lr=1e-4..1e-2:log, or learner.epochs=1|2|4")
    if not equals or not name.strip() or not text.strip():
        raise wrong
    if (found := RANGE.fullmatch(text.strip())) is not None:
        ends = [Word(found[k].strip()).read() for k in ("low", "high")]
        scale = {} if found["scale"] is None else {"scale": found["scale"]}
        return name.strip(), {"low": ends[0], "high": ends[1], **scale}
    if "|" not in text:
        raise wrong
    return name.strip(), {"choices": [Word(x.strip()).read() for x in text.split("|")]}


def words_of(settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings as the command line would have them: `{"learner.lr": "0.001"}`."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in settings.items()}


def shown(settings: Mapping[str, Any]) -> str:
    """Settings in one line for people; of none, what that means."""
    return ", ".join(f"{name} {value}" for name, value in words_of(settings).items()) or "as configured"


def drawn(space: Space, random: np.random.Generator, before: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Settings by chance, others than those `before` where the space has others."""
    for _ in range(100):
        found = {name: option.draw(random) for name, option in space.items()}
        if found not in before:
            break
    return found
