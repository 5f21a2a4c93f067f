"""A training run from configuration to record: which runtime, how long, what is kept."""

import json
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from marlstone.algorithm import Algorithm
from marlstone.config import RunConfig
from marlstone.config.paths import files_of, recorded
from marlstone.core.acting import Act
from marlstone.core.errors import Diverging, UserError
from marlstone.core.interruptible import Abandoned, interruptible
from marlstone.core.ledger import Ledger
from marlstone.core.records import replace
from marlstone.core.seeds import purpose_of, seeds_of
from marlstone.core.spec_json import spec_to_json
from marlstone.envs.guards import return_bounds
from marlstone.envs.make import is_jax, make
from marlstone.envs.vectorized import Vectorized
from marlstone.envs.wrappers import wrap_env
from marlstone.play.episodes import how_many, recorder
from marlstone.play.judging import choose, judge, resolve, returns_record
from marlstone.policy.numpy_actor import describe
from marlstone.policy.policy import Policy
from marlstone.rollout.fault_log import FaultLog, Faults
from marlstone.rollout.unroll import trajectory_bytes, trajectory_shapes
from marlstone.runs.checkpoint import Checkpoint, load, read, save
from marlstone.runs.curve import draw
from marlstone.runs.directory import RunDirectory
from marlstone.runs.leaves import fit, mismatch, parameters_sha256, rebuild
from marlstone.runs.lifetime import Lifetime
from marlstone.runs.policies import read_policies
from marlstone.runs.progress import Phase, Progress
from marlstone.runs.store import Store
from marlstone.training.backend import Backend
from marlstone.training.fused import Fused
from marlstone.training.limit import NOT_MEASURED, Limit

PATIENCE = 5.0  # seconds that an update may still take once an end is asked for
COPIED = 1e9  # bytes of state that are copied before an update that may be given up
HOST_CONTACT = 1.5  # seconds of training between contacts with the host
MOST = 64  # updates between contacts at most: the length of the report buffer

State = Any


def runtime_of(config: RunConfig, seeds: tuple[int, ...] | None = None) -> Backend:
    """The runtime that trains this configuration: fused for JAX environments, worker processes for the others.

    Raises ValueError where the parts do not fit each other or the environment.
    """
    seeds = seeds_of(config.seed, config.seeds) if seeds is None else seeds
    rows = config.rollout.envs * config.rollout.length
    total = -(-config.steps // rows)
    if is_jax(config.env):
        env = wrap_env(make(config.env), config.architecture.managers(), config.faults, config.metrics)
        algorithm = Algorithm(env.spec, config.architecture, config.credit, config.learner, config.rollout.shards)
        many = Vectorized(env, config.rollout.envs, config.guards)
        log = FaultLog()
        most = config.evaluate.max_steps
        return Fused(many, algorithm, config.rollout.length, total, seeds, most, log, FaultLog(log.reported))
    if config.rollout.shards > 1:
        raise ValueError(f"rollout.shards is {config.rollout.shards}, but {config.env} is stepped in worker processes: set rollout.workers")
    from marlstone.training.host import Hosted

    return Hosted.of(config, total, seeds)


@dataclass
class Clock:
    """Seconds by phase: where the time went. `stop()`: whether to end; then what is being timed is given up."""

    stop: Callable[[], bool] = lambda: False
    seconds: dict[str, float] = field(default_factory=dict)

    def time(self, phase: str, f: Callable[[], Any], patience: float = 0.0) -> Any:
        """`f()`, on a thread of its own. Raises `Abandoned` where `stop()` says True and it takes longer than `patience` from then on."""
        start = time.perf_counter()
        out = interruptible(lambda: jax.block_until_ready(f()), self.stop, patience)
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - start
        return out


@dataclass
class DivergenceCheck:
    """What the learner finds wrong with its own figures: warned of once, and told to the store each time. `highest`: per seed."""

    learner: Any
    highest: list[dict[str, float]]
    warned: bool = False

    def tell(self, store: Store, step: int, seeds: tuple[int, ...], out: Any, n: int) -> None:
        for i, seed in enumerate(seeds):
            now = {k: float(v[i].sum()) / n for k, v in out.losses.items()}
            self.highest[i] = {k: max(v, self.highest[i].get(k, v)) for k, v in now.items()}
            if doubt := self.learner.check_divergence(now, self.highest[i]):
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
    lifetime: Lifetime | None = None,
) -> dict[str, Any]:
    """Train as configured, into `run`; returns the record of `marlstone train --json`. `resume` continues exactly from a
    checkpoint of this run; `initial` begins a new one from another run's parameters, as far as they fit; `runtime` makes what
    trains (default: `runtime_of(config)`). `stop()` is asked all the while: when True a checkpoint is written and a short record
    returned, with `stopped` True and the `steps` of the newest checkpoint. An update that does not end within `PATIENCE` seconds is
    given up, and anything else at once. The record is short, too, where `watch(runtime, state, store, step)`, called at every
    checkpoint, says True. `limited`: whether the machine's limit is measured; `lifetime`: of the run, if it is not kept elsewhere."""
    clock, lifetime = Clock(stop), lifetime or Lifetime(run.seconds)

    def report(phase: Phase, step: int, **more: Any) -> None:
        lifetime.keep()
        progress(Progress(phase, step, config.steps, config.seeds, **more))

    report("starting", 0)
    made = None
    try:
        made = clock.time("starting", lambda: runtime_of(config) if runtime is None else runtime())
        return _train(config, run, made, clock, lifetime, resume, initial, report, stop, watch, limited)
    except Abandoned:
        return run.stopped(config.env, config.all_seeds)
    finally:
        lifetime.keep(now=True)
        if made is not None:
            made.close()


