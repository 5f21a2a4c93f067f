"""Action-value critics: one pass gives the values of every action of each agent, the others' actions as they were.

    q_i(s, a_-i, .) = head(body(fuse_i(x_i) + sum_{j != i} W_j e(a_j)))

The first layer over what the others did is a sum of one looked-up row per agent, computed once for all and each agent's
own left out: neither input nor work grows with n squared. Where the agent's own actions cannot be listed (Box, Composite), its
action enters in front of the head, so that only the head is repeated for each candidate.
"""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from marlstone.architectures.body import Body
from marlstone.architectures.network import Network, network
from marlstone.core.distributions import Sampled, enumerable
from marlstone.core.flops import component
from marlstone.core.layers import activate, dense, dense_product, init_stacked, owner_index
from marlstone.core.records import record
from marlstone.core.types import Group, Spec, Step
from marlstone.encoders.fuse import Fuse

Array = Any


@record
class Joint:
    """A group's action-value network. `others`: per group, a row for each agent's every option, `[n_j a_j h]` (None: sees only itself);
    `mine`: where own actions cannot be listed, what turns one into features, `[(k) a h]`."""

    network: Network
    others: tuple[Array, ...] | None
    mine: Array | None


@dataclass(frozen=True)
class QValues:
    """A group's action values: ready for any candidate action."""

    group: Group
    p: Joint
    z: Array  # [... n_g a], or [... n_g h] where a candidate is still to come in
    owners: np.ndarray | None
    body: Body
    number: int | None = None  # of the group

    def of(self, action: Array) -> Array:
        """Recorded actions `[... n_g]` -> their values `[... n_g]`."""
        if enumerable(self.group.space):
            return self.group.space.score(self.z, action)
        with component("q", self.number, action):
            x = self.z + dense_product(self.group.space.encode(action), self.p.mine, self.owners)
            return dense(self.p.network.head, activate(x, self.body.activation), self.owners)[..., 0]

    def mean(self, head: Array, legal: Array | None) -> Array:
        """Expected under the agent's own policy."""
        if enumerable(self.group.space):
            return self.group.space.mean(self.z, head, legal)
        import jax

        return jax.vmap(self.of)(cast(Sampled, self.group.space).points(head, legal)).mean(0)


@dataclass(frozen=True)
class ActionValues:
    """The critics of one architecture: `fuses` per group say what each sees besides, `joint` whether it sees the others' actions."""

    spec: Spec
    body: Body
    fuses: tuple[Fuse, ...]
    joint: bool

    def init(self, key: Array) -> tuple[Joint, ...]:
        """Parameters of every group's critic."""
        import jax

        groups = self.spec.groups

        def one(g: Group, fuse: Fuse, key: Array) -> Joint:
            k1, k2, k3 = jax.random.split(key, 3)
            listed = enumerable(g.space)
            width = self.body.intake
            scale = len(self.spec.agents) ** -0.5
            tables = lambda k: tuple(
                scale * jax.random.normal(kj, (j.count, j.space.width, width)) for j, kj in zip(groups, jax.random.split(k, len(groups)))
            )
            mine = None if listed else init_stacked(lambda k: jax.random.normal(k, (g.space.width, self.body.end)), k3, fuse.sets)
            whole = network(self.body, fuse, g.space.head if listed else 1, 0.01, k1)  # nothing is claimed of actions never seen
            return Joint(whole, tables(k2) if self.joint and self.spec.n > 1 else None, mine)

        return tuple(one(g, f, k) for g, f, k in zip(groups, self.fuses, jax.random.split(key, len(groups)), strict=True))

    def memory(self) -> tuple[Array | None, ...]:
        """Recurrent state of one environment's agents, per group."""
        return tuple(self.body.memory(g.count) for g in self.spec.groups)

    def __call__(
        self, p: tuple[Joint, ...], step: Step, obs: Any, state: Array | None, action: tuple[Array, ...], memory: tuple[Array | None, ...]
    ) -> tuple[tuple[QValues, ...], tuple[Array | None, ...]]:
        """Steps `[b (t) ...]` and the recorded actions taken in them; `obs` holds the moments that normalize observations."""
        import jax.numpy as jnp

        did = (step.present & step.deciding)[..., None]
        starts = np.cumsum([0, *(g.count for g in self.spec.groups)])
        out, after = [], []
        for i, (g, q, fuse, h) in enumerate(zip(self.spec.groups, p, self.fuses, memory, strict=True)):
            owners = owner_index(fuse.owners)
            with component("q", i):
                x = fuse(q.network.fuse, step.obs[i], obs[i], state)
                if q.others is not None:
                    seen = [
                        jnp.where(did[..., s : s + j.count, :], jnp.einsum("...na,nah->...nh", j.space.encode(a), w), 0)
                        for j, a, w, s in zip(self.spec.groups, action, q.others, starts, strict=False)
                    ]
                    x = x + sum(r.sum(-2, keepdims=True) for r in seen) - seen[i]
                core, h = self.body.advance(q.network.core, x, step.first, h, owners)
                z = self.body.finish(q.network.after, core, owners)
                z = dense(q.network.head, z, owners) if enumerable(g.space) else z
            out.append(QValues(g, q, z, owners, self.body, i))
            after.append(h)
        return tuple(out), tuple(after)
