"""How a frozen policy decides, step by step: managers' goals, networks, the gate and what replaces the policy outside it.

Pure array code of one environment, NumPy's or JAX's: memory goes in and comes out, so that it runs under jit, vmap and scan.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from marlstone.comms.exchange import begin, draws, exchange, inbox
from marlstone.comms.layout import TalkLayout
from marlstone.comms.talking import STREAM
from marlstone.core.records import record, replace
from marlstone.core.types import Group, Spec, Step
from marlstone.envs.faults.withheld import still_legal
from marlstone.envs.managed import Layout
from marlstone.policy.gate import Gate, GateMemory, chosen, held, init_memory, watch
from marlstone.policy.numpy_actor import Bound, FastActor
from marlstone.tools.exchange import Draws, draw_shapes
from marlstone.tools.layout import ToolLayout
from marlstone.tools.tooled import STREAM as TOOL_STREAM

Array = Any
Arrays = tuple[Array, ...]


@record
class PolicyMemory:
    """What a policy remembers between two steps of one episode: recurrent state, the managers' goals and clock, what its gate saw,
    what its channel carries and may still send, and what its tools and memory hold, pending calls among them. `told`: prices that the
    caller said, per item; NaN where they are as declared. `desk`: the number of where its real tools are called."""

    recurrent: Any
    goals: Any = None
    clock: Any = None
    gate: GateMemory | None = None
    wire: Any = None
    budget: Any = None
    tools: Any = None
    told: Any = None
    desk: Any = None


def observed(obs: tuple[dict[str, Array], ...], legal: Arrays, present: Array, first: Array) -> Step:
    """A step of one environment as far as a policy looks at it.

    Shapes: `obs`: per group, leaf name -> `[n_g ...]`; `legal`: per group `[n_g a]` or None (all legal); `present [n]`; `first []`.
    """
    xp = present.__array_namespace__()
    n = present.shape[0]
    zeros, ones, scalar = xp.zeros(n, np.float32), xp.ones(n, np.float32), lambda x: xp.asarray(x, dtype=np.float32)
    none, ended = xp.zeros(0, np.float32), xp.asarray(False)
    return Step(obs, none, zeros, scalar(0), ones, scalar(1), xp.asarray(first), ended, legal, present, present, {})


@dataclass(frozen=True)
class Deployed:
    """One policy, ready to decide.

    Fields: `weights`, as `FastActor.bind` gives them; `layout`: its managers, `talk`: its channel, and `kit`: its tools, if it has some;
    `gate`, if it has one; `fallback`: per group, recorded actions of who is outside (None: default actions); `never`: the environment's
    groups, and entries of their masks that are never legal, `[n_g a]`.
    """

    actor: FastActor
    weights: Bound
    layout: Layout | None = None
    talk: TalkLayout | None = None
    gate: Gate | None = None
    fallback: Arrays | None = None
    kit: ToolLayout | None = None
    never: tuple[tuple[Group, np.ndarray], ...] = ()

    @property
    def own(self) -> int:
        """How many groups the environment itself has, without managers."""
        return len(self.actor.spec.groups) - (self.layout is not None)

    def memory(self) -> PolicyMemory:
        """Before an episode's first step."""
        gate = None if self.gate is None else init_memory(self.actor.spec, 1)
        goals = clock = wire = budget = None
        if self.layout is not None:
            goals, clock = np.zeros(self.layout.inner.n, np.int32), np.int32(0)
        if self.talk is not None:
            wire, budget = begin(self.talk.channel, self.talk.n, None, self.talk.level(None, np), np)
        tools = told = None
        if self.kit is not None:
            items = len(self.kit.box.levels)
            tools = self.kit.begin(Draws(None, np.zeros((2, items), np.float32)), np)
            told = np.full(items, np.nan, np.float32)
        return PolicyMemory(self.actor.memory(1), goals, clock, gate, wire, budget, tools, told)

    def act(self, step: Step, memory: PolicyMemory, noise: Arrays) -> tuple[Arrays, PolicyMemory]:
        """One step of one environment, `[n_g ...]`, without managers, tools and messages; its actions as it takes them, and memory after.

        Args: `noise`: per group, managers too, `[n_g ...]`, sampling noise times the temperature; then `outer_draws`.
        """
        chosen, memory = self.choose(step, memory, noise)
        spec = self.kit.inner if self.kit is not None else self.actor.spec if self.talk is None else self.talk.inner
        return tuple(g.space.emit(a) for g, a in zip(spec.groups[: self.own], chosen, strict=True)), memory

    def choose(self, step: Step, memory: PolicyMemory, noise: Arrays) -> tuple[Arrays, PolicyMemory]:
        """As `act`, with actions as they are recorded."""
        xp, goals, clock, wire, budget = step.present.__array_namespace__(), memory.goals, memory.clock, memory.wire, memory.budget
        if self.never:
            legal = tuple(still_legal(g, ok, mask, xp) for (g, mask), ok in zip(self.never, step.legal, strict=False))
            step = replace(step, legal=(*legal, *step.legal[len(legal) :]))
        if self.layout is not None:
            fresh_goals, fresh_clock = self.layout.begin(step)
            goals, clock = xp.where(step.first, fresh_goals, goals), xp.where(step.first, fresh_clock, clock)
            step = self.layout.row(step, goals, clock)
        u, at_first, allowed = None, None, None
        if self.talk is not None and self.talk.channel.drawing:
            *rest, both = noise
            noise, (at_first, u) = tuple(rest), both
        tools, bare, drawn = memory.tools, step, cast(Any, None)
        if self.kit is not None:
            *rest, attempt, price = noise
            noise, drawn = tuple(rest), Draws(attempt, price[1])
            tools = _where(step.first, self.kit.begin(Draws(attempt, price[0]), xp), tools)
            tools = replace(tools, price=xp.where(xp.isnan(memory.told), tools.price, memory.told))
            step = self.kit.row(step, tools)
        if self.talk is not None:
            allowed = self.talk.allowed(step)
            fresh = begin(self.talk.channel, self.talk.n, at_first, self.talk.level(None, xp), xp)
            wire, budget = (_where(step.first, new, old) for new, old in zip(fresh, (wire, budget), strict=True))
            step = self.talk.row(step, wire, budget, inbox(self.talk.channel, wire))
        action, recurrent, seen = self.decide(_batched(step), memory.recurrent, memory.gate, tuple(z[None] for z in noise))
        if self.layout is not None:
            goals, clock = self.layout.after(goals, clock, self.actor.spec.groups[-1].space.emit(action[-1])[0])
        chosen = tuple(x[0] for x in action)
        if self.talk is not None:
            wire, _, budget, _ = exchange(self.talk.channel, wire, self.talk.messages(chosen, allowed), budget, u)
            chosen = self.talk.acted(chosen)
        if self.kit is not None:
            may, source = self.kit.allowed(tools, bare), self.kit.source(bare)
            tools = self.kit.after(tools, self.kit.request(chosen, emitted=False), may, source, drawn)
            chosen = self.kit.acted(chosen)
        return chosen[: self.own], PolicyMemory(recurrent, goals, clock, seen, wire, budget, tools, memory.told, memory.desk)

    def decide(self, step: Step, recurrent: Any, seen: GateMemory | None, noise: Arrays) -> tuple[Arrays, Any, GateMemory | None]:
        """One step of `b` environments that have managers already, where the policy has some: recorded actions, recurrent state and what
        the gate saw after it."""
        action, _, _, recurrent = self.actor.act(step, recurrent, noise, self.weights)
        if self.gate is None:
            return action, recurrent, None
        assert seen is not None
        spec = self.actor.spec
        seen = watch(spec, self.gate, step, seen)
        return chosen(spec, seen.away, held(spec, action, step.legal, self.fallback), action), recurrent, seen


