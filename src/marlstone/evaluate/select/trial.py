"""One candidate, trained as a run of its own and judged. Every stage leaves a file, written whole or not at all: what is there is never
done again, and what was broken off goes on from its checkpoint."""

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from marlstone.config import dump
from marlstone.config.schema import RunConfig
from marlstone.config.sources import parse, resolved
from marlstone.core.errors import Failure
from marlstone.evaluate.statistics import interval, iqm
from marlstone.runs.checkpoint import latest_good, newest
from marlstone.runs.directory import RunDirectory
from marlstone.runs.files import write_atomic
from marlstone.runs.json_line import one_line
from marlstone.runs.progress import Progress
from marlstone.runs.store import Store
from marlstone.runtime.deciding import Chance
from marlstone.runtime.train import opened, train

QUARTER, MEASURED, STRESSED = "quarter.json", "measured.json", "stressed.json"
CHANCE = "chance.json"
Report = Callable[[Progress], None]


@dataclass(frozen=True)
class Job:
    """Work that another process, or machine with the same files, can do: plain values only.

    `folder`: the trial's run; `config`: its TOML; `episodes` judge each seed. `bar`: a return; where the whole interval at a quarter of the
    budget lies below it, training ends there. `stress`: the cost of edge cases and the like is wanted too. `chance`: where the random
    policy's return is kept, made if it is not there.
    """

    folder: str
    config: str
    episodes: int
    bar: float | None = None
    stress: bool = False
    chance: str | None = None

    @property
    def done(self) -> bool:
        where = Path(self.folder)
        return (where / MEASURED).is_file() and (not self.stress or (where / STRESSED).is_file())


def kept(folder: Path, name: str) -> dict[str, Any] | None:
    """What a stage left."""
    file = folder / name
    return json.loads(file.read_text()) if file.is_file() else None


def _keep(file: Path, said: dict[str, Any]) -> dict[str, Any]:
    write_atomic(file, (one_line(said) + "\n").encode())
    return said


def work(job: Job, report: Report = lambda _: None, stop: Callable[[], bool] = lambda: False) -> None:
    """Do what is left of a job. Raises `Stopped` where `stop()` said so between updates."""
    folder, config = Path(job.folder), parse(job.config, job.folder)
    if kept(folder, MEASURED) is None:
        _train(job, folder, config, report, stop)
    if job.stress and kept(folder, STRESSED) is None:
        from marlstone.evaluate.select.stress import stressed

        report(Progress("evaluating", config.steps, config.steps, config.seeds))
        with opened(config, newest(folder / "checkpoints")) as (runtime, state):
            chance = kept(Path(job.chance or folder), CHANCE) or {"chance": None}
            _keep(folder / STRESSED, stressed(runtime, state, config, job.episodes, chance["chance"]))


class Stopped(Failure):
    """Training was asked to stop; the same command goes on from there."""


def _train(job: Job, folder: Path, config: RunConfig, report: Report, stop: Callable[[], bool]) -> None:
    resume, seen = None, dict[str, Any]()
    if folder.is_dir() and (good := latest_good(folder / "checkpoints")) is not None:
        run, resume = RunDirectory.open(folder), good
    else:
        with suppress(FileNotFoundError):  # it ended before its first checkpoint
            shutil.rmtree(folder)
        run = RunDirectory.create(folder, dump(resolved(config)))

    def watch(runtime: Any, state: Any, store: Store, step: int) -> bool:
        total = runtime.total * config.rollout.envs * config.rollout.length
        if step >= total:
            seen.update(judged(runtime, state, config, job))
        elif 4 * step >= total and kept(folder, QUARTER) is None:
            _keep(folder / QUARTER, {"step": step, "returns": _returns(runtime, state, job.episodes)})
            return condemned()
        return False

    def condemned() -> bool:
        return job.bar is not None and (at := kept(folder, QUARTER)) is not None and _surely_below(at["returns"], job.bar)

    with run.claimed():
        record: dict[str, Any] = {"stopped": True}
        if resume is None or not condemned():
            record = train(config, run, resume=resume, progress=report, stop=stop, watch=watch)
        if ended := bool(record.get("stopped")):
            if not condemned():
                raise Stopped(f"stopped; the same command goes on from {folder}")
        else:
            run.finish(record)
        last = newest(run.checkpoints)
        if not seen:
            with opened(config, last) as (runtime, state):
                seen.update(judged(runtime, state, config, job))
        more = {"stopped_at": last.step if ended else None, "ledgers": last.meta["ledgers"], "record": record}
        _keep(folder / MEASURED, {**seen, **curves(run), **more})


def judged(runtime: Any, state: Any, config: RunConfig, job: Job) -> dict[str, Any]:
    """The final policy's episodes, per seed, and what its training spent."""
    out = runtime.evaluate(state, job.episodes)
    if job.chance is not None and not (Path(job.chance) / CHANCE).is_file():
        random = runtime.evaluate(state, job.episodes, decider=Chance(runtime.algorithm))
        _keep(Path(job.chance) / CHANCE, {"chance": float(np.asarray(random.team_return).mean())})
    act, learn = runtime.algorithm.flops(runtime.spread.first(state.train.nets), config.rollout.envs)
    return {
        "returns": np.asarray(out.team_return, float).round(6).tolist(),
        "agent_returns": dict(zip(runtime.algorithm.spec.agents, np.asarray(out.agent_return, float).mean((0, 1)).tolist(), strict=True)),
        "true_metrics": {k: float(np.mean(v)) for k, v in out.metrics.items()},
        "agents": runtime.algorithm.spec.team.n,
        "act_flops": act,
        "learn_flops": learn,
    }


def _returns(runtime: Any, state: Any, episodes: int) -> list[list[float]]:
    rows: list[list[float]] = np.asarray(runtime.evaluate(state, episodes).team_return, float).round(6).tolist()
    return rows


def _surely_below(returns: list[list[float]], bar: float) -> bool:
    """Whether even the upper end of the interval over seeds lies below `bar`; with one seed, whether its mean does."""
    center, (_, high) = interval([np.array(r) for r in returns])
    return (center if np.isnan(high) else high) < bar


def curves(run: RunDirectory) -> dict[str, Any]:
    """The training return over steps, `[k]` and `[seeds k]`, on a common grid, and per agent what credit said at the last checkpoint."""
    from marlstone.runs.curve import on_grid

    with run.store() as store:
        steps, returns = on_grid(store.series("return"))
        logged = store.episodes()
    said: dict[str, Any] = {}
    if logged.step.size:
        last = logged.step == logged.step.max()
        with np.errstate(all="ignore"):
            means = {a: logged.contribution[last, j] for j, a in enumerate(logged.agents)}
        said = {a: float(np.nanmean(x)) for a, x in means.items() if np.isfinite(x).any()}
    return {"steps": steps.tolist(), "curve": returns.tolist(), "contributions": said}


def center(measured: dict[str, Any]) -> float:
    """IQM over seeds of the final policy's return."""
    return float(iqm([np.mean(r) for r in measured["returns"]]))
