"""Temporal-agent reward redistribution: attention over agents' histories says who earned the team's return, and when.

    z_ti   = attend_agents(attend_past(x_ti))                 x_ti: observation, and the agent's action of the row before
    f_i(z, a) = v_i . relu(W z + e(a))
    c_ti   = f_i(z_ti, a_ti) - f_i(z_ti, default_i)           fitted:  min sum_episodes (R - sum_ti c_ti)^2
    pay_ti = c_ti + (R - sum_tj c_tj) / (T n)                 R: the team's return of the episode, of T rows

After TAR2 (Kapoor et al. 2025). Scores are signed and not normalized; what their sum misses of R is spread evenly, so that
an episode's pay sums to its return exactly. Causal: a score sees no later row, and of its own row only its own action.
The window is the part of an episode inside a trajectory: rollouts that hold whole episodes redistribute whole returns.

Departures, all because a sum alone does not say who earned it:
- Scores are measured from the agent's declared default. Then, and because others' actions are seen from the next row on, the
  split is unique wherever every agent sometimes plays its default: if sum_ti c_ti = 0 whatever is done, the last row's scores are
  0 (vary one action, all before it fixed), so the row's before, and so on. A score that sees the others' actions of its row can
  claim what they earned, as long as its own agent does anything. A team of nothing but defaults is taken to earn nothing.
- Weights v_i are the agent's own. Shared ones first credit everyone with what anyone does, and a policy that has settled deviates
  too rarely to correct that.
- What agents achieve only together goes, as far as it is no sum of their parts, into the rest, to all alike.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from marlstone.core.layers import dense, dense_init, dense_product
from marlstone.core.types import Spec, Trajectory, Views
from marlstone.credit.contract import Credit
from marlstone.encoders.fuse import Fuse

Array = Any
KEYS = 16  # width of queries and keys


def _attend(p: dict[str, Array], x: Array, shown: Array) -> Array:
    """One head: rows `x [m k h]` attend, for each m, to the k rows that `shown [m k k]` (or broadcast) shows them; added to x. Keys
    have no bias: softmax is blind to it."""
    query, key, value = (dense_product(x, p[name]) for name in ("query", "key", "value"))
    fit = jnp.einsum("mid,mjd->mij", query, key) / KEYS**0.5
    weight = jnp.where(shown, jax.nn.softmax(jnp.where(shown, fit, -1e9), -1), 0)
    return x + jnp.einsum("mij,mjh->mih", weight, value)


@dataclass(frozen=True)
class Attention(Credit):
    """`hidden`: width of the network that scores; `explore`: the share of actions drawn at random, so that scores keep telling apart
    what agents did once policies have settled."""

    kind: ClassVar[str] = "attention"
    hidden: int = 64
    explore: float = 0.05

    needs: ClassVar[frozenset[str]] = frozenset({"scale"})
    claims: ClassVar[str] = "shares"  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.hidden < 1 or not 0 <= self.explore < 1:
            raise ValueError(f"Attention.hidden is {self.hidden}, explore {self.explore}: give a width, and a share from 0 to below 1")

    def init(self, spec: Spec, key: Array) -> Any:
        keys = iter(jax.random.split(key, 3 * len(spec.groups) + 8))
        h = self.hidden
        sizes = {"query": (KEYS, 1.0), "key": (KEYS, 1.0), "value": (h, 0.1)}  # what an agent did itself comes first
        head = lambda: {name: dense_init(next(keys), h, width, 1, gain).w for name, (width, gain) in sizes.items()}
        codes = lambda: tuple(jax.random.normal(next(keys), (g.space.width, h)) for g in spec.groups)
        return {
            "see": tuple(Fuse.shared(g, self.hidden).init(next(keys)) for g in spec.groups),
            "before": codes(),
            "own": codes(),
            "past": head(),
            "team": head(),
            "wide": dense_init(next(keys), h, h, 1, 2**0.5),
            "worth": 0.01 * jax.random.normal(next(keys), (spec.n, h)) / h**0.5,
        }

    @staticmethod
    def _windows(trajectory: Trajectory) -> Array:
        """`[t t]`: rows of the same episode."""
        episode = jnp.cumsum(trajectory.step.first[:-1])
        return (episode[:, None] == episode) & trajectory.real & trajectory.real[:, None]

    def _scores(self, p: Any, views: Views, trajectory: Trajectory) -> Array:
        """Signed, `[t n]`; 0 where an agent did nothing."""
        groups, t = views.team.groups, len(trajectory.real)
        code = lambda name, actions: jnp.concatenate([dense_product(a, w) for a, w in zip(actions, p[name], strict=True)], -2)
        see = lambda g, q, obs: Fuse.shared(g, self.hidden)(q, {k: x[:-1] for k, x in obs.items()}, {}, None)
        x = jnp.concatenate([see(*of) for of in zip(groups, p["see"], trajectory.step.obs, strict=True)], -2)
        begins = trajectory.step.first[:-1] | (jnp.arange(t) == 0)
        before = code("before", tuple(jnp.roll(a, 1, 0) for a in trajectory.action))
        x = jax.nn.relu(x + jnp.where(begins[:, None, None], 0, before))
        past = self._windows(trajectory) & jnp.tril(jnp.ones((t, t), bool))
        x = jnp.swapaxes(_attend(p["past"], jnp.swapaxes(x, 0, 1), past), 0, 1)
        z = dense(p["wide"], _attend(p["team"], x, trajectory.acts[:, None]))
        worth = lambda actions: (jax.nn.relu(z + code("own", actions)) * p["worth"]).sum(-1)
        default = tuple(jnp.broadcast_to(g.encoded_default, (g.count, g.space.width)) for g in groups)
        score = worth(trajectory.action) - worth(default)
        return jnp.where(trajectory.acts, score * views.scale, 0)

    def reward(self, p: Any, views: Views, trajectory: Trajectory) -> tuple[Array, Array]:
        score, same = self._scores(p, views, trajectory), self._windows(trajectory)
        missed = same @ (_paid(trajectory) - score.sum(-1))
        rest = missed / jnp.maximum(same @ trajectory.acts.sum(-1), 1)
        return jnp.where(trajectory.acts, score + rest[:, None], 0), trajectory.step.discount[1:]

    def loss(self, p: Any, views: Views, trajectory: Trajectory) -> Array:
        """How far an episode's scores are from its return, per row, in units of the returns' spread."""
        missed = self._windows(trajectory) @ (_paid(trajectory) - self._scores(p, views, trajectory).sum(-1)) / views.scale.mean()
        return missed**2

    def contribution(self, p: Any, views: Views, trajectory: Trajectory) -> Array:
        return self.reward(p, views, trajectory)[0]


def _paid(trajectory: Trajectory) -> Array:
    return jnp.where(trajectory.real, trajectory.step.team_reward[1:], 0)
