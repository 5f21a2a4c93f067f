"""Credit assignment: how a team outcome becomes each agent's learning signal. Six questions, each with a neutral answer.

A method is one frozen dataclass. It answers what it has an opinion on and inherits the neutral answer elsewhere; what it
needs is checked when an algorithm is built. `p` is what `init` made: arrays only. `views` and `trajectory` are one
environment's, `[t n]`, the team's agents only (managers keep their own reward); in `meta`, a whole batch's, `[b t n]`. In
`trajectory`, observations and state are normalized and actions encoded, `[t n_g a]`, as networks see them; rewards are as the
environment gave them. `views.team` is the team's `Spec`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import jax
import jax.numpy as jnp
from jax import lax

from marlstone.core.flops import component
from marlstone.core.records import replace
from marlstone.core.types import Spec, Step, Trajectory, Views

Array = Any
QUESTIONS = ("reward", "mix", "advantage", "loss", "meta", "contribution")


@dataclass(frozen=True)
class Measuring:
    """What a method wants measured while it trains: on a `share` of the steps one agent's action in each environment is replaced by its
    default, and the state is played on for `window` steps (`rollout.counterfactuals`)."""

    share: float
    window: int

    def times(self, length: int) -> int:
        """On how many of a rollout's steps."""
        return min(max(1, round(self.share * length)), self.last(length))

    def last(self, length: int) -> int:
        """Before which step: a whole window is left where the rollout is long enough, else half of it."""
        return max(length - self.window + 1, (length + 1) // 2)

    def steps(self, length: int) -> int:
        """How many steps are played at most, in each environment and rollout."""
        return self.times(length) * min(self.window, length)


class Lookahead(Protocol):
    """One step of learning from a batch, pure, to be differentiated by what changes rewards. The team's agents, `[b t n]`."""

    def advantage(self, value: Array, pay: Array, discount: Array) -> tuple[Array, Array]:
        """The learner's advantages and value targets under other values `[b t+1 n]` and rewards `pay [b t n]`, to which gradients pass."""

    def step(self, advantage: Array, lr: float) -> Array:
        """Log-probs of the recorded actions by policies one plain step of `lr` ahead. Gradients pass to `advantage`."""


class Credit:
    """The contract. Subclass as a frozen dataclass, in one file, and name it `kind = "file.py:Class"`.

    `needs`: views that training needs; `audits`: views that only `contribution` needs; `claims`: what `contribution` estimates, each
    action's `worth` against the agent's default, or `shares` of the team's return, which add up to it; `splits`: whether rewards add up
    over agents to the team's, as the environment's own do, or each has the whole; `explore`: how often, at
    least, agents act at random while they train (a policy gradient's half of the time by their default), so that the method keeps
    seeing the actions it makes claims about.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    audits: ClassVar[frozenset[str]] = frozenset()
    claims: ClassVar[Literal["worth", "shares"]] = "worth"
    splits: ClassVar[bool] = True
    explore: float = 0.0

    @property
    def measures(self) -> Measuring | None:
        """What it wants measured, which is then in `trajectory.measured`; None: nothing. Needs an environment whose state can be stepped
        again; the steps count as any others."""
        return None

    def init(self, spec: Spec, key: Array) -> Any:
        """The method's own parameters, arrays only."""
        return None

    def reward(self, p: Any, views: Views, trajectory: Trajectory) -> tuple[Array, Array]:
        """What is each agent's reward, and until when? Reward and discount, `[t n]` each. Neutral: its own."""
        return trajectory.step.reward[1:], trajectory.step.discount[1:]

    def mix(self, p: Any, chosen: Array, best: Array, state: Array) -> Array:
        """What predicts the team's return? `[t n], [t n], [t s] -> [t]`. Neutral: each agent's value predicts its own."""
        raise NotImplementedError

    def advantage(self, p: Any, views: Views, trajectory: Trajectory, td: Array) -> Array:
        """What moves each policy? `[t n]`. Neutral: the lambda-return's advantage `td`."""
        return td

    def loss(self, p: Any, views: Views, trajectory: Trajectory) -> Array:
        """What must the method itself learn? `[t]`. Neutral: nothing."""
        return jnp.zeros(trajectory.logp.shape[0])

    def meta(self, p: Any, views: Views, trajectory: Trajectory, ahead: Lookahead) -> Array:
        """What must the method learn of how its rewards move policies? `[b t]`, of a whole batch; only `p` learns. Neutral: nothing."""
        return jnp.zeros(trajectory.logp.shape[:2])

    def contribution(self, p: Any, views: Views, trajectory: Trajectory) -> Array | None:
        """What each action was worth, `[t n]`: the team's return with it less that with the agent's declared default in its place,
        from the same state on; or, where `claims` says so, its share of the team's return. None: no claim."""
        return None

    def answers(self) -> frozenset[str]:
        """The questions that this method answers itself."""
        return frozenset(q for q in QUESTIONS if getattr(type(self), q) is not getattr(Credit, q))


def everyone(spec: Spec, team: Array, rest: Array) -> Array:
    """The team's numbers, `[... m]`, and those in `rest`, `[... n]`, of the managers after it. `spec`: the team's, or the whole."""
    m = spec.team.n
    return team if rest.shape[-1] == m else jnp.concatenate([team, rest[..., m:]], -1)


@dataclass(frozen=True)
class Asked:
    """Credit as the learner meets it: it is assigned to the team, over a batch `[b t n]`; managers keep their own reward.

    `beside`: the architecture's own rewards, `[b t n]`, for following goals. Contributions are asked of credit alone."""

    credit: Credit
    p: Any
    team: Spec
    beside: Array | None = None

    def _mine(self, x: Any) -> Any:
        return jax.tree.map(lambda a: a[..., : self.team.n], x)

    def _ask(self, question: Any, views: Views, trajectory: Trajectory, *more: Array) -> Any:
        ask = lambda v, c, *x: question(self.p, replace(v, team=self.team), c, *x)
        with component("credit"):
            return jax.vmap(ask)(self._mine(views), trajectory.of(self.team), *self._mine(more))

    def reward(self, views: Views, trajectory: Trajectory) -> tuple[Array, Array]:
        """Everybody's reward and discount, `[b t n]`: the method's for the team, their own for managers, the architecture's added."""
        reward, discount = trajectory.step.reward[:, 1:], trajectory.step.discount[:, 1:]
        if "reward" in self.credit.answers():
            answer = self._ask(self.credit.reward, views, trajectory)
            reward, discount = (everyone(self.team, *x) for x in zip(answer, (reward, discount), strict=True))
        return reward if self.beside is None else reward + self.beside, discount

    def beyond(self, views: Views, trajectory: Trajectory) -> Array:
        """`[b t n]`: whose reward goes on after its own end: its discount would be above its own, were the team's end a truncation."""
        open_ended = replace(trajectory, step=replace(trajectory.step, team_discount=jnp.ones_like(trajectory.step.team_discount)))
        return self.reward(views, open_ended)[1] > trajectory.step.discount[:, 1:]

    def predict(self, chosen: Array, best: Array, step: Step) -> Array:
        """A mixer's one prediction, `[b t]`, stands for each of the team; without one, values predict for their own agents. `[b t n]`."""
        if "mix" not in self.credit.answers():
            return chosen
        m = self.team.n
        here = lambda q: jnp.where(step.present[:, : q.shape[1], :m], q[..., :m], 0)
        with component("credit"):
            team = jax.vmap(lambda c, b, s: self.credit.mix(self.p, c, b, s))(here(chosen), here(best), step.state[:, : chosen.shape[1]])
        return everyone(self.team, jnp.broadcast_to(team[..., None], (*team.shape, m)), chosen)

    def advantage(self, views: Views, trajectory: Trajectory, td: Array) -> Array:
        """What moves each policy, `[b t n]`."""
        if "advantage" not in self.credit.answers():
            return td
        return everyone(self.team, self._ask(self.credit.advantage, views, trajectory, td), td)

    def loss(self, views: Views, trajectory: Trajectory) -> Array | None:
        """The method's own loss, `[b t]`; None where it has none."""
        return self._ask(self.credit.loss, views, trajectory) if "loss" in self.credit.answers() else None

    def meta(self, views: Views, trajectory: Trajectory, ahead: Lookahead) -> Array | None:
        """What it learns of how its rewards move policies, `[b t]`; None where it learns nothing of that."""
        if "meta" not in self.credit.answers():
            return None
        views = lax.stop_gradient(self._mine(views))
        with component("credit"):
            return self.credit.meta(self.p, replace(views, team=self.team), trajectory.of(self.team), ahead)

    def contribution(self, views: Views, trajectory: Trajectory) -> Array | None:
        """What each action was worth, `[b t m]`; None where it makes no claim."""
        return self._ask(self.credit.contribution, views, trajectory) if "contribution" in self.credit.answers() else None
