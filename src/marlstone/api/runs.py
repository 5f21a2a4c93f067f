"""Training, and what it leaves: `train` and `load` give a `Run`."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from marlstone.api.results import Training
from marlstone.api.training import new_run, trained
from marlstone.core.errors import BudgetUsedUp, UserError
from marlstone.policy.policy import Policy
from marlstone.runs.progress import Progress

if TYPE_CHECKING:
    import numpy as np

    from marlstone.config import RunConfig
    from marlstone.runs.directory import RunDirectory
    from marlstone.training.pure import PureTraining

RUNS = ("seed", "seeds", "acting", "out", "evaluate", "checkpoint_every", "fleet", "progress", "stop", "keep_best", "sinks")
"""Settings of runs that a pure training has no use for."""
Shown = bool | Callable[[Progress], None]
"""Whether progress is shown on stderr, or who is told of it."""


@dataclass(frozen=True)
class Run:
    """A run's directory. Everything is read from its files when it is asked for."""

    path: Path

    @cached_property
    def _directory(self) -> "RunDirectory":
        from marlstone.runs.directory import RunDirectory

        return RunDirectory.open(self.path)

    @cached_property
    def config(self) -> "RunConfig":
        """How it was configured, with all defaults."""
        from marlstone.config import load

        return load(self._directory.config, {})

    @property
    def result(self) -> Training | None:
        """What came out; None while it is not finished."""
        record = self._directory.record()
        return None if record is None else Training.of(record)

    def curve(self) -> "tuple[np.ndarray, np.ndarray]":
        """`(steps [k], returns [seeds k])`: the team return of training episodes against joint steps per seed; NaN before the first."""
        from marlstone.runs.curve import on_grid

        with self._directory.store() as store:
            return on_grid(store.series("return"))

    def policy(
        self, seed: int | None = None, *, gated: bool = False, fallback: Literal["default", "ask"] = "default", parts: Sequence[type] = (),
        checkpoint: Literal["final", "best"] = "final",
    ) -> Policy:  # fmt: skip
        """The final policy of a training seed (None: the first), as it is deployed; or the `best` one, where `keep_best` kept it.

        Args: `gated`: behind the gate that `marlstone evaluate RUN --suite edge-cases` measured; `fallback`: what acts outside it; `parts`:
        classes of your own bodies and encoders, as `Policy.load` takes them.
        Raises `UserError` where there is none, or no gate of it.
        """
        prefix = "seed-" if checkpoint == "final" else "best-seed-"
        found = {int(p.name.removeprefix(prefix)): p for p in sorted(self._directory.artifacts.glob(f"{prefix}*"))}
        if not found:
            when = "when training ends" if checkpoint == "final" else "when a training with keep_best = true ends"
            if checkpoint == "final" and self.result is not None:
                reason = (
                    "one of its parts does not say that it runs in NumPy: set numpy = True in the class of your encoder or body, if it does"
                )
                raise UserError(f"run {self.path} has no policy that acts by itself, since {reason}, and train again")
            raise UserError(f"run {self.path} has no {checkpoint} policy yet: they are written {when}")
        if seed is not None and seed not in found:
            raise UserError(f"run {self.path} has no seed {seed}: it has {', '.join(map(str, found))}")
        policy = Policy.load(found[min(found) if seed is None else seed], parts=parts)
        if not gated:
            return policy
        if checkpoint == "best":
            raise UserError("gated = True with checkpoint = 'best': gates are measured of final policies; give one of the two")
        from marlstone.evaluation.robustness.gate import gated as behind

        return behind(policy, self.path, fallback)


def load(path: str | Path) -> Run:
    """The run in the directory `path`. Raises `UserError` where there is none."""
    run = Run(Path(path).expanduser().absolute())
    _ = run._directory
    return run


def train(
    env: str | None = None,
    *,
    config: str | Path | None = None,
    architecture: Any = None,
    credit: Any = None,
    learner: Any = None,
    steps: int | None = None,
    seeds: int | None = None,
    seed: int | None = None,
    acting: str | None = None,
    out: str | Path | None = None,
    progress: Shown = True,
    **settings: Any,
) -> Run:
    """Train agents in an environment; returns the finished run.

    Args: `env`: `source:name?option=value`; `config`: a TOML file, over which the rest is laid; `architecture`, `credit`, `learner`: a kind
    (`"ctde"`, `"file.py:Mine"`), or the part itself (`Ctde()`); `steps`: joint steps per seed; `seeds`: how many, from `seed` on; `acting`:
    how policies are deployed; `out`: the run's directory, new or empty (None: a new one under runs/); `progress`: shown on stderr, or told
    to a function; `settings`: any other field, `rollout={"envs": 64}`, or `**{"learner.lr": 1e-3}`.
    Raises `UserError` naming field, value and remedy; ValueError where parts do not fit each other.
    """
    named = {
        "env": env, "architecture": architecture, "credit": credit, "learner": learner, "steps": steps, "seeds": seeds, "seed": seed,
    }  # fmt: skip
    configured = configuration(config, {**{k: v for k, v in named.items() if v is not None}, **settings}, acting)

    from marlstone.rollout.placement import prepare

    prepare()  # before anything asks JAX for its devices
    run = new_run(configured, out)
    with shown(progress) as tell:
        record = trained(configured, run, progress=tell, say=_said if progress else lambda text: None)
    if used_up := record.get("budget"):
        raise BudgetUsedUp(f"{used_up['message']}; then: marlstone train --resume {run.path}")
    if record.get("stopped"):
        raise UserError(f"training stopped at step {record['steps']}: continue with marlstone train --resume {run.path}")
    return Run(run.path)


def make_train(
    config: "RunConfig | str | Path | None" = None,
    *,
    env: str | None = None,
    architecture: Any = None,
    credit: Any = None,
    learner: Any = None,
    steps: int | None = None,
    **settings: Any,
) -> "PureTraining":
    """The training as a pure function `train(key)`, to jit and vmap: `jax.jit(jax.vmap(train))(jax.random.split(key, 8))`.

    Args: `config`: a configuration, or a TOML file, over which the rest is laid; the others as `train` takes them.
    Raises `UserError` for an environment that Python steps, and for settings that belong to runs: seeds are keys here, and nothing is
    written or evaluated.
    """
    for name in settings:
        if name.split(".")[0] in RUNS:
            raise UserError(f"make_train: {name} belongs to runs; leave it out: seeds are the keys you map over, and nothing is written")
    named = {"env": env, "architecture": architecture, "credit": credit, "learner": learner, "steps": steps}
    given = {**{k: v for k, v in named.items() if v is not None}, **settings}
    if config is not None and not isinstance(config, str | Path):
        if given:
            raise UserError(f"make_train: {next(iter(given))} and a whole configuration are both given: change the configuration")
        configured = config
    else:
        configured = configuration(config, given)
    from marlstone.training.pure import PureTraining

    return PureTraining(configured)


def configuration(config: str | Path | None, settings: Mapping[str, Any], acting: str | None = None) -> "RunConfig":
    """The configuration of a TOML file, or of all defaults, with Python's settings laid over it."""
    from marlstone.config.sources import built, given, read

    values = {} if config is None else read(Path(config), settings.get("env"))
    return built(given(values, settings), {} if acting is None else {"acting": acting})


def _said(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def shown(progress: Shown) -> Iterator[Callable[[Progress], None]]:
    """Who is told of progress: a display, a function of the caller's, or nobody."""
    if callable(progress):
        yield progress
    elif progress:
        from marlstone.api.display import Display

        with Display() as display:
            yield display
    else:
        yield lambda progress: None
