"""The spec, steps and actions of an environment whose agents talk, made from those of one whose agents do not."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from marlstone.comms.contract import INBOX, LINKS, SAID, Channel
from marlstone.comms.exchange import Budget, Messages, Wire, begin, exchange, inbox
from marlstone.core.arrays import Array
from marlstone.core.distributions import Composite, Content, Gate
from marlstone.core.errors import UserError
from marlstone.core.records import replace
from marlstone.core.types import Group, Leaf, Metric, Spec, Step
from marlstone.envs.faults.messages import MessageCut

ACT, GATE, MESSAGE, LISTEN = "act", "gate", "message", "listen"  # parts of an action
PER_STEP = ("messages_per_step", "bits_per_step")  # declared metrics
BUDGET_SCALE = 10.0  # of log2 of a budget, as agents see it


@dataclass(frozen=True)
class TalkLayout:
    """Who talks: the team's agents, managers not among them. `inner` is the environment's own spec; `budget`: of every episode,
    of a channel that has several (None: one is drawn)."""

    channel: Channel
    inner: Spec
    budget: float | None = None

    def __post_init__(self) -> None:
        spec, n = self.inner, self.n
        if reason := self.channel.refuses(n):
            raise UserError(f"comms: {reason}")
        if spec.opponents:
            raise UserError(
                f"comms: agents talk within one team, and {', '.join(spec.opponents)} play against it: let a frozen policy play them, "
                f"--opponent {'+'.join(spec.opponents)}=random, or =RUN"
            )
        if taken := [m for m in PER_STEP if m in spec.metrics]:
            raise UserError(f"comms: the environment has a metric {taken[0]!r} already: rename it, or use comms = 'none'")
        for g in spec.team.groups:
            if taken := [leaf for leaf in (INBOX, LINKS, SAID) if leaf in g.observation]:
                raise UserError(
                    f"comms: group {g.name!r} has an observation leaf {taken[0]!r}, which the channel would overwrite: rename it"
                )
            if taken := [x for x in (GATE, MESSAGE, LISTEN) if isinstance(g.space, Composite) and x in g.space.names]:
                raise UserError(
                    f"comms: group {g.name!r} has a part of its actions called {taken[0]!r}, as messages have one: rename it, or use "
                    "comms = 'none'"
                )
        if self.channel.cut and (reason := MessageCut(self.channel.cut).unknown(self.inner.team.agents)):
            raise UserError(f"comms.cut: {reason}")
        for g in spec.team.groups:
            if self.channel.reach:
                leaf = g.observation.get(self.channel.reach)
                if leaf is None or leaf.shape != (n,):
                    known = ", ".join(k for k, x in g.observation.items() if x.shape == (n,)) or "none"
                    raise UserError(
                        f"comms.reach is {self.channel.reach!r}, and group {g.name!r} has no such observation leaf of {n} numbers, one for "
                        f"each agent (of that size: {known}): name one, or leave it out"
                    )

    @property
    def n(self) -> int:
        """How many agents talk."""
        return self.inner.team.n

    @property
    def groups(self) -> int:
        """How many groups talk; managers' come after."""
        return len(self.inner.team.groups)

    # ---- the spec
    @cached_property
    def spec(self) -> Spec:
        """The environment's spec with messages in actions and observations, and with what they cost as metrics."""
        team = tuple(map(self._group, self.inner.team.groups))
        metrics = {**self.inner.metrics, **{name: Metric("down", "mean", cost=True) for name in PER_STEP}}
        return replace(self.inner, groups=(*team, *self.inner.groups[self.groups :]), metrics=metrics)

    def _group(self, g: Group) -> Group:
        channel, n = self.channel, self.n
        leaves = {INBOX: Leaf("message", (channel.heard(n) + channel.shown,)), LINKS: Leaf("record", (3 * n,))}
        if channel.message == "symbols":
            leaves[SAID] = Leaf("vector", (channel.numbers,))
        space = self._space(g)
        own = np.asarray(g.recorded_defaults, np.float32).reshape(g.count, -1)
        default = np.concatenate([own, np.zeros((g.count, space.action_shape[0] - own.shape[1]), np.float32)], 1)
        rows = tuple(tuple(map(float, row)) for row in default)
        return replace(g, observation={**g.observation, **leaves}, space=space, default=rows[0] if len(set(rows)) == 1 else rows)

    def _space(self, g: Group) -> Composite:
        channel, own = self.channel, g.space
        parts, names = (own.parts, own.names) if isinstance(own, Composite) else ((own,), (ACT,))
        said: list[Any] = [Gate((2,) * channel.choices(self.n), channel.open)] if channel.gate else []
        more = [GATE] if channel.gate else []
        said, more = [*said, channel.content], [*more, MESSAGE]
        if channel.private:
            said, more = [*said, Content(channel.private, "float", bounded=False)], [*more, LISTEN]
        return Composite((*parts, *said), (*names, *more))

    # ---- actions
    def acted(self, action: tuple[Array, ...]) -> tuple[Array, ...]:
        """Everybody's actions as the environment takes them, of emitted ones with messages; managers' may be left out."""
        out = []
        for g, talking, a in zip(self.inner.groups, self.spec.groups, action, strict=False):
            if g.clock > 1:
                out.append(a)
            elif isinstance(g.space, Composite):
                out.append(a[..., : g.space.action_shape[0]])
            else:
                out.append(talking.space.split(a)[ACT])  # type: ignore[attr-defined]
        return tuple(out)

    def silent(self, action: tuple[Array, ...]) -> tuple[Array, ...]:
        """Recorded actions of the talking groups as the environment has them, with nothing said."""
        out = []
        for g, talking, a in zip(self.inner.team.groups, self.spec.groups, action, strict=False):
            own = np.asarray(a, np.float32).reshape(g.count, -1)
            more = talking.space.action_shape[0] - own.shape[1]
            out.append(np.concatenate([own, np.zeros((g.count, more), np.float32)], axis=-1))
        return tuple(out)

    def messages(self, action: tuple[Array, ...], allowed: Array) -> Messages:
        """What everybody sends, of recorded or emitted actions; `allowed` in the step they were taken in."""
        channel, n = self.channel, self.n
        xp = allowed.__array_namespace__()
        parts = [g.space.split(a) for g, a in zip(self.spec.groups[: self.groups], action, strict=False)]  # type: ignore[attr-defined]
        join = lambda name: xp.concat([p[name] for p in parts], axis=0)
        message = join(MESSAGE)
        content = channel.content
        to = allowed
        if channel.gate:
            gate = join(GATE)
            to = to & (gate.T == 1)  # [n choices] of senders -> (recipient, sender); one choice is for all
        own = join(LISTEN) if channel.private else xp.zeros((n, 0), np.float32)
        return Messages(content.sent(message), to, content.bits(message), own)

    def allowed(self, step: Step) -> Array:
        """As `may_send`, in a step of the environment's own."""
        return may_send(self.channel, self.inner.team, step)

    # ---- steps
    def level(self, u: Array | None, xp: Any) -> Array:
        """The budget of an episode, drawn by `u []`, uniform; the first where nothing is drawn."""
        levels = xp.asarray(self.channel.levels if self.budget is None else np.array([self.budget], np.float32))
        if u is None or len(levels) == 1:
            return levels[0]
        return levels[xp.minimum((u * len(self.channel.levels)).astype(np.int32), len(self.channel.levels) - 1)]

    def begin(self, step: Step, u: Array | None, level: Array) -> tuple[Wire, Budget, Step]:
        """The channel at an episode's first step, and that step as agents see it."""
        wire, budget = begin(self.channel, self.n, u, level, step.reward.__array_namespace__())
        return wire, budget, self.row(step, wire, budget, inbox(self.channel, wire))

    def after(self, wire: Wire, budget: Budget, sent: Messages, step: Step, u: Array | None) -> tuple[Wire, Budget, Step]:
        """The channel after one step, and `step`, which followed, as agents see it."""
        wire, heard, budget, _ = exchange(self.channel, wire, sent, budget, u)
        return wire, budget, self.row(step, wire, budget, heard)

    def row(self, step: Step, wire: Wire, budget: Budget, heard: Array) -> Step:
        """A step with what was heard in it, and what the last step's messages cost."""
        xp, channel, n = step.reward.__array_namespace__(), self.channel, self.n
        here = step.present[:n]
        heard = xp.where(here[:, None], heard, 0).astype(np.float32)
        if channel.shown:
            told = xp.broadcast_to((xp.log2(budget.level) / BUDGET_SCALE).astype(np.float32), (n, 1))
            heard = xp.concat([heard, told], axis=-1)
        age = xp.where(here[:, None], wire.age, 0).astype(np.float32)
        links = xp.concat([age, wire.sent.T.astype(np.float32), wire.bits.T], axis=-1)
        said = xp.where(xp.any(wire.sent, axis=0)[:, None], wire.said[0], 0).astype(np.float32)
        obs, legal, at = [], [], 0
        for g, talking, leaves, ok in zip(self.inner.team.groups, self.spec.groups, step.obs, step.legal, strict=False):
            mine = slice(at, at + g.count)
            at += g.count
            more = {INBOX: heard[mine], LINKS: links[mine]}
            if channel.message == "symbols":
                more[SAID] = said[mine]
            obs.append({**leaves, **more})
            legal.append(self._legal(g, talking, ok, mine, xp))
        rest = slice(self.groups, None)
        counts = {PER_STEP[0]: xp.sum(wire.sent).astype(np.float32), PER_STEP[1]: xp.sum(wire.bits)}
        return replace(step, obs=(*obs, *step.obs[rest]), legal=(*legal, *step.legal[rest]), metrics={**step.metrics, **counts})

    def _legal(self, g: Group, talking: Group, ok: Array | None, mine: slice, xp: Any) -> Array | None:
        """The mask of whole actions, `[n_g a]`: gates that lead nowhere stay shut; None where everything is allowed."""
        shut = self._shut[mine]
        if ok is None and not shut.any():
            return None
        own = xp.ones((g.count, g.space.width), bool) if ok is None else ok
        rest = np.ones((g.count, talking.space.width - g.space.width), bool)
        rest[:, 1 : 2 * shut.shape[1] : 2] = ~shut
        return xp.concat([own, xp.asarray(rest)], axis=-1)

    @cached_property
    def _shut(self) -> np.ndarray:
        """Gates that never open, `[n choices]`: towards oneself, where there is one for each recipient, and where every link is cut."""
        if not self.channel.gate:
            return np.zeros((self.n, 0), bool)
        nobody = np.eye(self.n, dtype=bool) | cut_links(self.channel.cut, self.inner.team.agents).T  # [sender recipient]
        if self.channel.choices(self.n) > 1:
            return nobody
        return nobody.all(1, keepdims=True) & bool(self.channel.cut)


