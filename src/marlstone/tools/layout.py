"""The spec, steps and actions of an environment whose agents have tools and a memory, made from those of one whose agents have none."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from marlstone.core.arrays import Array
from marlstone.core.distributions import Box, Composite, Discrete, MultiDiscrete
from marlstone.core.errors import UserError, suggest
from marlstone.core.records import replace
from marlstone.core.types import Group, Leaf, Metric, Spec, Step
from marlstone.core.usage import LEAF, METRICS, USAGE
from marlstone.envs.teams import members
from marlstone.tools.contract import DelayLine, Tool
from marlstone.tools.exchange import Draws, Request, ToolState, after, allowed, begin, draw_shapes
from marlstone.tools.memory import ExternalMemory
from marlstone.tools.toolbox import Toolbox

ACT, TOOL, CONTENT, KEY = "act", "tool", "content", "key"  # parts of an action
TOOLS, MEMORY, PRICES = "tools", "memory", "prices"  # observation leaves, beside `usage`
STATUS = ("valid", "age", "failed", "pending", "left")  # numbers of a tool in the leaf, after its result
NO_LEAF = Leaf("image", (0, 0, 0))


@dataclass(frozen=True)
class ToolLayout:
    """Who has what: the team's agents, managers not among them. `inner` is the environment's own spec."""

    box: Toolbox
    inner: Spec

    def __post_init__(self) -> None:
        for g in self.inner.team.groups:
            if taken := [leaf for leaf in self._leaves if leaf in g.observation and leaf not in self._hides(g)]:
                raise UserError(f"tools: group {g.name!r} has an observation leaf {taken[0]!r}, which tools would overwrite: rename it")
            if isinstance(g.space, Composite) and (taken := [x for x in (TOOL, CONTENT, KEY) if x in g.space.names]):
                raise UserError(f"tools: group {g.name!r} has a part of its actions called {taken[0]!r}, as tools have one: rename it")
            if isinstance(g.space, MultiDiscrete) and len(g.space.sizes) == 1:
                raise UserError(f"tools: group {g.name!r} has a MultiDiscrete of one choice: give it a Discrete({g.space.sizes[0]})")
            if g.requests:
                raise UserError(
                    f"tools: group {g.name!r} declares requests, actions that ask instead of acting, and with tools an action has several "
                    "parts: leave its requests out, or train without tools"
                )
        if taken := [m for m in self._counts if m in self.inner.metrics]:
            raise UserError(f"tools: the environment has a metric {taken[0]!r} already: rename it")
        for label in self.box.cut:
            if (agent := label.partition(":")[0]) not in self.inner.team.agents:
                raise UserError(f"cut_calls has {label!r}, and there is no agent {agent!r}: {suggest(agent, self.inner.team.agents)}")
        for t in self.box.tools:
            where = f"tools.{t.name}"
            if not t.real and not isinstance(t, DelayLine):
                raise UserError(f"{where}: its class is neither real nor a delay line: derive it from DelayLine, or say `real = True`")
            if t.agents:
                members(self.inner.team, t.agents, f"{where}.agents")
            if isinstance(t, DelayLine):
                self._refuse_leaf(t, where)
            for g in self.inner.team.groups if sends(t) else ():
                if lacks := [k for k in sends(t) if self._has(t.agents, g).any() and g.observation.get(k, NO_LEAF).kind == "image"]:
                    raise UserError(f"{where}.sends has {lacks[0]!r}, and group {g.name!r} has no such vector leaf: leave it out")
        if self.box.memory.agents:
            members(self.inner.team, self.box.memory.agents, "memory.agents")
        if self.box.memory.stores:
            self._refuse_stored(self.box.memory)

    def _refuse_leaf(self, t: DelayLine, where: str) -> None:
        mine = [g for g in self.inner.team.groups if self._has(t.agents, g).any()]
        for g in mine:
            leaf = g.observation.get(t.reads)
            if leaf is None or leaf.kind not in ("vector", "message"):
                vectors = ", ".join(k for k, x in g.observation.items() if x.kind in ("vector", "message")) or "none"
                raise UserError(f"{where}.reads is {t.reads!r}, and group {g.name!r} has no such vector leaf: choose one of {vectors}")
            if leaf.shape[0] != t.size * t.arguments:
                raise UserError(
                    f"{where} reads {t.reads!r}, which has {leaf.shape[0]} numbers, and size * arguments is {t.size} * {t.arguments}: "
                    f"give a size of {leaf.shape[0] / t.arguments:g}"
                )

    def _refuse_stored(self, memory: ExternalMemory) -> None:
        for g in self.inner.team.groups:
            leaf = g.observation.get(memory.stores, NO_LEAF)
            if self._has(memory.agents, g).any() and (leaf.kind not in ("vector", "message") or leaf.shape != (memory.width,)):
                fit = ", ".join(f"{k} (width = {x.shape[0]})" for k, x in g.observation.items() if x.kind in ("vector", "message"))
                raise UserError(
                    f"memory.stores is {memory.stores!r}, and group {g.name!r} has no such vector leaf of {memory.width} numbers: choose "
                    f"of {fit or 'none'}"
                )

    # ---- who
    @property
    def n(self) -> int:
        """How many agents there are in the team."""
        return self.inner.team.n

    @property
    def groups(self) -> int:
        """How many groups have tools; managers' come after."""
        return len(self.inner.team.groups)

    def _has(self, pattern: str, g: Group | None = None) -> np.ndarray:
        """Which agents a pattern names, `[n]`, or `[n_g]` of one group."""
        team = self.inner.team
        named = set(members(team, pattern, "tools")) if pattern else set(team.agents)
        return np.array([a in named for a in (team.agents if g is None else g.agents)], bool)

    @cached_property
    def owners(self) -> np.ndarray:
        """Who has which choice, `[n choices]`."""
        box = self.box
        calls = [self._has(t.agents) for t in box.tools for _ in range(t.arguments)]
        ways = [self._has(box.memory.agents)] * (box.memory.write_ways + box.memory.ways)
        has = np.stack([np.ones(self.n, bool), *calls, *ways], axis=1)
        for label in box.cut:
            agent, _, choice = label.partition(":")
            has[self.inner.team.agents.index(agent), box.names.index(choice)] = False
        return has

    @property
    def _leaves(self) -> dict[str, Leaf]:
        box, memory = self.box, self.box.memory
        leaves = {}
        if box.tools:
            leaves[TOOLS] = Leaf("vector", (sum(t.size + len(STATUS) for t in box.tools),))
        if memory.slots:
            leaves[MEMORY] = Leaf("vector", (memory.width + 2 + memory.slots + 2,))
        if box.shown:
            leaves[PRICES] = Leaf("vector", (len(box.levels),))
        return {**leaves, LEAF: Leaf("record", (len(USAGE),))}

    @property
    def _counts(self) -> list[str]:
        lacks: tuple[str, ...] = () if self.box.tools else ("tool_calls", "attempts", "retries")
        lacks += () if self.box.memory.slots else ("memory_reads", "memory_writes")
        return [m for m in METRICS if m not in lacks]

    def _hides(self, g: Group) -> set[str]:
        tools = [t for t in self.box.tools if isinstance(t, DelayLine) and t.hidden]
        return {t.reads for t in tools if t.reads in g.observation and self._has(t.agents, g).any()}

    # ---- the spec
    @cached_property
    def spec(self) -> Spec:
        """The environment's spec with calls in actions, with what they showed in observations, and with what they cost as metrics."""
        team = tuple(map(self._group, self.inner.team.groups))
        metrics = {**self.inner.metrics, **{name: Metric("down", "sum", cost=True) for name in self._counts}}
        return replace(self.inner, groups=(*team, *self.inner.groups[self.groups :]), metrics=metrics)

    def _group(self, g: Group) -> Group:
        hidden, space = self._hides(g), self._space(g)
        seen = {k: leaf for k, leaf in g.observation.items() if k not in hidden}
        own = np.asarray(g.recorded_defaults, space.action_dtype).reshape(g.count, -1)
        rows = np.concatenate([own, np.zeros((g.count, space.action_shape[0] - own.shape[1]), own.dtype)], 1)
        each = tuple(tuple(row.tolist()) for row in rows)
        features = {k: x for k, x in g.features.items() if k not in hidden}
        default = each[0] if len(set(each)) == 1 else each
        return replace(g, observation={**seen, **self._leaves}, features=features, space=space, default=default)

    def _space(self, g: Group) -> Any:
        """All choices where all parts are, else a Composite."""
        own, memory = g.space, self.box.memory
        parts, names = (own.parts, own.names) if isinstance(own, Composite) else ((own,), (ACT,))
        more: list[Any] = [Discrete(self.box.choices)]
        called = [TOOL]
        if memory.slots and not memory.stores:
            more, called = [*more, Discrete(memory.width) if memory.symbols else Box(memory.width)], [*called, CONTENT]
        if memory.slots and memory.lookup == "attention":
            more, called = [*more, Box(memory.width)], [*called, KEY]
        if any(isinstance(p, Box) for p in (*parts, *more)):
            return Composite((*parts, *more), (*names, *called))
        sizes = [n for p in (*parts, *more) for n in (p.sizes if isinstance(p, MultiDiscrete) else (p.size,))]
        return MultiDiscrete(tuple(sizes))

    def _extra(self, g: Group) -> int:
        """Entries of an action that are tools'."""
        return int(self._space(g).action_shape[0]) - max(1, sum(g.space.action_shape))

    # ---- actions
    def acted(self, action: tuple[Array, ...]) -> tuple[Array, ...]:
        """Everybody's own actions, of recorded or emitted ones with calls; managers' may be left out."""
        out = []
        for i, (g, a) in enumerate(zip(self.inner.groups, action, strict=False)):
            if i < self.groups:
                a = a[..., : a.shape[-1] - self._extra(g)]
                a = (a if g.space.action_shape else a[..., 0]).astype(g.space.action_dtype)
            out.append(a)
        return tuple(out)

    def idle(self, action: tuple[Array, ...]) -> tuple[Array, ...]:
        """The environment's own recorded actions, with nothing called."""
        out = []
        for g, mine, a in zip(self.inner.team.groups, self.spec.groups, action, strict=False):
            own = np.asarray(a, mine.space.action_dtype).reshape(g.count, -1)
            out.append(np.concatenate([own, np.zeros((g.count, self._extra(g)), own.dtype)], axis=-1))
        return tuple(out)

    def request(self, action: tuple[Array, ...], emitted: bool = True) -> Request:
        """What everybody asks for, of emitted actions or of recorded ones."""
        memory, rows = self.box.memory, []
        xp = action[0].__array_namespace__()
        for g, a in zip(self.inner.team.groups, action, strict=False):
            more = a[..., a.shape[-1] - self._extra(g) :]
            choice, rest, w = more[..., 0].astype(np.int32), more[..., 1:], memory.width
            content = key = xp.zeros((g.count, 0), np.float32)
            if memory.slots and memory.symbols:
                content = (xp.arange(w) == rest[..., :1].astype(np.int32)).astype(np.float32)
            elif memory.slots:
                numbers = rest.astype(np.float32) if emitted else xp.tanh(rest.astype(np.float32))
                at = 0 if memory.stores else w
                content, key = numbers[..., :at], numbers[..., at:]
            rows.append((choice, content, key))
        return Request(*(xp.concat(x, axis=0) for x in zip(*rows, strict=True)))

    def source(self, step: Step) -> Array:
        """What delay lines read in a step of the environment's own, and what the memory would store, `[n *]`; 0 for groups without."""
        xp = step.reward.__array_namespace__()
        parts = [xp.zeros((self.n, 0), np.float32)]
        for t in self.box.tools:
            if isinstance(t, DelayLine):
                wide = t.size * t.arguments
                of = lambda g, leaves: leaves[t.reads] if self._has(t.agents, g).any() else xp.zeros((g.count, wide))  # noqa: B023
                mine = [of(g, leaves).astype(np.float32) for g, leaves in zip(self.inner.team.groups, step.obs, strict=False)]
                parts.append(xp.concat(mine, axis=0))
        if stored := self.box.memory.stores:
            w, who = self.box.memory.width, self.box.memory.agents
            look = lambda g, leaves: leaves[stored] if self._has(who, g).any() else xp.zeros((g.count, w))
            pairs = zip(self.inner.team.groups, step.obs, strict=False)
            shown = xp.concat([look(g, leaves).astype(np.float32) for g, leaves in pairs], axis=0)
            parts.append(xp.where(np.asarray(self._has(who))[:, None] & step.present[: self.n, None], shown, np.float32(0)))
        return xp.concat(parts, axis=-1)

    def sent(self, step: Step, agent: int, tool: Tool) -> dict[str, list[float]]:
        """What a real tool is sent of an agent's observation, of a step of the environment's own."""
        at = agent
        for g, leaves in zip(self.inner.team.groups, step.obs, strict=False):
            if at < g.count:
                return {k: np.asarray(leaves[k])[at].astype(float).tolist() for k in sends(tool)}
            at -= g.count
        raise IndexError(agent)

    def allowed(self, state: ToolState, step: Step) -> Array:
        """Which choices everybody has in a step, `[n choices]`: who is not there, or does not decide, has none but to call nothing."""
        return allowed(self.box, self.owners, state, (step.present & step.deciding)[: self.n])

    # ---- steps
    def draws(self, draw: Any) -> Draws:
        """The uniform numbers of one step, from a stream (`envs.faults.contract.Draws`)."""
        a, b = draw_shapes(self.box, self.n)
        return Draws(draw.uniform(a), draw.uniform(b))

    def begin(self, draws: Draws, xp: Any) -> ToolState:
        """Where an episode starts."""
        return begin(self.box, self.n, draws.price, xp)

    def after(self, state: ToolState, request: Request, may: Array, source: Array, draws: Draws) -> ToolState:
        """What is after one step (`exchange.after`)."""
        return after(self.box, state, request, may, source, draws)

    def row(self, step: Step, state: ToolState) -> Step:
        """A step with what tools and memory show in it, and what the last step's calls used."""
        xp, n = step.reward.__array_namespace__(), self.n
        here = step.present[:n]
        leaves = {k: xp.where(here[:, None], x, 0).astype(np.float32) for k, x in self._shown(state, xp).items()}
        leaves[LEAF] = state.used
        may = self.allowed(state, step)
        obs, legal, at = [], [], 0
        for g, seen, ok in zip(self.inner.team.groups, step.obs, step.legal, strict=False):
            mine, hidden = slice(at, at + g.count), self._hides(g)
            at += g.count
            obs.append({**{k: x for k, x in seen.items() if k not in hidden}, **{k: x[mine] for k, x in leaves.items()}})
            own = xp.ones((g.count, g.space.width), bool) if ok is None else ok
            rest = self._space(g).width - g.space.width - self.box.choices
            legal.append(xp.concat([own, may[mine], xp.ones((g.count, rest), bool)], axis=-1))
        rest_of = slice(self.groups, None)
        total = xp.sum(state.used, axis=0)
        counts = {name: total[METRICS.index(name)] for name in self._counts}
        return replace(step, obs=(*obs, *step.obs[rest_of]), legal=(*legal, *step.legal[rest_of]), metrics={**step.metrics, **counts})

    def _shown(self, state: ToolState, xp: Any) -> dict[str, Array]:
        """What agents see, `[n f]` by leaf."""
        box, n, out = self.box, self.n, {}
        number = lambda x: x.astype(np.float32)[..., None]
        age = lambda x: np.float32(1) / (1 + xp.maximum(x, 0).astype(np.float32))
        parts = []
        for i, t in enumerate(box.tools):
            share = xp.ones(n, np.float32)
            if t.calls:
                share = xp.maximum(1 - state.calls[:, i].astype(np.float32) / np.float32(t.calls), 0)
            if t.team_calls:
                share = xp.minimum(share, 1 - xp.sum(state.calls[:, i]).astype(np.float32) / np.float32(t.team_calls))
            has = np.asarray(self._has(t.agents), np.float32)[:, None]
            status = [
                state.valid[:, i],
                xp.where(state.valid[:, i], age(state.age[:, i]), 0),
                state.failed[:, i],
                state.left[:, i] > 0,
                share,
            ]
            parts.append(has * xp.concat([state.result[:, i, : t.size], *map(number, status)], axis=-1))
        if parts:
            out[TOOLS] = xp.concat(parts, axis=-1)
        if (memory := box.memory).slots:
            has = np.asarray(self._has(memory.agents), np.float32)[:, None]
            valid = state.read_age >= 0
            written = xp.broadcast_to(state.written, (n, memory.slots)).astype(np.float32)
            left = [1 - c.astype(np.float32) / np.float32(most) if most else xp.ones(n, np.float32) for c, most in
                    ((state.reads, memory.reads), (state.writes, memory.writes))]  # fmt: skip
            shown = [state.read, number(valid), number(xp.where(valid, age(state.read_age), 0)), written, *map(number, left)]
            out[MEMORY] = has * xp.concat(shown, axis=-1)
        if box.shown:
            out[PRICES] = xp.broadcast_to(state.price, (n, len(box.levels)))
        return out