def _train(
    config: RunConfig, run: RunDirectory, runtime: Backend, clock: Clock, lifetime: Lifetime, resume: Checkpoint | None,
    initial: Checkpoint | None, report: Callable[..., None], stop: Callable[[], bool], watch: Callable[[Any, State, Store, int], bool],
    limited: bool,
) -> dict[str, Any]:  # fmt: skip
    rows = config.rollout.envs * config.rollout.length
    state = clock.time("starting", runtime.start)
    ledgers, done, taken, owed = [Ledger() for _ in runtime.seeds], 0, None, False
    if resume is not None:
        kept, meta = load(resume.path, runtime.placement.trim(state))
        state, ledgers = (
            clock.time("starting", lambda: runtime.restored(runtime.placement.pad(kept))),
            [Ledger(**x) for x in meta["ledgers"]],
        )
        done, owed = int(np.asarray(kept.train.version)[0]), meta.get("owed", False)
    elif initial is not None:
        state, taken = begin_from(initial, runtime, state)
    none: list[dict[str, int]] = [{} for _ in runtime.seeds]  # a new run also counts what was met while its environments were made
    faults = Faults([dict(x) for x in none], none) if resume is None else Faults(meta["faults"], runtime.faults(state))
    resumed_from = done * rows
    report("compiling", resumed_from)
    most = min(MOST, runtime.total)
    advance = clock.time("compiling", lambda: runtime.compile(state, most))
    trajectory = trajectory_shapes(runtime.algorithm, runtime.placement.first(state.acting), config.rollout.length)
    flops = runtime.algorithm.flops(trajectory)
    handed = trajectory_bytes(trajectory)
    every = max(1, config.steps_between_checkpoints // rows)
    trained_steps, pace, stopped, took, lately, saved = 0, 1, False, float("inf"), dict[str, Any](), done
    logged = how_many(config, runtime.algorithm.spec)
    log = recorder(runtime, logged) if logged else lambda store, step, state: None
    divergence = DivergenceCheck(runtime.algorithm.learner, [{} for _ in runtime.seeds])
    if resume is not None:  # nothing is left that could refuse: another future begins here
        run.rewind(resume.step, recorded(config, run.path), files_of(config, run.path))
    _describe(run, runtime)
    with run.store() as store:

        def examine() -> bool:
            """What is done at every checkpoint of the schedule: log episodes, and `watch`, whose answer is returned."""
            report("evaluating", min(done * rows, config.steps))
            clock.time("logging", lambda: log(store, done * rows, state))
            return clock.time("watching", lambda: watch(runtime, state, store, done * rows))

        if owed:  # it was stopped before it was examined
            stopped = examine()
        while done < runtime.total and not stopped:
            report("training", min(done * rows, config.steps), **lately)
            n = max(1, min(pace, most, runtime.total - done, every - done % every))
            spare = state if not runtime.consumes else copied(runtime, state) if took > PATIENCE / 2 else None
            start = time.perf_counter()
            try:
                state, out = clock.time("training", lambda: advance(state, n), PATIENCE if runtime.consumes else 0.0)  # noqa: B023
            except Abandoned:
                if spare is None or done == saved:
                    raise
                state, stopped = spare, True
            else:
                took = time.perf_counter() - start
                if (fault := runtime.refusal(state)) is not None:
                    raise fault
                out = jax.device_get(runtime.placement.trim(out))
                done += n
                pace = max(1, round(n * HOST_CONTACT / max(took, 1e-6)))
                steps = out.steps.sum(1)
                ledgers = [
                    ledger.plus(steps=s, rows=n * rows, episodes=e, flops=n * rows * flops.total, bytes=n * handed)
                    for ledger, s, e in zip(ledgers, steps, out.finished.episodes.sum(1), strict=True)
                ]
                trained_steps += int(steps.sum())
                returns = _record(store, done * rows, runtime, out, n)
                divergence.tell(store, done * rows, runtime.seeds, out, n)
                faults.watch(config.env, config.guards, runtime, state, done * rows, steps)
                lately = {"steps_per_second": float(steps.sum()) / took, "episode_return": returns}
                report("training", min(done * rows, config.steps), **lately)
                stopped = stop()
            due = done % every == 0 or done == runtime.total
            if due or stopped:
                faults.tell(store, done * rows, runtime, state)
                owed = due
                if due:
                    try:
                        stopped = examine() or stopped
                        owed = False
                    except Abandoned:
                        stopped = True
                report("checkpointing", min(done * rows, config.steps))
                store.flush()
                meta = {"ledgers": [vars(x) for x in ledgers], "faults": faults.totals, "purpose": purpose_of(config.seed), "owed": owed}
                keep(run, done * rows, runtime.placement.trim(state), meta, clock)
                runtime.saved()
                saved = done
        if stopped and (done < runtime.total or owed):
            return run.stopped(config.env, config.all_seeds)
        report("evaluating", min(done * rows, config.steps))
        act = clock.time("choosing how to act", lambda: choose(runtime, state, config))
        judged = clock.time("evaluating", lambda: judge(runtime, state, config.evaluate.episodes, act))
        frozen = freeze(run, runtime, state, act)
        measured = limited and trained_steps > 0
        limit = clock.time("measuring the limit", lambda: runtime.limit(flops)) if measured else None
        title = f"{config.env}\n{_name(config.architecture)}, {_name(config.credit)}, {_name(config.learner)}"
        picture = draw(run.curve, store.series("return"), title)
    speed = trained_steps / max(clock.seconds.get("training", 0.0), 1e-9) if trained_steps else None
    record = {
        "run": str(run.path),
        "env": config.env,
        "architecture": _name(config.architecture),
        "credit": _name(config.credit),
        "learner": _name(config.learner),
        "steps": done * rows,
        "steps_asked": config.steps,
        "seeds": list(runtime.seeds),
        "purpose": purpose_of(config.seed),
        **returns_record(judged, runtime.algorithm.spec.agents, return_bounds(runtime.algorithm.spec, config.guards)),
        "steps_per_second": speed,
        **(NOT_MEASURED if limit is None else limit.record(speed)),
        "wall_seconds": lifetime.seconds,
        "compile_seconds": clock.seconds.get("compiling", 0.0),
        "phases": phases(clock, trained_steps, limit),
        "flops_per_step": {"acting": flops.acting, "learning": flops.learning},
        "parameters_sha256": parameters_sha256(jax.device_get(runtime.placement.trim(state.train.nets))),
        "resumed_from_step": resumed_from,
        "faults": faults.totals,
        "evaluation_faults": dict(runtime.judged.counts),
        "ledger": [vars(ledger) for ledger in ledgers],
        "curve": str(picture) if picture else None,
        "policy": frozen,
    }
    if taken is not None:
        record["taken_from"] = taken
    return record


def _describe(run: RunDirectory, runtime: Backend) -> None:
    """Keep who observes and does what, by which the environment is recognized when it lies in another place."""
    with suppress(ValueError):  # an action space of another package
        run.write(run.spec.name, json.dumps(spec_to_json(runtime.algorithm.spec)) + "\n")


def freeze(run: RunDirectory, runtime: Backend, state: State, act: Act) -> list[str] | None:
    """Write every seed's policy as it is deployed to `RUN/policy/seed-K`; their folders. Where NumPy cannot run a user's own part: None,
    and a note why."""
    policies, out, network = jax.device_get(runtime.placement.trim(state.train.policy)), [], None
    shutil.rmtree(run.artifacts, ignore_errors=True)  # of an earlier life of this run
    for i, seed in enumerate(runtime.seeds):
        source = {"run": run.path.name, "seed": seed, "updates": int(np.asarray(state.train.version)[i])}
        try:
            network = network or describe(runtime.algorithm)
            mine = jax.tree.map(lambda x: x[i], policies)  # noqa: B023
            frozen = Policy.of(runtime.algorithm, mine, act, runtime.wiring, source, network)
        except ValueError as error:
            runtime.log.notice(f"no policy artifact: {error}")
            return None
        out.append(str(frozen.save(run.artifacts / f"seed-{seed}")))
    return out


def keep(run: RunDirectory, step: int, state: State, meta: dict[str, Any], clock: Clock) -> None:
    """A checkpoint: what acts now, for good, and everything else until it is superseded. Nothing interrupts it."""
    start = time.perf_counter()
    save(run.policies, step, state.train.policy, {}, keep=None)
    save(run.checkpoints, step, state, meta)
    clock.seconds["checkpointing"] = clock.seconds.get("checkpointing", 0.0) + time.perf_counter() - start


def copied(runtime: Backend, state: State) -> State | None:
    """A copy on the host of a state that training is about to consume; None where it is large."""
    if sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state)) > COPIED:
        return None

    def copy(x: Any) -> Any:
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(jax.numpy.asarray(np.array(jax.random.key_data(x))), impl=jax.random.key_impl(x))
        return np.array(x)

    return jax.tree.map(copy, runtime.placement.trim(state))


