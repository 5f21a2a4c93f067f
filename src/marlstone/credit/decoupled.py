"""Partial reward decoupling: an agent is moved only by the outcomes of those whom its actions can change.

    pay_i = own_i + sum_{j != i} [w_ji > threshold] own_j

    y_j   = sum_{k < rows} own_j(t+k) / spread_j                          j's outcome, in its own spread
    y_j  ~= b(o_j) + f_0(o_j, a_j) + sum_{i != j} H_ji u(o_i) + sum_{i != j} D_ji(o_j, o_i, a_i)
    D_ji  = sum_d G_dji g_d(o_j) f_d(o_i, a_i),   f_d(o, a) = m_d(o, a) - m_d(o, default)
    w_ji^2 = mean of D_ji^2 over the episode's steps in the trajectory and everything that i could do there

After Freed et al. 2022, who take for w_ji the attention that a critic of j pays to i. Departures:
- Softmax attention adds up to one and looks at what agents see as well as at what they do, so it smears over those who change
  nothing. Here i is as relevant as the difference its action makes to the predicted outcome, against its declared default, whatever
  it saw being accounted for (H).
- w is about what an agent could do, not what it does now: a policy that stopped harming a neighbor goes on being told of it.
w is compared with a threshold, so that the reward passes no gradient to it.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from marlstone.core.layers import dense, dense_init
from marlstone.core.types import Spec, Trajectory, Views
from marlstone.credit.contract import Credit
from marlstone.encoders.fuse import Fuse

Array = Any
WAYS = 2  # d: in how many ways an agent's action may change others' outcomes
LARGEST = 256  # agents: who changes whom grows with their square, for every step
FOLLOWS = (
    10.0  # how much faster than other parameters outcomes' spreads and centers may move: they span orders of magnitude, networks do not
)
CLIP = 10.0  # outcomes are clipped here, in spreads


@dataclass(frozen=True)
class Decoupled(Credit):
    """For environments that reward agents one by one. `threshold`: by how much of its spread another's outcome must change for an agent to
    be told of it; `rows`: how many steps ahead an outcome reaches, within the episode and the trajectory; `hidden`: width of the predictor;
    `explore`: the share of actions drawn at random, so that what agents could do stays known once policies have settled."""

    kind: ClassVar[str] = "decoupled"
    threshold: float = 0.1
    rows: int = 1
    hidden: int = 32
    explore: float = 0.05

    needs: ClassVar[frozenset[str]] = frozenset({"scale"})
    splits: ClassVar[bool] = False

    def __post_init__(self) -> None:
        ranges = {
            "threshold": (self.threshold > 0, "a positive share of an outcome's spread, such as 0.1"),
            "rows": (self.rows >= 1, "how many steps ahead an outcome reaches, at least 1"),
            "hidden": (self.hidden >= 1, "a width, at least 1"),
            "explore": (0 <= self.explore < 1, "a share from 0 to below 1"),
        }
        for name, (ok, remedy) in ranges.items():
            if not ok:
                raise ValueError(f"Decoupled.{name} is {getattr(self, name)}: give {remedy}")

    def init(self, spec: Spec, key: Array) -> Any:
        """Tables `[n n]` are of who is changed, then by whom: `acts [d n n]` G, `sees [n n]` H."""
        if spec.n > LARGEST:
            raise ValueError(
                f"Decoupled weighs every pair of agents, and {spec.n} are more than {LARGEST}: use credit = 'individual' (with "
                "Individual.team for a part of the team's reward), or make groups of them environments of their own"
            )
        n, h = spec.n, self.hidden
        k1, k2, k3, k4 = jax.random.split(key, 4)
        see, does = jax.random.split(k1, len(spec.groups)), jax.random.split(k2, len(spec.groups))
        return {
            "see": tuple(Fuse.shared(g, self.hidden).init(k) for g, k in zip(spec.groups, see, strict=True)),
            "wide": dense_init(k3, h, h, 1, 2**0.5),
            "does": tuple(dense_init(k, h, g.space.width * (1 + WAYS), 1, 1.0) for g, k in zip(spec.groups, does, strict=True)),
            "alone": dense_init(k4, h, 2 + WAYS, 1, 0.1),
            "acts": jnp.zeros((WAYS, n, n)),
            "sees": jnp.zeros((n, n)),
            "spread": jnp.zeros(n),
            "center": jnp.zeros(n),
        }

    def relevance(self, p: Any, views: Views, trajectory: Trajectory) -> Array:
        """w, `[t n n]`: how much of the first agent's outcome the second one's action could change; 0 of its own."""
        _, could, alone = self._changes(p, views, trajectory)
        acts, ways, episode = trajectory.acts, alone[..., 2:], jnp.cumsum(trajectory.step.first[:-1])
        same = (episode[:, None] == episode).astype(ways.dtype)
        there = jnp.maximum(same @ acts, 1)[..., None, None]
        over = lambda x: jnp.einsum("ts,snde->tnde", same, x) / there
        ready = over(jnp.where(acts[..., None, None], ways[..., :, None] * ways[..., None, :], 0))
        table = _others(p["acts"])
        pairs = ((table[d] * table[e], ready[..., d, e], over(could)[..., d, e]) for d in range(WAYS) for e in range(WAYS))
        return jnp.sqrt(jnp.maximum(sum(g * r[:, :, None] * c[:, None, :] for g, r, c in pairs), 0))

    def reward(self, p: Any, views: Views, trajectory: Trajectory) -> tuple[Array, Array]:
        """Who is told of others has a reward until the team's end."""
        told = self.relevance(p, views, trajectory) > self.threshold
        own, discount = trajectory.step.reward[1:], trajectory.step.discount[1:]
        reward = own + (jnp.where(trajectory.step.present[:-1], own, 0)[:, :, None] * told).sum(1)
        return reward, jnp.where(told.any(1), jnp.maximum(discount, trajectory.step.team_discount[1:, None]), discount)

    def _changes(self, p: Any, views: Views, trajectory: Trajectory) -> tuple[Array, Array, Array]:
        """What an agent's action changed, its own outcome first, f `[t n 1+d]`; the mean of f f' over what it could do, `[t n d d]`; and
        what is predicted without it, b, u and g, `[t n 2+d]`."""
        did, could, alone = [], [], []
        groups = zip(views.team.groups, p["see"], p["does"], trajectory.step.obs, trajectory.step.legal, trajectory.action, strict=True)
        for g, see, does, obs, legal, action in groups:
            x = jax.nn.relu(Fuse.shared(g, self.hidden)(see, {k: v[:-1] for k, v in obs.items()}, {}, None))
            x = jax.nn.relu(dense(p["wide"], x))
            m = dense(does, x).reshape(*x.shape[:-1], 1 + WAYS, g.space.width)
            plain = (g.encoded_default[:, None] * m).sum(-1)
            did.append((action[..., None, :] * m).sum(-1) - plain)
            each = m[..., 1:, :] - plain[..., 1:, None]
            allowed = jnp.ones(m.shape[:-2] + m.shape[-1:]) if legal is None else legal[:-1].astype(m.dtype)
            total = jnp.maximum(allowed.sum(-1), 1)[..., None, None]
            could.append(jnp.einsum("tida,tiea,tia->tide", each, each, allowed) / total)
            alone.append(dense(p["alone"], x))
        acts, join = trajectory.acts[..., None], lambda parts: jnp.concatenate(parts, 1)
        rest = join(alone)
        rest = rest.at[..., 2:].set(2 * jax.nn.sigmoid(rest[..., 2:]))
        return jnp.where(acts, join(did), 0), jnp.where(acts[..., None], join(could), 0), rest

    def loss(self, p: Any, views: Views, trajectory: Trajectory) -> Array:
        """Squared error of predicted outcomes, and minus the log-likelihood that fits their spreads; mean over the agents there."""
        y, here = self._outcome(trajectory) / views.scale, trajectory.step.present[:-1] & trajectory.real[:, None]
        log_spread, center = FOLLOWS * p["spread"], FOLLOWS * p["center"]
        fit = (y * jnp.exp(-log_spread) - center) ** 2 / 2 + log_spread
        y = jnp.clip(y * lax.stop_gradient(jnp.exp(-log_spread)), -CLIP, CLIP)
        f, _, rest = self._changes(p, views, trajectory)
        base, seen = rest[..., 0] + f[..., 0], jnp.where(trajectory.step.present[:-1], rest[..., 1], 0)
        by_others = jnp.einsum("dji,tid->tjd", _others(p["acts"]), f[..., 1:])
        predicted = base + seen @ _others(p["sees"]).T + (rest[..., 2:] * by_others).sum(-1)
        return jnp.where(here, (y - predicted) ** 2 + fit, 0).sum(1) / jnp.maximum(here.sum(1), 1)

    def _outcome(self, trajectory: Trajectory) -> Array:
        """`[t n]`: an agent's own reward over the next `rows` steps."""
        own = jnp.where(trajectory.real[:, None], trajectory.step.reward[1:], 0)
        episode, total = jnp.cumsum(trajectory.step.first[:-1]), own
        for k in range(1, min(self.rows, len(own))):
            total = total.at[:-k].add(jnp.where((episode[k:] == episode[:-k])[:, None], own[k:], 0))
        return total


def _others(table: Array) -> Array:
    """`[... n n]` without what agents are to themselves."""
    return table * (1 - np.eye(table.shape[-1], dtype=np.float32))
