"""Value-based learning: Q(lambda) on action values that actors themselves say, mixed into the team's by credit.

    y_t = r_t + g d_t [(1 - l) V_t+1 + l y_t+1],   V = Q_tot'(s, argmax_a Q_1, ..., argmax_a Q_n)

Peng's Q(lambda) (Peng & Williams 1996): traces are not cut where an agent exploration_head, which trades a little bias for far
fewer steps (Kozuno et al. 2021). `QLearning` replays remembered sequences against target networks, chosen by the online
network, valued by the target network (van Hasselt et al. 2016); `Pqn` learns from each rollout of many parallel
environments and forgets it: no replay, no target network, but normalized layers (Gallici et al. 2025).
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from marlstone.core.distributions import ActionSpace, Composite, Content, enumerable
from marlstone.core.records import replace
from marlstone.core.types import Trajectory
from marlstone.learners.contract import Learner, copied, in_range
from marlstone.learners.lambda_returns import lambda_returns
from marlstone.learners.optimizer import Adam, Optimizer
from marlstone.learners.problem import Batch, LearningTargets, Losses, Problem, TrainState, TrainT
from marlstone.learners.replay import Replay
from marlstone.learners.replayed import update_from_replay

Array = Any


@dataclass(frozen=True)
class ValueBased(Learner):
    """What both forms share.

    Fields: `lr`, annealed linearly to 0 if `anneal`; `epsilon` falls to `epsilon_end` over the first `explore_for` of the budget;
    `gamma`, `lam` discount and lambda; `downward`, the weight of errors whose target lies below the value: less than 1 is optimism,
    for games in which near-misses of the best joint action are punished (hysteretic Q-learning, Matignon et al. 2007; Weighted QMIX,
    Rashid et al. 2020), and overrates luck where rewards are noisy; `max_grad_norm` per network and parameter set;
    `normalize_observations`; `optimizer`: any optax gradient transformation (`learners.optimizer`); `group_lr`: learning rates of groups'
    networks, by name, in place of `lr`.
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
    optimizer: Optimizer = field(default_factory=Adam)
    group_lr: dict[str, float] = field(default_factory=dict, hash=False)

    queries: ClassVar[frozenset[str]] = frozenset({"reward", "mix", "loss"})
    needs: ClassVar[frozenset[str]] = frozenset({"q_chosen", "q_best"})
    value_based: ClassVar[bool] = True
    traced: ClassVar[tuple[str, ...]] = ("lr", "gamma")
    rampable: ClassVar[tuple[str, ...]] = ("lr", "gamma", "lam", "downward", "max_grad_norm")

    def __post_init__(self) -> None:
        ranges = {
            "lr": self.lr > 0, "epsilon": 0 <= self.epsilon <= 1, "epsilon_end": 0 <= self.epsilon_end <= 1,
            "explore_for": 0 < self.explore_for <= 1, "gamma": 0 <= self.gamma <= 1, "lam": 0 <= self.lam <= 1,
            "downward": 0 < self.downward <= 1,
            "max_grad_norm": self.max_grad_norm > 0, "group_lr": all(x > 0 for x in self.group_lr.values()),
        }  # fmt: skip
        in_range(self, ranges)

    def refuses(self, space: ActionSpace) -> str | None:
        """Boxes, alone or beside choices: their best action cannot be looked up."""
        if enumerable(space):
            return None
        what = f"a {type(space).__name__}"
        if isinstance(space, Composite) and any(isinstance(p, Content) for p in space.parts):
            return f"{type(self).__name__} cannot learn what to say, which is no choice: use learner = 'policy_gradient', or comms = 'none'"
        if isinstance(space, Composite):
            what += f" ({', '.join(n for n, p in zip(space.names, space.parts, strict=True) if not enumerable(p))} is a Box)"
        return f"{type(self).__name__} cannot maximize over {what}: use learner = 'policy_gradient'"

    def rate(self, progress: Array) -> tuple[Array, Array]:
        """The learning rate at `progress` in [0, 1] of the budget; there are no critics apart from the actors."""
        lr = self.lr * (1 - progress) if self.anneal else jnp.asarray(self.lr)
        return lr, lr

    def explore(self, progress: Array) -> Array:
        """Epsilon at `progress` in [0, 1] of the budget."""
        return self.epsilon + (self.epsilon_end - self.epsilon) * jnp.minimum(progress / self.explore_for, 1.0)

    def check_divergence(self, now: dict[str, float], highest: dict[str, float]) -> str | None:
        """What is wrong with the latest figures, given the highest ever met: values beyond anything that rewards could add up to."""
        bound = highest["largest_pay"] / max(1 - self.gamma, 1e-3)
        if not highest["largest_pay"] or now["q"] <= 2 * bound:
            return None
        slower = "raise learner.target_every or lower learner.lr" if isinstance(self, QLearning) else "lower learner.lr"
        return f"action values diverge: they are {now['q']:.3g} on average, and no reward adds up to more than {bound:.3g}; {slower}"

    def compute_targets(self, problem: Problem, train: TrainState, trajectories: Trajectory, outputs: Any = None) -> LearningTargets:
        """Targets by the target networks, where there are some, of the actions that are best by the online ones."""
        outputs = problem.outputs(train, trajectories) if outputs is None else outputs
        batch = problem.read(train, trajectories, outputs)
        return self.targets(batch, problem.read_greedy(train, trajectories, batch, outputs))

    def targets(self, batch: Batch, target: Batch | None = None) -> LearningTargets:
        """Q(lambda) from the target networks' value of the online networks' best action, `[b t n]`."""
        assert target is not None
        trajectory = batch.trajectory
        reward, discount = batch.credit.reward(batch.views, trajectory)
        beyond = batch.credit.beyond(batch.views, trajectory)
        value = target.credit.predict(target.views.q_greedy, target.views.q_best, trajectory.step)
        advantage, _, predicted = lambda_returns(value, reward, discount, beyond, trajectory, self.gamma, self.lam)
        # Who may not decide is valued too: its action was ignored, and values bootstrap wherever a trajectory or an episode is cut.
        return lax.stop_gradient(LearningTargets(value[:, :-1] + advantage, predicted & trajectory.step.present[:, :-1]))

    def loss(self, batch: Batch, fixed: LearningTargets, progress: Array) -> tuple[Losses, dict[str, Array]]:
        """The squared error of what predicts each agent's return, `[b t n]`."""
        views, trajectory = batch.views, batch.trajectory
        value = batch.credit.predict(views.q_chosen, views.q_best[:, :-1], trajectory.step)
        error = (value - fixed.target) ** 2 * jnp.where(fixed.target < value, self.downward, 1.0)
        reward = jnp.abs(batch.credit.reward(views, trajectory)[0])
        metrics = {"value_loss": error, "q": jnp.abs(value), "largest_pay": jnp.broadcast_to(reward.max(), reward.shape)}
        return Losses(jnp.zeros_like(error), error), metrics


