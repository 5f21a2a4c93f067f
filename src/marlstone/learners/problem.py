"""What a learner meets: the learning problem of one combination, a batch as its networks read it, and what learning carries.

The learner decides what is learned from (targets, losses) and in which order (epochs, replay); the problem knows what several parts know
together: networks and their parameter sets, what credit answers, and what is summed over devices. `algorithm.problem` implements it.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

from marlstone.core.records import record
from marlstone.core.types import Spec, Step, Trajectory, Views

Array = Any
TrainT = TypeVar("TrainT", bound="TrainState")


@record
class Losses:
    """A learner's losses, one per step and agent, `[b t n]`; the problem masks and averages them, so that no learner can forget to.

    `deciding` counts where an agent acts; `predicting` wherever its value is used, which under team reward includes steps after an agent's
    own death; `gap`, of action values, where an agent acts, and is divided by their squared scale; `costs`, of values of costs, counts as
    `predicting`.
    """

    deciding: Array
    predicting: Array
    gap: Any = None
    costs: Any = None


@record
class LearningTargets:
    """What losses are measured against, without gradient, `[b t n]`: value targets and where those are predicted; and for policies,
    proximal log-probs, advantages, and how much better than expected the joint action was (`gap`); and where costs are constrained, targets
    of their values (`cost`), and by how much more than expected an action cost, in units of return (`charged`): apart from advantages, so
    that only the update puts them together."""

    target: Array
    predicted: Array
    logp: Any = None
    advantage: Any = None
    gap: Any = None
    cost: Any = None
    charged: Any = None


@record
class CostSignal:
    """What a batch cost, where that is constrained (`learners.constraint`), by agent.

    `cost`, `discount`, `beyond` `[b t n]`: as a reward's, and whose costs go on after its own end; `value [b t+1 n]`: expected costs to
    come; `rate [n]`: how much return a unit of cost is worth now; `sigma [n]`: the scale of the values' targets."""

    cost: Array
    discount: Array
    beyond: Array
    value: Array
    rate: Array
    sigma: Array


class CreditAnswers(Protocol):
    """A credit method as a learner meets it: asked over a batch, `[b t n]`, answering for every agent."""

    def reward(self, views: Views, trajectory: Trajectory) -> tuple[Array, Array]:
        """The reward that each agent learns from, and its discount, `[b t n]` each."""

    def beyond(self, views: Views, trajectory: Trajectory) -> Array:
        """Whether an agent's reward goes on after its own end (`Trajectory.counts`), `[b t n]`."""

    def predict(self, chosen: Array, best: Array, step: Step) -> Array:
        """What predicts each agent's return, from values of chosen and of best actions: a mixer's one prediction, or each its own."""

    def advantage(self, views: Views, trajectory: Trajectory, td: Array) -> Array:
        """What moves each policy, `[b t n]`, given the lambda-return's advantage `td`."""


@dataclass(frozen=True)
class Batch:
    """A batch of trajectories as one set of networks reads it.

    Fields: `trajectory`, `[b t ...]`, observations and state normalized and actions encoded as networks see them, rewards as the
    environment gave them; `views`, numbers per agent; `credit`, to be asked with both; `sigma [n]`, the scale of value targets per agent;
    `cost`, where costs are constrained.
    """

    trajectory: Trajectory
    views: Views
    credit: CreditAnswers
    sigma: Any = None
    cost: CostSignal | None = None


class Networks(Protocol):
    """All networks by whom they serve: policies, critics of values and of action values, and the credit method's own arrays."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def actor(self) -> Any:
        """Policies, or action values that are acted on; one network per group."""

    @property
    def critic(self) -> Any:
        """Critics of values, one per group; () where nobody wants them."""

    @property
    def q(self) -> Any:
        """Critics of action values, one per group of the team; () where nobody wants them."""

    @property
    def credit(self) -> Any:
        """The credit method's own arrays."""

    @property
    def cost(self) -> Any:
        """Critics of costs, one per group; () where nothing is constrained."""


class TrainState(Protocol):
    """What learning carries from update to update; changed by `core.records.replace`. `algorithm.state.Train` is its record."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def nets(self) -> Any:
        """All `Networks`."""

    @property
    def seen(self) -> Any:
        """Moments that normalize observations."""

    @property
    def targets(self) -> Any:
        """Scales of value targets, per parameter set."""

    @property
    def opt(self) -> Any:
        """The optimizer's state."""

    @property
    def version(self) -> Array:
        """How many updates were made."""

    @property
    def target_params(self) -> Any:
        """What `Learner.init` made first: target networks; None without."""

    @property
    def replay(self) -> Any:
        """What `Learner.init` made second: what is remembered; None without."""


class Problem(Protocol):
    """The learning problem of one combination of parts in one environment."""

    @property
    def spec(self) -> Spec:
        """The environment's groups, agents and spaces."""

    def scaled(self, train: TrainState) -> "Problem":
        """The same, with the scales of `train`'s value targets worked out once per agent: what a loop of gradient steps is given."""

    def observe(self, train: TrainState, trajectories: Trajectory) -> tuple[Any, Any]:
        """Observation moments with this batch in them, for the next update on, and those to learn by now: the first batch's are used at
        once, since acting knew none."""

    def outputs(self, train: TrainState, trajectories: Trajectory) -> Any:
        """What the actors' networks say of a batch, `[b t+1 n_g ...]` per group: heads and the cores below them."""

    def read(self, train: TrainState, trajectories: Trajectory, outputs: Any = None) -> Batch:
        """A batch as `train.nets` read it. `outputs`: of the actors, where they are known."""

    def read_greedy(self, train: TrainState, trajectories: Trajectory, batch: Batch, outputs: Any) -> Batch:
        """`batch` as the target networks read it (`train.target_params`; without: `train.nets`), with the values of the actions that are
        best by `train.nets`, whose `outputs` these are: `views.q_greedy` (double Q-learning, van Hasselt et al. 2016)."""

    def count(self, trajectories: Trajectory, predicted: Array) -> Any:
        """Over all devices: how many decisions and predictions each parameter set has in a batch, and how many steps it has."""

    def objective(
        self, train: TrainState, trajectories: Trajectory, batch: Batch, losses: Losses, predicted: Array, counts: Any, weight: Array
    ) -> tuple[Array, Array | None]:
        """This device's share of the loss: `losses`, each mean within a parameter set (by `counts`), weighted by environment
        (`weight [b]`), and what the credit method must learn itself; and that part alone, `[b t]`."""

    def standardized(self, x: Array, mask: Array) -> Array:
        """`x [b t n]` with mean 0 and deviation 1 over each parameter set's masked elements."""

    def rescaled(self, train: TrainT, targets: LearningTargets, trajectories: Trajectory) -> TrainT:
        """The scales of values moved towards these targets, and heads of critics rescaled so that what they predict stays the same
        (PopArt, van Hasselt et al. 2016)."""

    def clipped(self, grads: Any, limit: float) -> tuple[Any, Array]:
        """Gradients, summed over devices, clipped to `limit` per network and parameter set; and the mean norm of the policies'."""

    def psum(self, tree: Any) -> Any:
        """A sum over the devices that share a batch."""