def _name(part: Any) -> str:
    return getattr(type(part), "kind", type(part).__name__)


def _record(store: Store, step: int, runtime: Backend, out: Any, n: int) -> float | None:
    """One row per seed and figure of the last `n` updates; returns the mean return over seeds that finished episodes."""
    said = []
    for i, (seed, more) in enumerate(zip(runtime.seeds, runtime.figures(), strict=True)):
        sums = jax.tree.map(lambda x: float(x[i].sum()), out.finished)  # noqa: B023
        values = {k: float(v[i].sum()) / n for k, v in out.losses.items()}
        if sums.episodes:
            values |= {"return": sums.team_return / sums.episodes, "length": sums.length / sums.episodes}
            values |= {f"metric/{k}": v / sums.episodes for k, v in sums.metrics.items()}
            said.append(values["return"])
            if (declared := runtime.algorithm.spec.horizon) is not None and values["length"] > declared:
                runtime.log.notice(
                    f"training episodes outlive the {declared} steps that the environment declares; nothing is cut short: correct what it "
                    "declares (max_cycles or the like) if that is meant to be a limit",
                    "warning",
                )
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


def begin_from(source: Checkpoint, runtime: Backend, state: State) -> tuple[State, dict[str, Any]]:
    """A new run's state with another's networks and moments, seed by seed (round robin), wherever name and shape fit."""
    stored = {k: v for k, v in read(source.path).items() if k.startswith(("train.nets", "train.seen", "train.targets"))}
    count = next(iter(stored.values())).array.shape[0]
    pick = np.arange(len(runtime.seeds)) % count
    stored = {k: replace(leaf, array=leaf.array[pick]) for k, leaf in stored.items()}
    trimmed = runtime.placement.trim(state)
    learned = {"nets": trimmed.train.nets, "seen": trimmed.train.seen, "targets": trimmed.train.targets}
    renamed = {k.removeprefix("train."): leaf for k, leaf in stored.items()}
    learned, taken, kept = fit(renamed, learned)
    if not any(name.startswith("nets.") for name in taken):
        raise UserError(f"nothing of {source.path} fits this run: use the same environment, body and sharing")
    train = replace(trimmed.train, **learned)
    note = {"checkpoint": str(source.path), "taken": len(taken), "kept_fresh": [k for k in kept if k.startswith("nets.")]}
    return runtime.placement.pad(replace(trimmed, train=train)), note


