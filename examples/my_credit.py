"""A credit method of your own, in one file: difference rewards by a learned model (after Castellini et al. 2021).

    r'(s, a) = scale (relu(s S + sum_j a_j A_j + b) . o + c)        learned:  r'(s, a) -> r
    pay_i    = r - r'(s, (a_-i, default_i))                         what the team earned, less what it would have without i

What is subtracted does not depend on i's own action, so an agent paid so improves the team's reward; the others' noise is
gone as far as the model predicts it. Contributions are of one row: what actions change in later rows is not seen.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from marlstone.credit import Credit, Spec, Trajectory, Views

Array = Any


@dataclass(frozen=True)
class MyCredit(Credit):
    """`hidden`: units of the model; `explore`: the share of actions drawn at random, so that it keeps seeing what else can be done."""

    hidden: int = 128
    explore: float = 0.05
    needs: ClassVar[frozenset[str]] = frozenset({"central", "scale"})  # a global state; how far returns spread

    def init(self, spec: Spec, key: Array) -> Any:
        k1, k2, *keys = jax.random.split(key, 2 + len(spec.groups))
        draw = lambda k, *shape: jax.random.normal(k, shape) / shape[-2] ** 0.5
        actions = tuple(draw(k, g.count, g.space.width, self.hidden) for k, g in zip(keys, spec.groups, strict=True))
        b, out = jnp.zeros(self.hidden), draw(k2, self.hidden, 1)[:, 0]
        return {"state": draw(k1, spec.state, self.hidden), "actions": actions, "b": b, "out": out, "c": jnp.zeros(())}

    def _model(self, p: Any, views: Views, trajectory: Trajectory) -> tuple[Array, Array]:
        """The team's reward with every action as taken, `[t]`, and with agent i's default in its place, `[t n]`."""
        parts = list(zip(views.team.groups, trajectory.action, p["actions"], strict=True))
        says = lambda x: jnp.where(trajectory.acts[..., None], jnp.concatenate(x, 1), 0)  # who does not act says nothing
        taken = says([jnp.einsum("tna,nah->tnh", a, w) for _, a, w in parts])
        change = says([jnp.einsum("tna,nah->tnh", g.encoded_default - a, w) for g, a, w in parts])
        inner = trajectory.step.state[:-1] @ p["state"] + taken.sum(1) + p["b"]
        reward = lambda x: views.scale.mean() * (jax.nn.relu(x) @ p["out"] + p["c"])
        return reward(inner), reward(inner[:, None] + change)

    def reward(self, p: Any, views: Views, trajectory: Trajectory) -> tuple[Array, Array]:
        pay = trajectory.step.team_reward[1:, None] - self._model(p, views, trajectory)[1]
        return jnp.where(trajectory.acts, pay, 0), jnp.broadcast_to(trajectory.step.team_discount[1:, None], pay.shape)

    def loss(self, p: Any, views: Views, trajectory: Trajectory) -> Array:
        return ((trajectory.step.team_reward[1:] - self._model(p, views, trajectory)[0]) / views.scale.mean()) ** 2

    def contribution(self, p: Any, views: Views, trajectory: Trajectory) -> Array:
        taken, without = self._model(p, views, trajectory)
        return taken[:, None] - without
