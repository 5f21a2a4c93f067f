"""Temporal-agent reward redistribution: attention over agents' local histories says who earned the team's return, and when.

    z_ti = attend_agents(attend_past(x_<=t,i))               x: observation, and the action of the row before
    c_ti = f(z_ti, a_ti) - f(z_ti, default_i)
    pay_ti = c_ti + (R - sum_tj c_tj) / (T n)                R: the team's return of the episode

After TAR2 (Kapoor et al. 2025). Scores are signed and not normalized; they are fitted to sum to R, and what they miss is
spread evenly, so that an episode's pay sums to its return exactly. Causal: a score sees no later row. The window is the
part of an episode inside a chunk: rollouts that hold whole episodes redistribute whole returns. Departure: scores are
measured from the agent's declared default, since a sum alone cannot say who earned what everybody always earns; a team
that does nothing but defaults is taken to earn nothing.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from marlstone.core.layers import dense, dense_init
from marlstone.core.types import Chunk, Group, Spec, Views
from marlstone.credit.contract import Credit
from marlstone.encoders.fuse import Fuse
from marlstone.encoders.image import Image

Array = Any


def _attend(p: dict[str, Array], x: Array, seen: Array, mask: Array) -> Array:
    """One head: rows `x [m d]` attend to rows `seen [m d]` that `mask [m m]` shows them; added to x. Keys have no bias: softmax is
    blind to it."""
    q, k, v = x @ p["query"], seen @ p["key"], seen @ p["value"]
    weight = jax.nn.softmax(jnp.where(mask, q @ k.T / x.shape[-1] ** 0.5, -1e9), -1)
    return x + jnp.where(mask.any(-1, keepdims=True), weight @ v, 0)


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

    def _sees(self, g: Group) -> Fuse:
        return Fuse(g, self.hidden, (0,) * g.count, Image(), tuple(g.observation))

    def init(self, spec: Spec, key: Array) -> Any:
        keys = iter(jax.random.split(key, 4 * len(spec.groups) + 8))
        h = self.hidden
        gains = {"query": 1.0, "key": 1.0, "value": 0.1}  # what an agent did itself comes first
        heads = lambda: {name: dense_init(next(keys), h, h, 1, gain).w for name, gain in gains.items()}
        codes = lambda: tuple(jax.random.normal(next(keys), (g.space.width, h)) for g in spec.groups)
        return {
            "see": tuple(self._sees(g).init(next(keys)) for g in spec.groups),
            "before": codes(),
            "others": codes(),
            "own": codes(),
            "past": heads(),
            "team": heads(),
            "wide": dense_init(next(keys), h, h, 1, 2**0.5),
            "head": dense_init(next(keys), h, 1, 1, 0.01).w,
        }

    @staticmethod
    def _windows(chunk: Chunk) -> Array:
        """`[t t]`: rows of the same episode."""
        episode = jnp.cumsum(chunk.step.first[:-1])
        return (episode[:, None] == episode) & chunk.real & chunk.real[:, None]

    def _scores(self, p: Any, views: Views, chunk: Chunk) -> Array:
        """Signed, `[t n]`; 0 where an agent did nothing."""
        team, t = views.team, len(chunk.real)
        join = lambda parts: jnp.concatenate(list(parts), -2)
        code = lambda name, actions: join(a @ w for a, w in zip(actions, p[name], strict=True))
        see = lambda g, q, obs: self._sees(g)(q, {k: x[:-1] for k, x in obs.items()}, {}, None)
        x = join(see(*row) for row in zip(team.groups, p["see"], chunk.step.obs, strict=True))
        begins = chunk.step.first[:-1, None, None] | (jnp.arange(t) == 0)[:, None, None]
        before = code("before", tuple(jnp.roll(a, 1, 0) for a in chunk.action))
        x = jax.nn.relu(x + jnp.where(begins, 0, before))
        past = self._windows(chunk) & jnp.tril(jnp.ones((t, t), bool))
        x = jax.vmap(lambda y: _attend(p["past"], y, y, past), 1, 1)(x)
        others = lambda y, did, acts: _attend(p["team"], y, y + did, acts[None] & ~jnp.eye(len(acts), dtype=bool))
        z = jax.vmap(others)(x, code("others", chunk.action), chunk.acts)
        worth = lambda own: (jax.nn.relu(dense(p["wide"], jax.nn.relu(z + own))) @ p["head"])[..., 0]
        plain = lambda g, a: jnp.broadcast_to(g.encoded_default, a.shape)
        score = worth(code("own", chunk.action)) - worth(code("own", tuple(map(plain, team.groups, chunk.action))))
        return jnp.where(chunk.acts, score * views.scale, 0)

    def reward(self, p: Any, views: Views, chunk: Chunk) -> tuple[Array, Array]:
        score, same = self._scores(p, views, chunk), self._windows(chunk)
        missed = same @ (_paid(chunk) - score.sum(-1))
        rest = missed / jnp.maximum(same @ chunk.acts.sum(-1), 1)
        return jnp.where(chunk.acts, score + rest[:, None], 0), chunk.step.discount[1:]

    def loss(self, p: Any, views: Views, chunk: Chunk) -> Array:
        """How far an episode's scores are from its return, per row, in units of the returns' spread."""
        missed = self._windows(chunk) @ (_paid(chunk) - self._scores(p, views, chunk).sum(-1)) / views.scale.mean()
        return missed**2

    def contribution(self, p: Any, views: Views, chunk: Chunk) -> Array:
        return self.reward(p, views, chunk)[0]


def _paid(chunk: Chunk) -> Array:
    return jnp.where(chunk.real, chunk.step.team_reward[1:], 0)
