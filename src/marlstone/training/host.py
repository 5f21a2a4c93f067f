"""Training on environments that only Python can step: worker processes step, one compiled program acts, one learns.

The loop is the fused one with `host_scan` in place of `lax.scan`; algorithm, trajectories and updates are the same. Seeds are
trained side by side, each on its own thread and processes, so that one seed's environments step while another learns.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from marlstone.algorithm import Algorithm, Policy, Train
from marlstone.comms.learning import sent_in
from marlstone.config import RunConfig
from marlstone.core.acting import Act, temperature
from marlstone.core.episodes import init_tally, tally
from marlstone.core.errors import UserError
from marlstone.core.flops import Flops
from marlstone.core.records import replace
from marlstone.core.seeds import component_key
from marlstone.core.types import Spec, Step, Trajectory, spec_difference
from marlstone.core.usage import used_in
from marlstone.envs.faults import Fault, MessageCut
from marlstone.envs.guards import BadStep, Guards
from marlstone.envs.wrappers import wrap_env
from marlstone.play.action_selectors import Alone, Decider, told
from marlstone.play.episodes import acting_by, joined, spans
from marlstone.play.evaluator import Episodes, add, finish, init_episodes, longest, over
from marlstone.play.film import Frame, film_host, rendering
from marlstone.play.kept_evaluators import KeptEvaluators
from marlstone.play.used import Meter, used_by
from marlstone.rollout.fault_log import FaultLog, note_text
from marlstone.rollout.sides import Sides
from marlstone.rollout.state import Report, State, policies_of
from marlstone.rollout.unroll import RolloutState, assemble, draw_noise, host_scan, trajectory_shapes, unroll
from marlstone.rollout.worker_pool import Workers, first_seeds
from marlstone.tools import Toolbox
from marlstone.training.limit import LONGEST, Limit, host_limit
from marlstone.training.memory import refuse_too_large
from marlstone.training.one_by_one import OneByOne

Array = Any


def seen_of(step: Step) -> Step:
    """What acting needs of a step; the rest would only be copied to the device."""
    unseen: Any = dict.fromkeys(("state", "reward", "team_reward", "discount", "team_discount", "last", "present", "deciding"))
    return replace(step, metrics={}, **unseen)


@dataclass(frozen=True)
class Hosted:
    """The backend of environments that only Python can step. `env_faults`: the faults that environments are stepped under; `metrics`: the
    user's own, that they are measured by; `sides`: whose team it is, and who is played by frozen policies; `tools`: that agents have;
    `options`, of environments made to judge, beside those in `name`. `log`, `judged`: of faults in training, and in environments made to
    judge."""

    name: str
    algorithm: Algorithm
    b: int
    length: int
    workers: int
    total: int
    seeds: tuple[int, ...]
    guards: Guards
    pools: list[Workers] = field(compare=False)
    env_faults: tuple[Fault, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    metrics: tuple[Any, ...] = ()
    sides: Sides = field(default_factory=Sides)
    tools: Toolbox = field(default_factory=Toolbox)
    spare: list[Workers] = field(default_factory=list, compare=False)
    most: int | None = None
    log: FaultLog = field(default_factory=FaultLog, compare=False)
    judged: FaultLog = field(default_factory=FaultLog, compare=False)
    consumes: ClassVar[bool] = False  # training leaves the state it is given as it is

    @classmethod
    def of(cls, config: RunConfig, total: int, seeds: tuple[int, ...]) -> "Hosted":
        """As configured, with worker processes for every seed's environments, which `close` ends.

        Raises ValueError where parts do not fit, `UserError` where training needs more memory than there is.
        """
        b, m = config.rollout.envs, config.learner.minibatches
        if b % m:
            raise ValueError(f"rollout.envs is {b}, no multiple of learner.minibatches = {m}: minibatches are made of environments")
        managers = config.architecture.managers()
        workers = config.rollout.workers
        log, sides = FaultLog(), Sides.of(config)
        make = lambda _: Workers(
            config.env, b, guards=config.guards, num_workers=workers, managers=managers, faults=config.faults,
            state=config.architecture.central, log=log, metrics=config.metrics, sides=sides,
            channel=config.comms.training, tools=config.toolbox,
        )  # fmt: skip
        first = make(0)
        try:
            refuse_too_large(config, first.spec, len(seeds), copies=2)  # as steps come in, and put together
            algorithm = Algorithm(
                first.spec,
                config.architecture,
                config.credit,
                config.learner,
                ramps=config.ramped,
                channel=config.channel,
                constraint=config.cost,
            )
            with ThreadPoolExecutor(len(seeds)) as threads:
                pools = [first, *threads.map(make, range(len(seeds) - 1))]
        except BaseException:
            first.close()
            raise
        return cls(
            config.env, algorithm, b, config.rollout.length, workers, total, seeds, config.guards, pools, config.faults,
            most=config.evaluate.max_steps, log=log, judged=FaultLog(log.reported), metrics=config.metrics, sides=sides,
            tools=config.toolbox,
        )  # fmt: skip

    @classmethod
    def judging(cls, config: RunConfig, seeds: tuple[int, ...], b: int) -> "Hosted":
        """As `of`, without environments to train in: what is judged is played `b` environments of each seed at once."""
        managers, central = config.architecture.managers(), config.architecture.central
        with Workers(
            config.env, 1, guards=config.guards, num_workers=1, managers=managers, faults=config.faults, state=central,
            metrics=config.metrics, sides=Sides.of(config), channel=config.comms, tools=config.toolbox,
        ) as one:  # fmt: skip
            parts = config.architecture, config.credit, config.learner
            algorithm = Algorithm(one.spec, *parts, channel=config.channel, constraint=config.cost)
        return cls(
            config.env, algorithm, b, config.rollout.length, min(config.rollout.workers, b), 1, seeds, config.guards, [], config.faults,
            most=config.evaluate.max_steps, metrics=config.metrics, sides=Sides.of(config),
            tools=config.toolbox,
        )  # fmt: skip

    @property
    def spec(self) -> Spec:
        """The environment's agents and spaces."""
        return self.algorithm.spec

    @cached_property
    def placement(self) -> OneByOne:
        """How seeds are laid out: one after another."""
        return OneByOne(len(self.seeds))

    # ---- compiled parts, shared by all seeds
    @cached_property
    def _act(self) -> Callable[..., Any]:
        return self._on_host(jax.jit(self.algorithm.act))

    @staticmethod
    def _on_host(compiled: Callable[..., Any]) -> Callable[..., Any]:
        def act(policy: Policy, step: Step, memory: Any, noise: Any) -> Any:
            action, emitted, heads, memory = compiled(policy, seen_of(step), memory, noise)
            return *jax.device_get((action, emitted, heads)), memory

        return act

    @cached_property
    def _trajectory(self) -> Callable[..., Trajectory]:
        return jax.jit(partial(assemble, self.algorithm))

    @cached_property
    def _draw(self) -> Callable[..., Any]:
        return jax.jit(lambda key, version: draw_noise(self.algorithm, jax.random.fold_in(key, version), self.length, self.b)[0])

    @cached_property
    def _learn(self) -> Callable[..., Any]:
        def learn(state: State, after: Step, trajectories: Trajectory) -> tuple[State, Report]:
            train, memory = state.train, state.acting.memory
            memory = self.algorithm.remember(train, trajectories, memory)
            running, finished = tally(state.tally, jax.tree.map(lambda x: x[:, 1:], trajectories.step), self.spec.metrics)
            key = jax.random.fold_in(state.learn_key, train.version)
            train, losses = self.algorithm.update(train, trajectories, train.version / self.total, key)
            return State(train, RolloutState(None, after, memory), running, state.act_key, state.learn_key), Report(
                finished, trajectories.real.sum(), losses, sent_in(self.algorithm.channel, self.spec, trajectories),
                used_in(self.spec, trajectories),
            )  # fmt: skip

        return jax.jit(learn)

    # ---- seeds
    def _reset(self, i: int, version: int) -> RolloutState:
        """Fresh episodes everywhere: the beginning, and after a resume, since simulators have no state to restore."""
        keys = jax.random.split(jax.random.fold_in(component_key(self.seeds[i], "environment"), version), self.b)
        _, step = self.pools[i].init(keys)
        return RolloutState(None, step, self.algorithm.memory(self.b))

    def start(self) -> State:
        """Every seed's state before its first update, `[seeds ...]`."""
        init = jax.jit(lambda key, acting: self.algorithm.init(key, trajectory_shapes(self.algorithm, acting, self.length)))

        def one(i: int) -> State:
            keys = {c: component_key(self.seeds[i], c) for c in ("init", "act", "learner")}
            acting = self._reset(i, 0)
            return State(init(keys["init"], acting), acting, init_tally(self.b, self.spec.metrics), keys["act"], keys["learner"])

        return self.placement.stacked(self.placement.apart(one))

    def restored(self, state: State) -> State:
        """A loaded state with fresh episodes; the learner's part is exactly what was saved."""
        version = int(np.asarray(state.train.version)[0])
        fresh = lambda i, s: replace(s, acting=self._reset(i, version), tally=init_tally(self.b, self.spec.metrics))
        return self.placement.stacked(self.placement.apart(fresh, state))

    def entered(self, state: State) -> State:
        """As `Backend.entered`: like a resume, which begins fresh episodes, too."""
        return self.restored(state)

    def cycle(self, i: int, state: State) -> tuple[State, Report]:
        """One rollout of seed i's environments and one update."""
        noise = jax.device_get(self._draw(state.act_key, state.train.version))
        keys = np.zeros((self.length, 1))  # environments drew theirs when they were reset
        acting = replace(state.acting, step=jax.device_get(state.acting.step))
        after, trajectories = unroll(
            self.pools[i], self.algorithm, state.train.policy, acting, noise, keys, host_scan, self._act, self._trajectory
        )
        return self._learn(replace(state, acting=replace(after, step=None)), after.step, trajectories)

    def compile(self, state: State, most: int) -> Callable[[State, int], tuple[State, Report]]:
        """Compile acting and learning on blank trajectories; `advance(state, n)` then runs n cycles of every seed."""
        one = jax.tree.map(lambda x: x[0], state)
        noise = jax.device_get(self._draw(one.act_key, one.train.version))
        step = jax.device_get(one.acting.step)
        action, _, heads, memory = self._act(one.train.policy, step, one.acting.memory, jax.tree.map(lambda x: x[0], noise))
        rows = jax.tree.map(lambda x: np.stack([np.asarray(x)] * self.length), (step, action, heads))
        trajectories = self._trajectory(rows, step, one.acting.memory)
        jax.block_until_ready(self._learn(replace(one, acting=RolloutState(None, None, memory)), step, trajectories))

        return partial(self.placement.advance, self.cycle)

    def figures(self) -> list[dict[str, float]]:
        """More to record at a contact, per seed."""
        return [{} for _ in self.seeds]

    def saved(self) -> None:
        """A checkpoint holds all that was trained so far."""

    def ended(self) -> None:
        """Training ended before its steps were used up: nobody waits for more."""

    def refusal(self, state: State) -> BadStep | None:
        """Workers refuse on the spot."""
        return None

    def faults(self, state: State) -> list[dict[str, int]]:
        """Faults repaired so far, by name, per seed."""
        return [pool.counts for pool in self.pools]

    def most_faults(self) -> dict[str, int]:
        """As `Fused.most_faults`: workers judge their environments themselves."""
        return {}

    def notes(self) -> list[dict[str, str]]:
        """The latest fault of each name in words, per seed."""
        return [{note["fault"]: note_text(note) for note in pool.notes} for pool in self.pools]

    def _more(self, b: int, faults: tuple[Fault, ...] = (), trains: bool = False) -> Workers:
        """Another `b` environments, in processes of their own; `trains`: whose budgets of messages nobody enforces, as in training."""
        made = Workers(
            self.name, b, options=self.options, guards=self.guards, num_workers=self.workers,
            managers=self.algorithm.architecture.managers(), faults=(*self.env_faults, *faults),
            state=self.algorithm.architecture.central, log=self.judged, metrics=self.metrics, sides=self.sides,
            channel=self.algorithm.channel.training if trains else self.algorithm.channel, tools=self.tools,
        )  # fmt: skip
        if made.spec != self.spec:
            made.close()
            where = f"{self.name} with {dict(self.options)}" if self.options else self.name
            raise UserError(f"{where}: {spec_difference(self.spec, made.spec)}")
        return made

    @cached_property
    def wiring(self) -> Mapping[str, Any] | None:
        """How the environment's dictionaries by agent become steps (`envs.grouping`); None: it gives steps itself."""
        if self.pools:
            return self.pools[0].wiring
        with self._more(1) as one:
            return one.wiring

    # ---- judging
    @property
    def meter(self) -> Meter:
        """As `Player.meter`."""
        return self._evaluators.meter

    def elsewhere(self, name: str, options: Mapping[str, Any] | None = None) -> "Hosted":
        """As `Fused.elsewhere`; what differs is reported once its workers start."""
        return replace(self, name=name, options=dict(options or {}))

    def evaluate(
        self, state: State | None, episodes: int, act: Act = "mode", *,
        decider: Decider | None = None, faults: tuple[Fault, ...] = (), policies: Any = None, keys: tuple[int, ...] | None = None,
    ) -> Episodes:  # fmt: skip
        """As `Fused.evaluate`, in worker processes of their own."""
        return self._evaluators.evaluate(self, state, episodes, act, decider, faults, policies, keys)

    @cached_property
    def _evaluators(self) -> KeptEvaluators:
        return KeptEvaluators()

    def evaluator(
        self, episodes: int, act: Act = "mode", *, decider: Decider | None = None, faults: tuple[Fault, ...] = ()
    ) -> Callable[..., Episodes]:
        """As `Fused.evaluator`; what it gives takes other faults, too: `under`."""
        decider, declared, default = decider or Alone(self.algorithm), self.spec.metrics, act
        limit = longest(self.spec, self.most)

        def choose(policy: Any, step: Step, memory: Any, key: Array, temperature: Array) -> Any:
            action, memory = decider.decide(policy, step, memory, key, temperature)
            return self.algorithm.emit(action), memory

        compiled = jax.jit(choose)
        using = lambda before, after: used_by(decider.algorithm, before, after)
        counted = jax.jit(
            lambda so_far, before, step, memory: add(so_far, step, declared, told(decider, memory, step), using(before, step))
        )

        def one(i: int, policy: Any, seed: int, heat: Array, under: tuple[Fault, ...]) -> Episodes:
            b = min(self.b, episodes)
            k1, k2 = jax.random.split(component_key(seed, "evaluation"))
            rounds = []
            with self._more(b, under) as env:
                for r in range(-(-episodes // b)):
                    _, step = env.init(jax.random.split(jax.random.fold_in(k1, r), b))
                    memory, t = decider.memory(b), 0
                    telling = jax.eval_shape(lambda m, s: told(decider, m, s), memory, step)
                    so_far = init_episodes(b, self.spec.n, declared, telling, jax.eval_shape(using, step, step))
                    key = jax.random.fold_in(k2, r)
                    while t < limit and not np.asarray(over(so_far)).all():
                        seen = replace(seen_of(step), present=step.present, deciding=step.deciding)
                        emitted, memory = compiled(policy, seen, memory, jax.random.fold_in(key, t), heat)
                        before = step
                        _, step = env.step(None, jax.device_get(emitted))
                        so_far, t = counted(so_far, before, step, memory), t + 1
                    rounds.append(finish(so_far, declared))
            whole = jax.tree.map(lambda *x: jnp.concatenate(x), *rounds)
            return replace(jax.tree.map(lambda x: x[:episodes], whole), used=whole.used)

        def judged(policies: Any, keys: tuple[int, ...] | None = None, act: Act = default, under: tuple[Fault, ...] = faults) -> Episodes:
            seeds = np.array(self.seeds if keys is None else keys, np.uint32)
            heat = np.full(len(seeds), temperature(act), np.float32)
            return jax.device_get(self.placement.stacked(self.placement.apart(partial(one, under=under), policies, seeds, heat)))

        return judged

    def under_each(self, state: State, episodes: int, faults: Sequence[Fault], act: Act = "mode") -> Iterator[Episodes]:
        """As `Fused.under_each`; compiling is little of the work here."""
        for fault in faults:
            yield self.evaluate(state, episodes, act, faults=(fault,))

    def variants(self, episodes: int, act: Act = "mode", decider: Decider | None = None) -> Callable[..., Episodes]:
        """As `Player.variants`; worker processes are told by name which links are cut."""
        agents, play = self.spec.team.agents, self.evaluator(episodes, act, decider=decider)

        def played(policies: Any, cut: np.ndarray | None = None, keys: tuple[int, ...] | None = None) -> Episodes:
            gone = [] if cut is None else [f"{agents[j]}>{agents[i]}" for i, j in np.argwhere(cut)]
            faults = (MessageCut(tuple(gone)),) if gone else ()
            return play(policies, keys, act, faults)

        return played

    def player(self, episodes: int, act: Act | None = None) -> Callable[..., list[Trajectory]]:
        """As `Fused.player`. Worker processes of its own start with the first call and stay until `close`."""
        length, pieces = spans(self.spec, self.length, self.most)
        compiled, assembled = jax.jit(acting_by(self.algorithm, act)), jax.jit(partial(assemble, self.algorithm))
        drawn = jax.jit(lambda key, piece: draw_noise(self.algorithm, jax.random.fold_in(key, 1 + piece), length, episodes)[0])
        mine: dict[int, Workers] = {}

        def one(i: int, train: Train, nth: int) -> Trajectory:
            if i not in mine:
                mine[i] = self._more(episodes, trains=act is None)
                self.spare.append(mine[i])
            key = jax.random.fold_in(jax.random.fold_in(component_key(self.seeds[i], "episodes"), train.version), nth)
            _, step = mine[i].init(jax.random.split(jax.random.fold_in(key, 0), episodes))

            def piece(k: int, acting: RolloutState) -> tuple[RolloutState, Trajectory]:
                noise, keys = jax.device_get(drawn(key, k)), np.zeros((length, 1))
                after, trajectories = unroll(
                    mine[i], self.algorithm, train.policy, acting, noise, keys, host_scan, self._on_host(compiled), assembled
                )
                return after, jax.device_get(trajectories)

            return joined(piece, RolloutState(None, step, self.algorithm.memory(episodes)), pieces, act)

        return lambda state, nth=0: self.placement.apart(lambda i, train: one(i, train, nth), replace(state.train, opt=None, replay=None))

    def film(self, state: State, episodes: int, act: Act, shown: int) -> Iterator[Frame]:
        """As `Player.film`, in this process: episodes that begin as those that `evaluate` plays."""
        made = rendering(self.name, dict(self.options))
        if hasattr(made, "report"):
            made.report = lambda *fault: None
        if not self.algorithm.architecture.central and hasattr(made, "without_state"):
            made.without_state()
        env = wrap_env(
            made, self.algorithm.architecture.managers(), self.env_faults, self.metrics, self.sides, self.algorithm.channel, self.tools
        )
        try:
            if reason := spec_difference(self.spec, env.spec):
                raise UserError(f"{self.name}, made to render: {reason}")
            b, (k1, k2) = min(self.b, episodes), jax.random.split(component_key(self.seeds[0], "evaluation"))
            seeds = first_seeds(jax.random.split(jax.random.fold_in(k1, 0), b), b)
            policy, heat = self.placement.first(policies_of(state)), jnp.float32(temperature(act))
            reset = lambda e: env.reset(seeds[e % b])
            yield from film_host(env, reset, min(shown, b), Alone(self.algorithm), policy, k2, heat, longest(self.spec, self.most))
        finally:
            env.close()

    def limit(self, flops: Flops, seconds: float = LONGEST) -> Limit:
        """As `limit.host_limit`, through these workers, or as many of them."""
        pools = self.pools or [self._more(self.b) for _ in self.seeds]
        self.spare.extend(p for p in pools if p not in self.pools)
        return host_limit(pools, self.algorithm, self.placement, flops, seconds)

    def close(self) -> None:
        """End the worker processes."""
        for pool in (*self.pools, *self.spare):
            pool.close()
