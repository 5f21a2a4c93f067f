"""The order of things: tune every candidate alike, train them, stop the hopeless, stress the rest, confirm and soak the winner.

    tuning/NAME-K    try K of a candidate, on tuning seeds          trials/NAME    the candidate itself, on reporting seeds
    confirm          the winner once more, on fresh seeds           soak           the winner for longer, under drift

Each is a run's directory; a selection that was broken off goes on from what lies there.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from marlstone.config import RunConfig, dump
from marlstone.config.paths import portable, recorded, resolved
from marlstone.core.errors import UserError
from marlstone.core.machine import cores
from marlstone.core.seeds import REPORTING
from marlstone.core.types import Spec
from marlstone.envs.faults import Drift
from marlstone.envs.make import make
from marlstone.envs.wrappers import wrap_env
from marlstone.evaluation.check_env import random_play_speed
from marlstone.evaluation.select.dead_seeds import DeadSeeds, dead_seeds
from marlstone.evaluation.select.forecast import Speed, expected
from marlstone.evaluation.select.prices import Cost
from marlstone.evaluation.select.question import Candidate, Question, Settings, common_leaf, led
from marlstone.evaluation.select.ranking import Recommendation, Standing, compared, level, recommend, standings, verdict
from marlstone.evaluation.select.rating import Rated, alike, collapse, rated
from marlstone.evaluation.select.trial import CHANCE, MEASURED, QUARTER, STRESSED, Job, center, kept
from marlstone.rollout.sides import Sides
from marlstone.runs.files import write_atomic
from marlstone.runs.json_line import one_line, plain
from marlstone.runs.sinks.contract import check_all
from marlstone.stats.families import pairwise
from marlstone.stats.intervals import Bounds, interval

PILOT = 20  # updates that tell a candidate's speed, where the budget is no number of steps
QUESTION = "question.json"


class Executor(Protocol):
    """Where jobs are done."""

    def __call__(self, jobs: Sequence[Job], what: str) -> None:
        """Do all of them, each once it is `ready`; rivals stand before the jobs they are rivals of. `what` is told to whoever watches."""


@dataclass
class Study:
    """One selection, in `folder`."""

    question: Question
    folder: Path
    do: Executor
    say: Callable[[str], None]
    refused: dict[str, str] = field(default_factory=dict)
    claims: dict[str, bool] = field(default_factory=dict)

    # ---- what is there
    @cached_property
    def spec(self) -> Spec:
        """The environment's, without managers, as those who learn know it."""
        with _made(self.question.env) as env:
            spec: Spec = self.sides.over(env).spec
            return spec

    @cached_property
    def sides(self) -> Sides:
        """Whose team it is and who plays the others, the same for every candidate. Raises `UserError` where they differ: returns against
        different opponents say nothing of each other."""
        each = [(c.name, Sides.of(self._config(c, {}, 1, REPORTING, 1))) for c in self.question.candidates]
        (first, sides), others = each[0], each[1:]
        who = lambda s: (s.team, dict(s.opponents), s.league and s.league[0])
        if odd := next((name for name, s in others if who(s) != who(sides)), None):
            raise UserError(
                f"candidates {first!r} and {odd!r} have different teams or opponents, so that their returns do not compare: name the same "
                "for all, by --team and --opponent"
            )
        return sides

    @cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        """Those that fit the environment; why the others do not stands in `refused`."""
        fitting = []
        for c in led(self.question.candidates, common_leaf(self.spec)):
            if reason := self._refusal(c):
                self.refused[c.name] = reason
            else:
                fitting.append(c)
        if not fitting:
            raise UserError(f"no candidate fits {self.question.env}: {'; '.join(f'{k}: {v}' for k, v in self.refused.items())}")
        return tuple(fitting)

    def _config(self, c: Candidate, learner: Settings, steps: int, seed: int, seeds: int) -> RunConfig:
        config = c.config(self.question.env, dict(self.question.common), learner, steps=steps, seed=seed, seeds=seeds)
        return replace(config, checkpoint_every=max(1, steps // 4), evaluate=replace(config.evaluate, episodes=self.question.episodes))

    def _light(self, c: Candidate, learner: Settings, steps: int) -> RunConfig:
        """On tuning seeds, with nothing kept on the way, and no sink told."""
        config = self._config(c, learner, steps, 0, self.question.tuning_seeds)
        return replace(config, checkpoint_every=steps, evaluate=replace(config.evaluate, logged=0), sinks=())

    def _refusal(self, c: Candidate) -> str:
        from marlstone.algorithm import Algorithm

        config = self._config(c, {}, 1, REPORTING, 1)
        try:
            if (b := config.rollout.envs) % (m := config.learner.minibatches):
                raise ValueError(f"rollout.envs is {b}, no multiple of learner.minibatches = {m}")
            with _made(self.question.env) as env:
                spec = wrap_env(env, config.architecture.managers(), config.faults, config.metrics, Sides.of(config)).spec
            self.claims[c.name] = Algorithm(spec, config.architecture, config.credit, config.learner).claims
        except ValueError as reason:
            return str(reason)
        return ""

    # ---- work
    def _job(self, c: Candidate, folder: Path, config: RunConfig, **more: Any) -> Job:
        return Job(str(folder), str(self.folder), dump(resolved(config)), chance=c is self.candidates[0], **more)

    def _longest_first(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """So that jobs side by side end together: by the seconds that each would take to its end, as tuning has them; without tuning,
        managers first."""

        def length(c: Candidate) -> tuple[float, bool]:
            tried = self._tries(c)
            seconds = self.steps[c.name] / (tried[0]["record"]["steps_per_second"] or math.inf) if tried else 0.0
            return seconds, self._config(c, {}, 1, 0, 1).architecture.managers() is not None

        return sorted(candidates, key=length, reverse=True)

    def _tries(self, c: Candidate) -> list[dict[str, Any]]:
        """What tuning measured, try by try."""
        found = (kept(self.folder / "tuning" / f"{c.name}-{k}", MEASURED) for k in range(len(c.tries)))
        return [x for x in found if x is not None]

    @cached_property
    def steps(self) -> dict[str, int]:
        """Joint steps per seed of each candidate's budget."""
        q, names = self.question, [c.name for c in self.candidates]
        if q.budget.steps is not None:
            return dict.fromkeys(names, q.budget.steps)
        jobs = []
        for c in self.candidates:
            rows = self._config(c, {}, 1, 0, 1).rollout
            jobs.append(self._job(c, self.folder / "pilot" / c.name, self._light(c, {}, PILOT * rows.envs * rows.length), light=True))
        self.do(jobs, "how fast is each candidate")
        out = {}
        for c in self.candidates:
            name = c.name
            trial = kept(self.folder / "pilot" / name, MEASURED)
            assert trial is not None
            if q.budget.minutes is not None:
                out[name] = round(60 * q.budget.minutes * (trial["record"]["steps_per_second"] or 0.0) / trial["cores"])
            else:
                spent = self._cost(trial)
                each = spent.train_per_seed / trial["ledgers"][0]["steps"]
                tried = q.tuning * q.tuning_seeds * len(c.tries) if len(c.tries) > 1 else 0.0
                proofs = (q.seeds * q.confirm + q.soak * q.soak_seeds) / len(names)  # of the winner, whoever that is
                out[name] = math.floor((q.budget.price or 0) / len(names) / (q.seeds + tried + proofs) / max(each, 1e-300))
            if out[name] < 1:
                raise UserError(f"--budget {q.budget.words} buys not one step of candidate {name!r}: give more")
        return out

    @cached_property
    def tuned(self) -> dict[str, Settings]:
        """Of every candidate's tries the one that earned most on the tuning seeds; all got the same share of the budget."""
        q, jobs = self.question, []
        most = max(len(c.tries) for c in self.candidates) if q.tuning > 0 else 0
        for k in range(most):  # the tries of a candidate apart in time: what they have in common is compiled once
            for c in self.candidates:
                if k < len(c.tries) > 1:
                    config = self._light(c, c.tries[k], max(1, round(q.tuning * self.steps[c.name])))
                    jobs.append(self._job(c, self.folder / "tuning" / f"{c.name}-{k}", config, light=True))
        self.do(jobs, "tuning")
        best = {}
        for c in self.candidates:
            tried = [center(x) for x in self._tries(c)]
            k = max(range(len(tried)), key=lambda k: (tried[k], -k), default=0)
            best[c.name] = c.tries[k] if c.tries else {}
        return best

    def _trial(self, c: Candidate) -> Path:
        return self.folder / "trials" / c.name

    def _full(self, c: Candidate) -> RunConfig:
        return self._config(c, self.tuned[c.name], self.steps[c.name], self.question.seed, self.question.seeds)

    def train(self) -> None:
        """The first of each architecture to the end; the others may be stopped at a quarter."""
        first: dict[str, Candidate] = {}
        for c in self.candidates:
            first.setdefault(self._architecture(c), c)
        safe = list(first.values())
        rest = [c for c in self.candidates if c not in safe]
        jobs = [self._job(c, self._trial(c), self._full(c)) for c in self._longest_first(safe)]
        rivals = tuple(job.folder for job in jobs)
        jobs += [self._job(c, self._trial(c), self._full(c), rivals=rivals, judged=len(rest)) for c in self._longest_first(rest)]
        self.do(jobs, "training")

    def _architecture(self, c: Candidate) -> str:
        kind = c.settings.get("architecture", "decentralized")
        return str(kind.get("kind", "decentralized") if isinstance(kind, dict) else kind)

    # ---- the answer
    def measured(self, c: Candidate) -> dict[str, Any]:
        """What the trial of a candidate left: returns, ledgers, curve and record."""
        trial = kept(self._trial(c), MEASURED)
        assert trial is not None, c.name
        return trial

    @cached_property
    def ranked(self) -> list[Standing]:
        """Candidates by return: those that ran to the end first, then those that were stopped."""
        trials = {c.name: self.measured(c) for c in self.candidates}
        early = {c.name: x["returns"] for c in self.candidates if (x := kept(self._trial(c), QUARTER))}
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

    def stress(self) -> None:
        """Edge cases, cross-play: for the best of each architecture, for what is not significantly beaten, then for the others, best
        first; for no more than `survivors` of those that ran to the end."""
        by, ran = {c.name: c for c in self.candidates}, [s for s in self.ranked if s.rank is not None]
        architecture = {s.name: self._architecture(by[s.name]) for s in ran}
        first = [s for i, s in enumerate(ran) if architecture[s.name] not in {architecture[x.name] for x in ran[:i]}]
        close = [s for s in level(self.ranked) if s not in first]
        chosen = [*first, *close, *(s for s in ran if s not in first and s not in close)][: self.question.survivors]
        order = self._longest_first([by[s.name] for s in chosen])
        self.do([self._job(c, self._trial(c), self._full(c), stress=True) for c in order], "stress")

    @cached_property
    def stability(self) -> dict[str, Rated]:
        """The rating of every candidate that ran to the end."""
        chance = float((kept(self.folder, CHANCE) or {})["chance"])
        reference = max(s.iqm for s in self.ranked if s.rank is not None)
        return {
            c.name: rated(self.measured(c), kept(self._trial(c), STRESSED), chance, reference, self.question.seed)
            for c in self.candidates
            if self.measured(c)["stopped_at"] is None
        }

    @cached_property
    def dead(self) -> dict[str, DeadSeeds]:
        """Seeds that learned nothing, of every candidate that ran to the end."""
        ran = {c.name: x for c in self.candidates if (x := self.measured(c))["stopped_at"] is None}
        chance = float((kept(self.folder, CHANCE) or {})["chance"])
        return dead_seeds({k: x["returns"] for k, x in ran.items()}, {k: x["curve"] for k, x in ran.items()}, chance)

    @cached_property
    def costs(self) -> dict[str, Cost]:
        """What training and acting cost, by candidate."""
        trials = {c.name: self.measured(c) for c in self.candidates}
        return {k: self._cost(v) for k, v in trials.items()}

    def _cost(self, measured: dict[str, Any]) -> Cost:
        return Cost.of(self.question.prices, measured["ledgers"], measured["record"]["flops_per_step"]["acting"], self.spec.n)

    @cached_property
    def recommendation(self) -> Recommendation:
        """The most stable of the candidates that are not significantly beaten, then the cheapest, with evidence and doubt."""
        equal = alike({s.name: self.stability[s.name] for s in level(self.ranked)})
        return recommend(self.ranked, {k: r.rating for k, r in self.stability.items()}, {k: c.train for k, c in self.costs.items()}, equal)

    def prove(self) -> dict[str, Any]:
        """The winner on fresh seeds, and for longer under drift."""
        q, c = self.question, next(c for c in self.candidates if c.name == self.recommendation.name)
        fresh, jobs = q.seed + q.seeds, []
        if q.confirm:
            config = self._config(c, self.tuned[c.name], self.steps[c.name], fresh, q.seeds)
            jobs.append(self._job(c, self.folder / "confirm" / c.name, config))
        if q.soak:
            config = self._config(c, self.tuned[c.name], q.soak * self.steps[c.name], fresh + q.seeds, q.soak_seeds)
            jobs.append(self._job(c, self.folder / "soak" / c.name, drifting(config)))
        self.do(jobs, "fresh seeds and a soak")
        out: dict[str, Any] = {}
        if q.confirm and (trial := kept(self.folder / "confirm" / c.name, MEASURED)):
            fresh_returns = [np.array(r) for r in trial["returns"]]
            iqm, ci = interval(fresh_returns, bounds=self.bounds)
            mine = next(s for s in self.ranked if s.name == c.name)
            pair = pairwise({"first": [np.array(r) for r in mine.returns], "again": fresh_returns})
            apart = pair.significant("first", "again")
            out["confirmed"] = {"return_iqm": iqm, "return_ci95": list(ci), "seeds": q.seeds, "separable_from_first": apart}
        if q.soak and (trial := kept(self.folder / "soak" / c.name, MEASURED)):
            chance = float((kept(self.folder, CHANCE) or {})["chance"])
            out["soak"] = {"budgets": q.soak, **collapse(trial, chance, max(s.iqm for s in self.ranked if s.rank is not None))}
        return out

    # ---- how long it takes
    @cached_property
    def _alone(self) -> float:
        return random_play_speed(self.question.env)

    def _speed(self, c: Candidate) -> Speed:
        trained = [kept(self._trial(c), MEASURED), *self._tries(c), kept(self.folder / "pilot" / c.name, MEASURED)]
        known = [x["record"]["steps_per_second"] / x["cores"] for x in trained if x is not None and x["record"].get("steps_per_second")]
        return Speed(known[0], True) if known else Speed.guessed(self._alone)

    def _foretell(self, *done: str) -> None:
        """Tell whoever watches how long what is not `done` will take."""
        speeds = {c.name: self._speed(c) for c in self.candidates}
        tries = {c.name: len(c.tries) for c in self.candidates}
        trained = [c.name for c in self.candidates if kept(self._trial(c), MEASURED) is not None]
        for line in expected(self.question, self.steps, tries, speeds, self.spec.horizon, len(cores()), done, trained):
            self.say(line)

    def run(self) -> dict[str, Any]:
        """All of it; the record of `marlstone select --json`, without report and times."""
        check_all(self._config(self.question.candidates[0], {}, 1, REPORTING, 1).sinks)
        remembered(self.folder, self.question)
        self.say(f"{len(self.candidates)} candidates, {self.question.budget.words}, {self.question.seeds} seeds each")
        for name, reason in self.refused.items():
            self.say(f"{name} does not fit: {reason}")
        self._foretell()
        if self.tuned and self.question.tuning:
            self._foretell("tuning")
        self.train()
        self._foretell("tuning", "training")
        self.stress()
        proof = self.prove()
        chosen = next(c for c in self.candidates if c.name == self.recommendation.name)
        config = replace(
            self._full(chosen), checkpoint_every=None, evaluate=replace(self._full(chosen).evaluate, episodes=self.question.episodes)
        )
        write_atomic(self.folder / "recommended.toml", recorded(config, self.folder).encode())
        return {
            "env": self.question.env,
            "budget": self.question.budget.words,
            "seeds": self.question.seeds,
            "chance_return": float((kept(self.folder, CHANCE) or {})["chance"]),
            "candidates": [*(self._row(s) for s in self.ranked), *(_refused(k, v) for k, v in self.refused.items())],
            "recommended": self.recommendation.name,
            "inseparable_from": list(self.recommendation.inseparable_from),
            "evidence": self.recommendation.evidence,
            "doubt": with_proof(self.recommendation.doubt, proof),
            **proof,
            "prices": asdict(self.question.prices),
            "config": str(self.folder / "recommended.toml"),
        }

    def _row(self, s: Standing) -> dict[str, Any]:
        c = next(c for c in self.candidates if c.name == s.name)
        trial, config, stressed = self.measured(c), self._full(c), kept(self._trial(c), STRESSED)
        stable, dead = self.stability.get(s.name), self.dead.get(s.name)
        steps = sum(x["steps"] for x in trial["ledgers"])
        kind = lambda part: getattr(type(part), "kind", type(part).__name__)
        return {
            "name": s.name,
            "architecture": kind(config.architecture),
            "credit": kind(config.credit),
            "learner": kind(config.learner),
            "claims": self.claims[s.name],
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
            "steps": [x["steps"] for x in trial["ledgers"]],
            "steps_per_second": trial["record"].get("steps_per_second"),
            "messages_per_step": sum(x["messages"] for x in trial["ledgers"]) / max(steps, 1),
            "tuned": self.tuned[s.name],
            "stopped_at": trial["stopped_at"],
            "rank_at_quarter": s.quarter,
            "rank": s.rank,
            **self._beside_recommended(s),
            "verdict": verdict(s, self.recommendation, trial["stopped_at"]),
            "run": str(self._trial(c)),
        }


@contextmanager
def _made(name: str) -> Iterator[Any]:
    """An environment to look at, closed afterwards."""
    env = make(name)
    try:
        yield env
    finally:
        getattr(env, "close", lambda: None)()


def _refused(name: str, reason: str) -> dict[str, Any]:
    nothing = dict.fromkeys(
        ("architecture", "credit", "learner", "return_iqm", "return_ci95", "return_worst_seed", "acting", "returns_by_acting", "stability",
         "cost", "stopped_at", "rank_at_quarter", "rank")
    )  # fmt: skip
    return {"name": name, **nothing, "verdict": f"refused: {reason}"}


def drifting(config: RunConfig) -> RunConfig:
    """The same run, whose sensors drift over the whole of it."""
    return replace(config, faults=(*config.faults, Drift(rows=max(1, config.steps // config.rollout.envs))))


def with_proof(text: str, proof: dict[str, Any]) -> str:
    """The doubt, with what the fresh seeds and the soak add to it."""
    more = []
    if (again := proof.get("confirmed")) and again["separable_from_first"]:
        more.append(f"on fresh seeds it returned {again['return_iqm']:.3g}, significantly different: expect that figure")
    if (soak := proof.get("soak")) and soak["collapsed"]:
        more.append(f"trained {soak['budgets']} times as long under drift it fell back from its best ({soak['words']})")
    return text if not more else f"{text.rstrip('.')}; {'; '.join(more)}."


def remembered(folder: Path, question: Any, what: str = "selection") -> None:
    """Keep what is asked (a dataclass), so that another question is never answered by this one's runs. `what`: the word for it in messages.
    Raises `UserError`."""
    asked = portable(plain(asdict(question)), folder.resolve())
    file = folder / QUESTION
    if file.is_file():
        before = portable(json.loads(file.read_text()), folder.resolve())
        if before != json.loads(one_line(asked)):
            other = next(k for k in asked if before.get(k) != json.loads(one_line({k: asked[k]}))[k])
            raise UserError(f"out = {str(folder)!r} holds a {what} with another {other}: name another directory, or ask the same")
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"out = {str(folder)!r} is not empty and holds no {what}: name another directory")
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(file, (one_line(asked) + "\n").encode())
