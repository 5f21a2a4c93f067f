"""Policies met with the same episodes: what runs, or checkpoints of one, earn from equal seeds and keys.

Training seed i of one plays what training seed i of the other plays: the same beginnings, the same draws of the environment step by
step as long as it makes them from keys, the same sampling noise. An episode's difference is averaged over the training seeds, so one
number per episode is left, independent of all others: it speaks of these policies, never of those another training would give.
"""

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from marlstone.architectures import Decentralized, Hierarchical
from marlstone.comms import NoMessages
from marlstone.config import RunConfig
from marlstone.core.acting import Act
from marlstone.core.errors import UserError
from marlstone.core.fingerprints import fingerprints
from marlstone.core.records import replace
from marlstone.core.types import Spec
from marlstone.credit import Individual
from marlstone.envs.faults import Withheld
from marlstone.envs.make import FILE, JAX_FILE, is_jax, make, parse
from marlstone.envs.own_metrics import name_of
from marlstone.learners import PolicyGradient
from marlstone.play.action_selectors import Chance, Decider
from marlstone.play.artifacts import ByArtifact
from marlstone.play.evaluator import Episodes
from marlstone.play.judging import resolve
from marlstone.play.player import Player
from marlstone.policy.policy import Policy
from marlstone.rollout.sides import opponents_record
from marlstone.runs.checkpoint import Checkpoint
from marlstone.runs.policies import read_policies
from marlstone.stats.sequences import confidence_sequence
from marlstone.training.host import Hosted
from marlstone.training.loop import runtime_of

ALPHA = 0.05
ROUND = 32  # episodes per training seed between looks
BATCH = 16  # the same, where Python steps the environment
FIRST_KEY = 2**31  # training seeds stay far below


def keys_of(seeds: int, nth: int) -> tuple[int, ...]:
    """What the `nth` round of episodes is drawn from, a key for each of `seeds` training seeds; no two rounds share one."""
    return tuple(FIRST_KEY + nth * seeds + i for i in range(seeds))


@dataclass(frozen=True)
class Artifact:
    """A policy's folder in a checkpoint's place: one policy, for as many training seeds as the other side has. `act`: how it is played."""

    path: Path
    policy: Policy
    act: Act

    @property
    def step(self) -> None:
        """Joint steps it was trained for: an artifact counts updates."""
        return None

    def config(self, other: RunConfig) -> RunConfig:
        """How it is played where the `other` side's run is: in that environment, under its own managers, with its own tools and channel."""
        managers = self.policy.description["managers"]
        architecture = Decentralized() if managers is None else Hierarchical(**managers)
        channel, learner = self.policy.channel or NoMessages(), PolicyGradient(epochs=1, minibatches=1)
        faults = (*(f for f in other.faults if not isinstance(f, Withheld)), *self.policy.withheld)
        return replace(other, architecture=architecture, credit=Individual(), learner=learner, comms=channel, faults=faults, **self._tools)

    @property
    def _tools(self) -> dict[str, Any]:
        """Its own tools and memory; the other side's where Python calls them: a policy's folder does not say what is called."""
        box = self.policy.toolbox
        return {} if box.real else {"tools": box.tools, "memory": box.memory, "cut_calls": box.cut}


def home(at: "Checkpoint | Artifact") -> Path:
    """The run of a checkpoint; an artifact's own folder."""
    return at.path if isinstance(at, Artifact) else at.path.parent.parent


