"""Validation while a run trains: how good are the policies now, on episodes that nothing reports; which were the best; and is it enough?"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from marlstone.config import RunConfig, Stop
from marlstone.core.records import replace
from marlstone.play.judging import Judged, choose, validated
from marlstone.play.judging import judge as judge_policies
from marlstone.play.player import Player
from marlstone.rollout.state import State
from marlstone.runs.checkpoint import forget, listed, save, step_of, verify
from marlstone.runs.directory import RunDirectory
from marlstone.runs.lifetime import Lifetime
from marlstone.runs.policies import read_policies
from marlstone.stats.intervals import difference, iqm
from marlstone.training.backend import Backend
from marlstone.training.callbacks import Callback, Moment
from marlstone.training.clock import Clock
from marlstone.training.record import best_record, freeze

VALIDATED = "validation/return"
"""The metric of the store that validations become, one figure per seed and step."""


@dataclass
class Validation(Callback):
    """How good are the policies now? `judge` plays `episodes` of every seed at checkpoints of the schedule; `history`: mean returns by
    step, `[seeds]` each, over all lives of the run."""

    config: RunConfig
    clock: Clock
    judge: Player
    episodes: int
    history: dict[int, np.ndarray] = field(default_factory=dict)

    def resumed(self, run: RunDirectory, step: int) -> None:
        """Take up what was validated in earlier lives, up to `step`."""
        with run.store() as store:
            series = store.series(VALIDATED)
        steps = {int(s) for one in series for s in one.step if s <= step}
        at = {one.seed: dict(zip(one.step.tolist(), one.value.tolist(), strict=True)) for one in series}
        self.history = {s: np.array([at.get(seed, {}).get(s, np.nan) for seed in self.judge.seeds]) for s in sorted(steps)}

    def scheduled(self, now: Moment) -> bool:
        """Play, and keep what was returned."""
        values = self.clock.time("validating", lambda: validated(self.judge, now.state, self.config, self.episodes))
        self.history[now.step] = values
        for seed, value in zip(self.judge.seeds, values, strict=True):
            now.store.add(now.step, seed, {VALIDATED: float(value)})
        return False


@dataclass
class BestPolicies(Callback):
    """Which policies were the best? Per seed those of the highest validated return, the earlier of equal ones. Every checkpoint in the
    run's `best/` holds all seeds' best policies as of its step, and says of what steps they are.

    Fields: `steps`, `returns`: of each seed's best, `[seeds]` (0 and -inf before any); `policies`: `[seeds ...]` on the host.
    """

    run: RunDirectory
    validation: Validation
    steps: np.ndarray
    returns: np.ndarray
    policies: Any = None

    @classmethod
    def of(cls, run: RunDirectory, validation: Validation) -> "BestPolicies":
        """Of a run that begins."""
        count = len(validation.judge.seeds)
        return cls(run, validation, np.zeros(count, int), np.full(count, -np.inf))

    def resumed(self, state: State, step: int) -> None:
        """Take up what was the best by `step`. `state`: what policies look like, `[seeds ...]`."""
        if kept := [path for path in listed(self.run.best) if step_of(path) <= step]:
            found = verify(kept[-1])
            self.policies = jax.device_get(read_policies(found.path, state.train.policy, len(self.steps)))
            self.steps = np.array(found.meta["steps"])
            self.returns = np.array([-np.inf if x is None else x for x in found.meta["returns"]])

    def scheduled(self, now: Moment) -> bool:
        """Keep those that are better than all before."""
        values = self.validation.history[now.step]
        if (better := values > self.returns).any():
            mine = jax.device_get(now.backend.placement.trim(now.state.train.policy))
            pick = lambda new, old: np.where(better.reshape(-1, *(1,) * (new.ndim - 1)), new, old)
            self.policies = mine if self.policies is None else jax.tree.map(pick, mine, self.policies)
            self.steps, self.returns = np.where(better, now.step, self.steps), np.where(better, values, self.returns)
            meta = {"steps": self.steps.tolist(), "returns": [float(x) if np.isfinite(x) else None for x in self.returns]}
            save(self.run.best, now.step, self.policies, meta, keep=None)
            self._thin()
        return False

    def _thin(self) -> None:
        """Forget what no checkpoint of the run would go on from."""
        found, at = listed(self.run.best), [step_of(path) for path in listed(self.run.checkpoints)]
        needed = {max((p for p in found if step_of(p) <= step), key=step_of, default=None) for step in at} | {found[-1]}
        for path in found:
            if path not in needed:
                forget(path)


@dataclass
class StopRules(Callback):
    """Is it enough? Asks the `[stop]` of a run; `seconds`: how long all its lives took so far; `steps`: joint steps per seed of the whole
    budget."""

    rules: Stop
    validation: Validation | None
    seconds: Callable[[], float]
    steps: int

    def updated(self, now: Moment) -> None:
        """Look at the clock."""
        if self.rules.minutes is not None and self.seconds() >= 60 * self.rules.minutes:
            now.stopped_by = "minutes"

    def scheduled(self, now: Moment) -> bool:
        """Look at what was validated."""
        if self.validation is not None and now.step < self.steps:
            if (least := self.rules.at_return) is not None and iqm(self.validation.history[now.step]) >= least:
                now.stopped_by = "return"
            elif self.rules.plateau is not None and flat(self.validation.history, self.rules.plateau * self.steps):
                now.stopped_by = "plateau"
        return now.stopped_by is not None


def validating(
    config: RunConfig, run: RunDirectory, clock: Clock, judge: Player, resumed: State | None, step: int, lifetime: Lifetime
) -> tuple[list[Callback], BestPolicies | None]:
    """What looks at validation episodes and at the clock, as configured, and what keeps the best policies. `resumed`: the state of a
    run that goes on from `step`, which takes up what earlier lives found."""
    found, validation, best = list[Callback](), None, None
    if episodes := config.validation_episodes:
        validation = Validation(config, clock, judge, episodes)
        best = BestPolicies.of(run, validation) if config.keep_best else None
        found += [validation] if best is None else [validation, best]
        if resumed is not None:
            validation.resumed(run, step)
            if best is not None:
                best.resumed(resumed, step)
    if config.stop != Stop():
        found.append(StopRules(config.stop, validation, lambda: lifetime.seconds, config.steps))
    return found, best


def judge_best(
    config: RunConfig, run: RunDirectory, judge: Backend, state: State, kept: BestPolicies, final: Judged, clock: Clock
) -> dict[str, Any] | None:
    """What the record says of the best policies, played on the episodes that the `final` ones were judged on; they are saved beside these.
    None where no validation episode of any seed ended. `state`: of the end of the run."""
    if kept.policies is None:
        return None
    version = (kept.steps // config.steps_per_update).astype(np.int32)
    pad = judge.placement.pad
    best = replace(state, train=state.train.acting_by(pad(kept.policies), pad(version)))
    act = clock.time("choosing how to act", lambda: choose(judge, best, config))
    judged = clock.time("evaluating", lambda: judge_policies(judge, best, config.evaluate.episodes, act))
    policy = freeze(run, judge, best, act, "best-seed", config.comms, config.toolbox, config.faults)
    return best_record(config, judge, kept, judged, final, policy)


def flat(history: Mapping[int, np.ndarray], window: float) -> bool:
    """Whether no validation of the last `window` steps lies above the best one before them by more than the 95% interval of their
    difference, seeds paired. `history`: returns by step, `[seeds]` each; those that lack a seed's are left out."""
    known = {step: list(x[:, None]) for step, x in history.items() if np.isfinite(x).all()}
    begin = max(known, default=0) - window
    before = [step for step in known if step <= begin]
    if not before:
        return False
    best = max(before, key=lambda step: iqm(history[step]))
    return not any(difference(x, known[best], paired=True)[1][0] > 0 for step, x in known.items() if step > begin)
