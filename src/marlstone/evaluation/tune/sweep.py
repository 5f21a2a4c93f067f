"""The order of a sweep: successive halving on tuning seeds (Jamieson and Talwalkar 2016), then the winner on other seeds.

    trials/trial-K    settings number K, on tuning seeds; 0: the configuration as it is. At each rung the best 1 / eta of those judged go on
    best, baseline    the winner, and the configuration as it is, on reporting seeds

Each is a run's directory; a sweep that was broken off goes on from what lies there. A trial trains under the schedules of the whole budget
and pauses at rungs, so what a survivor becomes is what it would have become alone.
"""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from marlstone.config import RunConfig, dump
from marlstone.config.paths import recorded, resolved
from marlstone.core.machine import cores
from marlstone.evaluation.check_env import random_play_speed
from marlstone.evaluation.select.forecast import BUILT, Speed, words
from marlstone.evaluation.select.question_file import remembered
from marlstone.evaluation.select.study import Executor
from marlstone.evaluation.select.trial import MEASURED, Job, kept
from marlstone.evaluation.tune.question import Question, rung_updates
from marlstone.evaluation.tune.sampler import sampler_of
from marlstone.evaluation.tune.space import shown
from marlstone.runs.files import write_atomic
from marlstone.stats.intervals import difference, iqm


@dataclass
class Sweep:
    """One sweep, in `folder`. `do`: where jobs are done; `say`: told what to expect and how far it is."""

    question: Question
    folder: Path
    do: Executor
    say: Callable[[str], None]
    since: float | None = None  # when its first trial began, of a sweep that was never broken off

    # ---- trials
    def _config(self, settings: Mapping[str, Any]) -> RunConfig:
        """A trial: tuning seeds, judged at rungs alone, no sink told."""
        config = self.question.config(settings, 0, self.question.tuning_seeds)
        every = rung_updates(self.question, config, 0) * config.steps_per_update
        return replace(config, checkpoint_every=every, evaluate=replace(config.evaluate, logged=0, every=None, suites=()), sinks=())

    def _job(self, k: int, settings: Mapping[str, Any], rung: int) -> Job:
        config, last = self._config(settings), rung == self.question.rungs - 1
        pause = 0 if last else rung_updates(self.question, config, rung) * config.steps_per_update
        folder = self.folder / "trials" / f"trial-{k}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        return Job(str(folder), str(self.folder), dump(resolved(config)), light=True, pause=pause)

    @staticmethod
    def _returned(job: Job) -> dict[str, Any]:
        """Steps per seed and episodes' returns `[seeds][episodes]` of a job that is done."""
        if job.pause:
            return dict(json.loads(job.judged_at.read_text()))
        found = kept(Path(job.folder), MEASURED)
        assert found is not None
        return {"step": found["record"]["steps"], "returns": found["returns"]}

    def tried(self) -> list[dict[str, Any]]:
        """Every trial: its `settings` and, rung by rung, `steps` per seed, `return_iqm` and `returns` of its seeds."""
        q, sampler = self.question, sampler_of(self.question)
        trials: list[dict[str, Any]] = [{"number": 0, "settings": {}, "rungs": []}]
        sampled = 0
        while len(trials) < q.trials:
            batch = sampler.ask(min(sampler.batch, q.trials - len(trials)))
            trials += [{"number": len(trials) + i, "settings": x, "rungs": []} for i, x in enumerate(batch)]
            self._rung(trials[sampled:], 0)
            fresh = [x for x in trials[sampled:] if x["number"]]
            sampler.tell([x["rungs"][0]["return_iqm"] for x in fresh])
            sampled = len(trials)
        alive = trials
        for rung in range(1, q.rungs):
            alive = sorted(alive, key=_standing)[: q.left(rung)]
            self._foretell(rung)
            self._rung(sorted(alive, key=lambda x: x["number"]), rung)
        return sorted(trials, key=_standing)

    def _rung(self, trials: list[dict[str, Any]], rung: int) -> None:
        q = self.question
        jobs = [self._job(x["number"], x["settings"], rung) for x in trials]
        self.do(jobs, f"rung {rung + 1} of {q.rungs}")
        for x, job in zip(trials, jobs, strict=True):
            found = self._returned(job)
            means = [float(np.mean(r)) for r in found["returns"]]
            x["rungs"].append({"steps": found["step"], "return_iqm": float(iqm(means)), "returns": means})

    # ---- on seeds that chose nothing
    def _report(self, name: str, settings: Mapping[str, Any]) -> Job:
        q = self.question
        config = q.config(settings, q.seed, q.seeds)
        return Job(str(self.folder / name), str(self.folder), dump(resolved(config)))

    def run(self) -> dict[str, Any]:
        """All of it; the record of `marlstone tune --json`, without report and times."""
        q = self.question
        remembered(self.folder, q, "sweep")
        began = self.question.config({}, 0, 1)
        ladder = " -> ".join(f"{q.left(k)} x {round(q.share(k) * began.whole_steps):,} steps" for k in range(q.rungs))
        self.say(f"{q.trials} trials of {began.env}, {ladder}, on {q.tuning_seeds} tuning seeds; the winner on {q.seeds} others")
        self._foretell(0)
        self.since = None if (self.folder / "trials").is_dir() else time.monotonic()
        trials = self.tried()
        best = trials[0]
        jobs = [self._report("best", best["settings"])]
        if q.baseline and best["number"]:
            jobs.append(self._report("baseline", {}))
        self._foretell(q.rungs)
        self.do(jobs, "reporting seeds")
        found = [kept(Path(job.folder), MEASURED) for job in jobs]
        return self._record(trials, [x for x in found if x is not None])

    def _record(self, trials: list[dict[str, Any]], measured: list[dict[str, Any]]) -> dict[str, Any]:
        q, best, record = self.question, trials[0], measured[0]["record"]
        tuning = best["rungs"][-1]["return_iqm"]
        config = q.config(best["settings"], q.seed, q.seeds)
        write_atomic(self.folder / "best.toml", recorded(config, self.folder).encode())
        against: dict[str, Any] = {"baseline": None, "difference": None, "difference_ci95": [None, None]}
        if q.baseline:
            other = measured[-1]
            gap, ends = difference(measured[0]["returns"], other["returns"]) if best["number"] else (0.0, (0.0, 0.0))
            fields = ("return_iqm", "return_ci95", "return_worst_seed", "returns")
            against = {"baseline": {k: other["record"][k] for k in fields}, "difference": gap, "difference_ci95": list(ends)}
        out = {
            "env": config.env,
            "steps": config.whole_steps,
            "sampler": q.sampler,
            "eta": q.eta,
            "configurations": q.trials,
            "tuning_seeds": q.tuning_seeds,
            "seeds": record["seeds"],
            "trials": [
                {"name": f"trial-{x['number']}", "settings": x["settings"], "rungs": x["rungs"], "rank": i + 1,
                 "stopped_at": None if len(x["rungs"]) == q.rungs else x["rungs"][-1]["steps"]}
                for i, x in enumerate(trials)
            ],
            "best": f"trial-{best['number']}",
            "settings": best["settings"],
            "tuning_return_iqm": tuning,
            "tuning_returns": best["rungs"][-1]["returns"],
            **{k: record[k] for k in ("return_iqm", "return_ci95", "return_worst_seed", "returns", "acting", "true_metrics")},
            "selection_bias": tuning - record["return_iqm"],
            **against,
            "steps_trained": sum(x["rungs"][-1]["steps"] for x in trials) * q.tuning_seeds
            + sum(x["record"]["steps"] * q.seeds for x in measured),
            "config": str(self.folder / "best.toml"),
            "run": str(self.folder / "best"),
        }  # fmt: skip
        return out | {"evidence": evidence(out)}

    # ---- how long it takes
    @cached_property
    def _speed(self) -> float:
        return Speed.guessed(random_play_speed(self.question.config({}, 0, 1).env)).each

    def _foretell(self, rung: int) -> None:
        """Tell how long what is left from `rung` on will take: guessed at first, then by what training took so far."""
        q, whole = self.question, self.question.config({}, 0, 1).whole_steps
        parts = [q.left(k) * q.tuning_seeds * whole * (q.share(k) - (q.share(k - 1) if k else 0.0)) for k in range(q.rungs)]
        proofs = 1 + int(q.baseline)
        left = sum(parts[rung:]) + proofs * q.seeds * whole
        if rung and self.since is not None:
            seconds, how = left * (time.monotonic() - self.since) / sum(parts[:rung]), "as the first rungs went"
        else:
            jobs = sum(q.left(k) for k in range(rung, q.rungs)) + proofs
            seconds, how = (left / self._speed + BUILT * jobs) / len(cores()), "guessed from the speed of random play"
        self.say(f"about {words(seconds)} {'left' if rung else 'in all'}: {left:,.0f} joint steps, {how}")