@dataclass(frozen=True)
class Players:
    """A run's environment and networks, ready to play any policies of its first `seeds` training seeds, or the policy of an `artifact`."""

    runtime: Player
    seeds: int
    artifact: Artifact | None = None

    @classmethod
    def of(cls, config: RunConfig, seeds: int, at_once: int | None = None, at: "Checkpoint | Artifact | None" = None) -> "Players":
        """`at_once`: environments of each seed that are stepped side by side where Python steps them (None: `rollout.envs`); what is
        paired must be played with the same number. `at`: whose policies will be played, where that may be an artifact."""
        mine, artifact = config.all_seeds[:seeds], at if isinstance(at, Artifact) else None
        jax_ = is_jax(config.env)
        return cls(runtime_of(config, mine) if jax_ else Hosted.judging(config, mine, at_once or config.rollout.envs), seeds, artifact)

    @property
    def spec(self) -> Spec:
        """The environment's, with managers where the run has them."""
        spec: Spec = self.runtime.algorithm.spec
        return spec

    @cached_property
    def like(self) -> Any:
        """What policies look like, `[seeds ...]`: their shapes, which take no environment to know."""
        like = jax.eval_shape(lambda key: self.runtime.algorithm.init(key).policy, jax.random.key(0))
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct((self.seeds, *x.shape), x.dtype), like)

    def policies(self, path: Path) -> Any:
        """What a checkpoint, or what was kept of one, acts by; of an artifact, a place for each seed. Raises `UserError`."""
        if self.artifact is not None:
            return self.runtime.placement.pad(np.zeros(self.seeds, np.float32))
        return self.runtime.placement.pad(read_policies(path, self.like, self.seeds))

    def acting(self, config: RunConfig, run: Path, policies: Any) -> Act:
        """How the policies of the run in `run` are deployed."""
        if self.artifact is not None:
            return self.artifact.act
        return resolve(self.runtime, None, config, run, policies)

    def play(self, policies: Any, episodes: int, nth: int, act: Act, chance: bool = False) -> Episodes:
        """Round `nth`, `[seeds episodes ...]`: the same episodes whoever plays them. `chance`: random legal actions do, not `policies`."""
        if (evaluator := self._evaluators.get((episodes, chance))) is None:
            decider: Decider | None = None
            if chance:
                decider = Chance(self.runtime.algorithm)
            elif self.artifact is not None:
                decider = ByArtifact(self.runtime.algorithm, self.artifact.policy)
            evaluator = self._evaluators[episodes, chance] = self.runtime.evaluator(episodes, act, decider=decider)
        played: Episodes = evaluator(policies, keys_of(self.seeds, nth), act)
        return played

    @cached_property
    def _evaluators(self) -> dict[tuple[int, bool], Any]:
        """Programs by episodes, and whether chance plays: compiled once for all policies, rounds and ways of acting."""
        return {}

    @property
    def faults(self) -> dict[str, int]:
        """Faults of the environment in all that was played, by name."""
        return dict(self.runtime.judged.counts)

    def close(self) -> None:
        """End worker processes, where environments are stepped by Python."""
        self.runtime.close()

    def __enter__(self) -> "Players":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def together(first: RunConfig, second: RunConfig) -> tuple[RunConfig, RunConfig, int]:
    """Two runs as they are played beside each other, under the first one's guards, and how many training seeds both have. Raises
    `UserError` for different environments."""
    (source, name, options), (other, called, settings) = parse(first.env), parse(second.env)
    if (source, name) != (other, called) and not _copies(source, name, other, called):
        raise UserError(f"the runs are of different environments, {first.env} and {second.env}: compare runs of one")
    if options != settings:
        which = sorted(k for k in {*options, *settings} if options.get(k) != settings.get(k))
        say = lambda given: ", ".join(f"{k}={given[k]}" if k in given else f"no {k}" for k in which)
        raise UserError(f"the runs are of {source}:{name} with {say(options)} and with {say(settings)}: compare runs of one environment")
    if is_jax(first.env) and make(first.env).spec.metrics != make(second.env).spec.metrics:
        raise UserError(f"{first.env} and {second.env} declare different metrics: compare runs of one environment")
    sides = [opponents_record(c) for c in (first, second)]
    who = [
        (
            s.get("team", ""),
            {k: v.get("parameters_sha256", v.get("evaluated_against", v["policy"])) for k, v in s.get("opponents", {}).items()},
        )
        for s in sides
    ]
    if who[0] != who[1]:
        remedy = "play them against each other by marlstone payoff, or both against the same: marlstone evaluate RUN --opponent ..."
        raise UserError(f"the runs have different teams or opponents, {_sides(first)} and {_sides(second)}: {remedy}")
    if _measured(first) != _measured(second):
        say = lambda c: " and ".join(_measured(c)) or "none"
        remedy = "give --metric once for each of them, and every run is measured by all"
        raise UserError(f"the runs have different metrics of your own, one {say(first)}, the other {say(second)}: {remedy}")
    second = replace(second, guards=first.guards)
    return first, second, min(first.seeds, second.seeds)


def _sides(config: RunConfig) -> str:
    """A run's team and opponents in words."""
    told = [f"team {config.team}"] if config.team else []
    return ", ".join([*told, *(f"{k} played by {v}" for k, v in config.opponents.items())]) or "none"


def _measured(config: RunConfig) -> dict[str, Any]:
    """A run's own metrics, by name, with their fields."""
    return {name_of(m): vars(m) for m in config.metrics}


def at_once(seeds: int, *sides: RunConfig) -> int:
    """How many environments of each seed are stepped side by side where Python steps them: as many as there are cores for, no more than
    either run trains with."""
    return max(1, min((os.cpu_count() or 1) // seeds, *(c.rollout.envs for c in sides)))


def _copies(source: str, name: str, other: str, called: str) -> bool:
    """Whether two users' environments are one function of two files that are alike, with the modules they import."""
    if source != other or source not in (FILE, JAX_FILE):
        return False
    (file, _, function), (copy, _, same) = name.rpartition(":"), called.rpartition(":")
    return function == same and Path(file).name == Path(copy).name and fingerprints(file) == fingerprints(copy)


def rounds(episodes: int, *sides: RunConfig) -> tuple[int, int]:
    """About `episodes`, never more, in at least two equal rounds, so that one compiled program plays them all: `(rounds, of each)`.

    Rounds of an environment stepped by Python are smaller: they show progress."""
    most = min(ROUND, max(1, episodes // 2), *(ROUND if is_jax(c.env) else BATCH for c in sides))
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
        """Every difference that was counted."""
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
        """Whether the interval leaves 0 out."""
        low, high = self.ci
        return low > 0 or high < 0

    @property
    def mean(self) -> float | None:
        """The mean difference; None before anything was counted."""
        return float(self.all.mean()) if self.x else None

    def record(self) -> dict[str, Any]:
        """The difference, its interval, whether it is off zero."""
        return {"difference": self.mean, "ci95": list(self.ci), "decided": self.decided}
