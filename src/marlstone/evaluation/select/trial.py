"""One candidate, trained as a run of its own and judged. Every stage leaves a file, written whole or not at all: what is there is never
done again, and what was broken off goes on from its checkpoint."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from marlstone.config.paths import files_of, recorded
from marlstone.config.schema import RunConfig
from marlstone.config.sources import parse
from marlstone.core.errors import BudgetUsedUp, Failure
from marlstone.core.interruptible import Abandoned, interruptible
from marlstone.envs.guards import return_bounds
from marlstone.play.action_selectors import Chance
from marlstone.play.judging import choose, judge, refuse_none, returns_record
from marlstone.play.player import Player
from marlstone.rollout.sides import keep_opponents
from marlstone.rollout.state import State
from marlstone.rollout.unroll import trajectory_shapes
from marlstone.runs.checkpoint import latest_good, newest
from marlstone.runs.directory import RunDirectory
from marlstone.runs.files import write_atomic
from marlstone.runs.json_line import one_line
from marlstone.runs.progress import Progress
from marlstone.runs.store import Store
from marlstone.stats.families import alpha_each
from marlstone.stats.intervals import interval, iqm
from marlstone.training.loop import train
from marlstone.training.trained import trained

QUARTER, MEASURED, STRESSED = "quarter.json", "measured.json", "stressed.json"
CHANCE = "chance.json"
PROOFS = ("confirm", "soak")  # folders in which the winner is trained again
HOPELESS = 0.25  # of what the leader gained over chance: so far below the leader's interval must an interval lie to be stopped
Report = Callable[[Progress], None]


@dataclass(frozen=True)
class Job:
    """Work that another process, or machine with the same files, can do: plain values only.

    `folder`: the trial's run; `home`: the selection's folder, where the random policy's return is kept; `config`: its TOML. `rivals`:
    trials that run to their ends; one that is hopelessly below the best of them at a quarter of the budget ends there, `judged` being how
    many may end so: their intervals hold together (`stats.families`). `stress`: what edge
    cases and the like cost is wanted too. `light`: nothing but the final return is. `chance`: what random play returns is to be found out
    too. `pause`: joint steps per seed after which, at the next checkpoint of the schedule, it is judged and left, for a later job to go on
    with (0: it runs to its end); what it returned there lies beside its folder, in `judged_at`.
    """

    folder: str
    home: str
    config: str
    rivals: Sequence[str] = ()
    judged: int = 1
    stress: bool = False
    light: bool = False
    chance: bool = False
    pause: int = 0

    @property
    def judged_at(self) -> Path:
        """The file of what it returned where it pauses: not inside its folder, which is made anew where it is lost before a checkpoint."""
        where = Path(self.folder)
        return where.with_name(f"{where.name}-at-{self.pause}.json")

    @property
    def name(self) -> str:
        """The candidate's, and which try or proof of it."""
        where = Path(self.folder)
        return f"{where.name}, {where.parent.name}" if where.parent.name in PROOFS else where.name

    @property
    def done(self) -> bool:
        """Whether all files that it is to leave are there."""
        where = Path(self.folder)
        if self.pause:
            return self.judged_at.is_file()
        return (where / MEASURED).is_file() and (not self.stress or (where / STRESSED).is_file())

    @property
    def ready(self) -> bool:
        """Whether what it rests on is known: what its rivals returned at a quarter of their budgets."""
        return all((Path(r) / QUARTER).is_file() or (Path(r) / MEASURED).is_file() for r in self.rivals)

    @property
    def level(self) -> float:
        """Of the intervals that stopping rests on."""
        return 1 - alpha_each(self.judged)

    def bar(self, share: float) -> float | None:
        """The return below which it is hopeless at `share` of its budget, by rivals that were judged at no larger one (a tenth aside)."""
        early = [at for r in self.rivals if (at := kept(Path(r), QUARTER)) is not None]
        figures = [interval([np.array(x) for x in at["returns"]], self.level) for at in early if at["share"] <= 1.1 * share]
        if not figures:
            return None
        chance = (kept(Path(self.home), CHANCE) or {})["chance"]
        lead, (low, _) = max(figures, key=lambda f: f[0])
        return float((lead if np.isnan(low) else low) - HOPELESS * max(lead - chance, 0.0))


def kept(folder: Path, name: str) -> dict[str, Any] | None:
    """What a stage left."""
    file = folder / name
    return json.loads(file.read_text()) if file.is_file() else None


def _keep(file: Path, content: dict[str, Any]) -> dict[str, Any]:
    write_atomic(file, (one_line(content) + "\n").encode())
    return content


def work(job: Job, report: Report = lambda _: None, stop: Callable[[], bool] = lambda: False) -> None:
    """Do what is left of a job. Raises `Stopped` where `stop()` says so."""
    folder, config = Path(job.folder), parse(job.config, job.folder)
    if not job.done and kept(folder, MEASURED) is None:
        _train(job, folder, config, report, stop)
    if job.stress and kept(folder, STRESSED) is None:
        from marlstone.evaluation.select.stress import stressed

        tell = lambda name, i, n: report(Progress("evaluating", i, n, config.seeds, note=name))
        chance = kept(Path(job.home), CHANCE)
        assert chance is not None  # every selection begins with it

        def stress() -> None:
            with trained(config, newest(folder / "checkpoints")) as (runtime, state):
                _keep(folder / STRESSED, stressed(runtime, state, config, kept(folder, MEASURED) or {}, chance["chance"], tell))

        try:
            interruptible(stress, stop)
        except Abandoned:
            raise Stopped(f"stopped; the same command goes on from {folder}") from None


