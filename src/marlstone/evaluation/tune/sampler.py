"""Which settings are tried. Each answer depends on the question and on what earlier trials returned, so a sweep goes on where it stood."""

import importlib.util
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from marlstone.core.errors import UserError
from marlstone.evaluation.tune.question import Question
from marlstone.evaluation.tune.space import Choices, drawn

BATCH = 4  # settings that Optuna proposes before it is told what the first of them returned
STREAM = 0x7C1E  # of random numbers, apart from training's


class Sampler(Protocol):
    """Proposes settings."""

    batch: int

    def ask(self, count: int) -> list[dict[str, Any]]:
        """The next `count` settings."""

    def tell(self, returns: Sequence[float]) -> None:
        """What those last asked for returned on the first rung."""


def sampler_of(question: Question) -> Sampler:
    """The one that a question names. Raises `UserError` where its package is missing."""
    return Optuna(question) if question.sampler == "optuna" else Random(question)


class Random:
    """Settings by chance, none twice where the space has others."""

    def __init__(self, question: Question) -> None:
        self.space, self.batch, self.before = question.options, question.trials, list[dict[str, Any]]()
        self.random = np.random.default_rng(STREAM)

    def ask(self, count: int) -> list[dict[str, Any]]:
        """The next of one stream of random settings, the same in every sweep."""
        for _ in range(count):
            self.before.append(drawn(self.space, self.random, self.before))
        return self.before[len(self.before) - count :]

    def tell(self, returns: Sequence[float]) -> None:
        """Nothing is learned from it."""


class Optuna:
    """Optuna's tree-structured Parzen estimator (Bergstra et al. 2011), told what trials return on the first rung."""

    batch = BATCH

    def __init__(self, question: Question) -> None:
        if importlib.util.find_spec("optuna") is None:
            raise UserError("--sampler optuna needs the package optuna, which is not installed: pip install 'marlstone[optuna]'")
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        of = optuna.distributions
        self.space, self.kinds = question.options, dict[str, Any]()
        for name, option in self.space.items():
            if isinstance(option, Choices):
                self.kinds[name] = of.CategoricalDistribution(range(len(option.values)))
            else:
                kind: Any = of.IntDistribution if option.whole else of.FloatDistribution
                self.kinds[name] = kind(option.low, option.high, log=option.scale == "log")
        self.study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=STREAM, n_startup_trials=BATCH))
        self.open: list[Any] = []

    def ask(self, count: int) -> list[dict[str, Any]]:
        """What it proposes."""
        self.open = [self.study.ask(self.kinds) for _ in range(count)]
        return [self._settings(trial.params) for trial in self.open]

    def tell(self, returns: Sequence[float]) -> None:
        """A trial without a return (NaN) has failed."""
        import optuna

        for trial, value in zip(self.open, returns, strict=True):
            state = optuna.trial.TrialState.FAIL if math.isnan(value) else optuna.trial.TrialState.COMPLETE
            self.study.tell(trial, None if math.isnan(value) else value, state=state)

    def _settings(self, params: Mapping[str, Any]) -> dict[str, Any]:
        short = lambda x: float(f"{x:.4g}") if isinstance(x, float) else x
        value = lambda name, x: self.space[name].values[x] if isinstance(self.space[name], Choices) else short(x)  # type: ignore[union-attr]
        return {name: value(name, x) for name, x in params.items()}
