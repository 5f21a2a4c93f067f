"""Suites on the policy while it trains: what they found goes to the store, and what fell out of its baseline's band is an alert.

    alert where   IQM over seeds of a result  <  low end of the baseline's 95% interval - tolerance x span

span: from chance to the baseline's undisturbed return, for returns; 1 for correlations. A result that got better never alerts.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from marlstone.config import RunConfig
from marlstone.core.errors import UserError
from marlstone.evaluation.credit.audit import audit, auditable
from marlstone.evaluation.robustness.edge_cases import chance_return, edge_cases
from marlstone.play.judging import choose
from marlstone.play.player import Player
from marlstone.rollout.state import State
from marlstone.runs.directory import RunDirectory
from marlstone.runs.files import write_atomic
from marlstone.runs.json_line import one_line
from marlstone.runs.store import Store
from marlstone.stats.intervals import interval

CHECK, CHANCE, NOMINAL = "check/", "check/chance", "check/edge-cases/undisturbed"
ALERTS = "alerts.jsonl"
DECISIONS = 128  # of each seed, that credit is audited on
Band = tuple[float, float]  # what a baseline came to, and the low end of its interval


@dataclass
class Checks:
    """The checks of one run, which begins, or resumes, at joint step `since`. `watch` is what training calls at every checkpoint."""

    config: RunConfig
    run: RunDirectory
    since: int = 0
    tell: Callable[[str], None] = lambda text: None
    bands: dict[str, Band] = field(default_factory=dict)
    chance: float | None = None
    alerts: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        c = self.config.evaluate
        if "credit" in c.suites:
            auditable(self.config)
        self.alerts = [alert for alert in kept_alerts(self.run) if alert["step"] <= self.since]
        if c.baseline is not None:
            self.bands, self.chance = baseline_of(c.baseline)
        elif self.since:
            with self.run.store() as store:
                names = checked(store)
                for step in sorted({int(s) for name in names for x in store.series(name) for s in x.step if s <= self.since}):
                    self._learn({name: found for name in names if (found := at(store, name, step)) is not None})

    def watch(self, runtime: Player, state: State, store: Store, step: int) -> bool:
        """Run what is due. Never stops training: alerts are told when they come, and end the command with exit code 3."""
        if not self.due(step):
            return False
        found, judgement = self.found(runtime, state, step)
        for name, values in found.items():
            for seed, value in zip(runtime.seeds, values, strict=True):
                store.add(step, seed, {name: float(value)})
        if judgement:
            store.event(step, runtime.seeds[0], "credit", judgement, 1)
        for alert in self.judge(found, step):
            store.event(step, runtime.seeds[0], "alert", alert["words"], 1)
            self.alerts.append(alert)
            self.tell(f"alert: {alert['words']}")
        if self.alerts or self.run.within(ALERTS).is_file():
            write_atomic(self.run.within(ALERTS), "".join(one_line(a) + "\n" for a in self.alerts).encode())
        if self.config.evaluate.baseline is None:
            self._learn(found)
        return False

    def due(self, step: int) -> bool:
        """Whether a checkpoint is the first since another `evaluate.every` steps, or the last."""
        every, rows = self.config.evaluate.every, self.config.steps_per_update
        if every is None:
            return False
        gap = max(1, self.config.steps_between_checkpoints // rows) * rows  # checkpoints are whole updates apart
        return step // every > max(step - gap, 0) // every or step >= self.config.steps

    def found(self, runtime: Player, state: State, step: int) -> tuple[dict[str, np.ndarray], str]:
        """What the suites say, by name, per seed; and of credit, whether its claims are right, in a sentence."""
        out: dict[str, np.ndarray] = {}
        judgement = ""
        c = self.config.evaluate
        if "edge-cases" in c.suites:
            act = choose(runtime, state, self.config)
            if self.chance is None:
                self.chance = chance_return(runtime, state, c.episodes)
            nominal = runtime.evaluate(state, c.episodes, act).ended_only()
            out |= {CHANCE: np.full(len(nominal), self.chance), NOMINAL: np.nanmean(nominal, 1)}
            chance = np.full_like(nominal, self.chance)
            for case in edge_cases(runtime, state, self.config, c.episodes, act, nominal=nominal, chance=chance):
                out[f"{CHECK}edge-cases/{case['name']}"] = np.array(case["return_per_seed"])
        if "credit" in c.suites:
            audited = audit(runtime, state, self.config, DECISIONS, continuations=4)
            correlations, judgement = audited["rank_correlation_per_seed"], audited["judgement"]
            out[f"{CHECK}credit/rank_correlation"] = np.array([np.nan if x is None else x for x in correlations], float)
        return out, judgement

    def judge(self, found: dict[str, np.ndarray], step: int) -> list[dict[str, Any]]:
        """Alerts."""
        out = []
        for name, values in found.items():
            band = self.bands.get(name)
            if band is None or name == CHANCE or not np.isfinite(values).all():
                continue
            span = 1.0 if "/credit/" in name else max(self.bands[NOMINAL][0] - (self.chance or 0.0), 0.0)
            now, least = interval(list(values[:, None]))[0], band[1] - self.config.evaluate.tolerance * span
            if now < least:
                what = name.removeprefix(CHECK)
                words = f"{what}: {now:.3g} at step {step:,}, below {least:.3g} (baseline {band[0]:.3g}, low end {band[1]:.3g})"
                out.append({"step": step, "name": what, "value": now, "least": least, "baseline": band[0], "words": words})
        return out

    def _learn(self, found: dict[str, np.ndarray]) -> None:
        """The best of the run's own checks is its baseline, result by result."""
        for name, values in found.items():
            if np.isfinite(values).all():
                band = band_of(values)
                if name not in self.bands or band[0] > self.bands[name][0]:
                    self.bands[name] = band


def band_of(values: np.ndarray) -> Band:
    """A baseline from the figures of all training seeds, `[seeds]`: its IQM and the lower end of its interval (the IQM itself with one
    seed)."""
    center, (low, _) = interval(list(values[:, None]))
    return center, center if np.isnan(low) else low


def checked(store: Store) -> list[str]:
    """The names of what checks recorded."""
    return [name for name in store.names() if name.startswith(CHECK)]


def at(store: Store, name: str, step: int) -> np.ndarray | None:
    """A result at a step, per seed; None where it was not recorded then."""
    found = [x.value[x.step == step] for x in store.series(name)]
    return None if not found or any(v.size != 1 for v in found) else np.concatenate(found)


def baseline_of(where: str) -> tuple[dict[str, Band], float | None]:
    """The newest results of a run that was checked, and its chance return. Raises `UserError` where it was not."""
    with RunDirectory.open(where).store() as store:
        names = checked(store)
        if not names:
            raise UserError(f"evaluate.baseline is {where!r}, which was never checked: train it with evaluate.every and evaluate.suites")
        newest = {name: np.array([x.value[-1] for x in store.series(name)]) for name in names}
    chance = newest.pop(CHANCE, None)
    return {name: band_of(v) for name, v in newest.items() if np.isfinite(v).all()}, None if chance is None else float(chance[0])


def kept_alerts(run: RunDirectory) -> list[dict[str, Any]]:
    """The alerts of a run."""
    file = run.within(ALERTS)
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
