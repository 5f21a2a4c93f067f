"""Policies' arrays without observation leaves, message numbers and hidden units: silenced where they are, of the same shapes, so that one
program judges whatever goes; and cut smaller, as they are deployed.

A unit that goes leaves its mean behind: what it adds on average to the next layer moves into that layer's bias. A leaf that goes is its
normalization's mean, 0. Arrays have leading axes of training seeds and, where agents do not share all parameters, of parameter sets.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from marlstone.algorithm import Policy
from marlstone.architectures import Gru
from marlstone.architectures.acting import Actor
from marlstone.architectures.network import Network
from marlstone.comms.contract import INBOX
from marlstone.comms.layout import MESSAGE
from marlstone.core.distributions import Composite
from marlstone.core.gru import GruParams
from marlstone.core.layers import Dense
from marlstone.core.records import replace
from marlstone.core.trees import map_arrays
from marlstone.evaluation.trim.removals import Removals, layers_of

NUMBERS = "message numbers"  # as a layer: what an inbox shows of a message, number by number


@dataclass(frozen=True)
class Silent:
    """Which units of a layer may go, the least important first, and what each leaves behind: `order`, `mean` `[seeds sets width]`."""

    order: np.ndarray
    mean: np.ndarray

    def gone(self, count: int) -> np.ndarray:
        """Which go, `[seeds sets width]` booleans."""
        mask = np.zeros(self.order.shape, bool)
        np.put_along_axis(mask, self.order[..., :count], True, -1)
        return mask


@dataclass(frozen=True)
class Networks:
    """Every group's policy networks. `policies`: of all seeds, NumPy arrays; `silent`: per group, by layer, what may go of it."""

    actors: tuple[Actor, ...]
    policies: Policy
    silent: tuple[dict[str, Silent], ...]

    @cached_property
    def _stacked(self) -> tuple[bool, ...]:
        """Of every group, whether its arrays have an axis of parameter sets."""
        return tuple(a.fuse.sets > 1 for a in self.actors)

    def silenced(self, gone: Removals) -> Policy:
        """The policies, of the same shapes, as if these were not there."""
        return replace(self.policies, actor=tuple(self._silenced(i, gone) for i in range(len(self.actors))))

    def cut(self, gone: Removals) -> Policy:
        """The policies without them, smaller."""
        nets = []
        for i, net in enumerate(self.silenced(gone).actor):
            nets.append(self._back(i, self._smaller(i, self._apart(i, net), gone)))
        kept = tuple({k: m for k, m in seen.items() if k not in self._leaves(i, gone)} for i, seen in enumerate(self.policies.seen.obs))
        return replace(self.policies, actor=tuple(nets), seen=replace(self.policies.seen, obs=kept))

    def products(self, gone: Removals) -> int:
        """Multiplications of all agents in one step, in matrices that these removals change; encoders aside."""
        total = 0
        for i, (a, net) in enumerate(zip(self.actors, self.policies.actor, strict=True)):
            small = self._smaller(i, self._apart(i, net), gone)
            matrices = [*small.fuse.leaves.values(), *(p.w for p in _dense(small.core)), *(p.w for p in small.after), small.head.w]
            matrices += [small.core.u] if isinstance(small.core, GruParams) else []
            total += a.fuse.group.count * sum(int(np.prod(w.shape[-2:])) for w in matrices)
        return total

    # ---- one group
    def _leaves(self, i: int, gone: Removals) -> list[str]:
        g = self.actors[i].fuse.group
        return [k for k in g.observation if f"{g.name}:{k}" in gone.leaves]

    def _apart(self, i: int, net: Network) -> Network:
        """With an axis of parameter sets."""
        return net if self._stacked[i] else map_arrays(lambda x: x[:, None], net)

    def _back(self, i: int, net: Network) -> Network:
        return net if self._stacked[i] else map_arrays(lambda x: x[:, 0], net)

    def _masks(self, i: int, gone: Removals) -> dict[str, np.ndarray]:
        counts = {**gone.units, **({NUMBERS: gone.numbers} if gone.numbers else {})}
        return {name: self.silent[i][name].gone(count) for name, count in counts.items() if count and name in self.silent[i]}

    def _silenced(self, i: int, gone: Removals) -> Network:
        a, net = self.actors[i], self._apart(i, self.policies.actor[i])
        fuse, masks = net.fuse, self._masks(i, gone)
        leaves, b = dict(fuse.leaves), fuse.b
        for name in self._leaves(i, gone):
            if name in a.fuse.encoders:
                b = b + (self._blank(i, name) @ leaves[name])[..., 0, :]
            leaves[name] = np.zeros_like(leaves[name])
        head = net.head
        if (mask := masks.pop(NUMBERS, None)) is not None:
            b, leaves[INBOX] = _quiet(leaves[INBOX], b, mask, self.silent[i][NUMBERS].mean)
            columns = self._columns(i, mask)
            head = Dense(np.where(columns[..., None, :], 0, head.w), np.where(columns, 0, head.b))
        net = replace(net, fuse=replace(fuse, leaves=leaves, b=b), head=head)
        for name, mask in masks.items():
            net = _without(net, a, name, mask, self.silent[i][name].mean)
        return self._back(i, net)

    def _blank(self, i: int, leaf: str) -> np.ndarray:
        """What the encoder of a leaf makes of nothing, `[seeds sets 1 f]`."""
        a, net = self.actors[i], self._apart(i, self.policies.actor[i])
        encoder, declared, p = a.fuse.encoders[leaf], a.fuse.group.observation[leaf], net.fuse.encoders[leaf]
        zeros = np.zeros((1, *declared.shape), declared.dtype)
        seeds, sets = net.fuse.b.shape[:2]
        each = [[encoder.apply(map_arrays(lambda x: x[s, k], p), declared, zeros) for k in range(sets)] for s in range(seeds)]  # noqa: B023
        return np.asarray(each)

    def _columns(self, i: int, mask: np.ndarray) -> np.ndarray:
        """Which outputs of the head are message numbers that go, `[seeds sets head]`."""
        space = self.actors[i].fuse.group.space
        assert isinstance(space, Composite)
        out, at = np.zeros((*mask.shape[:-1], space.head), bool), space.names.index(MESSAGE)
        start = sum(p.head for p in space.parts[:at])
        out[..., start : start + mask.shape[-1]] = mask
        return out

    def _smaller(self, i: int, net: Network, gone: Removals) -> Network:
        """Of silenced arrays with an axis of sets, those that are left."""
        masks, absent = self._masks(i, gone), self._leaves(i, gone)
        fuse = net.fuse
        leaves = {k: w for k, w in fuse.leaves.items() if k not in absent}
        encoders = {k: p for k, p in fuse.encoders.items() if k not in absent}
        net = replace(net, fuse=replace(fuse, leaves=leaves, encoders=encoders))
        if (mask := masks.pop(NUMBERS, None)) is not None:
            rest = np.zeros((*mask.shape[:-1], leaves[INBOX].shape[-2] - mask.shape[-1]), bool)
            shown = {**leaves, INBOX: _take(leaves[INBOX], np.concatenate([mask, rest], -1), -2)}
            columns = self._columns(i, mask)
            net = replace(net, fuse=replace(net.fuse, leaves=shown), head=_columns_of(net.head, columns))
        for name, mask in masks.items():
            net = _narrow(net, self.actors[i], name, mask)
        return net


