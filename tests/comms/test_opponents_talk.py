"""A policy that talks plays opponents and sides as it is deployed: its messages stay its own, and its environment sees actions alone."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.algorithm import Algorithm
from marlstone.architectures import Decentralized, Mlp
from marlstone.comms import Broadcast, Channel, Link, NoMessages
from marlstone.config import RunConfig
from marlstone.core.errors import UserError
from marlstone.credit import Individual
from marlstone.envs.make import make
from marlstone.envs.wrappers import wrap_env
from marlstone.evaluation.paired.players import Artifact
from marlstone.learners import PolicyGradient
from marlstone.play.artifacts import ByArtifact
from marlstone.play.sides import BySides
from marlstone.policy.policy import Policy
from marlstone.rollout.opponents import STREAM, ByPolicy, Seat
from marlstone.rollout.sides import Sides, policy_view, wiring_of
from tests.batches import begun
from tests.twin import Twin

pytestmark = pytest.mark.usefixtures("compiled_once")
LINE = f"{Path(__file__).parents[1] / 'twin.py'}:make"
CHANNELS = {"ideal": Broadcast(size=2), "lossy": Broadcast("symbols", 3, link=Link(loss_good=0.5))}


def talking(channel: Channel, act: str) -> tuple[Algorithm, Policy]:
    """Both agents of the line, with random weights that make what they hear matter."""
    adapter = make(LINE)
    it = Algorithm(wrap_env(adapter, channel=channel).spec, Decentralized(Mlp((6,))), Individual(), PolicyGradient(), channel=channel)
    trained = jax.tree.map(lambda x: x + jax.random.normal(jax.random.key(1), x.shape), begun(it).policy)
    return it, Policy.of(it, trained, act, adapter.wiring)


@pytest.mark.parametrize("name", CHANNELS)
def test_it_plays_an_opponent_as_its_artifact_acts(name: str, tmp_path: Path) -> None:
    """The pusher of a pair that talks, beside a puller who learns: it hears what its own policy would have said for the puller."""
    _, policy = talking(CHANNELS[name], "mode")
    folder = policy.save(tmp_path / "pair")
    sides = Sides("", {"pusher": str(folder)})
    env, raw, memory = sides.over(make(LINE)), make(LINE)._env, None
    step, (seen, _) = env.reset(3), raw.reset(seed=3)
    draws = np.random.default_rng([3, STREAM])
    for t in range(5):
        theirs, memory = policy.act(seen, memory, draws)
        seen, reward, *_ = raw.step({"puller": t % 3, "pusher": theirs["pusher"]})
        step = env.step((np.array([t % 3]),))
        assert float(step.reward[0]) == pytest.approx(reward["puller"], rel=1e-5)
        np.testing.assert_allclose(step.obs[0]["obs"][0], seen["puller"], rtol=1e-5)


def test_sides_that_talk_are_played_in_one_program() -> None:
    """Joint actions of the whole environment without messages, as either side's policy decides alone."""
    for channel in CHANNELS.values():
        _, policy = talking(channel, "sample")
        env = Twin(make(LINE).spec)
        whole = Algorithm(env.spec, Decentralized(Mlp((4,))), Individual(), PolicyGradient())
        one = ByPolicy(policy)
        view = policy_view(env.spec, wiring_of(make(LINE)), ("puller", "pusher"), policy)
        decider = BySides(whole, (Seat(one, view, frozenset({"puller", "pusher"})),))
        _, step = jax.vmap(env.init)(jax.random.split(jax.random.key(0), 2))
        arrays: Any = tuple(map(jnp.asarray, policy.arrays))
        action, memory = jax.jit(decider.decide)(((1.0, arrays),), step, decider.memory(2), jax.random.key(1), 1.0)
        assert [a.shape for a in action] == [(2, 2)] and bool(((action[0] >= 0) & (action[0] < 3)).all())
        assert int(memory[0].wire.sent.sum()) > 0


def test_an_artifact_is_compared_over_its_own_channel() -> None:
    """Beside a run whose agents talk in another way, or not at all; of several budgets that its environment draws, one that it was given
    is refused."""
    silent = RunConfig(LINE, comms=Broadcast(size=5))
    several = Broadcast(size=1, budget_bits=(32.0, 64.0))
    it, policy = talking(several, "mode")
    assert Artifact(Path("policy"), policy, "mode").config(silent).comms == several
    ByArtifact(it, policy)
    with pytest.raises(UserError, match="given a budget of 64 bits, and here every episode draws one of 32, 64: name the policy as"):
        ByArtifact(it, policy.with_budget(64.0))
    adapter = make(LINE)
    alone = Algorithm(adapter.spec, Decentralized(Mlp((6,))), Individual(), PolicyGradient())
    mute = Policy.of(alone, begun(alone).policy, "mode", adapter.wiring)
    assert Artifact(Path("policy"), mute, "mode").config(silent).comms == NoMessages()
