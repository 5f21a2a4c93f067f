"""One observation, however many modalities, to one vector per agent: encode each leaf, project, add.

The first layer of a network over the concatenation of its inputs is a sum of one product per input. Written so, an
agent's identity is a row looked up instead of a one-hot product, and the global state is projected once per row of the
environment instead of once per agent.

    h_n = sum_leaf e_leaf(x_n) W_leaf  +  s W_state  +  I_n  +  b
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from marlstone.core.layers import Dense, dense_product, gather_agent_params, init_stacked, orthogonal, owner_index
from marlstone.core.normalize import Moments, normalize
from marlstone.core.records import record
from marlstone.core.types import Group, Leaf
from marlstone.encoders.image import Image

Array = Any


@record
class FuseParameters:
    """`encoders`: per image leaf, its filters; `leaves`: per leaf `[f h]`; `state [s h]` and `agent [n h]` or None; `b [h]`."""

    encoders: dict[str, Any]
    leaves: dict[str, Array]
    state: Array | None
    agent: Array | None
    b: Array


@dataclass(frozen=True)
class Fuse:
    """The first layer of every network. `width` numbers out; `state` is the length of the global state it also sees (0: none)."""

    group: Group
    width: int
    owners: tuple[int, ...]
    image: Image
    leaves: tuple[str, ...]
    state: int = 0
    agent_ids: bool = True
    scale: float = 2**0.5

    @classmethod
    def shared(cls, group: Group, width: int) -> "Fuse":
        """Of everything a group sees, with one set of parameters for all of it."""
        return cls(group, width, (0,) * group.count, Image(), tuple(group.observation))

    @property
    def sets(self) -> int:
        return max(self.owners) + 1

    def _features(self, leaf: Leaf) -> int:
        return leaf.shape[0] if leaf.kind == "vector" else self.image.width(leaf)

    @property
    def _identifies(self) -> bool:
        """Agents that share parameters are told whom they speak for; an agent alone in its set would learn a second bias."""
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
        widths = [self._features(leaf) for leaf in kinds.values()]
        extra = [self.state] * (self.state > 0) + [self.group.count] * self._identifies
        cuts = np.cumsum([*widths, *extra])[:-1]

        def one(key: Array) -> FuseParameters:
            first, rest = jax.random.split(key)
            parts = jnp.split(orthogonal(first, sum(widths) + sum(extra), self.width, self.scale), cuts)
            images = {n: leaf for n, leaf in kinds.items() if leaf.kind == "image"}
            keys = jax.random.split(rest, max(len(images), 1))
            return FuseParameters(
                encoders={n: self.image.init(leaf, k) for (n, leaf), k in zip(images.items(), keys, strict=False)},
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
            x, leaf = obs[name], self.group.observation[name]
            if leaf.kind == "image":
                x = self._encode(p.encoders[name], leaf, x, owners)
            elif name in moments:
                m = moments[name]
                x = normalize(Moments(gather_agent_params(m.mean, owners, 1), gather_agent_params(m.var, owners, 1), m.count), x)
            h = h + dense_product(x, p.leaves[name], owners)
        if p.state is not None:
            w = gather_agent_params(p.state, owners, 2)
            h = h + ((state @ w)[..., None, :] if w.ndim == 2 else w.__array_namespace__().einsum("...s,nsh->...nh", state, w))
        if p.agent is not None:
            h = h + (p.agent if p.agent.ndim == 2 else p.agent[np.array(self.owners), np.arange(self.group.count)])
        h = h + gather_agent_params(p.b, owners, 1)
        return h if h.shape[-2] == self.rows else h.__array_namespace__().broadcast_to(h, (*h.shape[:-2], self.rows, self.width))

    def _encode(self, p: tuple[Dense, ...], leaf: Leaf, x: Array, owners: np.ndarray | None) -> Array:
        if self.sets == 1:
            return self.image.apply(p, leaf, x)
        mine = tuple(Dense(gather_agent_params(q.w, owners, 2), gather_agent_params(q.b, owners, 1)) for q in p)
        if x.__array_namespace__() is np:
            of = lambda i: tuple(Dense(q.w[i], q.b[i]) for q in mine)
            return np.stack([self.image.apply(of(i), leaf, x[..., i, :, :, :]) for i in range(self.group.count)], -2)
        import jax

        return jax.vmap(lambda q, y: self.image.apply(q, leaf, y), (0, -4), -2)(mine, x)
