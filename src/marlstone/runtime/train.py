"""A training run from configuration to record: which runtime, how long, what is kept."""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from marlstone.algorithm import Algorithm
from marlstone.config import RunConfig, dump
from marlstone.config.sources import resolved
from marlstone.core.errors import Diverging, UserError
from marlstone.core.ledger import Ledger
from marlstone.core.records import replace
from marlstone.core.seeds import purpose_of, seeds_of
from marlstone.envs.guards import return_bounds
from marlstone.envs.layers import layered
from marlstone.envs.make import is_jax, make
from marlstone.envs.vectorized import Vectorized
from marlstone.runs.checkpoint import Checkpoint, load, read, save
from marlstone.runs.curve import draw
from marlstone.runs.directory import RunDirectory
from marlstone.runs.leaves import fit, parameters_sha256
from marlstone.runs.progress import Progress
from marlstone.runs.store import Store
from marlstone.runtime.episodes import how_many, recorder
from marlstone.runtime.fused import Fused
from marlstone.runtime.judging import choose, judge, resolve, returns_record
from marlstone.runtime.limit import NOT_MEASURED, Limit
from marlstone.runtime.unroll import chunk_bytes, chunk_shapes

HOST_CONTACT = 1.5  # seconds of training between contacts with the host
MOST = 64  # updates between contacts at most: the length of the report buffer

State = Any