def sends(tool: Tool) -> tuple[str, ...]:
    """Leaves that a real tool is sent of whoever calls it."""
    return tuple(getattr(tool, "sends", ()))


def without_tools(g: Group, box: Toolbox) -> Group:
    """A group as its environment has it, of one whose agents have the toolbox: leaves that were hidden are seen again, after the others.
    Managers' as they are."""
    if LEAF not in g.observation:
        return g
    drop, extra = (TOOLS, MEMORY, PRICES, LEAF), 1 + box.memory.parts
    seen = {k: leaf for k, leaf in g.observation.items() if k not in drop}
    lines = [t for t in box.tools if isinstance(t, DelayLine) and t.hidden and t.reads not in seen]
    seen |= {t.reads: Leaf("vector", (t.size * t.arguments,)) for t in lines if not t.agents or _named(g, t.agents)}
    space: Any
    if isinstance(g.space, MultiDiscrete):
        sizes = g.space.sizes[:-extra]
        space = Discrete(sizes[0]) if len(sizes) == 1 else MultiDiscrete(sizes)
    else:
        assert isinstance(g.space, Composite)
        parts, names = g.space.parts[:-extra], g.space.names[:-extra]
        space = parts[0] if names == (ACT,) else Composite(parts, names)
    k = max(1, sum(space.action_shape))
    declared = np.broadcast_to(np.asarray(g.default, np.float32), (g.count, g.space.action_shape[0]))[:, :k].astype(space.action_dtype)
    rows = [tuple(row.tolist()) if space.action_shape else row[0].item() for row in declared]
    return replace(g, observation=seen, space=space, default=rows[0] if len(set(rows)) == 1 else tuple(rows))


def _named(g: Group, pattern: str) -> tuple[str, ...]:
    """The group's agents that a pattern names; nobody where it names nobody of this group."""
    from fnmatch import fnmatchcase

    parts = [p.strip() for p in pattern.split("+")]
    of = zip(g.agents, g.types, strict=True)
    return tuple(a for a, kind in of if any(fnmatchcase(x, p) for x in (a, kind, g.name) for p in parts))
