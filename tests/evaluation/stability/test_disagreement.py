"""Action disagreement: a distance in [0, 1] between policies, 0 with itself; on probes that stay what they were."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from marlstone.architectures import Decentralized, Gru, Mlp
from marlstone.core.distributions import Box, Composite, Discrete, MultiDiscrete
from marlstone.core.errors import UserError
from marlstone.core.records import replace
from marlstone.evaluation.stability.disagreement import action_disagreement, distance, frozen_probes, probes_of
from marlstone.learners import Pqn
from tests.batches import trajectories_of
from tests.standing import always, by_chance, runtime, standing

SPACES = [Discrete(4), MultiDiscrete((2, 3)), Box(3), Composite((Discrete(3), Box(2), MultiDiscrete((2, 2))))]


# ---- distances
@pytest.mark.parametrize("space", SPACES, ids=lambda s: type(s).__name__)
def test_distances_are_symmetric_between_0_and_1_and_0_of_the_same(space: Any) -> None:
    random = np.random.default_rng(0)
    a, b = (jnp.asarray(random.normal(size=(50, space.head), scale=4), jnp.float32) for _ in range(2))
    legal = np.asarray(random.random((50, space.width)) < 0.6)
    legal[:, [0, space.width - 1]] = True
    for ok in (None, jnp.asarray(legal)):
        d = np.asarray(distance(space, a, b, ok))
        np.testing.assert_array_equal(d, distance(space, b, a, ok))
        assert (d >= 0).all() and (d <= 1).all() and (d > 0.01).mean() > 0.5
        np.testing.assert_allclose(distance(space, a, a, ok), 0, atol=1e-6)
    if isinstance(space, Composite):
        parts = zip(space.parts, space.by_part(a), space.by_part(b), space.masks(jnp.asarray(legal)), strict=True)
        np.testing.assert_allclose(d, np.mean([distance(*of) for of in parts], 0), atol=1e-6)
        return
    illegal = jnp.concatenate([jnp.where(legal, 0.0, random.normal(size=legal.shape, scale=9))] * (space.head // space.width), -1)
    np.testing.assert_allclose(distance(space, a, a + illegal, jnp.asarray(legal)), 0, atol=1e-6)


def test_jensen_shannon_is_its_textbook_value() -> None:
    """Of (1, 0) and (1/2, 1/2): H(3/4, 1/4) - 1/2; of opposites 1; among choices a mean."""
    sure, even = jnp.array([40.0, 0.0]), jnp.zeros(2)
    expected = -(0.75 * np.log2(0.75) + 0.25 * np.log2(0.25)) - 0.5
    assert float(distance(Discrete(2), sure, even, None)) == pytest.approx(expected, abs=1e-6)
    assert float(distance(Discrete(2), sure, -sure, None)) == pytest.approx(1, abs=1e-6)
    both = jnp.concatenate([sure, sure])
    assert float(distance(MultiDiscrete((2, 2)), both, jnp.concatenate([sure, -sure]), None)) == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize(
    "heads", [((0.3, -1.0), (-0.5, 0.4)), ((1.5, 1.5), (-1.5, 1.5)), ((0.0, -4.0), (0.0, 1.5)), ((9.0, -9.0), (-9.0, -9.0))]
)
def test_wasserstein_is_that_of_sorted_samples(heads: Any) -> None:
    """In one dimension W_2 pairs sorted samples; of emitted actions at opposite ends it is 2, so the distance 1."""
    space, z = Box(1), stats.norm.ppf((np.arange(200_000) + 0.5) / 200_000)[:, None]
    x, y = (np.asarray(space.emit(space.sample(np.array(h), None, z))) for h in heads)
    expected = np.sqrt(((np.sort(x, 0) - np.sort(y, 0)) ** 2).mean()) / 2
    assert float(distance(space, *(jnp.array(h) for h in heads), None)) == pytest.approx(expected, abs=1e-5)


# ---- of policies
@pytest.mark.usefixtures("compiled_once")
def test_policies_of_every_kind_disagree_with_others_and_not_with_themselves() -> None:
    """With memory: a row's distance depends on the rows before it, which are played over again."""
    it = runtime("proving:pair", 3, Decentralized(Gru(4, 4, ())))
    state = standing(*(by_chance(it.algorithm, s) for s in (0, 1, 0)))
    probes = probes_of(it, state, 3)
    assert list(probes) == [5, 6, 7] and {c.logp.shape for c in probes.values()} == {(3, 8, 4)}
    apart = action_disagreement(it, state, probes)
    np.testing.assert_array_equal(apart, apart.T)
    assert (np.diag(apart) == 0).all() and apart[0, 2] == 0 and 0 < apart[0, 1] < 1
    np.testing.assert_array_equal(action_disagreement(it, state, probes), apart)
    step, later = probes[5].step, (np.arange(9) > 0)[:, None]
    muted = replace(step, deciding=step.deciding & later)  # on their first rows nobody is asked, but everybody looks
    other = replace(muted, obs=jax.tree.map(lambda x: x + 3 * ~later[..., None], step.obs))
    once, otherwise = (action_disagreement(it, state, {5: replace(probes[5], step=s)})[0, 1] for s in (muted, other))
    assert once != pytest.approx(otherwise, rel=1e-3)


@pytest.mark.usefixtures("compiled_once")
def test_action_values_are_compared_by_what_would_be_done() -> None:
    """Two critics whose values differ by a little take different actions everywhere; their epsilon is not theirs to differ in."""
    it = runtime("proving:climbing", 3, Decentralized(Mlp((4,), norm="layer")), Pqn(epochs=1, minibatches=1))
    heads = ([0.1, 0.0, 0.0], [0.0, 0.1, 0.0], [9.0, 0.0, 1.0])
    state = standing(*(replace(always(it.algorithm, h), explore=jnp.float32(e)) for h, e in zip(heads, (0.0, 0.3, 0.9))))
    probes = {5: trajectories_of(it.algorithm, "proving:climbing")}
    np.testing.assert_allclose(action_disagreement(it, state, probes), [[0, 1, 0], [1, 0, 1], [0, 1, 0]], atol=1e-6)


@pytest.mark.usefixtures("compiled_once")
def test_probes_are_kept_and_later_versions_meet_the_same(tmp_path: Path) -> None:
    it = runtime("proving:match?rows=4", 2)
    then, now = (standing(*(by_chance(it.algorithm, s) for s in seeds)) for seeds in ((0, 1), (2, 3)))
    kept = frozen_probes(tmp_path, "proving:match?rows=4", it, then, 5)
    again = frozen_probes(tmp_path, "proving:match?rows=4", it, now, 5)
    for a, b in zip(jax.tree.leaves(kept), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(kept[5].logp) == 5 and (tmp_path / "probes" / "arrays.safetensors").is_file()
    other = runtime("proving:climbing", 2)
    with pytest.raises(UserError, match="do not fit this run"):
        frozen_probes(tmp_path, "proving:climbing", other, standing(*[by_chance(other.algorithm, 0)] * 2))