class Stopped(Failure):
    """Training was asked to stop; the same command goes on from there."""


def _train(job: Job, folder: Path, config: RunConfig, report: Report, stop: Callable[[], bool]) -> None:
    resume = None
    good = latest_good(folder / "checkpoints") if folder.is_dir() else None
    if good is not None and not (job.light and good.step >= config.steps):
        run, resume = RunDirectory.open(folder), good
    else:
        if folder.is_dir():  # it ended before its first checkpoint; or was trained, but its speed is not known
            with RunDirectory(folder.resolve()).claimed():
                shutil.rmtree(folder)
        run = RunDirectory.create(folder, recorded(config, folder), files_of(config, folder))
        run.write(run.config.name, recorded(keep_opponents(config, run.path), run.path))

    def condemned() -> bool:
        if (at := kept(folder, QUARTER)) is None or (bar := job.bar(at["share"])) is None:
            return False
        return far_below(at["returns"], bar, job.level)

    def watch(runtime: Player, state: State, store: Store, step: int) -> bool:
        if job.chance and not (Path(job.home) / CHANCE).is_file():
            random = runtime.evaluate(state, config.evaluate.episodes, decider=Chance(runtime.algorithm))
            refuse_none(random)
            _keep(Path(job.home) / CHANCE, {"chance": float(np.mean([r.mean() for r in random.per_seed()]))})
        early = 0.2 * config.steps <= step < config.steps and kept(folder, QUARTER) is None
        if early and not job.light:
            judged = judge(runtime, state, config.evaluate.episodes, choose(runtime, state, config))
            trajectory = trajectory_shapes(runtime.algorithm, runtime.placement.first(state.acting), config.rollout.length)
            bounds = return_bounds(runtime.algorithm.spec, config.guards)
            returned, at = returns_record(judged, runtime.algorithm.spec, bounds), {"step": step, "share": step / config.steps}
            _keep(
                folder / QUARTER,
                {**at, "returns": returns_of(returned), "record": returned, "act_flops": runtime.algorithm.flops(trajectory).acting},
            )
            return condemned()
        if job.pause and step >= job.pause and not job.done:
            judged = judge(runtime, state, config.evaluate.episodes, choose(runtime, state, config))
            bounds = return_bounds(runtime.algorithm.spec, config.guards)
            returned = returns_record(judged, runtime.algorithm.spec, bounds)
            _keep(job.judged_at, {"step": step, "returns": returns_of(returned)})
        return bool(job.pause) and job.done

    with run.claimed():
        record: dict[str, Any] = {"stopped": True}
        if resume is None or not condemned():
            record = train(config, run, resume=resume, progress=report, stop=stop, watch=watch, limited=False)
        if job.pause and job.done:
            return
        if used_up := record.get("budget"):
            raise BudgetUsedUp(f"{used_up['message']}; then the same command goes on from {folder}")
        if ended := bool(record.get("stopped")):
            at = kept(folder, QUARTER)
            if at is None or not condemned():
                raise Stopped(f"stopped; the same command goes on from {folder}")
            record = at["record"] | {"flops_per_step": {"acting": at["act_flops"]}}
        else:
            run.finish(record)
        last = newest(run.checkpoints)
        measured = {"stopped_at": last.step if ended else None, "returns": returns_of(record), "ledgers": last.meta["ledgers"]}
        measured["cores"] = min(config.seeds, jax.local_device_count())
        _keep(folder / MEASURED, {**measured, **({} if job.light else curves(run, config.seeds)), "record": record})


def returns_of(record: dict[str, Any]) -> list[list[float]]:
    """A record's returns of the episodes that ended, seed by seed."""
    return [[x for x in seed if x is not None] for seed in record["episode_returns"]]


def far_below(returns: list[list[float]], bar: float, level: float = 0.95) -> bool:
    """Whether even the upper end of the interval over seeds lies below `bar`; with one seed, whether its mean does."""
    center, (_, high) = interval([np.array(r) for r in returns], level)
    return (center if np.isnan(high) else high) < bar


def curves(run: RunDirectory, seeds: int) -> dict[str, Any]:
    """The training return over steps, `[k]` and `[seeds k]`, on a common grid, and per agent the contribution that
    credit claimed at the last checkpoint."""
    from marlstone.runs.curve import on_grid

    with run.store() as store:
        steps, returns = on_grid(store.series("return"))
        logged = store.episodes()
    if len(returns) < seeds:  # some finished no episode: there is nothing to compare them by
        steps, returns = np.zeros(0), np.zeros((seeds, 0))
    claimed: dict[str, Any] = {}
    if logged.step.size:
        last = logged.step == logged.step.max()
        with np.errstate(all="ignore"):
            means = {a: logged.contribution[last, j] for j, a in enumerate(logged.agents)}
        claimed = {a: float(np.nanmean(x)) for a, x in means.items() if np.isfinite(x).any()}
    return {"steps": steps.tolist(), "curve": returns.tolist(), "contributions": claimed}


def center(measured: dict[str, Any]) -> float:
    """IQM over seeds of the final policy's return."""
    return float(iqm([np.mean(r) for r in measured["returns"]]))