def outer_draws(deployed: Deployed, key: Any, shape: tuple[int, ...] = ()) -> Arrays:
    """Uniform numbers that tools and links take in one step: of tools `[*shape attempts 2 n T]` and `[*shape 2 2 I]`, prices of an episode
    that begins and of the step; then `link_draws`. `key`: a JAX key, from which others may draw too, or a NumPy generator."""
    links = link_draws(deployed.talk, key, shape)
    if deployed.kit is None:
        return links
    attempt, price = draw_shapes(deployed.kit.box, deployed.kit.n)
    shapes = (*shape, *attempt), (*shape, 2, *price)
    if isinstance(key, np.random.Generator):
        return (*(key.random(s, np.float32) for s in shapes), *links)
    import jax

    keys = jax.random.split(jax.random.fold_in(key, TOOL_STREAM), 2)
    return (*(jax.random.uniform(k, s) for k, s in zip(keys, shapes, strict=True)), *links)


def link_draws(talk: TalkLayout | None, key: Any, shape: tuple[int, ...] = ()) -> Arrays:
    """Uniform numbers that links take in one step, if the channel draws: `[*shape 2 draws n n]`, of an episode that begins and of the step.
    `key`: a JAX key, from which others may draw too, or a NumPy generator."""
    if talk is None or not talk.channel.drawing:
        return ()
    whole = (*shape, 2, draws(talk.channel), talk.n, talk.n)
    if isinstance(key, np.random.Generator):
        return (key.random(whole, np.float32),)
    import jax

    return (jax.random.uniform(jax.random.fold_in(key, STREAM), whole),)


def _where(first: Array, new: Any, old: Any) -> Any:
    """`new` where an episode begins, array by array."""
    xp = first.__array_namespace__()
    return type(new)(*(xp.where(first, getattr(new, k), getattr(old, k)) for k in vars(new)))


def _batched(step: Step) -> Step:
    """With an axis of one environment in front."""
    one: Callable[[Any], Any] = lambda x: None if x is None else x[None]
    numbers = ("state", "reward", "team_reward", "discount", "team_discount", "first", "last", "present", "deciding")
    return replace(
        step,
        obs=tuple({k: one(x) for k, x in leaves.items()} for leaves in step.obs),
        legal=tuple(map(one, step.legal)),
        **{k: one(getattr(step, k)) for k in numbers},
    )


@dataclass(frozen=True)
class PureActing:
    """A frozen policy as pure functions of one environment, to jit, vmap and scan (`Policy.pure`).

    Fields: `spec`, the groups as the environment has them; `temperature`, of its way of acting: 0 for the mode.
    """

    spec: Spec
    temperature: float
    deployed: Deployed

    def init(self) -> PolicyMemory:
        """Memory before an episode's first step; a step with `first` begins anew by itself."""
        import jax

        return jax.tree.map(jax.numpy.asarray, self.deployed.memory())

    def act(self, step: Step, memory: PolicyMemory, key: Array, temperature: Array | None = None) -> tuple[Arrays, PolicyMemory]:
        """Actions per group, `[n_g ...]`, as the environment takes them, and memory after.

        Args: `step`: a step of an environment written in JAX, or `observed(...)`; `key`: of sampling; `temperature`: another than the
        deployed one.
        """
        from marlstone.core.distributions import draw_group_noise

        groups, heat = self.deployed.actor.spec.groups, self.temperature if temperature is None else temperature
        noise = tuple(heat * z for z in draw_group_noise([g.space for g in groups], [g.count for g in groups], key, ()))
        return self.deployed.act(step, memory, (*noise, *outer_draws(self.deployed, key)))
