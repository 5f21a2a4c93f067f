"""What learning needs of a channel: inboxes with gradients, what speaking is expected to cost, and the price that keeps a budget.

    inbox_i(t) = hear(own_i(t-1), {m_j(t - age_ij(t))}, age_ij(t))          m, own: what the networks would say now; ages as recorded
    loss      += (price / max(used, budget)) E[bits_j(t)]                   E over j's own gates and symbols, given what it sees

The expectation is exact at the states that were met and differentiable in gates and content; what speaking now does to later states, and so
to later messages, is left out. Prices are moved once per update by a proportional-integral controller on log(used / budget) (the multiplier
of a Lagrangian; PID as in Stooke et al. 2020), where `used` is the 95th percentile over episodes of bits per joint step. It is no reward:
credit and values never see it.

Gradients pass one hop: from a receiver's loss to what was sent to it, not on to what had been sent to the sender.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from marlstone.comms.contract import INBOX, LINKS, Channel
from marlstone.comms.layout import BUDGET_SCALE, GATE, MESSAGE, may_send
from marlstone.core.arrays import Array
from marlstone.core.distributions import Composite, Content, Gate
from marlstone.core.flops import component
from marlstone.core.layers import Dense
from marlstone.core.multiplier import controlled, excess
from marlstone.core.records import record, replace
from marlstone.core.types import Spec, Step, Trajectory

QUANTILE = 0.95


@record
class Price:
    """What a bit costs: `now` and the controller's `sum`, `[levels]` each, and bits per joint step `used [levels]`, as the last batches had
    it."""

    now: Array
    sum: Array
    used: Array


def begin_price(channel: Channel) -> Price | None:
    """Before training: nothing costs anything. None without a channel."""
    if not channel.speaks:
        return None
    zeros = jnp.zeros(len(channel.levels))
    return Price(zeros, zeros, zeros)


@dataclass(frozen=True)
class Speech:
    """A channel's part in learning. `spec`: with messages (`TalkLayout.spec`)."""

    channel: Channel
    spec: Spec

    @property
    def n(self) -> int:
        """How many agents talk."""
        return self.spec.team.n

    def _parts(self, per_group: tuple[Array, ...], of: Any) -> list[dict[str, Array]]:
        spaces = [g.space for g in self.spec.team.groups]
        return [dict(zip(s.names, of(s, x), strict=True)) for s, x in zip(spaces, per_group, strict=False)]  # type: ignore[attr-defined]

    @property
    def _groups(self) -> int:
        return len(self.spec.team.groups)

    @property
    def _said(self) -> int:
        """How much of a head messages and listening take: its end (`TalkLayout`)."""
        return self.channel.content.head + self.channel.private

    def _space(self, name: str) -> Any:
        space = self.spec.groups[0].space
        assert isinstance(space, Composite)
        return space.parts[space.names.index(name)]

    # ---- what is heard
    def saying(self, actor: tuple[Any, ...]) -> tuple[Any, ...]:
        """The actors' networks with as much of their heads as messages are made of: what `heard` reads."""
        talking = [replace(p, head=Dense(p.head.w[..., -self._said :], p.head.b[..., -self._said :])) for p in actor[: self._groups]]
        return (*talking, *actor[self._groups :])

    def heard(self, heads: tuple[Array, ...], trajectory: Trajectory) -> Step:
        """The trajectory's steps `[b t+1 ...]` with inboxes of what `heads [b t+1 n_g head]` (or their ends, of `saying`) would have said,
        where that was said within the trajectory; as recorded elsewhere. The same numbers as recorded, if these are the networks that
        acted."""
        channel, step, n = self.channel, trajectory.step, self.n
        length = trajectory.logp.shape[1]
        did = self._parts(trajectory.action, lambda s, x: list(s.split(x).values()))
        now = jnp.concatenate([h[:, :-1, :, -self._said :] for h in heads[: self._groups]], axis=2)
        content = channel.content
        said = content.resent(now[..., : content.head], jnp.concatenate([a[MESSAGE] for a in did], axis=2))
        own = now[..., content.head :]
        later = lambda x, k: jnp.pad(x, [(0, 0), (k, 0), *[(0, 0)] * (x.ndim - 2)])[:, : length + 1]
        age = self._links(step)[0]
        with component("channel"):
            inbox = channel.hear(later(own, 1), tuple(later(said, a + 1) for a in range(channel.history)), age)
        inbox = jnp.where(step.present[..., :n, None], inbox, 0)
        within = (age.max(-1) <= jnp.arange(length + 1)[:, None]) & (jnp.arange(length + 1) > 0)[:, None]
        obs, at = [], 0
        for g, leaves in zip(self.spec.team.groups, step.obs, strict=False):
            mine = slice(at, at + g.count)
            at += g.count
            shown = leaves[INBOX][..., inbox.shape[-1] :]
            heard = jnp.where(within[:, :, mine, None], inbox[:, :, mine], leaves[INBOX][..., : inbox.shape[-1]])
            obs.append({**leaves, INBOX: jnp.concatenate([heard, shown], -1)})
        return replace(step, obs=(*obs, *step.obs[len(obs) :]))

    def _links(self, step: Step) -> tuple[Array, Array, Array]:
        """Ages of what was heard `[... n n]`, (recipient, sender); to whom was sent, and bits, `[... n n]`, (sender, recipient)."""
        links = jnp.concatenate([leaves[LINKS] for leaves in step.obs[: self._groups]], axis=-2)
        n = self.n
        return links[..., :n].astype(jnp.int32), links[..., n : 2 * n], links[..., 2 * n :]

    # ---- what was sent
    def links(self, step: Step) -> tuple[Array, Array, Array]:
        """What a step records of every link: ages of what was heard `[... n n]`, (recipient, sender), 0 for nothing; to whom was sent in
        the step before, and bits, `[... n n]`, (sender, recipient)."""
        return self._links(step)

    def level(self, step: Step) -> Array:
        """Which budget each environment's episode has, `[...]`, as its agents see it; 0 where there is one for all."""
        if not self.channel.shown:
            return jnp.zeros(step.first.shape, jnp.int32)
        known = np.log2(self.channel.levels) / BUDGET_SCALE
        return jnp.argmin(jnp.abs(step.obs[0][INBOX][..., 0, -1, None] - known), -1)

    def tried(self, action: tuple[Array, ...], step: Step) -> Array:
        """To whom agents speak by actions as recorded, `[... n n]` (recipient, sender), whatever a budget refuses of it."""
        to = may_send(self.channel, self.spec.team, step)
        if not self.channel.gate:
            return to
        parts = self._parts(action, lambda s, x: list(s.split(x).values()))
        speaks = jnp.concatenate([p[GATE] for p in parts], axis=-2)
        return to & jnp.swapaxes(speaks == 1, -1, -2)

    # ---- what it costs
    def expected_bits(self, heads: tuple[Array, ...], trajectory: Trajectory) -> Array:
        """Bits that each agent is expected to send at each step by its own gates and symbols, `[b t n]`; managers send none."""
        step = jax.tree.map(lambda x: x[:, :-1], trajectory.step)
        now = self._parts(heads, lambda s, x: s.by_part(x[:, :-1]))
        content: Content = self._space(MESSAGE)
        join = lambda parts: jnp.concatenate(parts, axis=2)
        bits = join([content.expected_bits(h[MESSAGE]) for h in now])
        reached = may_send(self.channel, self.spec.team, step).astype(jnp.float32)  # (recipient, sender)
        if self.channel.gate:
            gate: Gate = self._space(GATE)
            speaks = join([gate.speaks(h[GATE], None) for h in now])  # [b t n choices]
            reached = reached * jnp.swapaxes(speaks, -1, -2)
        sent = bits * reached.sum(-2)
        return jnp.pad(sent, [(0, 0), (0, 0), (0, self.spec.n - self.n)])

    def levels(self, trajectory: Trajectory) -> Array:
        """Which budget each step's episode has, `[b t]`."""
        if not self.channel.shown:
            return jnp.zeros(trajectory.logp.shape[:2], jnp.int32)
        told = trajectory.step.obs[0][INBOX][:, :-1, 0, -1]
        known = np.log2(self.channel.levels) / BUDGET_SCALE
        return jnp.argmin(jnp.abs(told[..., None] - known), -1)

    def cost(self, price: Price, bits: Array, trajectory: Trajectory) -> Array:
        """What speaking costs in the loss, `[b t n]`, of `expected_bits`."""
        n = 1 if self.channel.per_agent else self.n
        if self.channel.price:
            return price.now[0] * bits
        level = self.levels(trajectory)
        per_bit = price.now * n / jnp.maximum(price.used, self.channel.levels)
        return per_bit[level][..., None] * bits

    # ---- the controller
    def next_price(self, price: Price, trajectory: Trajectory, progress: Array, psum: Any) -> tuple[Price, dict[str, Array]]:
        """The prices after a batch, and figures to record: bits and messages per joint step, and the mean price."""
        channel = self.channel
        rest = jax.tree.map(lambda x: x[:, 1:], trajectory.step)
        _, sent, bits = self._links(rest)
        real = trajectory.real
        count = jnp.maximum(psum(real.sum()), 1)
        mean = lambda x: psum(jnp.where(real, x, 0).sum()) / count
        figures = {"messages_per_step": mean(sent.sum((-1, -2))), "bits_per_step": mean(bits.sum((-1, -2)))}
        opened = progress >= channel.opening
        if channel.price:
            now = jnp.where(opened, channel.price, 0.0) * jnp.ones_like(price.now)
            return Price(now, price.sum, price.used), figures | {"price": now.mean()}
        if not channel.budget_bits:
            return price, figures
        each = bits.sum(-1) if channel.per_agent else bits.sum((-1, -2))[..., None]
        used, known = self._used(each, trajectory, psum)
        used = jnp.where(known, used, price.used)
        error = jnp.where(known & opened, excess(used, channel.levels), 0)
        now, total = controlled(price.sum, error)
        return Price(jnp.where(opened, now, 0), total, used), figures | {"price": now.mean(), "bits_used": used.mean()}

    def _used(self, bits: Array, trajectory: Trajectory, psum: Any) -> tuple[Array, Array]:
        """By budget: the 95th percentile over episodes, as far as the batch shows them, of bits per joint step (`bits [b t k]`: of whoever
        of the k sent most); and whether there were any. Episodes weigh as much as they are long; resets are no steps."""
        begins, real = trajectory.step.first[:, :-1], trajectory.real
        at = jnp.arange(bits.shape[1])
        start = lax.cummax(jnp.where(begins, at, 0), axis=1)
        ends = jnp.concatenate([begins[:, 1:], jnp.ones_like(begins[:, :1])], 1)

        def so_far(x: Array) -> Array:
            """Of the episode: sums of `x [b t k]` over its real steps."""
            total = jnp.cumsum(jnp.where(real[..., None], x, 0), 1)
            before = jnp.take_along_axis(total, jnp.maximum(start - 1, 0)[..., None], 1)
            return total - jnp.where(start[..., None] > 0, before, 0)

        steps = so_far(jnp.ones_like(bits[..., :1]))
        mean, level = (so_far(bits) / jnp.maximum(steps, 1)).max(-1).reshape(-1), self.levels(trajectory).reshape(-1)
        weight = jnp.where(ends, steps[..., 0], 0).reshape(-1)
        order = jnp.argsort(mean)
        out, known = [], []
        for k in range(len(self.channel.levels)):
            mine = jnp.where(level == k, weight, 0)[order]
            share = jnp.cumsum(mine) / jnp.maximum(mine.sum(), 1)
            place = jnp.argmax(share >= QUANTILE)
            out.append(mean[order][place])
            known.append(mine.sum() > 0)
        used, there = jnp.stack(out), jnp.stack(known)
        counted = psum(there.astype(jnp.float32))  # devices that share a batch: their mean
        return psum(jnp.where(there, used, 0)) / jnp.maximum(counted, 1), counted > 0


def sent_in(channel: Channel, spec: Spec, trajectory: Trajectory) -> dict[str, Array]:
    """Messages and bits by sender and recipient, `[n n]` each, over the joint steps of a batch; nothing without a channel."""
    if not channel.speaks:
        return {}
    rest = jax.tree.map(lambda x: x[:, 1:], trajectory.step)
    _, sent, bits = Speech(channel, spec)._links(rest)
    real = trajectory.real[..., None, None]
    return {"messages": jnp.where(real, sent, 0).sum((0, 1)), "bits": jnp.where(real, bits, 0).sum((0, 1))}
