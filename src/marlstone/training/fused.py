"""Whole training in one compiled loop, for environments written in JAX. The host is met only to report and checkpoint.

Seeds are trained together: mapped over the accelerator by vmap, or dealt out to the processor's cores, where each core
runs its seeds one after another (on CPUs vmapping seeds buys nothing; a core to itself does).
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from marlstone.algorithm import Algorithm, Train
from marlstone.comms.learning import sent_in
from marlstone.comms.talking import with_channel
from marlstone.core.acting import Act, temperature
from marlstone.core.compile_options import CPU_OPTIONS, FAST_COMPILE, supported
from marlstone.core.episodes import init_tally, tally
from marlstone.core.errors import UserError
from marlstone.core.flops import Flops
from marlstone.core.records import replace
from marlstone.core.seeds import component_key
from marlstone.core.shards import psum_over_shards, shard_slice
from marlstone.core.types import Trajectory, spec_difference
from marlstone.core.usage import used_in
from marlstone.envs.faults import Fault, faults_of, with_faults
from marlstone.envs.faults.alternatives import Alternatives
from marlstone.envs.faults.messages import LinksCut, MessageCut
from marlstone.envs.guards import BadStep
from marlstone.envs.make import is_jax, make
from marlstone.envs.own_metrics import metrics_of
from marlstone.envs.vectorized import Vectorized, VectorState
from marlstone.envs.wrappers import wrap_env
from marlstone.play.action_selectors import Alone, Decider
from marlstone.play.episodes import acting_by, joined, spans
from marlstone.play.evaluator import Episodes, play
from marlstone.play.film import Frame, film_jax
from marlstone.play.kept_evaluators import KeptEvaluators
from marlstone.play.used import Meter
from marlstone.rollout.counterfactuals import Snapshots, draw, measure
from marlstone.rollout.fault_log import FaultLog
from marlstone.rollout.placement import PARTS, WHOLE, SeedPlacement
from marlstone.rollout.self_play import after_update, begin_league, league_env, with_players
from marlstone.rollout.sides import sides_of
from marlstone.rollout.state import Report, State, policies_of
from marlstone.rollout.unroll import RolloutState, draw_noise, trajectory_shapes, unroll
from marlstone.tools.tooled import toolbox_of
from marlstone.training.limit import LONGEST, Limit, fused_limit

Array = Any


@dataclass(frozen=True)
class Fused:
    """Trains `seeds` at once, `b` environments each, in updates of `length` steps; `total` updates make the whole budget.

    With `algorithm.shards` above 1, that many devices share each seed's environments: each steps and learns from its own part,
    and they add their gradients up. State looks the same from outside, and noise is drawn as one device would draw it.
    """

    env: Vectorized
    algorithm: Algorithm
    length: int
    total: int
    seeds: tuple[int, ...]
    consumes: ClassVar[bool] = True  # training gives up the state it is given, so that its memory is used again
    most: int | None = None  # steps of an evaluation episode: `evaluate.max_steps`
    log: FaultLog = field(default_factory=FaultLog, compare=False)  # of faults in training
    judged: FaultLog = field(default_factory=FaultLog, compare=False)  # of faults in evaluation
    snapshot_every: int = 0  # updates between snapshots of the policy for its league; 0: no self-play

    def __post_init__(self) -> None:
        b, m, k = self.env.b, self.algorithm.learner.minibatches, self.algorithm.shards
        if b % (m * k):
            shards = f" times rollout.shards = {k}" if k > 1 else ""
            raise ValueError(f"rollout.envs is {b}, no multiple of learner.minibatches = {m}{shards}: minibatches are made of environments")
        if k > 1 and self.algorithm.learner.replay is not None:
            raise ValueError(f"rollout.shards is {k}, but {type(self.algorithm.learner).__name__} keeps one replay: use rollout.shards = 1")

    # ---- one seed
    def begin(self, seed: Array) -> State:
        """One seed's state before its first update."""
        keys = {c: component_key(seed, c) for c in ("init", "environment", "act", "learner")}
        acting = self._fresh(keys["environment"])
        train = self.algorithm.init(keys["init"], trajectory_shapes(self.algorithm, acting, self.length))
        state = State(train, acting, init_tally(self._part.b, self._part.spec.metrics), keys["act"], keys["learner"])
        if (table := league_env(self.env.env)) is None:
            return state
        league = begin_league(table.rules, train.policy)
        env, step = self._against(league, train.policy).init(jax.random.split(keys["environment"], self.env.b))
        return replace(state, league=league, acting=RolloutState(env, step, acting.memory))

    def _against(self, league: Any, policy: Any) -> Vectorized:
        """The environments one device steps, with opponents from a league, where there is one."""
        if league_env(self.env.env) is None:
            return self._part
        return replace(self._part, env=with_players(self.env.env, self.algorithm, league, policy))

    def _fresh(self, key: Array) -> RolloutState:
        """One seed's environments at the beginning of fresh episodes."""
        part, shards = self._part, self.algorithm.shards
        env, step = part.init(shard_slice(jax.random.split(key, self.env.b), shards, 0))
        return RolloutState(replace(env, faults=psum_over_shards(env.faults, shards)), step, self.algorithm.memory(part.b))

    @property
    def b(self) -> int:
        """Environments of each seed."""
        return self.env.b

    @property
    def _part(self) -> Vectorized:
        """The environments one device steps."""
        return replace(self.env, b=self.env.b // self.algorithm.shards)

    @property
    def _layout(self) -> State:
        """Which arrays of the state are split by environments: all but the learner's, the keys and the counts of faults."""
        whole, parts = cast(Any, WHOLE), cast(Any, PARTS)
        league = whole if self.snapshot_every else ()
        return State(whole, RolloutState(VectorState(parts, parts, whole, parts), parts, parts), parts, whole, whole, league)

    def cycle(self, state: State) -> tuple[State, Report]:
        """One rollout and one update."""
        train, algorithm, shards = state.train, self.algorithm, self.algorithm.shards
        drawn = draw_noise(algorithm, jax.random.fold_in(state.act_key, train.version), self.length, self.env.b)
        noise, keys = jax.tree.map(lambda x: shard_slice(x, shards, 1), drawn)
        acting, trajectories = self._rollout(self._against(state.league, train.policy), state, noise, keys)
        before, after = state.acting.env.faults, acting.env.faults
        met = psum_over_shards({k: after[k] - before[k] for k in before}, shards)
        env = replace(acting.env, faults={k: before[k] + met[k] for k in before})
        acting = RolloutState(env, acting.step, algorithm.remember(train, trajectories, acting.memory))
        steps = jax.tree.map(lambda x: x[:, 1:], trajectories.step)
        running, finished = tally(state.tally, steps, self.env.spec.metrics)
        progress = train.version / self.total
        train, losses = algorithm.update(train, trajectories, progress, jax.random.fold_in(state.learn_key, train.version))
        finished, count = psum_over_shards((finished, trajectories.real.sum()), shards)
        league = state.league
        if self.snapshot_every:
            league = after_update(league, acting.env.env, train.policy, train.version % self.snapshot_every == 0)
        sent, used = psum_over_shards(
            (sent_in(algorithm.channel, algorithm.spec, trajectories), used_in(algorithm.spec, trajectories)), shards
        )
        return State(train, acting, running, state.act_key, state.learn_key, league), Report(finished, count, losses, sent, used)

    def _rollout(self, env: Vectorized, state: State, noise: tuple[Array, ...], keys: Array) -> tuple[RolloutState, Trajectory]:
        """One rollout, with what credit wants measured of it."""
        train, algorithm, measuring = state.train, self.algorithm, self.algorithm.credit.measures
        if measuring is None:
            return unroll(env, algorithm, train.policy, state.acting, noise, keys)
        key = jax.random.fold_in(jax.random.fold_in(state.act_key, train.version), 1)
        drawn = draw(measuring, key, self.length, self.env.b, algorithm.spec.team.n)
        drawn = replace(drawn, lots=shard_slice(drawn.lots, algorithm.shards, 1))
        snapshots = Snapshots(drawn.times)
        acting, trajectories = unroll(env, algorithm, train.policy, state.acting, noise, keys, snapshots.scan)
        return acting, measure(env, algorithm, train, trajectories, snapshots.kept, drawn, noise, keys, measuring.window)

    def advance(self, state: State, updates: Array, most: int) -> tuple[State, Report]:
        """`updates` cycles (at most `most`, so that one program serves every segment); reports `[most ...]`."""
        blank = jax.tree.map(lambda x: jnp.zeros((most, *x.shape), x.dtype), jax.eval_shape(self.cycle, state)[1])

        def body(i: Array, carry: tuple[State, Report]) -> tuple[State, Report]:
            state, report = self.cycle(carry[0])
            return state, jax.tree.map(lambda all_, one: all_.at[i].set(one), carry[1], report)

        return lax.fori_loop(0, updates, body, (state, blank))

    # ---- all seeds
    @cached_property
    def placement(self) -> SeedPlacement:
        """How seeds are laid out over devices."""
        return SeedPlacement(len(self.seeds), self.algorithm.shards)

    def start(self) -> State:
        """Every seed's beginning, stacked `[slots ...]`."""
        if self.placement.alone:
            begin = jax.jit(self.begin)
            return cast(State, self.placement.together([begin(np.uint32(s)) for s in self.seeds]))
        return jax.jit(self._begin_all)(self.placement.pad(np.array(self.seeds, np.uint32)))

    def shapes(self) -> State:
        """What `start` gives, without beginning anything."""
        return jax.eval_shape(self._begin_all, self.placement.pad(np.array(self.seeds, np.uint32)))

    def _begin_all(self, seeds: Array) -> State:
        return self.placement.map_seeds(self.begin, outs=self._layout)(seeds)

    def entered(self, state: State) -> State:
        """As `Backend.entered`."""

        def renewed(seed: Array, learned: State) -> State:
            acting = self._fresh(jax.random.fold_in(component_key(seed, "environment"), learned.train.version))
            return replace(learned, acting=acting, tally=init_tally(self._part.b, self._part.spec.metrics))

        learned: State = replace(state, acting=cast(Any, None), tally=cast(Any, None))
        if self.placement.alone:
            one, states = jax.jit(renewed), self.placement.apart(learned)
            return cast(State, self.placement.together([one(np.uint32(s), x) for s, x in zip(self.seeds, states, strict=True)]))
        seeds = self.placement.pad(np.array(self.seeds, np.uint32))
        return cast(State, jax.jit(self.placement.map_seeds(renewed, outs=self._layout))(seeds, learned))

    def compile(self, state: State, most: int) -> Callable[[State, int], tuple[State, Report]]:
        """The training program for up to `most` updates between host contacts. It consumes the state it is given.

        The budget and what the learner names in `traced` are arguments: runs that differ in them share the program, kept on disk.
        """
        learner, options = self.algorithm.learner, supported(CPU_OPTIONS)
        given = {"total": np.float32(self.total), **{k: np.float32(getattr(learner, k)) for k in getattr(learner, "traced", ())}}
        one = lambda state, n, given: self._given(**given).advance(state, n, most)
        if self.placement.alone:
            each = jax.jit(one, donate_argnums=0).lower(self.placement.first(state), np.int32(0), given).compile(options)
            return lambda state, n: self.placement.together([each(s, np.int32(n), given) for s in self.placement.apart(state)])
        slots = self.placement.each * self.placement.groups
        all_given = {k: np.full(slots, x) for k, x in given.items()}
        count = lambda n: self.placement.pad(np.full(len(self.seeds), n, np.int32))
        run = jax.jit(self.placement.map_seeds(one, (self._layout, WHOLE, WHOLE), (self._layout, WHOLE)), donate_argnums=0)
        compiled = run.lower(state, count(0), all_given).compile(options)
        return lambda state, n: compiled(state, count(n), all_given)

    def _given(self, total: Array, **fields: Array) -> "Fused":
        """This with another budget and other numbers of the learner's, which are known only when the program runs."""
        learner = copy.copy(self.algorithm.learner)
        for name, x in fields.items():
            object.__setattr__(learner, name, x)  # past the checks of its range: they were made when it was built
        return replace(self, algorithm=replace(self.algorithm, learner=learner), total=total)

    def refusal(self, state: State) -> BadStep | None:
        """The first fault met, where faults are refused."""
        return self.env.refusal(state.acting.env)

    def faults(self, state: State) -> list[dict[str, int]]:
        """Faults repaired so far, by name, per seed."""
        counts = {k: np.asarray(v) for k, v in self.placement.trim(state.acting.env.faults).items()}
        return [{k: int(v[i]) for k, v in counts.items()} for i in range(len(self.seeds))]

    def most_faults(self) -> dict[str, int]:
        """How many of each fault that makes a step faulty one environment step can have at most."""
        spec = self.env.spec
        seen = sum(g.count * int(np.prod(leaf.shape)) for g in spec.groups for leaf in g.observation.values())
        return {"nan_observation": max(seen, spec.state) + len(spec.metrics), "nan_reward": spec.n}

    def notes(self) -> list[dict[str, str]]:
        """What is known of the latest fault of each name, per seed: counts are all that leaves the device."""
        return [{} for _ in self.seeds]

    @property
    def wiring(self) -> Mapping[str, Any] | None:
        """None: environments in JAX give steps, no dictionaries by agent."""
        return None

    def evaluate(
        self, state: State | None, episodes: int, act: Act = "mode", *,
        decider: Decider | None = None, faults: tuple[Fault, ...] = (), policies: Any = None, keys: tuple[int, ...] | None = None,
    ) -> Episodes:  # fmt: skip
        """Whole episodes with every seed's policy as it stands, `[seeds episodes ...]`.

        `decider` decides (default: the policy alone) by `policies` (one entry per slot; default: the seeds' own), under `faults`.
        Seed i's episodes are drawn from `keys[i]` (default: its own seed): evaluations with equal keys meet the same episodes.
        """
        return self._evaluators.evaluate(self, state, episodes, act, decider, faults, policies, keys)

    @property
    def meter(self) -> Meter:
        """As `Player.meter`."""
        return self._evaluators.meter

    @cached_property
    def _evaluators(self) -> KeptEvaluators:
        return KeptEvaluators()

    def evaluator(
        self, episodes: int, act: Act = "mode", *, decider: Decider | None = None, faults: tuple[Fault, ...] = ()
    ) -> Callable[..., Episodes]:
        """`play(policies, keys=None, act=act)`: `evaluate`, compiled once for many policies and all ways of acting."""
        one = lambda policy, seed, temperature: self._play(episodes, decider, faults, policy, seed, temperature)
        compiled, default = jax.jit(self.placement.map_seeds(one), compiler_options=self._seldom), act

        def judged(policies: Any, keys: tuple[int, ...] | None = None, act: Act = default) -> Episodes:
            seeds = np.array(self.seeds if keys is None else keys, np.uint32)
            played = compiled(policies, *map(self.placement.pad, (seeds, self._temperatures(act))))
            episodes, met = jax.device_get(self.placement.trim(played))
            if not faults:  # else they are what was asked for
                self._count(met)
            return episodes

        return judged

    def _count(self, met: dict[str, Array]) -> None:
        """Report and count faults met in evaluation, by name, `[seeds]`."""
        counts = {k: int(np.sum(n)) for k, n in met.items()}
        for fault, n in counts.items():
            if n:
                self.judged.report(fault, f"{n:,} values in evaluation (guards.on_bad = 'refuse' names agent and field)")
        self.judged.add(counts)

    def _temperatures(self, act: Act) -> np.ndarray:
        return np.full(len(self.seeds), temperature(act), np.float32)

    def _play(
        self, episodes: int, decider: Decider | None, faults: tuple[Fault, ...], policy: Any, seed: Array, temperature: Array
    ) -> tuple[Episodes, dict[str, Array]]:
        env = replace(self._judging, env=with_faults(faults, self._judging.env), b=episodes, resets=False)
        decider, key = decider or Alone(self.algorithm), component_key(seed, "evaluation")
        return play(env, episodes, decider, policy, key, temperature, self.most)

    def under_each(self, state: State, episodes: int, faults: Sequence[Fault], act: Act = "mode") -> Iterator[Episodes]:
        """`evaluate` under each of these faults by itself, in turn; by one compiled program, since compiling is most of the work. Links
        that are cut are data: one program serves any number of them, in later calls too."""
        if faults and all(isinstance(f, MessageCut) for f in faults):
            yield from self._cut_each(state, episodes, cast(Any, faults), act)
            return
        one = lambda policy, seed, heat, which: self._play(episodes, None, (Alternatives(tuple(faults), which),), policy, seed, heat)
        played = jax.jit(self.placement.map_seeds(one), compiler_options=self._seldom)
        for which in range(len(faults)):
            numbers = (np.array(self.seeds, np.uint32), self._temperatures(act), np.full(len(self.seeds), which, np.int32))
            episodes, _ = played(state.train.policy, *map(self.placement.pad, numbers))  # faults are what was asked for
            yield jax.device_get(self.placement.trim(episodes))

    def _cut_each(self, state: State, episodes: int, faults: Sequence[MessageCut], act: Act) -> Iterator[Episodes]:
        agents, each = self.algorithm.spec.team.agents, len(self.seeds)
        for fault in faults:
            if reason := fault.refuses(self.algorithm.spec):
                raise UserError(f"fault {fault.kind!r}: {reason}")
        if (played := self._cut.get(episodes)) is None:
            one = lambda policy, seed, heat, cut: self._play(episodes, None, (LinksCut(cut),), policy, seed, heat)
            played = self._cut[episodes] = jax.jit(self.placement.map_seeds(one), compiler_options=self._seldom)
        for fault in faults:
            cut = np.broadcast_to(fault.cut(agents), (each, len(agents), len(agents)))
            numbers = (np.array(self.seeds, np.uint32), self._temperatures(act), cut)
            yield jax.device_get(self.placement.trim(played(state.train.policy, *map(self.placement.pad, numbers))[0]))

    def variants(self, episodes: int, act: Act = "mode", decider: Decider | None = None) -> Callable[..., Episodes]:
        """As `Player.variants`."""
        n, speaks = self.algorithm.spec.team.n, self.algorithm.channel.speaks

        def one(policy: Any, seed: Array, heat: Array, cut: Array) -> tuple[Episodes, dict[str, Array]]:
            return self._play(episodes, decider, (LinksCut(cut),) if speaks else (), policy, seed, heat)

        compiled = jax.jit(self.placement.map_seeds(one), compiler_options=self._seldom)

        def played(policies: Any, cut: np.ndarray | None = None, keys: tuple[int, ...] | None = None) -> Episodes:
            seeds = np.array(self.seeds if keys is None else keys, np.uint32)
            cuts = np.broadcast_to(np.zeros((n, n), bool) if cut is None else cut, (len(seeds), n, n))
            found, met = jax.device_get(
                self.placement.trim(compiled(policies, *map(self.placement.pad, (seeds, self._temperatures(act), cuts))))
            )
            self._count(met)
            return cast(Episodes, found)

        return played

    @cached_property
    def _cut(self) -> dict[int, Callable[..., Any]]:
        """Programs that play with links cut, by episodes."""
        return {}

    @property
    def _judging(self) -> Vectorized:
        """The environments that policies are judged in: what they send is held to its budget there, where it is where they are deployed."""
        return replace(self.env, env=with_channel(self.env.env, enforce=self.algorithm.channel.enforce))

    def elsewhere(self, name: str, options: Mapping[str, Any] | None = None) -> "Fused":
        """The same policies in the environment `name` with `options`, for judging, under this runtime's own managers and faults.

        Raises `UserError` where agents would see or do other things there.
        """
        options = dict(options or {})
        if not is_jax(name):
            raise UserError(f"{name} is stepped by Python, and this run's environment by JAX: name one written in JAX")
        here = self.env.env
        managers, channel = self.algorithm.architecture.managers(), self.algorithm.channel.training
        env = wrap_env(make(name, options), managers, faults_of(here), metrics_of(here), sides_of(here), channel, toolbox_of(here))
        if reason := spec_difference(self.env.spec, env.spec):
            raise UserError(f"{name} with {options}: {reason}" if options else f"{name}: {reason}")
        return replace(self, env=replace(self.env, env=env))

    def player(self, episodes: int, act: Act | None = None) -> Callable[..., list[Trajectory]]:
        """`play(state, nth=0)`: an episode of each of `episodes` fresh environments with every seed's policy as it stands, per seed one
        batch of trajectories `[episodes t ...]` on the host; acting as training does where `act` is None. The same state and number play
        the same episodes."""
        env, seeds = replace(self.env if act is None else self._judging, b=episodes), self.placement.pad(np.array(self.seeds, np.uint32))
        length, pieces = spans(env.spec, self.length, self.most)
        key = lambda seed, train, nth: jax.random.fold_in(jax.random.fold_in(component_key(seed, "episodes"), train.version), nth)

        def begin(train: Train, seed: Array, nth: Array) -> RolloutState:
            state, step = env.init(jax.random.split(jax.random.fold_in(key(seed, train, nth), 0), episodes))
            return RolloutState(state, step, self.algorithm.memory(episodes))

        def go_on(train: Train, acting: RolloutState, seed: Array, nth: Array, piece: Array) -> tuple[RolloutState, Trajectory]:
            noise, keys = draw_noise(self.algorithm, jax.random.fold_in(key(seed, train, nth), 1 + piece), length, episodes)
            return unroll(env, self.algorithm, train.policy, acting, noise, keys, act=acting_by(self.algorithm, act))

        begun, going = (jax.jit(self.placement.map_seeds(f), compiler_options=self._seldom) for f in (begin, go_on))
        each = len(self.seeds)
        count = lambda n: self.placement.pad(np.full(each, n, np.uint32))
        flat = lambda tree: jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), jax.device_get(self.placement.trim(tree)))

        def play(state: State, nth: int = 0) -> list[Trajectory]:
            train = replace(state.train, opt=None, replay=None)
            acting = begun(train, seeds, count(nth))

            def piece(k: int, acting: RolloutState) -> tuple[RolloutState, Trajectory]:
                acting, trajectories = going(train, acting, seeds, count(nth), count(k))
                return acting, flat(trajectories)

            whole = joined(piece, acting, pieces, act)
            return [jax.tree.map(lambda x: x.reshape(each, -1, *x.shape[1:])[i], whole) for i in range(each)]  # noqa: B023

        return play

    def film(self, state: State, episodes: int, act: Act, shown: int) -> Iterator[Frame]:
        """As `Player.film`: of the very episodes that `evaluate` plays."""
        env, key = replace(self._judging, b=episodes, resets=False), component_key(self.seeds[0], "evaluation")
        policy = self.placement.first(policies_of(state))
        yield from film_jax(env, episodes, Alone(self.algorithm), policy, key, jnp.float32(temperature(act)), self.most, shown)

    @property
    def _seldom(self) -> dict[str, Any] | None:
        """Compile options of programs that run once or twice: most of what they cost is compiling."""
        return supported(FAST_COMPILE)

    def figures(self) -> list[dict[str, float]]:
        """More to record at a contact, per seed."""
        return [{} for _ in self.seeds]

    def saved(self) -> None:
        """A checkpoint holds all that was trained so far."""

    def ended(self) -> None:
        """Training ended before its steps were used up: nobody waits for more."""

    def restored(self, state: State) -> State:
        """A loaded state, ready to go on: environments written in JAX go on where they stood."""
        return state

    def limit(self, flops: Flops, seconds: float = LONGEST) -> Limit:
        """How fast training could be where a joint step costs `flops` in products; every rate is taken in `seconds`."""
        return fused_limit(self._part, self.algorithm, self.length, len(self.seeds), flops, seconds)

    def close(self) -> None:
        """Nothing outlives the process."""
