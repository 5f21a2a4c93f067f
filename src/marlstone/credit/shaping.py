"""Individual intrinsic rewards learned so that following them raises the team's return: LIIR (Du et al. 2019).

    pay_i   = r + w sigma u_i,   u_i = f / (1 + |f|), f = f_eta(o_i, a_i)     what moves agent i's policy theta_i
    theta'  = theta + alpha grad_theta mean pi_i / mu_i A_i(eta)             one plain step, inside; A_i of that reward
    eta    -> max mean_i pi_i'(a_i | o_i) / mu_i(a_i | o_i) A                A: the team's advantage, of its own critic

The gradient of eta goes through the inner step, which it bends. Rewards u_i depend on what an agent sees and does itself, and
follow whatever the team's return rewards now. u has slow tails: where tanh is saturated, what helped once is never unlearned.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from marlstone.core.layers import dense, dense_init
from marlstone.core.types import Spec, Trajectory, Views
from marlstone.credit.contract import Lookahead
from marlstone.credit.team import Team
from marlstone.encoders.fuse import Fuse

Array = Any


@dataclass(frozen=True)
class Shaping(Team):
    """`weight`: w, the largest intrinsic reward of a step, in spreads sigma of returns: small beside what an agent's own action can change;
    `inner_lr`: alpha; `hidden`: width of the two networks; `explore` as in `Team`. Departures: the team's critic sees what the agent
    sees; ratios are cut at 2, as the policies' own are."""

    kind: ClassVar[str] = "shaping"
    weight: float = 0.005
    inner_lr: float = 0.1
    hidden: int = 64
    explore: float = field(default=0.05, kw_only=True)

    needs: ClassVar[frozenset[str]] = frozenset({"value", "scale"})

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, ok in (("weight", self.weight > 0), ("inner_lr", self.inner_lr > 0), ("hidden", self.hidden >= 1)):
            if not ok:
                raise ValueError(f"Shaping.{name} is {getattr(self, name)}: give a number above 0; credit = 'team' does without shaping")

    def init(self, spec: Spec, key: Array) -> Any:
        """The network of intrinsic rewards, and the critic of the team's reward."""
        k1, k2, k3, k4, k5, k6 = jax.random.split(key, 6)
        h, groups = self.hidden, spec.groups
        see = lambda k: tuple(Fuse.shared(g, self.hidden).init(q) for g, q in zip(groups, jax.random.split(k, len(groups)), strict=True))
        codes = zip(groups, jax.random.split(k2, len(groups)), strict=True)
        return {
            "see": see(k1),
            "did": tuple(jax.random.normal(q, (g.space.width, h)) for g, q in codes),
            "wide": dense_init(k3, h, h, 1, 2**0.5),
            "reward": dense_init(k4, h, 1, 1, 0.01).w,
            "critic": {"see": see(k5), "head": dense_init(k6, h, 1, 1, 1.0)},
        }

    def _join(self, team: Spec, p: Any, trajectory: Trajectory) -> Array:
        groups = zip(team.groups, p, trajectory.step.obs, strict=True)
        return jnp.concatenate([Fuse.shared(g, self.hidden)(q, obs, {}, None) for g, q, obs in groups], -2)

    def _intrinsic(self, p: Any, views: Views, trajectory: Trajectory) -> Array:
        """w sigma u, `[... t n]`; nothing where an agent did nothing."""
        did = jnp.concatenate([a @ w for a, w in zip(trajectory.action, p["did"], strict=True)], -2)
        x = jax.nn.relu(self._join(views.team, p["see"], trajectory)[..., :-1, :, :] + did)
        u = jax.nn.soft_sign(jax.nn.relu(dense(p["wide"], x)) @ p["reward"])[..., 0]
        return jnp.where(trajectory.acts, self.weight * views.scale[..., None, :] * u, 0)

    def reward(self, p: Any, views: Views, trajectory: Trajectory) -> tuple[Array, Array]:
        """The team's reward and an intrinsic one, until the team's end."""
        team, discount = super().reward(p, views, trajectory)
        return team + self._intrinsic(p, views, trajectory), discount

    def meta(self, p: Any, views: Views, trajectory: Trajectory, ahead: Lookahead) -> Array:
        """Less the team's surrogate after the step, and the team's critic's squared error, per step."""
        spread = views.scale[:, None]
        critic = dense(p["critic"]["head"], jax.nn.relu(self._join(views.team, p["critic"]["see"], trajectory)))[..., 0]
        team, target = ahead.advantage(lax.stop_gradient(critic * spread), *super().reward(p, views, trajectory))
        error = (critic[:, :-1] - lax.stop_gradient(target) / spread) ** 2
        advantage, _ = ahead.advantage(views.value, *self.reward(p, views, trajectory))
        unit = lax.stop_gradient(
            jnp.sqrt(jnp.mean(jnp.where(trajectory.acts, team, 0) ** 2 + (0.1 * spread) ** 2))
        )  # never a step out of bounds
        after = jnp.where(trajectory.acts, ahead.step(advantage / unit, self.inner_lr) - trajectory.logp, 0)
        ratio = jnp.exp(jnp.clip(after, -20, 20))
        gain = jnp.minimum(ratio, 2.0) * lax.stop_gradient(team) / unit
        return jnp.where(trajectory.acts, 0.5 * error - gain, 0).sum(-1) / trajectory.acts.shape[-1]
