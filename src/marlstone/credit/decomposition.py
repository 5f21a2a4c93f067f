"""Value decomposition: what each agent predicts, mixed into one prediction of the team's return.

    VDN     Q = sum_i q_i                                                       (Sunehag et al. 2018)
    QMIX    Q = f(q_1 ... q_n; s), df/dq_i >= 0: a two-layer network whose weights the state makes, in absolute value
                                                                                (Rashid et al. 2018)
    QPLEX   Q = sum_i w_i v_i + b + sum_i l_i w_i (q_i - v_i), v_i = max q_i, w_i, l_i > 0: best joint action = best actions
                                                                                (Wang et al. 2021)

With `q_learning` or `pqn` the mixed are action values; with `policy_gradient` they are state values, and the team's
advantage moves every policy (VDAC, Su et al. 2021). Contributions are claimed of action values only: one agent's value
replaced by that of its default, the others' kept.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from marlstone.core.layers import Dense, dense, dense_init
from marlstone.core.types import Spec, Trajectory, Views
from marlstone.credit.team import Team

Array = Any


@dataclass(frozen=True)
class Vdn(Team):
    """The sum. Needs no global state."""

    kind: ClassVar[str] = "vdn"
    audits: ClassVar[frozenset[str]] = frozenset({"q_chosen", "q_best", "q_default"})

    def mix(self, p: Any, chosen: Array, best: Array, state: Array) -> Array:
        """The sum of the agents' values."""
        return chosen.sum(-1)

    def contribution(self, p: Any, views: Views, trajectory: Trajectory) -> Array:
        """The chosen action's value less that of the default, as the mixer counts it."""
        here = lambda q: jnp.where(trajectory.step.present[:-1], q, 0)
        chosen, best, default = here(views.q_chosen), here(views.q_best[:-1]), here(views.q_default)
        state = trajectory.step.state[:-1]
        without = lambda i: self.mix(p, jnp.where(i, default, chosen), best, state)
        return self.mix(p, chosen, best, state)[:, None] - jax.vmap(without, out_axes=-1)(jnp.eye(chosen.shape[-1], dtype=bool))


def _hyper(key: Array, state: int, hidden: int, width: int) -> tuple[Dense, Dense]:
    k1, k2 = jax.random.split(key)
    return dense_init(k1, state, hidden, 1, 2**0.5), dense_init(k2, hidden, width, 1, 1.0)


def _generated(p: tuple[Dense, Dense], state: Array) -> Array:
    """Weights made by a hypernetwork."""
    return dense(p[1], jax.nn.relu(dense(p[0], state)))


@dataclass(frozen=True)
class Qmix(Vdn):
    """`embed`: units of the mixing network; `hidden`: of the networks that make its weights."""

    kind: ClassVar[str] = "qmix"
    embed: int = 32
    hidden: int = 64

    needs: ClassVar[frozenset[str]] = frozenset({"central"})

    def init(self, spec: Spec, key: Array) -> Any:
        """The networks that make the mixer's weights from the state."""
        widths = {"w1": spec.n * self.embed, "b1": self.embed, "w2": self.embed, "b2": 1}
        return {k: _hyper(s, spec.state, self.hidden, w) for (k, w), s in zip(widths.items(), jax.random.split(key, 4), strict=True)}

    def mix(self, p: Any, chosen: Array, best: Array, state: Array) -> Array:
        """A monotone network of the agents' values, its weights made by the state."""
        n = chosen.shape[-1]
        w1 = jnp.abs(_generated(p["w1"], state)).reshape(*state.shape[:-1], n, self.embed)
        inner = jax.nn.elu((chosen[..., None] * w1).sum(-2) + _generated(p["b1"], state))
        return (inner * jnp.abs(_generated(p["w2"], state))).sum(-1) + _generated(p["b2"], state)[..., 0]


@dataclass(frozen=True)
class Qplex(Vdn):
    """`hidden`: units of the networks that make its weights.

    As in the authors' code, advantages are detached: agents' values learn by `w_i q_i` alone, and what a joint action adds beyond that
    moves `l`. Departure from the paper: actions reach `l` through their (detached) advantages, so that the mixer never sees an action
    space.
    """

    kind: ClassVar[str] = "qplex"
    hidden: int = 64

    needs: ClassVar[frozenset[str]] = frozenset({"central", "q_best"})

    def init(self, spec: Spec, key: Array) -> Any:
        """The networks that make its weights: from the state, and from the state and the advantages."""
        k1, k2 = jax.random.split(key)
        return {
            "scale": _hyper(k1, spec.state, self.hidden, spec.n + 1),
            "duel": _hyper(k2, spec.state + spec.n, self.hidden, spec.n),
        }

    def mix(self, p: Any, chosen: Array, best: Array, state: Array) -> Array:
        """The agents' values, with their advantages weighted."""
        n = chosen.shape[-1]
        made = _generated(p["scale"], state)
        w, gap = jax.nn.softplus(made[..., :n]), jax.lax.stop_gradient(chosen - best)
        duel = jax.nn.softplus(_generated(p["duel"], jnp.concatenate([state, gap], -1)))
        return (w * chosen + (duel - 1) * jax.lax.stop_gradient(w) * gap).sum(-1) + made[..., n]
