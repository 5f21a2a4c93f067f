"""Zero-sum games of two players with a known value, and how far a policy is from unexploitable, exactly."""

from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from marlstone.core.distributions import Discrete
from marlstone.core.errors import suggest
from marlstone.core.types import Array, Group, Leaf, Spec, Step
from marlstone.envs.names import UnknownEnvironment
from marlstone.envs.team_games import team_step

PAYOFFS = {
    "rps": ((0.0, -1.0, 2.0), (1.0, 0.0, -1.0), (-2.0, 1.0, 0.0)),
    "pennies": ((3.0, -1.0), (-2.0, 1.0)),
}
EQUILIBRIA = {"rps": ((1 / 4, 1 / 2, 1 / 4), (1 / 4, 1 / 2, 1 / 4)), "pennies": ((3 / 7, 4 / 7), (2 / 7, 5 / 7))}
VALUES = {"rps": 0.0, "pennies": 1 / 7}
SIDES = ("red", "blue")


@dataclass(frozen=True)
class Rps:
    """`red_0` against `blue_0`, who loses what red wins: a matrix game, played `rows` times an episode.

        rps       rock   0  -1   2       pennies    3  -1       red's payoff, by red's action (down) and blue's (across)
                  paper  1   0  -1                 -2   1
                  sciss -2   1   0

    In `rps` (symmetric; rock's win over scissors counts twice) both sides' only equilibrium is (1, 2, 1) / 4, of value 0; in `pennies`
    red's is (3, 4) / 7 and blue's (2, 5) / 7, of value 1 / 7 for red. No deterministic policy is safe, and playing best against the
    latest opponent goes round in circles. A step pays 1 / `rows` of the matrix. With `recall`, players see both actions of the step
    before, so that policies may depend on them, and be exploited for that; without, they see the same at every step.

    The team is red; `exploitability` of a policy is what the best opponent gets beyond the value of the game, per episode:

        e_red(p) = v - min_q u(p, q),    e_blue(q) = max_p u(p, q) - v
    """

    game: str = "rps"
    rows: int = 8
    recall: bool = False

    def __post_init__(self) -> None:
        if self.game not in PAYOFFS:
            raise UnknownEnvironment(f"proving:rps has no game {self.game!r}: {suggest(self.game, sorted(PAYOFFS))}")

    @cached_property
    def payoff(self) -> np.ndarray:
        """`[k k]`: red's payoff by red's action and blue's."""
        return np.array(PAYOFFS[self.game], np.float32)

    @property
    def value(self) -> float:
        """What red gets in an episode where both play an equilibrium."""
        return VALUES[self.game]

    @property
    def k(self) -> int:
        """Actions of each player."""
        return len(self.payoff)

    @cached_property
    def spec(self) -> Spec:
        """One group of two players, of a type each; in the game that is not symmetric they also see which side they are."""
        leaves = {"before": Leaf("vector", (2 * self.k + 1 + 2 * (self.game != "rps"),))}
        group = Group("players", ("red_0", "blue_0"), leaves, Discrete(self.k), SIDES)
        bounds = float(self.payoff.min()), float(self.payoff.max())
        return Spec((group,), state=2 * self.k + 1, horizon=self.rows, opponents=("blue_0",), return_bounds=bounds)

    def _step(self, t: Array, action: Array, reward: Array, first: bool = False) -> Step:
        shown = jax.nn.one_hot(action, self.k) * (t > 0) * self.recall
        one = jnp.ones((1,))
        views = [jnp.concatenate([shown[i], shown[1 - i], one]) for i in (0, 1)]
        if self.game != "rps":
            views = [jnp.concatenate([v, jnp.arange(2) == i]).astype(jnp.float32) for i, v in enumerate(views)]
        state = jnp.concatenate([shown.reshape(-1), one * t / self.rows])
        own = jnp.stack([reward, -reward]) / self.rows
        over = t >= self.rows
        return team_step(({"before": jnp.stack(views)},), state, own, (None,), terminated=over, first=first, team_reward=own[0])

    def init(self, key: Array) -> tuple[Array, Step]:
        """Nothing was played yet."""
        t = jnp.zeros((), jnp.int32)
        return t, self._step(t, jnp.zeros(2, jnp.int32), jnp.zeros(()), first=True)

    def step(self, state: Array, action: tuple[Array, ...], key: Array) -> tuple[Array, Step]:
        """Both play at once."""
        red, blue = action[0][0], action[0][1]
        return state + 1, self._step(state + 1, action[0], jnp.asarray(self.payoff)[red, blue])

    # ---- exactly
    @cached_property
    def situations(self) -> np.ndarray:
        """`[s 2 f]`: all that each player can see: first at an episode's beginning, then (with `recall`) after every joint action, blue's
        running fastest."""
        before = [jnp.zeros(2, jnp.int32)]
        if self.recall:
            before += [jnp.array([a, b], jnp.int32) for a in range(self.k) for b in range(self.k)]
        steps = [self._step(jnp.int32(i > 0), pair, jnp.zeros(())) for i, pair in enumerate(before)]
        return np.stack([np.asarray(step.obs[0]["before"]) for step in steps])

    def best_response(self, table: np.ndarray, side: str) -> float:
        """The most that the other player can get in an episode from a policy of `side`, whose action probabilities are `table [s k]` in
        `situations`; by backward induction, exact."""
        table = np.asarray(table, float)
        pay = -self.payoff.T if side == "red" else self.payoff  # what the responder earns, by its own action (down) and the policy's
        ahead = np.zeros(len(table))
        for t in reversed(range(self.rows)):
            following = np.zeros((self.k, self.k))
            if t + 1 < self.rows:
                after = ahead[1:].reshape(self.k, self.k) if self.recall else np.full((self.k, self.k), ahead[0])
                following = after.T if side == "red" else after  # by the responder's action, then the policy's
            ahead = np.array([((pay / self.rows + following) @ p).max() for p in table])
        return float(ahead[0])

    def exploitability(self, table: np.ndarray, side: str) -> float:
        """How much more than the value of the game the best opponent gets from a policy `[s k]` of `side`, per episode: 0 for an
        equilibrium's, never below."""
        value = -self.value if side == "red" else self.value
        return self.best_response(table, side) - value
