"""A zero-sum game of known value: what the best opponent gets is exact, and 0 beyond the value for an equilibrium alone."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.envs.names import UnknownEnvironment
from marlstone.envs.proving.rps import EQUILIBRIA, SIDES, Rps

GAMES = pytest.mark.parametrize("game", list(EQUILIBRIA))


def constant(game: Rps, p: object) -> np.ndarray:
    return np.tile(np.asarray(p, float), (len(game.situations), 1))


@GAMES
@pytest.mark.parametrize("recall", [False, True])
def test_equilibria_cannot_be_exploited(game: str, recall: bool) -> None:
    it = Rps(game, 3, recall)
    for side, p in zip(SIDES, EQUILIBRIA[game], strict=True):
        assert it.exploitability(constant(it, p), side) == pytest.approx(0, abs=1e-6)
        other = constant(it, np.eye(it.k)[0])
        assert it.exploitability(other, side) > 0.1


def test_rock_loses_to_paper() -> None:
    """Red that always plays rock loses 1 a step to paper, and scissors 2 to rock."""
    it = Rps("rps", 4)
    assert it.exploitability(constant(it, [1, 0, 0]), "red") == pytest.approx(1)
    assert it.exploitability(constant(it, [0, 0, 1]), "blue") == pytest.approx(2)


@GAMES
@pytest.mark.parametrize("side", SIDES)
def test_the_best_response_is_the_best_of_all(game: str, side: str) -> None:
    """Against every deterministic opponent that looks at the step before, played out: none gets more, and one gets as much."""
    it = Rps(game, 2, recall=True)
    random = np.random.default_rng(0)
    table = random.dirichlet(np.ones(it.k), len(it.situations))
    best = -np.inf
    for first, *then in itertools.product(range(it.k), repeat=1 + it.k * it.k):
        total = 0.0
        for mine in range(it.k):
            a, b = (mine, first) if side == "red" else (first, mine)
            answer = np.array([table[1 + a * it.k + b]])[0]
            reply = then[a * it.k + b]
            pay = lambda m, r: -it.payoff[m, r] if side == "red" else it.payoff[r, m]
            total += table[0][mine] * (pay(mine, first) + sum(answer[m] * pay(m, reply) for m in range(it.k))) / it.rows
        best = max(best, total)
    assert it.best_response(table, side) == pytest.approx(best)


@GAMES
def test_what_one_wins_the_other_loses(game: str) -> None:
    it = Rps(game, 2, recall=True)
    state, step = it.init(jax.random.key(0))
    assert it.spec.opponents == ("blue_0",)
    _, after = it.step(state, (jnp.array([0, 1]),), jax.random.key(0))
    assert float(after.reward.sum()) == 0
    assert float(after.team_reward) == pytest.approx(it.payoff[0, 1] / 2)
    seen = np.asarray(after.obs[0]["before"])
    np.testing.assert_array_equal(seen, it.situations[1 + 0 * it.k + 1])
    np.testing.assert_array_equal(np.asarray(step.obs[0]["before"]), it.situations[0])


def test_an_unknown_game_is_refused() -> None:
    with pytest.raises(UnknownEnvironment, match="did you mean 'pennies'"):
        Rps("penies")
