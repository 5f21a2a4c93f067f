"""How a policy's head becomes that of one that explores."""

from typing import Any, Literal

from marlstone.core.action_space import ActionSpace
from marlstone.core.arrays import Array
from marlstone.core.distributions.composite import Composite
from marlstone.core.distributions.discrete import Discrete
from marlstone.core.distributions.multi_discrete import MultiDiscrete

Exploring = Literal["greedy", "mixed"]
"""`greedy`: heads are action values, and the best action is taken but for a share of random ones; `mixed`: heads are policies, mixed with
random actions."""


def exploration_head(how: Exploring, space: ActionSpace, head: Array, legal: Array | None, explore: Array, default: Any) -> Array:
    """The head of the policy that explores: `greedy` takes a head as action values; `mixed` follows it, where actions can be listed."""
    if how == "greedy":
        return space.greedy(head, legal, explore)  # type: ignore[attr-defined]
    return space.mixed(head, legal, explore, default) if isinstance(space, Discrete | MultiDiscrete | Composite) else head
