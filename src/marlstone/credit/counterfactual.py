"""What an agent's action was worth, the others' actions held fixed: COMA and difference rewards.

    A_i = q(s, a) - sum_a' pi_i(a' | o_i) q(s, (a_-i, a'))        Counterfactual (Foerster et al. 2018)
    A_i = q(s, a) - q(s, (a_-i, default_i))                       Difference (Wolpert & Tumer 2002)

Neither baseline depends on the agent's own action, so the gradient keeps its expectation; both need a critic that is
told what the others did.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from marlstone.core.types import Trajectory, Views
from marlstone.credit.team import Team

Array = Any


@dataclass(frozen=True)
class Counterfactual(Team):
    """`trust` in [0, 1]: how far the action's value is the critic's own (1, as published), and how far the lambda-return that followed
    (0, the default: the critic gives the baseline alone, and its errors move no policy the wrong way). `explore`: the share of actions
    drawn at random, without which a policy that has settled never shows its critic what else could have been done; policies are corrected
    for it by their importance ratios."""

    kind: ClassVar[str] = "counterfactual"
    trust: float = 0.0
    explore: float = field(default=0.05, kw_only=True)

    needs: ClassVar[frozenset[str]] = frozenset({"q_chosen", "q_expected", "joint_q"})
    audits: ClassVar[frozenset[str]] = frozenset({"q_chosen", "q_default"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.trust <= 1:
            raise ValueError(f"{type(self).__name__}.trust is {self.trust}: give a number from 0 (returns) to 1 (the critic)")

    def _worth(self, views: Views, td: Array) -> Array:
        return self.trust * views.q_chosen + (1 - self.trust) * (views.value[:-1] + td)

    def advantage(self, p: Any, views: Views, trajectory: Trajectory, td: Array) -> Array:
        """The joint action's value (`trust`) less the agent's own average over its policy, the others' actions fixed."""
        return self._worth(views, td) - views.q_expected

    def contribution(self, p: Any, views: Views, trajectory: Trajectory) -> Array:
        """The action's value less that of the agent's default, the others' actions fixed."""
        return views.q_chosen - views.q_default


@dataclass(frozen=True)
class Difference(Counterfactual):
    """Against the agent's declared default action, which must be worth taking as a yardstick: the environment names it."""

    kind: ClassVar[str] = "difference"

    needs: ClassVar[frozenset[str]] = frozenset({"q_chosen", "q_default", "joint_q"})

    def advantage(self, p: Any, views: Views, trajectory: Trajectory, td: Array) -> Array:
        """The joint action's value (`trust`) less that with the agent's default in place of its action."""
        return self._worth(views, td) - views.q_default
