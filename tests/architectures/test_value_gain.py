"""Values that start at 0: policies stay as they began until a reward is met, and nothing else begins differently."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from marlstone.algorithm import Algorithm
from marlstone.architectures import Ctde, Decentralized, Mlp
from marlstone.config import dump, load
from marlstone.config.sources import parse
from marlstone.core.records import replace
from marlstone.credit import Team
from marlstone.learners import PolicyGradient
from tests.batches import built, quick, trajectories_of

pytestmark = pytest.mark.usefixtures("compiled_once")
ENV = "proving:plan"


def algorithm(architecture: Any) -> Algorithm:
    return Algorithm(built(ENV, architecture).spec, architecture, Team(), PolicyGradient(epochs=1, minibatches=1, entropy=0.0))


def same(a: Any, b: Any) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@pytest.mark.parametrize("kind", [Decentralized, Ctde])
def test_policies_stay_as_they_began_until_a_reward_is_met(kind: Any) -> None:
    """Without an entropy bonus, exactly; with a random critic they move though nothing was ever earned."""
    for gain, still in ((0.0, True), (None, False)):
        it = algorithm(kind(Mlp((8,)), value_gain=gain))
        trajectories = trajectories_of(it, ENV)
        assert not np.asarray(trajectories.step.team_reward).any()
        before = it.init(jax.random.key(0), trajectories)
        after = quick(lambda train, batch, it=it: it.update(train, batch, 0.0, jax.random.key(1))[0])(before, trajectories)
        assert same(before.nets.actor, after.nets.actor) == still


def test_only_the_heads_of_values_begin_differently() -> None:
    zero, plain = (algorithm(Ctde(Mlp((8,)), value_gain=g)).init(jax.random.key(0), None).nets for g in (0.0, None))
    assert not any(np.asarray(c.head.w).any() for c in zero.critic) and all(np.asarray(c.head.w).any() for c in plain.critic)
    without = lambda nets: replace(nets, critic=tuple(replace(c, head=None) for c in nets.critic))
    assert same(without(zero), without(plain))


def test_a_flat_runs_file_that_becomes_hierarchical_starts_at_0(tmp_path: Path) -> None:
    """A recorded file names every field; what it does not set stays each architecture's own."""
    file = tmp_path / "flat.toml"
    file.write_text(dump(parse('env = "proving:plan"\narchitecture = "ctde"')))
    became = load(
        file, {"architecture": "hierarchical", "architecture.body.hidden": "[8]", "architecture.manager.hidden": "[8]"}
    ).architecture
    _, critics, _ = became.init(built(ENV, became).spec, jax.random.key(0))
    assert not any(np.asarray(c.head.w).any() for c in critics)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Ctde\.value_gain is -1\.0: give 0 or more"):
        Ctde(value_gain=-1.0)
