"""What learning carries: networks, what acts, everything."""

from typing import Any

from marlstone.architectures.action_values import Joint
from marlstone.architectures.contract import ObservationNormalizer
from marlstone.architectures.network import Network
from marlstone.core.normalize import Scales
from marlstone.core.records import record, replace

Array = Any


@record
class Nets:
    """Arrays only: they pass through scan, vmap and checkpoints. `actor` is all that is shipped, exported and served; `critic` predicts
    values, `q` action values, either is () where nobody wants it; `credit` is the credit method's own; `cost` predicts costs, where these
    are constrained."""

    actor: tuple[Network, ...]
    critic: tuple[Network, ...]
    q: tuple[Joint, ...]
    credit: Any
    cost: tuple[Network, ...] = ()


@record
class Policy:
    """What acts: the actor's networks, the frozen moments of what they see, and how far they explore."""

    actor: tuple[Network, ...]
    seen: ObservationNormalizer
    explore: Array


@record
class Train:
    """All that learning carries from update to update. `version` counts updates; `explore` is how far the next rollout explores;
    `target_params`, the learner's target networks, and `replay`, what it remembers, are None for those without; so is `price`, what
    speaking costs (`comms.learning`), and `cost`, a constraint's multiplier (`algorithm.costs`)."""

    nets: Nets
    seen: ObservationNormalizer
    targets: Scales
    opt: Any
    version: Array
    explore: Array
    target_params: Any
    replay: Any
    price: Any = None
    cost: Any = None

    @property
    def policy(self) -> Policy:
        """What acts now."""
        return Policy(self.nets.actor, self.seen, self.explore)

    def acting_by(self, policy: Policy, version: int) -> "Train":
        """The same, but acting by `policy`, which is of update `version`. What learns is left as it is."""
        nets, at = replace(self.nets, actor=policy.actor), self.version * 0 + version
        return replace(self, nets=nets, seen=policy.seen, explore=policy.explore, version=at)