@contextmanager
def trained(config: RunConfig, checkpoint: Checkpoint) -> Iterator[tuple[Backend, State]]:
    """A run's runtime and the state it was left in. Closed on leaving.

    Of a folder of policies, what acts alone is as it was; where metrics have been added since, what learns and acts, in fresh episodes.
    """
    runtime = runtime_of(config)
    try:
        fresh = runtime.placement.trim(runtime.start())
        if checkpoint.path.parent.name == "policies":
            policies = read_policies(checkpoint.path, fresh.train.policy, len(runtime.seeds))
            version = checkpoint.step // (config.rollout.envs * config.rollout.length)
            state = replace(fresh, train=fresh.train.acting_by(policies, version))
        elif not config.metrics or {f"tally.metrics.{k}" for k in fresh.tally.metrics} <= (stored := read(checkpoint.path)).keys():
            state, _ = load(checkpoint.path, fresh)
        else:
            mine = {n.removeprefix("train."): leaf for n, leaf in stored.items() if n.startswith("train.")}
            if (why := mismatch(mine, fresh.train)) is not None:
                raise UserError(f"checkpoint {checkpoint.path} is of another configuration: {why}; use the run's own config.toml")
            state = replace(fresh, train=rebuild(mine, fresh.train))
        yield runtime, runtime.placement.pad(state)
    finally:
        runtime.close()


def evaluate(config: RunConfig, checkpoint: Checkpoint, episodes: int) -> dict[str, Any]:
    """The return fields of a run's policies over fresh episodes, acting as they are deployed, by mode, and sampled."""
    run = checkpoint.path.parent.parent
    with trained(config, checkpoint) as (runtime, state):
        judged = judge(runtime, state, episodes, resolve(runtime, state, config, run))
        bounds = return_bounds(runtime.algorithm.spec, config.guards)
        return {"run": str(run), "env": config.env, "step": checkpoint.step, "episodes": episodes,
                "seeds": list(runtime.seeds), **returns_record(judged, runtime.algorithm.spec.agents, bounds),
                "evaluation_faults": dict(runtime.judged.counts)}  # fmt: skip
