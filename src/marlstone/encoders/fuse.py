"""One observation, however many modalities, to one vector per agent: encode each leaf, project, add.

The first layer of a network over the concatenation of its inputs is a sum of one product per input. Written so, an
agent's identity is a row looked up instead of a one-hot product, and the global state is projected once per step of the
environment instead of once per agent.

    h_n = sum_leaf e_leaf(x_n) W_leaf  +  s W_state  +  I_n  +  b
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from marlstone.core.flops import component
from marlstone.core.layers import dense_product, gather_agent_params, init_stacked, orthogonal, owner_index
from marlstone.core.normalize import Moments, normalize
from marlstone.core.records import record
from marlstone.core.trees import map_arrays
from marlstone.core.types import Group, Leaf
from marlstone.encoders.contract import Encoder, encoders_of
from marlstone.encoders.image import Image

Array = Any


@record
class FuseParameters:
    """`encoders`: per leaf that is encoded, its encoder's parameters; `leaves`: per leaf `[f h]`; `state [s h]` and `agent [n h]` or None;
    `b [h]`. With several parameter sets, all of them have a leading axis of sets."""

    encoders: dict[str, Any]
    leaves: dict[str, Array]
    state: Array | None
    agent: Array | None
    b: Array


@dataclass(frozen=True)
class Fuse:
    """The first layer of every network. `width` numbers out; `owners`: the parameter set of each agent; `encoders`: of each leaf that has
    one; `leaves`: those it sees; `state`: the length of the global state it also sees (0: none); `scale`: the gain of its matrix."""

    group: Group
    width: int
    owners: tuple[int, ...]
    encoders: Mapping[str, Encoder] = field(hash=False)
    leaves: tuple[str, ...]
    state: int = 0
    agent_ids: bool = True
    scale: float = 2**0.5

    @classmethod
    def shared(cls, group: Group, width: int) -> "Fuse":
        """Of everything a group sees, with one set of parameters for all of it."""
        return cls(group, width, (0,) * group.count, encoders_of(group, {}, Image()), group.seen)

    @property
    def sets(self) -> int:
        """How many parameter sets there are."""
        return max(self.owners) + 1

    def _features(self, name: str, leaf: Leaf) -> int:
        return self.encoders[name].width(leaf) if name in self.encoders else leaf.shape[0]

    @property
    def _identifies(self) -> bool:
        """Agents that share parameters are told which one they are; an agent alone in its set would learn a second bias."""
        return self.agent_ids and any(self.owners.count(k) > 1 for k in self.owners)

    @property
    def rows(self) -> int:
        """Agents computed apart: one stands for all where nothing tells them from each other (a critic of the state alone)."""
        return 1 if not self.leaves and not self._identifies and self.sets == 1 else self.group.count

    def init(self, key: Array) -> FuseParameters:
        """Orthogonal over all inputs together, as if they were concatenated."""
        import jax
        import jax.numpy as jnp

        kinds = {name: self.group.observation[name] for name in self.leaves}
        widths = [self._features(name, leaf) for name, leaf in kinds.items()]
        extra = [self.state] * (self.state > 0) + [self.group.count] * self._identifies
        cuts = np.cumsum([*widths, *extra])[:-1]

        def one(key: Array) -> FuseParameters:
            first, rest = jax.random.split(key)
            parts = jnp.split(orthogonal(first, sum(widths) + sum(extra), self.width, self.scale), cuts)
            encoded = {n: leaf for n, leaf in kinds.items() if n in self.encoders}
            keys = jax.random.split(rest, max(len(encoded), 1))
            return FuseParameters(
                encoders={n: self.encoders[n].init(leaf, k) for (n, leaf), k in zip(encoded.items(), keys, strict=False)},
                leaves=dict(zip(kinds, parts, strict=False)),
                state=parts[len(kinds)] if self.state else None,
                agent=parts[-1] if self._identifies else None,
                b=jnp.zeros(self.width),
            )

        return init_stacked(one, key, self.sets)

    def __call__(self, p: FuseParameters, obs: dict[str, Array], moments: dict[str, Moments], state: Array | None) -> Array:
        """obs leaves `[... n f]` or `[... n h w c]`, state `[... s]` -> `[... rows width]`, before its activation."""
        owners = owner_index(self.owners)
        h: Array = 0.0
        for name in self.leaves:
            h = h + dense_product(self._seen(p, name, obs[name], moments), p.leaves[name], owners)
        if p.state is not None:
            w = gather_agent_params(p.state, owners, 2)
            h = h + ((state @ w)[..., None, :] if w.ndim == 2 else w.__array_namespace__().einsum("...s,nsh->...nh", state, w))
        if p.agent is not None:
            h = h + (p.agent if p.agent.ndim == 2 else p.agent[np.array(self.owners), np.arange(self.group.count)])
        h = h + gather_agent_params(p.b, owners, 1)
        return h if h.shape[-2] == self.rows else h.__array_namespace__().broadcast_to(h, (*h.shape[:-2], self.rows, self.width))

    def changed(self, p: FuseParameters, h: Array, name: str, old: Array, new: Array, moments: dict[str, Moments]) -> Array:
        """`h`, the first layer of observations whose leaf `name` is `old`, where it is `new` instead: no other leaf is read again."""
        gap = self._seen(p, name, new, moments) - self._seen(p, name, old, moments)
        return h + dense_product(gap, p.leaves[name], owner_index(self.owners))

    def _seen(self, p: FuseParameters, name: str, x: Array, moments: dict[str, Moments]) -> Array:
        """A leaf, normalized and encoded, `[... n f]`."""
        owners = owner_index(self.owners)
        if name in moments:
            m = moments[name]
            x = normalize(Moments(gather_agent_params(m.mean, owners, 1), gather_agent_params(m.var, owners, 1), m.count), x)
        if name in self.encoders:
            with component("encoder", list(self.group.observation).index(name), x):
                x = self._encode(self.encoders[name], p.encoders[name], self.group.observation[name], x, owners)
        return x

    def _encode(self, encoder: Encoder, p: Any, leaf: Leaf, x: Array, owners: np.ndarray | None) -> Array:
        """`[... n *leaf.shape]` to `[... n f]`: all agents at once, or each by its own parameters."""
        if self.sets == 1:
            return encoder.apply(p, leaf, x)
        mine = p if owners is None else map_arrays(lambda a: a[owners], p)
        axis = -1 - len(leaf.shape)
        if x.__array_namespace__() is np:
            agents = np.moveaxis(x, axis, 0)
            return np.stack([encoder.apply(map_arrays(lambda a: a[i], mine), leaf, y) for i, y in enumerate(agents)], -2)  # noqa: B023
        import jax

        return jax.vmap(lambda q, y: encoder.apply(q, leaf, y), (0, axis), -2)(mine, x)