# ---- layers
def _dense(core: Any) -> tuple[Dense, ...]:
    return (core.x,) if isinstance(core, GruParams) else tuple(core)


def following(net: Network, actor: Actor, name: str) -> tuple[Dense, Callable[[Network, Dense], Network]]:
    """The layer that a layer of units feeds, and how a network is given another in its place; of recurrent units the one after them."""
    names, gru = list(layers_of(actor.body)), isinstance(actor.body, Gru)
    at = names.index(name)
    if gru and at == 0:
        return net.core.x, lambda n, p: replace(n, core=replace(n.core, x=p))
    chain = net.after if gru else net.core
    place = at - 1 if gru else at
    if place == len(chain):
        return net.head, lambda n, p: replace(n, head=p)
    put = lambda xs, p: (*xs[:place], p, *xs[place + 1 :])
    return chain[place], lambda n, p: replace(n, after=put(n.after, p)) if gru else replace(n, core=put(n.core, p))


def _quiet(w: np.ndarray, b: np.ndarray, gone: np.ndarray, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bias and matrix `[seeds sets i o]` without inputs that are `gone [seeds sets j]`, j <= i, whose `mean` moves into the bias."""
    more = [(0, 0), (0, 0), (0, w.shape[-2] - gone.shape[-1])]
    mask, left = np.pad(gone, more), np.pad(np.where(gone, mean, 0), more)
    return (b + np.einsum("skj,skjo->sko", left, w)).astype(b.dtype), np.where(mask[..., None], 0, w).astype(w.dtype)


def _without(net: Network, actor: Actor, name: str, gone: np.ndarray, mean: np.ndarray) -> Network:
    if name == "recurrent":
        none, core = np.zeros_like(net.core.x.b), net.core
        left, u = _quiet(core.u, none, gone, mean)
        h = gone.shape[-1]
        gates = np.concatenate([left[..., : 2 * h], np.zeros_like(left[..., 2 * h :])], -1)
        net = replace(net, core=replace(core, u=u, x=replace(core.x, b=core.x.b + gates), b=core.b + left[..., 2 * h :]))
    p, put = following(net, actor, name)
    b, w = _quiet(p.w, p.b, gone, mean)
    return put(net, Dense(w, b))


def _take(x: np.ndarray, gone: np.ndarray, axis: int) -> np.ndarray:
    """`x [seeds sets ...]` without entries that are `gone [seeds sets j]` along an axis; as many everywhere."""
    keep = np.argsort(gone, axis=-1, kind="stable")[..., : gone.shape[-1] - int(gone[0, 0].sum())]
    shape = [*keep.shape[:2], *(1,) * (x.ndim - 2)]
    shape[axis % x.ndim] = keep.shape[-1]
    return np.take_along_axis(x, keep.reshape(shape), axis)


def _columns_of(p: Dense, gone: np.ndarray) -> Dense:
    return Dense(_take(p.w, gone, -1), _take(p.b, gone, -1))


def _narrow(net: Network, actor: Actor, name: str, gone: np.ndarray) -> Network:
    """Without the columns that make these units, and the rows that read them."""
    p, put = following(net, actor, name)
    net = put(net, Dense(_take(p.w, gone, -2), p.b))
    names, gru = list(layers_of(actor.body)), isinstance(actor.body, Gru)
    at = names.index(name)
    if at == 0:
        fuse = net.fuse
        agent = None if fuse.agent is None else _take(fuse.agent, gone, -1)
        leaves = {k: _take(w, gone, -1) for k, w in fuse.leaves.items()}
        return replace(net, fuse=replace(fuse, leaves=leaves, agent=agent, b=_take(fuse.b, gone, -1)))
    if name == "recurrent":
        thrice, core = np.concatenate([gone] * 3, -1), net.core
        u = _take(_take(core.u, gone, -2), thrice, -1)
        return replace(net, core=GruParams(_columns_of(core.x, thrice), u, _take(core.b, gone, -1)))
    place = at - 2 if gru else at - 1
    chain: Sequence[Dense] = net.after if gru else net.core
    changed = (*chain[:place], _columns_of(chain[place], gone), *chain[place + 1 :])
    return replace(net, after=changed) if gru else replace(net, core=changed)
