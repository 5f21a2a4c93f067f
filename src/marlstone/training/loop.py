"""A training run from configuration to record: updates in a compiled program, and callbacks whenever it meets the host."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import jax
import numpy as np

from marlstone.algorithm import Algorithm
from marlstone.config import RunConfig
from marlstone.config.paths import files_of, recorded
from marlstone.core.errors import BudgetUsedUp
from marlstone.core.flops import Flops
from marlstone.core.interruptible import Abandoned
from marlstone.core.ledger import Costs, Ledger
from marlstone.core.seeds import purpose_of, seeds_of
from marlstone.envs.make import is_jax, make
from marlstone.envs.vectorized import Vectorized
from marlstone.envs.wrappers import wrap_env
from marlstone.play.evaluator import longest
from marlstone.play.judging import choose, judge
from marlstone.rollout.fault_log import FaultLog, Faults
from marlstone.rollout.self_play import league_env
from marlstone.rollout.sides import Sides
from marlstone.rollout.unroll import trajectory_bytes, trajectory_shapes
from marlstone.runs.checkpoint import Checkpoint, load
from marlstone.runs.curve import draw
from marlstone.runs.directory import RunDirectory
from marlstone.runs.lifetime import Lifetime
from marlstone.runs.progress import Phase, Progress
from marlstone.runs.sinks.contract import Ended, check_all
from marlstone.runs.store import Store
from marlstone.training.backend import Backend
from marlstone.training.budgeting import Budgeting, steps_to_judge
from marlstone.training.callbacks import Callback, Counting, DivergenceCheck, EpisodeLog, FaultWatch, Metrics, Moment, Sent, Watching
from marlstone.training.checkpoints import Checkpoints, copied
from marlstone.training.clock import Clock
from marlstone.training.fused import Fused
from marlstone.training.initial import begin_from
from marlstone.training.limit import seconds_for
from marlstone.training.record import freeze, name_of, training_record, write_spec
from marlstone.training.sinks import Sinks
from marlstone.training.spending import Rates, Spending
from marlstone.training.spent_rows import SpentRows
from marlstone.training.stages import Stages, judging
from marlstone.training.validation import BestPolicies, judge_best, validating
from marlstone.training.zero_sum import refuse_zero_sum

PATIENCE = 5.0  # seconds that an update may still take once an end is asked for
HOST_CONTACT = 1.5  # seconds of training between contacts with the host
MOST = 64  # updates between contacts at most: the length of the report buffer

State = Any


def runtime_of(config: RunConfig, seeds: tuple[int, ...] | None = None) -> Backend:
    """The backend that trains this configuration: fused for JAX environments, worker processes for the others.

    Raises ValueError where the parts do not fit each other or the environment.
    """
    seeds = seeds_of(config.seed, config.seeds) if seeds is None else seeds
    total = config.updates
    if is_jax(config.env):
        managers, channel = config.architecture.managers(), config.comms.training
        env = wrap_env(make(config.env), managers, config.faults, config.metrics, Sides.of(config), channel, config.toolbox)
        algorithm = Algorithm(
            env.spec, config.architecture, config.credit, config.learner, config.rollout.shards, config.ramped, config.channel, config.cost
        )
        many = Vectorized(env, config.rollout.envs, config.guards)
        log = FaultLog()
        most = config.evaluate.max_steps
        snapshots = max(1, config.self_play.every // config.steps_per_update) if league_env(env) is not None else 0
        return Fused(many, algorithm, config.rollout.length, total, seeds, most, log, FaultLog(log.reported), snapshots)
    if config.rollout.shards > 1:
        raise ValueError(f"rollout.shards is {config.rollout.shards}, but {config.env} is stepped in worker processes: set rollout.workers")
    from marlstone.training.host import Hosted

    return Hosted.of(config, total, seeds)


def train(
    config: RunConfig,
    run: RunDirectory,
    *,
    resume: Checkpoint | None = None,
    initial: Checkpoint | None = None,
    runtime: Callable[[], Any] | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
    watch: Callable[[Any, State, Store, int], bool] = lambda runtime, state, store, step: False,
    limited: bool = True,
    lifetime: Lifetime | None = None,
) -> dict[str, Any]:
    """Train as configured, into `run`; returns the record of `marlstone train --json`.

    Args:
      resume: a checkpoint of this run, from which it continues exactly.
      initial: a checkpoint of another run, whose parameters a new one begins with, as far as they fit.
      runtime: makes the backend that trains; default: `runtime_of(config)`.
      progress: told of every phase and contact.
      stop: asked all the while; when True a checkpoint is written and a short record returned, with `stopped` True and the `steps` of the
        newest checkpoint. An update that does not end within `PATIENCE` seconds is given up, and anything else at once.
      watch: `watch(runtime, state, store, step)`, asked at every checkpoint of the schedule; True ends the training there.
      limited: whether the machine's limit is measured.
      lifetime: of the run, if it is not kept elsewhere.
    """
    clock, lifetime = Clock(stop), lifetime or Lifetime(run.seconds)

    def report(phase: Phase, step: int, **more: Any) -> None:
        lifetime.keep()
        progress(Progress(phase, step, config.whole_steps, config.seeds, **more))

    check_all(config.sinks)
    report("starting", 0)
    made, training = None, None
    ended: Ended = "failed"
    try:
        made = clock.time("starting", lambda: judging(config, runtime_of) if runtime is None else runtime())
        training = Training(config, run, made, clock, report, stop, lifetime)
        done, taken = training.begin(resume, initial)
        if training.go_on(watch):
            return training.finish(done, taken, limited)
        ended = "stopped"
        return run.stopped(config.env, config.all_seeds) | training.used_up
    except BudgetUsedUp:
        assert training is not None
        ended = "stopped"
        return run.stopped(config.env, config.all_seeds) | training.used_up
    except Abandoned:
        ended = "stopped"
        return run.stopped(config.env, config.all_seeds)
    finally:
        if training is not None:
            training.sinks.closed(ended)
        lifetime.keep(now=True)
        if training is not None and training.budget is not None:
            training.budget.close()
        if training is not None:
            training.stages.close()
        elif made is not None:
            made.close()


@dataclass
class Training:
    """A run while it trains: `begin`, `go_on` until the budget or an end, `finish`. `report` tells whoever watches; `stop` is asked.
    `judge` plays policies by the run's own configuration; `backend` trains by that of the stage."""

    config: RunConfig
    run: RunDirectory
    judge: Backend
    clock: Clock
    report: Callable[..., None]
    stop: Callable[[], bool]
    lifetime: Lifetime
    state: State = None
    done: int = 0
    stopped_by: str | None = None  # the rule that ended it early
    best: BestPolicies | None = None
    budget: Budgeting | None = None
    resumed: Checkpoint | None = None
    owed: bool = False  # whether a checkpoint of the schedule was written before it was examined
    sinks: Sinks = field(default_factory=Sinks)
    stages: Stages = field(init=False)
    flops: Flops = field(init=False)
    counting: Counting = field(init=False)
    spent: SpentRows = field(init=False)
    faults: Faults = field(init=False)
    advance: Callable[[State, int], tuple[State, Any]] = field(init=False)

    def __post_init__(self) -> None:
        self.stages = Stages(self.config, self.judge, runtime_of)

    @property
    def backend(self) -> Backend:
        """What trains now."""
        return self.stages.backend

    @property
    def step(self) -> int:
        """Joint steps per seed so far."""
        return self.done * self.config.steps_per_update

    @property
    def most(self) -> int:
        """Updates between contacts with the host, at most."""
        return min(MOST, self.backend.total)

    def begin(self, resume: Checkpoint | None, initial: Checkpoint | None) -> tuple[int, dict[str, Any] | None]:
        """Make or load the state, compile, and forget what came after the checkpoint that is resumed. Returns the steps already done, and
        what was taken from another run."""
        clock, taken = self.clock, None
        clock.time("starting", lambda: self.stages.begin(None if resume is None else resume.meta.get("stage")))
        backend = self.backend
        if resume is None:
            clock.time("starting", lambda: refuse_zero_sum(backend, name_of(self.config.credit)))
        self.resumed, state = resume, clock.time("starting", backend.start)
        none: list[dict[str, int]] = [{} for _ in backend.seeds]  # a new run also counts what was met while its environments were made
        ledgers, faults = [Ledger() for _ in backend.seeds], Faults([dict(x) for x in none], none)
        if resume is not None:
            kept, meta = load(resume.path, backend.placement.trim(state))
            state = clock.time("starting", lambda: backend.restored(backend.placement.pad(kept)))
            ledgers, faults = [Ledger(**x) for x in meta["ledgers"]], Faults(meta["faults"], backend.faults(state))
            self.done, self.owed = int(np.asarray(kept.train.version)[0]), meta.get("owed", False)
        elif initial is not None:
            state, taken = begin_from(initial, backend, state)
        self.state, self.faults = state, faults
        if (now := self.stages.at(self.done)) != self.stages.number:
            self._enter(now)
        handed, rates = self._compile()
        meta = {} if resume is None else resume.meta
        spending = Spending.of(self.judge.algorithm, rates, clock, self.judge.meter, ledgers, meta.get("spending"))
        self.counting = Counting(ledgers, self.flops, handed, spending, sent=Sent.of(backend, meta.get("sent")))
        self.spent = SpentRows(self.counting)
        total = lambda: reduce(Costs.plus, self.counting.costs, Costs())
        self.budget = Budgeting.of(self.config, self.run, total, total() if self.done else Costs(), resume is None)
        if self.budget is not None:
            self.judge.meter.admit = lambda episodes: self._judged(episodes)
        return self.step, taken

    def _judged(self, episodes: int) -> AbstractContextManager[None]:
        """Within which so many episodes of every seed may be played, as far as budgets go."""
        assert self.budget is not None
        rows, ended = (sum(getattr(x, k) for x in self.counting.ledgers) for k in ("rows", "episodes"))
        most = longest(self.judge.algorithm.spec, self.config.evaluate.max_steps)
        return self.budget.judging(self.counting.spending.rates.acting, steps_to_judge(episodes, len(self.judge.seeds), rows, ended, most))

    def _affordable(self, n: int, now: Moment) -> int:
        """Of the next `n` updates those that budgets allow, reserved; halved until they fit."""
        if self.budget is None:
            return n
        measured = now.config.measured_steps
        return self.budget.segment(n, self.counting.spending.rates, now.per_update - measured, measured, len(self.backend.seeds))

    @property
    def used_up(self) -> dict[str, Any]:
        """What a record says of the budget that ended the training; nothing where none did."""
        refusal = None if self.budget is None else self.budget.refusal
        return {} if refusal is None else {"stopped_by": "budget", "budget": refusal.record()}

    def _enter(self, number: int) -> None:
        """Go on in another stage: in fresh episodes, where its environment is another."""
        self.state, fresh = self.clock.time("starting", lambda: self.stages.enter(number, self.state))
        if fresh:
            self.faults.elsewhere()

    def _compile(self) -> tuple[int, Rates]:
        """Compile the training program of this stage; the bytes that its trajectories have, and what a joint step costs whom."""
        backend, state = self.backend, self.state
        self.report("compiling", self.step)
        self.advance = self.clock.time("compiling", lambda: backend.compile(state, self.most))
        trajectory = trajectory_shapes(backend.algorithm, backend.placement.first(state.acting), self.config.rollout.length)
        self.flops = backend.algorithm.flops(trajectory)
        return trajectory_bytes(trajectory), Rates.of(backend.algorithm, self.flops, trajectory)

    def go_on(self, watch: Callable[[Any, State, Store, int], bool]) -> bool:
        """Train until the budget is used up (True), or until `stop` or `watch` ends it, with a checkpoint of where it stands (False)."""
        config, backend, judge, clock = self.config, self.backend, self.judge, self.clock
        checkpoints = Checkpoints.of(config, self.run, clock, backend.total, self.done)
        metrics = Metrics()
        known = None if self.resumed is None else backend.placement.trim(self.state)
        validators, self.best = validating(config, self.run, clock, judge, known, self.step, self.lifetime)
        callbacks: Sequence[Callback] = (
            self.counting, metrics, DivergenceCheck([{} for _ in backend.seeds]), FaultWatch(self.faults),
            EpisodeLog.of(config, judge, clock), *validators,
            Watching(clock, lambda _, state, store, step: watch(judge, state, store, step)), self.sinks, self.spent,
        )  # fmt: skip
        if self.resumed is not None:  # nothing is left that could refuse: another future begins here
            self.run.rewind(self.resumed.step, recorded(config, self.run.path), files_of(config, self.run.path))
        write_spec(self.run, judge)
        with self.run.store() as store:
            since = -1 if self.resumed is None else self.step
            self.sinks.begin(config, self.run, since, lambda text: self.judge.log.notice(text, "warning"))
            now = Moment(self.stages.span.config, backend, store, self.state, self.done)
            stopped = self._examine(callbacks, now) if self.owed else False  # it was stopped before it was examined
            pace = 1
            while self.done < backend.total and not stopped:
                if (number := self.stages.at(self.done)) != self.stages.number:
                    self._enter(number)
                    handed, rates = self._compile()
                    self.counting.flops, self.counting.handed, pace = self.flops, handed, 1
                    self.counting.spending.rates = rates
                    now.config, now.backend, now.state = self.stages.span.config, self.backend, self.state
                self.report("training", now.step, **metrics.lately)
                until = min(self.stages.span.until, self.done + checkpoints.every - self.done % checkpoints.every)
                n = self._affordable(max(1, min(pace, self.most, until - self.done)), now)
                if not n:
                    stopped = True
                    if self.done != checkpoints.saved:
                        self._checkpoint(callbacks, now, checkpoints, False, stopped)
                    break
                if self._advance(now, n, checkpoints):
                    pace = max(1, round(n * HOST_CONTACT / max(now.seconds, 1e-6)))
                    for callback in callbacks:
                        callback.updated(now)
                    self.report("training", now.step, **metrics.lately)
                    stopped = self.stop() or (now.stopped_by is not None and self.done < backend.total)
                    stopped |= self.budget is not None and not self.budget.spent(n)
                else:
                    stopped = True
                due = checkpoints.due(self.done)
                over = self.done == self.stages.span.until
                if due or stopped or over or checkpoints.late():
                    stopped = self._checkpoint(callbacks, now, checkpoints, due, stopped)
        self.stopped_by = now.stopped_by if self.done < backend.total else None
        return self.stopped_by is not None or not (stopped and (self.done < backend.total or self.owed))

    def _advance(self, now: Moment, n: int, checkpoints: Checkpoints) -> bool:
        """Make `n` updates; False where they were given up, and training stands where it stood before."""
        backend = self.backend
        spare = self.state if not backend.consumes else copied(backend, self.state) if now.seconds > PATIENCE / 2 else None
        start = time.perf_counter()
        try:
            self.state, out = self.clock.time("training", lambda: self.advance(self.state, n), PATIENCE if backend.consumes else 0.0)
        except Abandoned:
            if spare is None or self.done == checkpoints.saved:
                raise
            self.state = now.state = spare
            return False
        took = time.perf_counter() - start
        if (fault := backend.refusal(self.state)) is not None:
            raise fault
        self.done += n
        now.state, now.done, now.updates, now.seconds = self.state, self.done, n, took
        now.report = jax.device_get(backend.placement.trim(out))
        return True

    def _examine(self, callbacks: Sequence[Callback], now: Moment) -> bool:
        """What is done at every checkpoint of the schedule; whether it ends the training."""
        self.report("evaluating", now.step)
        answers = [callback.scheduled(now) for callback in callbacks]
        self.owed = False
        return any(answers)

    def _checkpoint(self, callbacks: Sequence[Callback], now: Moment, checkpoints: Checkpoints, due: bool, stopped: bool) -> bool:
        """Examine, where it is `due`, and write a checkpoint; whether training ends here."""
        for callback in callbacks:
            callback.saving(now)
        self.owed = due
        if due:
            try:
                stopped = self._examine(callbacks, now) or stopped
            except (Abandoned, BudgetUsedUp):
                stopped = True
        self.report("checkpointing", now.step)
        now.store.flush()
        meta: dict[str, Any] = {"purpose": purpose_of(self.config.seed), "owed": self.owed}
        if self.config.stages:
            meta["stage"] = self.stages.number
        for callback in callbacks:
            meta |= callback.kept()
        checkpoints.keep(self.done, self.backend.placement.trim(self.state), meta, policy=due or stopped)
        self.backend.saved()
        return stopped

    def finish(self, resumed_from: int, taken: dict[str, Any] | None, limited: bool) -> dict[str, Any]:
        """Judge the final policies, and make the record."""
        config, backend, clock, state = self.config, self.judge, self.clock, self.state
        if self.stopped_by is not None:
            self.backend.ended()
        self.report("evaluating", self.step)
        act = clock.time("choosing how to act", lambda: choose(backend, state, config))
        judged = clock.time("evaluating", lambda: judge(backend, state, config.evaluate.episodes, act))
        policy = freeze(self.run, backend, state, act, channel=config.comms, tools=config.toolbox, faults=config.faults)
        best = None if self.best is None else judge_best(config, self.run, backend, state, self.best, judged, clock)
        measured = limited and self.counting.trained > 0
        seconds = seconds_for(clock.seconds.get("training", 0.0))
        limit = clock.time("measuring the limit", lambda: backend.limit(self.flops, seconds)) if measured else None
        title = f"{config.env}\n{name_of(config.architecture)}, {name_of(config.credit)}, {name_of(config.learner)}"
        with self.run.store() as store:
            picture = draw(self.run.curve, store.series("return"), title)
            self.spent.tell(store, self.step, backend.seeds)
        if self.budget is not None:
            self.budget.spent()
        record = training_record(
            config, self.run, backend, state, clock, steps=self.step, resumed_from=resumed_from, judged=judged, limit=limit,
            flops=self.flops, counting=self.counting,
            trained_steps=self.counting.trained, faults=self.faults.totals,
            wall_seconds=self.lifetime.seconds, curve=str(picture) if picture else None, policy=policy, taken_from=taken,
            stopped_by=self.stopped_by, best=best,
            stages=self.stages.record(self.done) if config.stages else None,
        )  # fmt: skip
        if self.budget is not None:
            record["spending"] = self.budget.record()
        return record | {"sinks": self.sinks.closed("finished", record)} if config.sinks else record
