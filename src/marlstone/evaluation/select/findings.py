"""What the trials of a selection say once they are there: who returned most, how stable and dear it is, and what is recommended."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from marlstone.config import RunConfig
from marlstone.evaluation.select.dead_seeds import DeadSeeds, dead_seeds
from marlstone.evaluation.select.prices import Cost
from marlstone.evaluation.select.question import Candidate, Question, Settings
from marlstone.evaluation.select.ranking import Recommendation, Standing, compared, level, recommend, standings, verdict
from marlstone.evaluation.select.rating import Rated, alike, rated
from marlstone.evaluation.select.trial import CHANCE, MEASURED, QUARTER, STRESSED, kept
from marlstone.stats.intervals import Bounds


@dataclass
class Findings:
    """Of the `candidates` of a question, whose trials lie in `folder`; `agents`: how many learn. Each is found out when it is first asked
    for, from the files that are there by then."""

    question: Question
    folder: Path
    candidates: tuple[Candidate, ...]
    agents: int

    def trial(self, c: Candidate) -> Path:
        """The folder of a candidate's run."""
        return self.folder / "trials" / c.name

    @property
    def chance(self) -> float:
        """What random play returns."""
        return float((kept(self.folder, CHANCE) or {})["chance"])

    def measured(self, c: Candidate) -> dict[str, Any]:
        """What the trial of a candidate left: returns, ledgers, curve and record."""
        trial = kept(self.trial(c), MEASURED)
        assert trial is not None, c.name
        return trial

    @cached_property
    def ranked(self) -> list[Standing]:
        """Candidates by return: those that ran to the end first, then those that were stopped."""
        trials = {c.name: self.measured(c) for c in self.candidates}
        early = {c.name: x["returns"] for c in self.candidates if (x := kept(self.trial(c), QUARTER))}
        whole = {k: v["stopped_at"] is None for k, v in trials.items()}
        return standings({k: v["returns"] for k, v in trials.items()}, whole, early, self.bounds)

    @cached_property
    def bounds(self) -> Bounds | None:
        """Within which every candidate's returns lie, where all of them declare it."""
        known = [self.measured(c)["record"].get("return_bounds") for c in self.candidates]
        if any(b is None for b in known):
            return None
        return min(-math.inf if b[0] is None else b[0] for b in known), max(math.inf if b[1] is None else b[1] for b in known)

    def _beside_recommended(self, s: Standing) -> dict[str, Any]:
        """The difference from the recommended candidate, with the interval that holds for all pairs together."""
        name = self.recommendation.name
        if s.rank is None or s.name == name:
            return {"difference": None, "difference_ci95": [None, None]}
        difference, ends = compared(self.ranked, self.bounds).difference(s.name, name)
        return {"difference": difference, "difference_ci95": [None if math.isnan(x) else x for x in ends]}

    @cached_property
    def stability(self) -> dict[str, Rated]:
        """The rating of every candidate that ran to the end."""
        reference = max(s.iqm for s in self.ranked if s.rank is not None)
        return {
            c.name: rated(self.measured(c), kept(self.trial(c), STRESSED), self.chance, reference, self.question.seed)
            for c in self.candidates
            if self.measured(c)["stopped_at"] is None
        }

    @cached_property
    def dead(self) -> dict[str, DeadSeeds]:
        """Seeds that learned nothing, of every candidate that ran to the end."""
        ran = {c.name: x for c in self.candidates if (x := self.measured(c))["stopped_at"] is None}
        return dead_seeds({k: x["returns"] for k, x in ran.items()}, {k: x["curve"] for k, x in ran.items()}, self.chance)

    @cached_property
    def costs(self) -> dict[str, Cost]:
        """What training and acting cost, by candidate."""
        trials = {c.name: self.measured(c) for c in self.candidates}
        return {k: self.cost(v) for k, v in trials.items()}

    def cost(self, measured: dict[str, Any]) -> Cost:
        """What the run cost that left these figures."""
        record = measured["record"]
        return Cost.of(self.question.prices, measured["ledgers"], record["flops_per_step"]["acting"], self.agents, *sent_by(record))

    @cached_property
    def recommendation(self) -> Recommendation:
        """The most stable of the candidates that are not significantly beaten, then the cheapest, with evidence and doubt."""
        equal = alike({s.name: self.stability[s.name] for s in level(self.ranked)})
        return recommend(self.ranked, {k: r.rating for k, r in self.stability.items()}, {k: c.train for k, c in self.costs.items()}, equal)

    def row(self, s: Standing, config: RunConfig, claims: bool, tuned: Settings) -> dict[str, Any]:
        """A candidate's row of the record: how it was configured, whether its credit `claims` contributions, what it was `tuned` to."""
        c = next(c for c in self.candidates if c.name == s.name)
        trial, stressed = self.measured(c), kept(self.trial(c), STRESSED)
        stable, dead = self.stability.get(s.name), self.dead.get(s.name)
        kind = lambda part: getattr(type(part), "kind", type(part).__name__)
        return {
            "name": s.name,
            "architecture": kind(config.architecture),
            "credit": kind(config.credit),
            "learner": kind(config.learner),
            "comms": kind(config.comms),
            "claims": claims,
            "return_iqm": s.iqm,
            "return_ci95": list(s.ci95),
            "return_worst_seed": s.worst,
            "acting": trial["record"]["acting"],
            "returns_by_acting": trial["record"]["returns_by_acting"],
            "acting_warning": trial["record"]["acting_warning"],
            "returns": [float(np.mean(r)) for r in s.returns],
            "dead_seeds": None if dead is None else dead.dead,
            "unrewarded_seeds": None if dead is None else dead.unrewarded,
            "true_metrics": trial["record"]["true_metrics"],
            "stability": {"rating": "unrated"} if stable is None else stable.record(),
            "edge_cases": [] if stressed is None else stressed["cases"],
            "credit_judgement": "" if stressed is None else stressed.get("credit_judgement", ""),
            "cost": asdict(self.costs[s.name]),
            "crossover_decisions": self.costs[s.name].crossover_decisions,
            "steps": [x["steps"] for x in trial["ledgers"]],
            "steps_per_second": trial["record"].get("steps_per_second"),
            **dict(zip(("messages_per_step", "bits_per_step"), sent_by(trial["record"]), strict=True)),
            "tuned": tuned,
            "stopped_at": trial["stopped_at"],
            "rank_at_quarter": s.quarter,
            "rank": s.rank,
            **self._beside_recommended(s),
            "verdict": verdict(s, self.recommendation, trial["stopped_at"]),
            "run": str(self.trial(c)),
        }


def sent_by(record: Mapping[str, Any]) -> tuple[float, float]:
    """Messages and bits per joint step that a run's final policy sends as it is deployed; 0 where nobody talks."""
    return record.get("messages_per_step") or 0.0, record.get("bits_per_step") or 0.0


def refused_row(name: str, reason: str) -> dict[str, Any]:
    """The row of a candidate that does not fit the environment."""
    nothing = dict.fromkeys(
        ("architecture", "credit", "learner", "return_iqm", "return_ci95", "return_worst_seed", "acting", "returns_by_acting", "stability",
         "cost", "stopped_at", "rank_at_quarter", "rank")
    )  # fmt: skip
    return {"name": name, **nothing, "verdict": f"refused: {reason}"}
