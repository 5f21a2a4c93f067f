"""The order of things: tune every candidate alike, train them, stop the hopeless, stress the rest, confirm and soak the winner.

    tuning/NAME-K    try K of a candidate, on tuning seeds          trials/NAME    the candidate itself, on reporting seeds
    confirm          the winner once more, on fresh seeds           soak           the winner for longer, under drift

Each is a run's directory; a selection that was broken off goes on from what lies there.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from marlstone.config import RunConfig, dump
from marlstone.config.paths import recorded, resolved
from marlstone.core.errors import UserError
from marlstone.core.machine import cores
from marlstone.core.seeds import REPORTING
from marlstone.core.types import Spec
from marlstone.envs.faults import Drift
from marlstone.envs.make import make
from marlstone.envs.wrappers import wrap_env
from marlstone.evaluation.check_env import random_play_speed
from marlstone.evaluation.select.findings import Findings, refused_row
from marlstone.evaluation.select.forecast import Speed, expected
from marlstone.evaluation.select.question import Candidate, Question, Settings, common_leaf, led
from marlstone.evaluation.select.question_file import remembered
from marlstone.evaluation.select.ranking import Standing, level
from marlstone.evaluation.select.rating import collapse
from marlstone.evaluation.select.trial import MEASURED, Job, center, kept
from marlstone.rollout.sides import Sides
from marlstone.runs.files import write_atomic
from marlstone.runs.sinks.contract import check_all
from marlstone.stats.families import pairwise
from marlstone.stats.intervals import interval

PILOT = 20  # updates that tell a candidate's speed, where the budget is no number of steps


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
                spec = wrap_env(
                    env, config.architecture.managers(), config.faults, config.metrics, Sides.of(config), config.comms, config.toolbox
                ).spec
            self.claims[c.name] = Algorithm(spec, config.architecture, config.credit, config.learner, channel=config.channel).claims
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
                spent = self.found.cost(trial)
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

    @cached_property
    def found(self) -> Findings:
        """What the trials say."""
        return Findings(self.question, self.folder, self.candidates, self.spec.n)

    def _full(self, c: Candidate) -> RunConfig:
        return self._config(c, self.tuned[c.name], self.steps[c.name], self.question.seed, self.question.seeds)

    def train(self) -> None:
        """The first of each architecture to the end; the others may be stopped at a quarter."""
        first: dict[str, Candidate] = {}
        for c in self.candidates:
            first.setdefault(self._architecture(c), c)
        safe = list(first.values())
        rest = [c for c in self.candidates if c not in safe]
        jobs = [self._job(c, self.found.trial(c), self._full(c)) for c in self._longest_first(safe)]
        rivals = tuple(job.folder for job in jobs)
        jobs += [self._job(c, self.found.trial(c), self._full(c), rivals=rivals, judged=len(rest)) for c in self._longest_first(rest)]
        self.do(jobs, "training")

    def _architecture(self, c: Candidate) -> str:
        kind = c.settings.get("architecture", "decentralized")
        return str(kind.get("kind", "decentralized") if isinstance(kind, dict) else kind)

    def stress(self) -> None:
        """Edge cases, cross-play: for the best of each architecture, for what is not significantly beaten, then for the others, best
        first; for no more than `survivors` of those that ran to the end."""
        by, ran = {c.name: c for c in self.candidates}, [s for s in self.found.ranked if s.rank is not None]
        architecture = {s.name: self._architecture(by[s.name]) for s in ran}
        first = [s for i, s in enumerate(ran) if architecture[s.name] not in {architecture[x.name] for x in ran[:i]}]
        close = [s for s in level(self.found.ranked) if s not in first]
        chosen = [*first, *close, *(s for s in ran if s not in first and s not in close)][: self.question.survivors]
        order = self._longest_first([by[s.name] for s in chosen])
        self.do([self._job(c, self.found.trial(c), self._full(c), stress=True) for c in order], "stress")

    def prove(self) -> dict[str, Any]:
        """The winner on fresh seeds, and for longer under drift."""
        q, c = self.question, next(c for c in self.candidates if c.name == self.found.recommendation.name)
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
            iqm, ci = interval(fresh_returns, bounds=self.found.bounds)
            mine = next(s for s in self.found.ranked if s.name == c.name)
            pair = pairwise({"first": [np.array(r) for r in mine.returns], "again": fresh_returns})
            apart = pair.significant("first", "again")
            out["confirmed"] = {"return_iqm": iqm, "return_ci95": list(ci), "seeds": q.seeds, "separable_from_first": apart}
        if q.soak and (trial := kept(self.folder / "soak" / c.name, MEASURED)):
            out["soak"] = {
                "budgets": q.soak,
                **collapse(trial, self.found.chance, max(s.iqm for s in self.found.ranked if s.rank is not None)),
            }
        return out

    # ---- how long it takes
    @cached_property
    def _alone(self) -> float:
        return random_play_speed(self.question.env)

    def _speed(self, c: Candidate) -> Speed:
        trained = [kept(self.found.trial(c), MEASURED), *self._tries(c), kept(self.folder / "pilot" / c.name, MEASURED)]
        known = [x["record"]["steps_per_second"] / x["cores"] for x in trained if x is not None and x["record"].get("steps_per_second")]
        return Speed(known[0], True) if known else Speed.guessed(self._alone)

    def _foretell(self, *done: str) -> None:
        """Tell whoever watches how long what is not `done` will take."""
        speeds = {c.name: self._speed(c) for c in self.candidates}
        tries = {c.name: len(c.tries) for c in self.candidates}
        trained = [c.name for c in self.candidates if kept(self.found.trial(c), MEASURED) is not None]
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
        chosen = next(c for c in self.candidates if c.name == self.found.recommendation.name)
        config = replace(
            self._full(chosen), checkpoint_every=None, evaluate=replace(self._full(chosen).evaluate, episodes=self.question.episodes)
        )
        write_atomic(self.folder / "recommended.toml", recorded(config, self.folder).encode())
        return {
            "env": self.question.env,
            "budget": self.question.budget.words,
            "seeds": self.question.seeds,
            "chance_return": self.found.chance,
            "candidates": [*(self._row(s) for s in self.found.ranked), *(refused_row(k, v) for k, v in self.refused.items())],
            "recommended": self.found.recommendation.name,
            "inseparable_from": list(self.found.recommendation.inseparable_from),
            "evidence": self.found.recommendation.evidence,
            "doubt": with_proof(self.found.recommendation.doubt, proof),
            **proof,
            "prices": asdict(self.question.prices),
            "prices_sha256": self.question.prices.table.sha256,
            "config": str(self.folder / "recommended.toml"),
        }

    def _row(self, s: Standing) -> dict[str, Any]:
        c = next(c for c in self.candidates if c.name == s.name)
        return self.found.row(s, self._full(c), self.claims[c.name], self.tuned[c.name])


@contextmanager
def _made(name: str) -> Iterator[Any]:
    """An environment to look at, closed afterwards."""
    env = make(name)
    try:
        yield env
    finally:
        getattr(env, "close", lambda: None)()


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
