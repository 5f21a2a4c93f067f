"""Policies met with the same episodes: what runs, or checkpoints of one, earn from equal seeds and keys.

Training seed i of one plays what training seed i of the other plays: the same beginnings, the same draws of the environment row by
row as long as it makes them from keys, the same sampling noise. An episode's difference is averaged over the training seeds, so one
number per episode is left, independent of all others: it speaks of these policies, never of those another training would give.
"""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from marlstone.config import RunConfig
from marlstone.core.acting import Act
from marlstone.core.errors import UserError
from marlstone.core.records import replace
from marlstone.core.types import Spec
from marlstone.envs.make import is_jax, make, parse
from marlstone.evaluate.sequences import confidence_sequence
from marlstone.runs.directory import RunDirectory
from marlstone.runs.policies import read_policies
from marlstone.runtime.evaluation import Episodes
from marlstone.runtime.fused import Fused
from marlstone.runtime.judging import choose, deployed_acting
from marlstone.runtime.train import runtime_of

ALPHA = 0.05
ROUND = 32  # episodes per training seed between looks
FIRST_KEY = 2**31  # training seeds stay far below


def keys_of(seeds: int, nth: int) -> tuple[int, ...]:
    """What the `nth` round of episodes is drawn from, a key for each of `seeds` training seeds; no two rounds share one."""
    return tuple(FIRST_KEY + nth * seeds + i for i in range(seeds))


@dataclass(frozen=True)
class Players:
    """A run's environment and networks, ready to play any policies of its first `seeds` training seeds."""

    runtime: Any
    seeds: int

    @classmethod
    def of(cls, config: RunConfig, seeds: int) -> "Players":
        return cls(runtime_of(config, config.all_seeds[:seeds]), seeds)

    @property
    def spec(self) -> Spec:
        spec: Spec = self.runtime.algorithm.spec
        return spec

    @cached_property
    def like(self) -> Any:
        """What policies look like, `[seeds ...]`: shapes, which JAX environments give without beginning anything."""
        like = (self.runtime.shapes() if isinstance(self.runtime, Fused) else self.runtime.start()).train.policy
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct((self.seeds, *x.shape[1:]), x.dtype), like)

    def policies(self, path: Path) -> Any:
        """What a checkpoint, or what was kept of one, acts by. Raises `UserError`."""
        return self.runtime.spread.pad(read_policies(path, self.like, self.seeds))

    def acting(self, config: RunConfig, run: Path, policies: Any) -> Act:
        """How the policies of the run in `run` are deployed."""
        return choose(self.runtime, None, config, deployed_acting(RunDirectory(run)), policies)

    def play(self, policies: Any, episodes: int, nth: int, act: Act) -> Episodes:
        """Round `nth`, `[seeds episodes ...]`: the same episodes whoever plays them."""
        return self.runtime.evaluate(None, episodes, act, policies=policies, keys=keys_of(self.seeds, nth))

    def close(self) -> None:
        self.runtime.close()

    def __enter__(self) -> "Players":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def together(first: RunConfig, second: RunConfig) -> tuple[RunConfig, RunConfig, int]:
    """Two runs as they are played beside each other, under the first one's guards, and how many training seeds both have. Raises
    `UserError` for different environments."""
    (source, name, options), (other, called, settings) = parse(first.env), parse(second.env)
    if (source, name) != (other, called):
        raise UserError(f"the runs are of different environments, {first.env} and {second.env}: compare runs of one")
    if options != settings:
        which = sorted(k for k in {*options, *settings} if options.get(k) != settings.get(k))
        say = lambda given: ", ".join(f"{k}={given[k]}" if k in given else f"no {k}" for k in which)
        raise UserError(f"the runs are of {source}:{name} with {say(options)} and with {say(settings)}: compare runs of one environment")
    if is_jax(first.env) and make(first.env).spec.metrics != make(second.env).spec.metrics:
        raise UserError(f"{first.env} and {second.env} declare different metrics: compare runs of one environment")
    second = replace(second, guards=first.guards)
    return first, second, min(first.seeds, second.seeds)


def rounds(episodes: int, *sides: RunConfig) -> tuple[int, int]:
    """About `episodes`, never more, in at least two equal rounds, so that one compiled program plays them all: `(rounds, of each)`.

    A round of an environment stepped by Python is no larger than either run's batch, which it is played in."""
    most = min(ROUND, max(1, episodes // 2), *(ROUND if is_jax(c.env) else c.rollout.envs for c in sides))
    count = -(-episodes // most)
    return count, episodes // count


@dataclass
class Evidence:
    """Differences of one figure gathered so far, within `span` of 0 (None: the next round shows it, and is not counted)."""

    alpha: float
    span: float | None = None
    x: list[np.ndarray] = field(default_factory=list)
    clipped: int = 0

    def add(self, first: np.ndarray, second: np.ndarray) -> None:
        """A round of both sides' figures, `[seeds e]`; NaN where an episode did not end: it is left out, on both sides."""
        if self.span is None:
            both = np.concatenate([first, second])
            if np.isfinite(both).any():
                self.span = float(np.nanmax(both) - np.nanmin(both)) or max(1.0, float(np.nanmax(np.abs(both))))
            return
        d = np.asarray(first, float) - np.asarray(second, float)
        x = np.array([seeds[~np.isnan(seeds)].mean() for seeds in d.T if not np.isnan(seeds).all()])
        self.clipped += int((np.abs(x) > self.span).sum())
        self.x.append(np.clip(x, -self.span, self.span))

    @property
    def all(self) -> np.ndarray:
        return np.concatenate(self.x) if self.x else np.zeros(0)

    @property
    def ci(self) -> tuple[float, float]:
        """After all that was counted; the whole span before anything was."""
        assert self.span is not None
        if not self.x:
            return -self.span, self.span
        _, low, high = confidence_sequence(self.all, (-self.span, self.span), self.alpha)
        return float(low[-1]), float(high[-1])

    @property
    def decided(self) -> bool:
        low, high = self.ci
        return low > 0 or high < 0

    @property
    def mean(self) -> float | None:
        return float(self.all.mean()) if self.x else None

    def record(self) -> dict[str, Any]:
        """The difference, its interval, whether it is off zero."""
        return {"difference": self.mean, "ci95": list(self.ci), "decided": self.decided}
