"""Managers that set goals for workers every few steps: feudal multi-agent hierarchies (Ahilan & Dayan 2019).

    workers    a_ti ~ pi(o_ti, g_ti)       reward: what credit says + goal_pay (x_t+1,i,f - x_tif) dir(g_ti)
    managers   G_t ~ mu(o_t of its workers, g_t), t = 0, every, 2 every ...    reward: the team's, summed between decisions

x is the leaf's feature f that worker i's goal names, as networks see it, dir(g) = 1 to raise it and -1 to lower it. A goal
held from step s to step e therefore gives goal_pay (x_e - x_s) dir(g) in all, undiscounted, however the worker went there. Discounted,
going forth and back k steps later earns 1 - gamma^k of what the way forth gave: little within `every` steps, and not 0, which would take
gamma x_t+1 - x_t (Ng et al. 1999). Returns stay the environment's own: this reward exists only where workers learn.

Values start at 0, not at what a random critic says: before the team earns anything managers have no other reason to
prefer a goal, and workers learn to follow from a reward that is small beside such noise.

Departures: workers keep the team's reward beside their manager's; managers are of one level.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from marlstone.architectures.body import Body, Mlp
from marlstone.architectures.ctde import Ctde
from marlstone.core.types import Group, Spec, Trajectory
from marlstone.envs.managed import GOAL, Managers

Array = Any


@dataclass(frozen=True)
class Hierarchical(Ctde):
    """Central critics for workers and managers; between decisions, workers run without managers.

    Fields: `every`: steps between a manager's decisions; `span`: the most workers one manager leads (managers share the team evenly);
    `leaf`: the observation leaf whose features goals raise or lower; "": goals are `roles` symbols without a meaning given;
    `goal_pay`: a worker's reward for moving its goal's feature by one standard deviation (by one, without
    `learner.normalize_observations`), in the unit of the environment's rewards: keep what an episode can give so below what success
    gives; `manager`: the managers' body. A manager counts steps, not decisions: `learner.gamma` discounts each step.
    """

    kind: ClassVar[str] = "hierarchical"
    every: int = 8
    span: int = 8
    leaf: str = ""
    roles: int = 4
    goal_pay: float = 0.02
    manager: Body = field(default_factory=Mlp)

    own_value_gain: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.managers()
        if not 0 <= self.goal_pay < float("inf"):
            raise ValueError(f"Hierarchical.goal_pay is {self.goal_pay}: give 0 or more")
        if self.manager.memory(1) is not None:
            raise ValueError(
                f"Hierarchical.manager is {type(self.manager).__name__}, which remembers, but managers are not run between decisions: "
                "use Mlp (workers may remember: body)"
            )

    def managers(self) -> Managers:
        """Who leads the team, with these fields."""
        return Managers(self.every, self.span, self.leaf, self.roles)

    def body_of(self, group: Group) -> Body:
        """Managers have a body of their own."""
        return self.manager if group.clock > 1 else self.body

    def refuses(self, spec: Spec) -> str | None:
        """Environments without these managers, or without a global state."""
        if [g.clock for g in spec.groups if g.clock > 1] != [self.every]:
            return f"Hierarchical needs managers who decide every {self.every} steps: use Algorithm(it.managers().over(env).spec, it, ...)"
        return super().refuses(spec)

    def pay(self, spec: Spec, trajectory: Trajectory, known: Trajectory) -> Array | None:
        """What workers earn for moving the feature that their goal names, `[b t n]`; 0 across resets, and for managers."""
        if not self.leaf or not self.goal_pay:
            return None
        import jax.numpy as jnp

        progress = []
        for i in range(len(spec.team.groups)):
            x, goal = known.step.obs[i][self.leaf], trajectory.step.obs[i][GOAL][:, :-1]
            direction = goal[..., 2::2] - goal[..., 1::2]
            progress.append((direction * (x[:, 1:] - x[:, :-1])).sum(-1))
        progress.append(jnp.zeros((*trajectory.logp.shape[:-1], spec.n - spec.team.n)))
        present = trajectory.step.present
        there = present[:, :-1] & present[:, 1:] & trajectory.real[..., None]
        return self.goal_pay * jnp.where(there, jnp.concatenate(progress, -1), 0)