@lru_cache(maxsize=64)
def cut_links(links: tuple[str, ...], agents: tuple[str, ...]) -> np.ndarray:
    """Links that do not exist, `[n n]` (recipient, sender), of `Channel.cut`."""
    return MessageCut(links).cut(agents) if links else np.zeros((len(agents), len(agents)), bool)


def may_send(channel: Channel, team: Spec, step: Step) -> Array:
    """`[... n n]` (recipient, sender): who may be sent something in a step. Absent agents neither speak nor hear, whoever does not decide
    hears and does not speak, nobody speaks to itself or on a link that is cut, and a sender's own leaf says whom it reaches."""
    here, decides = step.present[..., : team.n], step.deciding[..., : team.n]
    to = here[..., :, None] & (here & decides)[..., None, :] & ~(np.eye(team.n, dtype=bool) | cut_links(channel.cut, team.agents))
    if not channel.reach:
        return to
    xp = here.__array_namespace__()
    within = xp.concat([step.obs[i][channel.reach] for i in range(len(team.groups))], axis=-2) > 0.5
    return to & xp.swapaxes(within, -1, -2)


def with_shares(spec: Spec, heads: tuple[Array, ...], seen: tuple[Any, ...]) -> tuple[Array, ...]:
    """Heads `[... n_g head]` whose symbols' codes are made for what was said so far: the mean of the leaf in which agents see their own
    last symbol. Others as they are. Args: `seen`: per group, the moments that normalize its leaves."""
    out = []
    for g, head, moments in zip(spec.groups, heads, seen, strict=True):
        space = g.space
        if isinstance(space, Composite) and SAID in g.observation:
            parts, at = space.by_part(head), space.names.index(MESSAGE)
            content = space.parts[at]
            assert isinstance(content, Content)
            xp, m = head.__array_namespace__(), moments.get(SAID)
            parts[at] = content.with_shares(parts[at], xp.ones(content.size, np.float32) if m is None else m.mean)
            head = xp.concat(parts, axis=-1)
        out.append(head)
    return tuple(out)


def without_messages(g: Group) -> Group:
    """A group as its environment has it, of one whose agents talk: its action without gate and content."""
    space = g.space
    if not isinstance(space, Composite) or MESSAGE not in space.names:
        return g
    own = tuple((p, name) for p, name in zip(space.parts, space.names, strict=True) if name not in (GATE, MESSAGE, LISTEN))
    parts, names = (tuple(x) for x in zip(*own, strict=True))
    bare = parts[0] if names == (ACT,) else Composite(parts, names)
    k = max(1, sum(bare.action_shape))
    declared = np.broadcast_to(np.asarray(g.default, np.float32), (g.count, space.action_shape[0]))[:, :k]
    rows = [tuple(row.tolist()) if bare.action_shape else row[0].item() for row in declared.astype(bare.action_dtype)]
    return replace(g, space=bare, default=rows[0] if len(set(rows)) == 1 else tuple(rows))
