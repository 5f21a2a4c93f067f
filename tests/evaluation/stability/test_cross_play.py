"""Cross-play: the diagonal is self-play, conventions that clash cost what the game says, and pairs are left out evenly."""

import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.core.records import replace
from marlstone.credit import Individual
from marlstone.evaluation.stability.cross_play import cross_play, losses, relative_loss, rotations
from marlstone.evaluation.stability.disagreement import action_disagreement
from tests.standing import always, runtime, standing


class Curious(Individual):
    """Adds random actions to what acts."""

    explore = 0.5


@pytest.mark.usefixtures("compiled_once")
def test_where_conventions_clash_cross_play_falls_and_where_they_agree_it_does_not() -> None:
    """The penalty game has two best corners: seeds who settled on different ones lose -100 a row together, though each earns 10
    alone, and disagree about every action, whatever they would try at random. A third agrees with the first."""
    it = runtime("proving:climbing?game=penalty", 3, credit=Curious())
    first, last = [50.0, 0.0, 0.0], [0.0, 0.0, 50.0]
    state = standing(*(replace(always(it.algorithm, h), explore=jnp.float32(0.5)) for h in (first, last, first)))
    returns = cross_play(it, state, 3)
    np.testing.assert_allclose(returns, [[40, -400, 40], [-400, 40, -400], [40, -400, 40]])
    np.testing.assert_allclose(np.diag(returns), it.evaluate(state, 3).team_return.mean(1))
    np.testing.assert_allclose(losses(returns), [[0, 440, 0], [440, 0, 440], [0, 440, 0]])
    assert relative_loss(returns) == pytest.approx(440 * 4 / 6 / 40)
    apart = action_disagreement(it, state)
    assert (apart == apart.T).all() and (np.diag(apart) == 0).all() and apart[0, 2] == 0 and apart[0, 1] == apart[1, 2] > 0.999


@pytest.mark.parametrize("seeds", range(1, 12))
def test_every_seed_meets_itself_and_as_many_others_both_ways_round(seeds: int) -> None:
    shifts = rotations(seeds)
    assert shifts[0] == 0 and len(set(shifts)) == len(shifts) == min(seeds, 5)
    assert {(-r) % seeds for r in shifts} == set(shifts)


def test_figures_of_pairs_that_were_not_played_count_nowhere() -> None:
    nan = np.nan
    returns = np.array([[4.0, 2.0, nan], [nan, 4.0, 2.0], [2.0, nan, 4.0]])
    assert relative_loss(returns) == pytest.approx(0.5) and np.isnan(losses(returns)[0, 2])
    assert np.isnan(relative_loss(np.array([[4.0]]))) and np.isnan(relative_loss(np.zeros((2, 2))))