def _standing(trial: Mapping[str, Any]) -> tuple[int, float, int]:
    """Those that got further first, then those that returned more where they ended; one without a return comes last."""
    last = trial["rungs"][-1]["return_iqm"]
    return -len(trial["rungs"]), math.inf if math.isnan(last) else -last, trial["number"]


def evidence(record: Mapping[str, Any]) -> str:
    """What the sweep found and what that is worth, in two or three sentences."""
    settings = shown(record["settings"])
    low, high = record["return_ci95"]
    between = "" if low is None else f" [{low:.3g} to {high:.3g}]"
    text = (
        f"Best of {record['configurations']} configurations: {settings}. It returned {record['tuning_return_iqm']:.3g} on the "
        f"{record['tuning_seeds']} seeds it was chosen by, and {record['return_iqm']:.3g}{between} on {len(record['seeds'])} others: "
        "expect the latter."
    )
    if record["baseline"] is None:
        return text
    if not record["settings"]:
        return f"{text} That is the configuration as it was: nothing tried was better."
    low, high = record["difference_ci95"]
    if low is None or math.isnan(low):
        return f"{text} The configuration as it was returned {record['baseline']['return_iqm']:.3g}; one seed tells no interval."
    significant = low > 0 or high < 0
    word = "significantly " + ("better" if low > 0 else "worse") if significant else "not significantly different"
    return (
        f"{text} The configuration as it was returned {record['baseline']['return_iqm']:.3g} on the same seeds: the tuned one is {word} "
        f"(difference {record['difference']:.3g} [{low:.3g} to {high:.3g}])."
    )