def runtime_of(config: RunConfig, seeds: tuple[int, ...] | None = None) -> Any:
    """The runtime that trains this configuration: fused for JAX environments, worker processes for the others.

    Raises ValueError where the parts do not fit each other or the environment.
    """
    seeds = seeds_of(config.seed, config.seeds) if seeds is None else seeds
    rows = config.rollout.envs * config.rollout.length
    total = -(-config.steps // rows)
    if is_jax(config.env):
        env = layered(make(config.env), config.architecture.managers(), config.faults)
        algorithm = Algorithm(env.spec, config.architecture, config.credit, config.learner, config.rollout.shards)
        many = Vectorized(env, config.rollout.envs, config.guards)
        return Fused(many, algorithm, config.rollout.length, total, seeds, config.evaluate.max_steps)
    if config.rollout.shards > 1:
        raise ValueError(f"rollout.shards is {config.rollout.shards}, but {config.env} is stepped in worker processes: set rollout.workers")
    from marlstone.runtime.host import Hosted

    return Hosted.of(config, total, seeds)


@dataclass
class Clock:
    """Seconds by phase: where the time went."""

    seconds: dict[str, float] = field(default_factory=dict)

    def time(self, phase: str, f: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        out = jax.block_until_ready(f())
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - start
        return out


@dataclass
class Faults:
    """Faults mended, per seed and name: told to the store as they are met, and their totals carried over resumes."""

    totals: list[dict[str, int]]
    seen: list[dict[str, int]]

    def tell(self, store: Store, step: int, runtime: Any, state: State) -> None:
        now = runtime.faults(state)
        for seed, total, before, after, words in zip(runtime.seeds, self.totals, self.seen, now, runtime.notes(), strict=True):
            for name, count in after.items():
                if more := count - before.get(name, 0):
                    store.event(step, seed, name, words.get(name, ""), more)
                total[name] = total.get(name, 0) + more
        self.seen = now


@dataclass
class Doubts:
    """What the learner finds wrong with its own figures: warned of once, and told to the store each time. `highest`: per seed."""

    learner: Any
    highest: list[dict[str, float]]
    warned: bool = False

    def tell(self, store: Store, step: int, seeds: tuple[int, ...], out: Any, n: int) -> None:
        for i, seed in enumerate(seeds):
            now = {k: float(v[i].sum()) / n for k, v in out.losses.items()}
            self.highest[i] = {k: max(v, self.highest[i].get(k, v)) for k, v in now.items()}
            if doubt := self.learner.doubts(now, self.highest[i]):
                store.event(step, seed, "diverging", doubt, 1)
                if not self.warned:
                    warnings.warn(f"seed {seed}, step {step:,}: {doubt}", Diverging, stacklevel=2)
                self.warned = True


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
) -> dict[str, Any]:
    """Train as configured, into `run`; returns the record (INTERFACE `train`). `resume` continues exactly from a
    checkpoint of this run; `initial` begins a new one from another run's parameters, as far as they fit; `runtime` makes what
    trains (default: `runtime_of(config)`). `stop()` is
    asked between updates: when True a checkpoint is written and a short record returned, with `stopped` True. So it is where
    `watch(runtime, state, store, step)`, called at every checkpoint, says True. `limited`: whether the machine's limit is measured."""
    clock, began = Clock(), time.perf_counter()
    report = lambda phase, step, **more: progress(Progress(phase, step, config.steps, config.seeds, **more))
    report("starting", 0)
    made = runtime_of(config) if runtime is None else runtime()
    try:
        return _train(config, run, made, clock, began, resume, initial, report, stop, watch, limited)
    finally:
        made.close()


def _train(
    config: RunConfig, run: RunDirectory, runtime: Any, clock: Clock, began: float, resume: Checkpoint | None, initial: Checkpoint | None,
    report: Callable[..., None], stop: Callable[[], bool], watch: Callable[[Any, State, Store, int], bool],
    limited: bool,
) -> dict[str, Any]:  # fmt: skip
    rows = config.rollout.envs * config.rollout.length
    state = clock.time("starting", runtime.start)
    ledgers, done, taken = [Ledger() for _ in runtime.seeds], 0, None
    if resume is not None:
        kept, meta = load(resume.path, runtime.spread.trim(state))
        state, ledgers = runtime.restored(runtime.spread.pad(kept)), [Ledger(**entry) for entry in meta["ledgers"]]
        done = int(np.asarray(kept.train.version)[0])
    elif initial is not None:
        state, taken = begin_from(initial, runtime, state)
    none: list[dict[str, int]] = [{} for _ in runtime.seeds]  # a new run also counts what was met while its environments were made
    faults = Faults([dict(x) for x in none], none) if resume is None else Faults(meta["faults"], runtime.faults(state))
    resumed_from = done * rows
    report("compiling", resumed_from)
    most = min(MOST, runtime.total)
    advance = clock.time("compiling", lambda: runtime.compile(state, most))
    nets = runtime.spread.first(state.train.nets)
    chunk = chunk_shapes(runtime.algorithm, runtime.spread.first(state.acting), config.rollout.length)
    act_flops, learn_flops = runtime.algorithm.flops(chunk)
    handed = chunk_bytes(chunk)
    every = max(1, config.steps_between_checkpoints // rows)
    trained_steps, pace, stopped = 0, 1, False
    logged = how_many(config, runtime.algorithm.spec)
    log = recorder(runtime, logged) if logged else lambda store, step, state: None
    doubts = Doubts(runtime.algorithm.learner, [{} for _ in runtime.seeds])
    if resume is not None:  # nothing is left that could refuse: another future begins here
        run.rewind(resume.step, dump(resolved(config)))
    with run.store() as store:
        while done < runtime.total and not stopped:
            n = max(1, min(pace, most, runtime.total - done, every - done % every))
            start = time.perf_counter()
            state, out = clock.time("training", lambda: advance(state, n))  # noqa: B023
            took = time.perf_counter() - start
            if (fault := runtime.refusal(state)) is not None:
                raise fault
            out = jax.device_get(runtime.spread.trim(out))
            done += n
            pace = max(1, round(n * HOST_CONTACT / max(took, 1e-6)))
            steps = out.steps.sum(1)
            ledgers = [
                ledger.plus(steps=s, rows=n * rows, episodes=e, flops=n * rows * (act_flops + learn_flops), bytes=n * handed)
                for ledger, s, e in zip(ledgers, steps, out.finished.episodes.sum(1), strict=True)
            ]
            trained_steps += int(steps.sum())
            returns = _record(store, done * rows, runtime, out, n)
            doubts.tell(store, done * rows, runtime.seeds, out, n)
            report("training", min(done * rows, config.steps), steps_per_second=float(steps.sum()) / took, episode_return=returns)
            stopped = stop()
            if done % every == 0 or done == runtime.total or stopped:
                report("checkpointing", min(done * rows, config.steps))
                faults.tell(store, done * rows, runtime, state)
                if done % every == 0 or done == runtime.total:
                    clock.time("logging", lambda: log(store, done * rows, state))  # noqa: B023
                    stopped = clock.time("watching", lambda: watch(runtime, state, store, done * rows)) or stopped  # noqa: B023
                store.flush()
                meta = {"ledgers": [vars(x) for x in ledgers], "faults": faults.totals, "purpose": purpose_of(config.seed)}
                clock.time("checkpointing", lambda: keep(run, done * rows, runtime.spread.trim(state), meta))  # noqa: B023
                runtime.saved()
        if stopped and done < runtime.total:
            return {"run": str(run.path), "env": config.env, "steps": done * rows, "seeds": list(runtime.seeds), "stopped": True}
        report("evaluating", min(done * rows, config.steps))
        act = clock.time("choosing how to act", lambda: choose(runtime, state, config))
        judged = clock.time("evaluating", lambda: judge(runtime, state, config.evaluate.episodes, act))
        measured = limited and trained_steps > 0
        limit = clock.time("measuring the limit", lambda: runtime.limit(nets, act_flops + learn_flops)) if measured else None
        title = f"{config.env}\n{_name(config.architecture)}, {_name(config.credit)}, {_name(config.learner)}"
        picture = draw(run.curve, store.series("return"), title)
    speed = trained_steps / max(clock.seconds.get("training", 0.0), 1e-9) if trained_steps else 0.0
    record = {
        "run": str(run.path),
        "env": config.env,
        "architecture": _name(config.architecture),
        "credit": _name(config.credit),
        "learner": _name(config.learner),
        "steps": done * rows,
        "seeds": list(runtime.seeds),
        "purpose": purpose_of(config.seed),
        **returns_record(judged, runtime.algorithm.spec.agents, return_bounds(runtime.algorithm.spec, config.guards)),
        "steps_per_second": speed,
        **(NOT_MEASURED if limit is None else limit.record(speed)),
        "wall_seconds": time.perf_counter() - began,
        "compile_seconds": clock.seconds.get("compiling", 0.0),
        "phases": phases(clock, trained_steps, limit),
        "flops_per_step": {"acting": act_flops, "learning": learn_flops},
        "parameters_sha256": parameters_sha256(jax.device_get(runtime.spread.trim(state.train.nets))),
        "resumed_from_step": resumed_from,
        "faults": faults.totals,
        "ledger": [vars(ledger) for ledger in ledgers],
        "curve": str(picture) if picture else None,
    }
    if taken is not None:
        record["taken_from"] = taken
    return record


def keep(run: RunDirectory, step: int, state: State, meta: dict[str, Any]) -> None:
    """A checkpoint: what acts now, for good, and everything else until it is superseded."""
    save(run.policies, step, state.train.policy, {}, keep=None)
    save(run.checkpoints, step, state, meta)


def _name(part: Any) -> str:
    return getattr(type(part), "kind", type(part).__name__)


def _record(store: Store, step: int, runtime: Any, out: Any, n: int) -> float | None:
    """One row per seed and figure of the last `n` updates; returns the mean return over seeds that finished episodes."""
    said = []
    for i, (seed, more) in enumerate(zip(runtime.seeds, runtime.figures(), strict=True)):
        sums = jax.tree.map(lambda x: float(x[i].sum()), out.finished)  # noqa: B023
        values = {k: float(v[i].sum()) / n for k, v in out.losses.items()}
        if sums.episodes:
            values |= {"return": sums.team_return / sums.episodes, "length": sums.length / sums.episodes}
            values |= {f"metric/{k}": v / sums.episodes for k, v in sums.metrics.items()}
            said.append(values["return"])
        store.add(step, seed, values | more | {"episodes": sums.episodes})
    return float(np.mean(said)) if said else None


def phases(clock: Clock, steps: int, limit: Limit | None) -> dict[str, float]:
    """Where the time went, in seconds; training is split by what its parts would cost alone, if that was measured."""
    out = dict(clock.seconds)
    if limit is None:
        return out
    training = out.pop("training", 0.0)
    env = min(steps / limit.random_rate, training)
    products = min(steps * limit.flops_per_step / limit.matrix_rate, training - env)
    return {**out, "training: environment": env, "training: products": products, "training: everything else": training - env - products}


def begin_from(source: Checkpoint, runtime: Any, state: State) -> tuple[State, dict[str, Any]]:
    """A new run's state with another's networks and moments, seed by seed (round robin), wherever name and shape fit."""
    stored = {k: v for k, v in read(source.path).items() if k.startswith(("train.nets", "train.seen", "train.targets"))}
    count = next(iter(stored.values())).array.shape[0]
    pick = np.arange(len(runtime.seeds)) % count
    stored = {k: replace(leaf, array=leaf.array[pick]) for k, leaf in stored.items()}
    trimmed = runtime.spread.trim(state)
    learned = {"nets": trimmed.train.nets, "seen": trimmed.train.seen, "targets": trimmed.train.targets}
    renamed = {k.removeprefix("train."): leaf for k, leaf in stored.items()}
    learned, taken, kept = fit(renamed, learned)
    if not any(name.startswith("nets.") for name in taken):
        raise UserError(f"nothing of {source.path} fits this run: use the same environment, body and sharing")
    train = replace(trimmed.train, **learned)
    note = {"checkpoint": str(source.path), "taken": len(taken), "kept_fresh": [k for k in kept if k.startswith("nets.")]}
    return runtime.spread.pad(replace(trimmed, train=train)), note


@contextmanager
def trained(config: RunConfig, checkpoint: Checkpoint) -> Iterator[tuple[Any, State]]:
    """A run's runtime and the state it was left in; closed on leaving."""
    runtime = runtime_of(config)
    try:
        state, _ = load(checkpoint.path, runtime.spread.trim(runtime.start()))
        yield runtime, runtime.spread.pad(state)
    finally:
        runtime.close()


def evaluate(config: RunConfig, checkpoint: Checkpoint, episodes: int) -> dict[str, Any]:
    """The return fields of a run's policies over fresh episodes, acting as they are deployed, by mode, and sampled."""
    run = checkpoint.path.parent.parent
    with trained(config, checkpoint) as (runtime, state):
        judged = judge(runtime, state, episodes, resolve(runtime, state, config, run))
        bounds = return_bounds(runtime.algorithm.spec, config.guards)
        return {"run": str(run), "env": config.env, "step": checkpoint.step, "episodes": episodes,
                "seeds": list(runtime.seeds), **returns_record(judged, runtime.algorithm.spec.agents, bounds)}  # fmt: skip
