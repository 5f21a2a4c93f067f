"""Value-based learning: Q(lambda) on action values that actors themselves say, mixed into the team's by credit.

    y_t = r_t + g d_t [(1 - l) V_t+1 + l y_t+1],   V = Q_tot'(s, argmax_a Q_1, ..., argmax_a Q_n)

Peng's Q(lambda) (Peng & Williams 1996): traces are not cut where an agent explored, which trades a little bias for far
fewer steps (Kozuno et al. 2021). `QLearning` replays remembered sequences against target networks, chosen by the online
network, valued by the target network (van Hasselt et al. 2016); `Pqn` learns from each rollout of many parallel
environments and forgets it: no replay, no target network, but normalized layers (Gallici et al. 2025).
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from marlstone.core.distributions import ActionSpace, enumerable, exploration_head
from marlstone.core.records import replace
from marlstone.core.returns import vtrace
from marlstone.core.types import Trajectory, Views
from marlstone.learners.contract import Asked, LearningTargets, Losses, Needs, in_range
from marlstone.learners.replay import Replay

Array = Any


@dataclass(frozen=True)
class ValueBased:
    """What both forms share.

    Fields: `lr`, annealed linearly to 0 if `anneal`; `epsilon` falls to `epsilon_end` over the first `explore_for` of the budget;
    `gamma`, `lam` discount and lambda; `downward`, the weight of errors whose target lies below the value: less than 1 is optimism,
    for games in which near-misses of the best joint action are punished (hysteretic Q-learning, Matignon et al. 2007; Weighted QMIX,
    Rashid et al. 2020), and overrates luck where rewards are noisy; `max_grad_norm` per network and parameter set;
    `normalize_observations`.
    """

    lr: float = 5e-4
    anneal: bool = True
    epsilon: float = 1.0
    epsilon_end: float = 0.05
    explore_for: float = 0.1
    gamma: float = 0.99
    lam: float = 0.6
    downward: float = 1.0
    max_grad_norm: float = 10.0
    normalize_observations: bool = True

    asks: ClassVar[frozenset[str]] = frozenset({"reward", "mix", "loss"})
    withholds: ClassVar[frozenset[str]] = frozenset({"value", "joint_q", "q_expected"})
    offers: ClassVar[frozenset[str]] = frozenset({"q_chosen", "q_best", "q_default"})
    values_are_heads: ClassVar[bool] = True
    traced: ClassVar[tuple[str, ...]] = ("lr", "gamma")
    lags: ClassVar[bool]
    normalize_values: ClassVar[bool] = False
    normalize_advantages: ClassVar[bool] = False

    def __post_init__(self) -> None:
        ranges = {
            "lr": self.lr > 0, "epsilon": 0 <= self.epsilon <= 1, "epsilon_end": 0 <= self.epsilon_end <= 1,
            "explore_for": 0 < self.explore_for <= 1, "gamma": 0 <= self.gamma <= 1, "lam": 0 <= self.lam <= 1,
            "downward": 0 < self.downward <= 1,
            "max_grad_norm": self.max_grad_norm > 0,
        }  # fmt: skip
        in_range(self, ranges)

    def refuses(self, space: ActionSpace) -> str | None:
        if enumerable(space):
            return None
        return f"{type(self).__name__} cannot maximize over a {type(space).__name__}: use learner = 'policy_gradient'"

    def needs(self, credit: Needs) -> frozenset[str]:
        return frozenset({"q_chosen", "q_best"})

    def rate(self, progress: Array) -> tuple[Array, Array]:
        """The learning rate at `progress` in [0, 1] of the budget; there are no critics apart from the actors."""
        lr = self.lr * (1 - progress) if self.anneal else jnp.asarray(self.lr)
        return lr, lr

    def explore(self, progress: Array) -> Array:
        """Epsilon at `progress` in [0, 1] of the budget."""
        return self.epsilon + (self.epsilon_end - self.epsilon) * jnp.minimum(progress / self.explore_for, 1.0)

    def check_divergence(self, now: dict[str, float], highest: dict[str, float]) -> str | None:
        """What is wrong with the latest figures, given the highest ever met: values beyond anything the pay could add up to."""
        bound = highest["largest_pay"] / max(1 - self.gamma, 1e-3)
        if not highest["largest_pay"] or now["q"] <= 2 * bound:
            return None
        slower = "lower learner.lr" if not self.lags else "raise learner.target_every or lower learner.lr"
        return (
            f"action values diverge: they are {now['q']:.3g} on average, and no pay met so far adds up to more than {bound:.3g}; {slower}"
        )

    def behave(self, space: ActionSpace, head: Array, legal: Array | None, explore: Array, default: Any) -> Array:
        """Action values -> the head of an epsilon-greedy policy: sampling and log-probs need no second path."""
        return exploration_head("greedy", space, head, legal, explore, default)

    def targets(self, asked: Asked, views: Views, trajectory: Trajectory, target_params: Any = None, then: Any = None) -> LearningTargets:
        """Q(lambda) from the target networks' value of the online networks' best action, `[b t n]`."""
        time = lambda x: jnp.moveaxis(x, 1, 0)
        pay, discount = asked.reward(views, trajectory)
        acts, real = trajectory.acts, trajectory.real[..., None]
        real = real & trajectory.counts(discount, asked.beyond(views, trajectory))
        value = target_params.predict(then.q_greedy, then.q_best, trajectory.step)
        v, r, d, rho, acts_, real_ = (time(x) for x in (value, pay, discount, jnp.ones_like(pay), acts, real))
        a, _ = vtrace(v, r, d, rho, acts_, real_, self.gamma, self.lam)
        # Who may not decide is valued too: its action was ignored, and values bootstrap wherever a trajectory or an episode is cut.
        return lax.stop_gradient(LearningTargets(value[:, :-1] + time(a), real & trajectory.step.present[:, :-1]))

    def loss(
        self, asked: Asked, views: Views, trajectory: Trajectory, fixed: LearningTargets, sigma: Array, progress: Array
    ) -> tuple[Losses, dict[str, Array]]:
        said = asked.predict(views.q_chosen, views.q_best[:, :-1], trajectory.step)
        error = (said - fixed.target) ** 2 * jnp.where(fixed.target < said, self.downward, 1.0)
        pay = jnp.abs(asked.reward(views, trajectory)[0])
        metrics = {"value_loss": error, "q": jnp.abs(said), "largest_pay": jnp.broadcast_to(pay.max(), pay.shape)}
        return Losses(jnp.zeros_like(error), error), metrics


@dataclass(frozen=True)
class QLearning(ValueBased):
    """Replayed Q(lambda) with double targets.

    Every `target_every` batches, target networks move by `tau` towards the online ones; `replay`: what is remembered.

    `burn_in`: rows at the beginning of a replayed sequence that only bring recurrent memory up to date (R2D2, Kapturowski et al. 2019):
    it was stored under older parameters. They are unrolled from the stored memory by the online and the target networks, and no value is
    trained there, until an episode begins in the sequence, whose memory is exact. None: a quarter of the sequence where bodies are
    recurrent, else none. Departure from R2D2: gradients of later rows pass back through them.
    """

    kind: ClassVar[str] = "q_learning"
    target_every: int = 200
    tau: float = 1.0
    burn_in: int | None = None
    replay: Replay = field(default_factory=Replay)

    lags: ClassVar[bool] = True
    epochs: ClassVar[int] = 1
    minibatches: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.tau <= 1:
            raise ValueError(f"QLearning.tau is {self.tau}: give a number above 0 and up to 1")
        if self.target_every < 1:
            raise ValueError(f"QLearning.target_every is {self.target_every}: give at least 1")
        if self.burn_in is not None and self.burn_in < 0:
            raise ValueError(f"QLearning.burn_in is {self.burn_in}: give 0 or more rows")

    def targets(self, asked: Asked, views: Views, trajectory: Trajectory, target_params: Any = None, then: Any = None) -> LearningTargets:
        fixed, length = super().targets(asked, views, trajectory, target_params, then), trajectory.logp.shape[1]
        recurrent = trajectory.memory is not None and any(m is not None for m in trajectory.memory.actor)
        rows = (length // 4 if recurrent else 0) if self.burn_in is None else self.burn_in
        if rows >= length:
            raise ValueError(f"QLearning.burn_in is {rows}, and sequences have {length} rows: give less than rollout.length")
        begun = jnp.cumsum(trajectory.step.first[:, :-1], 1) > 0
        trained = (jnp.arange(length) >= rows) | begun
        return replace(fixed, predicted=fixed.predicted & trained[..., None])

    def update_target(self, target_params: Any, nets: Any, opt: Any) -> Any:
        step = jnp.where(opt.count % self.target_every == 0, self.tau, 0.0)
        return jax.tree.map(lambda old, new: old + step * (new - old), target_params, nets)


@dataclass(frozen=True)
class Pqn(ValueBased):
    """Parallel Q(lambda) without replay. `epochs`, `minibatches` per rollout. Use a body with `norm = "layer"`, as the paper does."""

    kind: ClassVar[str] = "pqn"
    epochs: int = 4
    minibatches: int = 4

    lags: ClassVar[bool] = False
    replay: ClassVar[None] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("epochs", "minibatches"):
            if getattr(self, name) < 1:
                raise ValueError(f"Pqn.{name} is {getattr(self, name)}: give at least 1")

    def update_target(self, target_params: None, nets: Any, opt: Any) -> None:
        return None
