"""What every environment written in JAX keeps, checked on a batch of random legal play, and on one update that learns from it."""

import jax
import numpy as np

from marlstone.architectures import Ctde
from marlstone.architectures.body import Mlp
from marlstone.core.distributions import Box, Discrete
from marlstone.core.types import Spec
from marlstone.credit import Individual, Team
from marlstone.evaluation.credit.random_play import Rows
from marlstone.learners import PolicyGradient
from tests.batches import Combination, begun, built, rollout

LEARNER = PolicyGradient(epochs=1, minibatches=1)


def keeps_its_contract(name: str, b: int = 4, t: int = 40, ends: bool = True) -> Rows:
    """Finite numbers of the spec's shapes; the team's reward is its agents'; legal actions for whoever decides; who is gone stays gone;
    a termination ends the episode, and an episode ends by the horizon. Returns the play."""
    spec, rows = built(name, Ctde()).spec, rollout(name, b, t)
    step, actions, _ = rows
    n, team = spec.n, np.array([a not in spec.opponents for a in spec.agents])
    for x in jax.tree.leaves(step):
        assert np.isfinite(np.asarray(x, np.float64)).all()
    assert step.state.shape == (b, t + 1, spec.state)
    for group, leaves in zip(spec.groups, step.obs, strict=True):
        for key, leaf in group.observation.items():
            assert leaves[key].shape == (b, t + 1, group.count, *leaf.shape) and leaves[key].dtype == leaf.dtype
    assert set(step.metrics) == set(spec.metrics) and all(x.shape == (b, t + 1) for x in step.metrics.values())

    np.testing.assert_allclose(step.team_reward, step.reward[..., team].sum(-1), rtol=1e-4, atol=1e-4)
    assert not step.reward[step.first].any() and not step.team_reward[step.first].any()
    legality(spec, rows)

    assert step.last[step.team_discount == 0].all(), "a termination ends the episode"
    assert (step.discount[step.team_discount == 0] == 0).all(), "and everybody's part in it"
    assert (step.discount[~step.present] == 0).all(), "who is gone is gone for good"
    returned = step.present[:, 1:] & ~step.present[:, :-1] & ~step.first[:, 1:, None]
    assert not returned.any()
    assert step.present[step.first].any(-1).all()

    np.testing.assert_array_equal(step.first[:, 1:], step.last[:, :-1])
    if ends:
        assert step.last.any(), "no episode ended: play longer"
    if spec.horizon is not None:
        for row in step.last:
            starts = np.concatenate([[0], np.flatnonzero(row) + 1])
            assert (np.diff(starts) <= spec.horizon + 1).all()
    assert n == step.reward.shape[-1] == len(set(spec.agents)) and len(actions) == len(spec.groups)
    return rows


def legality(spec: Spec, rows: Rows) -> None:
    """Everybody has a legal action on every step, and what was played is legal."""
    step, actions, _ = rows
    for group, legal, action in zip(spec.groups, step.legal, actions, strict=True):
        if isinstance(group.space, Box) or legal is None:
            continue
        sizes = (group.space.size,) if isinstance(group.space, Discrete) else group.space.sizes
        at = 0
        for i, size in enumerate(sizes):
            part = legal[..., at : at + size]
            assert part.any(-1).all()
            chosen = action if isinstance(group.space, Discrete) else action[..., i]
            assert np.take_along_axis(part[:, :-1], chosen[..., None], -1).all()
            at += size


def trains(name: str) -> None:
    """One update with a central critic on the team's reward, or agents' own where they compete: finite parameters, and other ones."""
    credit = Individual() if built(name, Ctde()).spec.opponents else Team()
    it = Combination(name, Ctde(Mlp((8,))), credit, LEARNER)
    before, after = begun(it.it), it.updated(it.trajectories())
    old, new = (jax.tree.leaves(jax.device_get(x.nets)) for x in (before, after))
    assert all(np.isfinite(x).all() for x in new)
    assert any(not np.array_equal(x, y) for x, y in zip(old, new, strict=True))
