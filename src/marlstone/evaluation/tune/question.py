"""What a sweep is asked: one configuration, the space of its settings, how many are tried, and on which seeds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from marlstone.config import RunConfig
from marlstone.config.sources import built, given, read
from marlstone.core.errors import UserError, suggest
from marlstone.core.seeds import REPORTING
from marlstone.evaluation.tune import ETA, SAMPLERS, SEEDS, TRIALS, TUNING_SEEDS
from marlstone.evaluation.tune.space import Option, Space, flag, option, words_of
from marlstone.runs.sinks.contract import check_all

NUMBERS = ("trials", "eta", "tuning_seeds")


@dataclass(frozen=True)
class Question:
    """All that a sweep is determined by.

    `values`: the configuration as a TOML table, `common`: what the command line changes in it, `space`: the options to vary. `trials` are
    begun, of which one in `eta` goes on from rung to rung, each rung `eta` times as long, the last as long as the configuration says. They
    are judged on `tuning_seeds` seeds of the tuning kind, the winner anew on `seeds` from `seed` on, and so is the configuration as it
    was, as the `baseline`, which is also the first trial. `sampler`: `random` or `optuna`.
    """

    values: Mapping[str, Any]
    common: Mapping[str, str]
    space: Mapping[str, Mapping[str, Any]]
    trials: int = TRIALS
    eta: int = ETA
    tuning_seeds: int = TUNING_SEEDS
    seeds: int = SEEDS
    seed: int = REPORTING
    sampler: str = "random"
    baseline: bool = True

    def __post_init__(self) -> None:
        for name, least in (("trials", 2), ("eta", 2), ("tuning_seeds", 1), ("seeds", 1)):
            if getattr(self, name) < least:
                raise UserError(f"tune.{name} is {getattr(self, name)}: give at least {least}")
        if self.seed < REPORTING:
            raise UserError(f"seed is {self.seed}: give {REPORTING} or more, since trials are judged on those below")
        if self.sampler not in SAMPLERS:
            raise UserError(f"tune.sampler = {self.sampler!r}: {suggest(self.sampler, SAMPLERS)}")
        if not self.space:
            raise UserError("there is nothing to tune: give a space, [tune.space] in TOML, or --space learner.lr=1e-4..1e-2:log")

    @cached_property
    def options(self) -> Space:
        """The space, read. Raises `UserError` where a field is given elsewhere too, or does not take one of its values."""
        found: dict[str, Option] = {name: option(name, table) for name, table in self.space.items()}
        if twice := sorted(set(found) & set(self.common)):
            raise UserError(f"{twice[0]} is both set and in the space of the sweep: leave one out")
        for name, dimension in found.items():
            for value in dimension.ends:
                try:
                    self.config({name: value}, 0, 1)
                except ValueError as error:
                    raise UserError(f"tune.space.{name}: {value!r} does not fit: {error}") from error
        return found

    def config(self, settings: Mapping[str, Any], seed: int, seeds: int) -> RunConfig:
        """The run that tries `settings` on these seeds."""
        import copy

        config = built(copy.deepcopy(dict(self.values)), {**self.common, **words_of(settings)})
        return replace(config, seed=seed, seeds=seeds, out=None)

    @cached_property
    def rungs(self) -> int:
        """How many times trials are judged: 1 + floor(log_eta trials), as long as every rung is longer than the one before."""
        config = self.config({}, 0, 1)
        return 1 + max(0, min(whole_log(self.trials, self.eta), whole_log(config.updates, self.eta)))

    def left(self, rung: int) -> int:
        """How many trials reach a rung; the first is 0."""
        return max(1, self.trials // self.eta**rung)

    def share(self, rung: int) -> float:
        """Of the budget that a rung ends with."""
        return float(self.eta) ** (rung + 1 - self.rungs)


def whole_log(x: int, base: int) -> int:
    """The largest k with base^k <= x."""
    k = 0
    while base ** (k + 1) <= x:
        k += 1
    return k


def question(
    file: str | Path | None, overrides: Mapping[str, str], space: Mapping[str, Mapping[str, Any]],
    settings: Mapping[str, Any] | None = None, **asked: Any,
) -> Question:  # fmt: skip
    """What `marlstone tune` is asked: a TOML of a run with `[tune]`, and what flags (`overrides`, dotted fields) and Python's `settings`
    change in it; `space` is laid over the file's, and `asked` (fields of `Question`) over its `[tune]`. Raises `UserError`."""
    values = {} if file is None else read(Path(file), overrides.get("env"))
    mine = values.pop("tune", {})
    known = ("space", "trials", "eta", "tuning_seeds", "sampler", "baseline")
    if not isinstance(mine, dict) or not isinstance(mine.get("space", {}), dict):
        raise UserError('tune is a table: write [tune.space] with "learner.lr" = { low = 1e-4, high = 1e-2, scale = "log" }')
    for key, value in mine.items():
        if key not in known:
            raise UserError(f"unknown key 'tune.{key}'; {suggest(key, known)}")
        kind = {"space": dict, "sampler": str, "baseline": bool}.get(key, int)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise UserError(f"tune.{key} = {value!r}: expected {'a whole number' if kind is int else f'a {kind.__name__}'}")
    given(values, settings or {})
    if twice := sorted(k for k in ("seed", "seeds", "out") if k in overrides):
        raise UserError(f"--set {twice[0]}={overrides[twice[0]]} is for the question to say: see marlstone tune --help")
    reporting = {k: int(values.pop(k)) for k in ("seed", "seeds") if k in values}
    values.pop("out", None)
    whole = {**reporting, **mine, **asked, "space": {**_nested(mine.get("space", {})), **space}}
    found = Question(values, dict(overrides), **whole)
    config = found.config({}, 0, 1)
    if config.fleet.kind != "none":
        raise UserError(f"fleet.kind is {config.fleet.kind!r}, but each trial of a sweep trains without a fleet: leave it out")
    if config.evaluate.every is not None:
        raise UserError(f"evaluate.every is {config.evaluate.every}, but a sweep makes no checks: leave it out, and check the best run")
    check_all(config.sinks)
    _ = found.options
    return found


def _nested(space: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """A space whose fields may also be written as nested tables: `[tune.space.learner]`, `lr = {...}`."""
    out: dict[str, Any] = {}
    for key, value in space.items():
        is_option = not isinstance(value, Mapping) or bool({"low", "high", "choices"} & set(value))
        out |= {f"{above}{key}": value} if is_option else _nested(value, f"{above}{key}.")
    return out


def spaces(pairs: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """`--space`, as often as it is given. Raises `UserError` where a field is given twice."""
    found: dict[str, Mapping[str, Any]] = {}
    for name, table in map(flag, pairs):
        if name in found:
            raise UserError(f"--space {name} is given twice; give it once")
        found[name] = table
    return found


def rung_updates(question: Question, config: RunConfig, rung: int) -> int:
    """Updates after which a trial of this configuration has reached a rung."""
    total = config.updates
    first = max(1, math.floor(total * question.share(0)))
    return total if rung == question.rungs - 1 else min(total, first * question.eta**rung)