@dataclass(frozen=True)
class QLearning(ValueBased):
    """Replayed Q(lambda) with double targets.

    Every `target_every` batches, target networks move by `tau` towards the online ones; `replay`: what is remembered.

    `burn_in`: steps at the beginning of a replayed sequence that only bring recurrent memory up to date (R2D2, Kapturowski et al. 2019):
    it was stored under older parameters. They are unrolled from the stored memory by the online and the target networks, and no value is
    trained there, until an episode begins in the sequence, whose memory is exact. None: a quarter of the sequence where bodies are
    recurrent, else none. Departure from R2D2: gradients of later steps pass back through them.
    """

    kind: ClassVar[str] = "q_learning"
    target_every: int = 200
    tau: float = 1.0
    burn_in: int | None = None
    replay: Replay = field(default_factory=Replay)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.tau <= 1:
            raise ValueError(f"QLearning.tau is {self.tau}: give a number above 0 and up to 1")
        if self.target_every < 1:
            raise ValueError(f"QLearning.target_every is {self.target_every}: give at least 1")
        if self.burn_in is not None and self.burn_in < 0:
            raise ValueError(f"QLearning.burn_in is {self.burn_in}: give 0 or more steps")

    def init(self, nets: Any, like: Trajectory | None) -> tuple[Any, Any]:
        """Target networks, equal to the online ones, and an empty replay."""
        return copied(nets), None if like is None else self.replay.empty(like)

    def targets(self, batch: Batch, target: Batch | None = None) -> LearningTargets:
        """As `ValueBased`; predicted only on steps that are not burnt in. Raises ValueError where that would be none."""
        fixed, trajectory = super().targets(batch, target), batch.trajectory
        length = trajectory.logp.shape[1]
        recurrent = trajectory.memory is not None and any(m is not None for m in trajectory.memory.actor)
        burnt = (length // 4 if recurrent else 0) if self.burn_in is None else self.burn_in
        if burnt >= length:
            raise ValueError(f"QLearning.burn_in is {burnt}, and sequences have {length} steps: give less than rollout.length")
        begun = jnp.cumsum(trajectory.step.first[:, :-1], 1) > 0
        trained = (jnp.arange(length) >= burnt) | begun
        return replace(fixed, predicted=fixed.predicted & trained[..., None])

    def update(
        self, problem: Problem, train: TrainT, trajectories: Trajectory, progress: Array, key: Array
    ) -> tuple[TrainT, dict[str, Array]]:
        """Batches of what is remembered."""
        return update_from_replay(self, problem, train, trajectories, progress, key)

    def update_target(self, target_params: Any, nets: Any, steps: Array) -> Any:
        """Target networks after `steps` gradient steps in all: every `target_every`, moved by `tau` towards the online ones."""
        tau = jnp.where(steps % self.target_every == 0, self.tau, 0.0)
        return jax.tree.map(lambda old, new: old + tau * (new - old), target_params, nets)


@dataclass(frozen=True)
class Pqn(ValueBased):
    """Parallel Q(lambda) without replay. `epochs`, `minibatches` per rollout. Use a body with `norm = "layer"`, as the paper does."""

    kind: ClassVar[str] = "pqn"
    epochs: int = 4
    minibatches: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("epochs", "minibatches"):
            if getattr(self, name) < 1:
                raise ValueError(f"Pqn.{name} is {getattr(self, name)}: give at least 1")
