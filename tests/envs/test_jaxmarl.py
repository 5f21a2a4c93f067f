"""`jaxmarl:` rows are JaxMARL's own `step_env`, its ends are truncations, and unlike agents share a padded group."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.core.compile_options import FASTEST_COMPILE, supported
from marlstone.core.distributions import Box, Discrete
from marlstone.envs.jaxmarl import make
from marlstone.envs.jaxmarl.build import newest
from marlstone.envs.names import UnknownEnvironment
from tests.envs.contract_laws import keeps_its_contract, trains

jaxmarl = pytest.importorskip("jaxmarl", reason="needs marlstone[jaxmarl]")

GAMES = [
    ("MPE_simple_spread_v3", {}),
    ("MPE_simple_tag_v3", {"num_good_agents": 2}),
    ("MPE_simple_speaker_listener_v4", {}),
    ("MPE_simple_speaker_listener_v4", {"action_type": "Continuous"}),
]


@functools.cache
def rollout(name: str, options: tuple = (), length: int = 27):
    """`length` rows of 32 copies with random actions, beside JaxMARL's `step_env` from the same states."""
    env, theirs = make(name, dict(options)), jaxmarl.make(name, **{k: v for k, v in options if k not in ("time_limit", "team")})
    counts = [(g.count, g.space) for g in env.spec.groups]

    def act(key, row):
        return tuple(s.emit(s.sample(jnp.zeros((n, s.head)), m, s.noise(key, (n,)))) for (n, s), m in zip(counts, row.legal, strict=True))

    def body(carry, key):
        state, row = carry
        k1, k2 = jax.random.split(key)
        action = act(k1, row)
        named = {}
        for group, part in zip(env.spec.groups, action, strict=True):
            for i, a in enumerate(group.agents):
                space = theirs.action_space(a)
                named[a] = part[i] if hasattr(space, "n") else space.low + (part[i, : space.shape[0]] + 1) / 2 * (space.high - space.low)
        obs, after, rewards, dones, _ = theirs.step_env(k2, state, named)
        state, row = env.step(state, action, k2)
        return (state, row), (row, state, obs, after, rewards, dones, action)

    @functools.partial(jax.jit, compiler_options=supported(FASTEST_COMPILE))
    @jax.vmap
    def run(key):
        return jax.lax.scan(body, env.init(key), jax.random.split(key, length))[1]

    return env, theirs, run(jax.random.split(jax.random.key(0), 32))


@pytest.mark.parametrize(("name", "options"), GAMES)
def test_step_equals_jaxmarl(name: str, options: dict) -> None:
    env, _, (row, state, obs, after, rewards, dones, _) = rollout(name, tuple(options.items()))
    for ours, yours in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
        np.testing.assert_allclose(ours, yours, rtol=1e-5, atol=1e-5)
    for i, agent in enumerate(env.spec.agents):
        np.testing.assert_allclose(row.reward[..., i], rewards[agent], rtol=1e-5, atol=1e-4)
    for group, leaves in zip(env.spec.groups, row.obs, strict=True):
        widths = group.features.get("view", (group.observation["view"].shape[0],) * group.count)
        for i, (agent, width) in enumerate(zip(group.agents, widths, strict=True)):
            np.testing.assert_allclose(leaves["view"][..., i, :width], obs[agent], rtol=1e-5, atol=1e-5)
            assert not np.asarray(leaves["view"][..., i, width:]).any(), "padding is zero"
    np.testing.assert_array_equal(row.last, dones["__all__"])
    np.testing.assert_allclose(row.state, np.concatenate([obs[a] for a in env.spec.agents], axis=-1), rtol=1e-5, atol=1e-5)


def test_limit_truncates_and_can_be_told_to_terminate() -> None:
    """The 26th row (JaxMARL's count for max_steps=25) ends the episode with discount 1, or 0 where the peer is to be reproduced."""
    env, _, (row, *_) = rollout("MPE_simple_spread_v3")
    assert env.spec.horizon == 26
    assert row.last[:, 25].all() and not row.last[:, :25].any()
    assert (row.discount == 1).all() and (row.team_discount == 1).all()
    peer = make("MPE_simple_spread_v3", {"time_limit": "terminate"})
    still, key = (jnp.zeros(3, jnp.int32),), jax.random.key(0)
    step, state = jax.jit(peer.step), peer.init(key)[0]
    before, end = (step(state.replace(step=jnp.asarray(t)), still, key)[1] for t in (24, 25))
    assert end.last and end.team_discount == 0 and (end.discount == 0).all()
    assert not before.last and before.team_discount == 1 and (before.discount == 1).all()


def test_return_is_on_the_peers_scale() -> None:
    """JaxMARL's `MPELogWrapper` figure, averaged over agents as its scripts do, is the episode's sum of `team_reward`."""
    from jaxmarl.wrappers.baselines import MPELogWrapper

    env, _, (row, *_, action) = rollout("MPE_simple_spread_v3")
    theirs = MPELogWrapper(jaxmarl.make("MPE_simple_spread_v3"))
    state = theirs.reset(jax.random.split(jax.random.key(0), 32)[0])[1]
    step = jax.jit(theirs.step)
    for t in range(26):
        _, state, _, _, info = step(jax.random.key(9), state, {a: action[0][0, t, i] for i, a in enumerate(env.spec.agents)})
    np.testing.assert_allclose(info["returned_episode_returns"].mean(), row.team_reward[0, :26].sum(), rtol=1e-4)


def test_unlike_agents_share_a_padded_group() -> None:
    env, _, (row, *_, action) = rollout("MPE_simple_speaker_listener_v4")
    (group,) = env.spec.groups
    assert group.types == ("speaker", "listener") and group.space == Discrete(5)
    assert group.features == {"view": (3, 11)} and group.observation["view"].shape == (11,)
    np.testing.assert_array_equal(row.legal[0][0, 0], [[True] * 3 + [False] * 2, [True] * 5])
    assert action[0][..., 0].max() == 2, "a padded action is never drawn"

    env = rollout("MPE_simple_tag_v3", (("num_good_agents", 2),))[0]
    (group,) = env.spec.groups
    assert group.types == ("adversary",) * 3 + ("agent",) * 2

    env, _, (row, *_) = rollout("MPE_simple_speaker_listener_v4", (("action_type", "Continuous"),))
    assert env.spec.groups[0].space == Box(5)
    np.testing.assert_array_equal(row.legal[0][0, 0], [[True] * 3 + [False] * 2, [True] * 5])


@pytest.mark.parametrize("name", ["MPE_simple_reference_v3", "MPE_simple_world_comm_v3", "MPE_simple_adversary_v3", "MPE_simple_push_v3"])
def test_the_family_constructs(name: str) -> None:
    """One group, every agent named, rows of the spec's shapes (traced only)."""
    env = make(name, {})
    state, row = jax.eval_shape(env.init, jax.random.key(0))
    (group,) = env.spec.groups
    action = (group.space.emit(group.space.mode(jnp.zeros((group.count, group.space.head)), None)),)
    after = jax.eval_shape(env.step, state, action, jax.random.key(0))[1]
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), row)
    assert row.obs[0]["view"].shape == (group.count, *group.observation["view"].shape) and row.state.shape == (env.spec.state,)


@pytest.mark.parametrize("name", ["MPE_simple_speaker_listener_v4", "MPE_simple_reference_v3"])
def test_a_version_may_be_left_out(name: str) -> None:
    plain = make(name.rpartition("_v")[0], {})
    assert (
        plain.spec == make(name, {}).spec
        and newest("MPE_simple", ["MPE_simple_v3", "MPE_simple_v12", "MPE_simple_tag_v3"]) == "MPE_simple_v12"
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MPE_simple_speaker_listener", "MPE_simple_reference"])
def test_worlds_with_a_language_of_their_own_train(name: str) -> None:
    keeps_its_contract(f"jaxmarl:{name}", b=2, t=30)
    trains(f"jaxmarl:{name}")


def test_competing_team_is_a_side() -> None:
    """By default the hunters' sum; `team` names another side, or all."""
    _, _, (row, *_) = rollout("MPE_simple_tag_v3", (("num_good_agents", 2),))
    np.testing.assert_allclose(row.team_reward, row.reward[..., :3].sum(-1), rtol=1e-5)
    prey, everyone = make("MPE_simple_tag_v3", {"team": "agent"}), make("MPE_simple_tag_v3", {"team": "all"})
    assert prey.team.tolist() == [False] * 3 + [True] and everyone.team.all()


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("MPE_simple_spred_v3", {}, "did you mean 'MPE_simple_spread_v3'"),
        ("MPE_simple_spread_v3", {"num_agnts": 4}, "did you mean 'num_agents'"),
        ("MPE_simple_spread_v3", {"time_limit": "stop"}, "time_limit=truncate"),
        ("MPE_simple_tag_v3", {"team": "hunters"}, "adversary, agent"),
        ("MPE_simple_spread_v3", {"local_ratio": 3.0}, "local_ratio must be between"),
    ],
)
def test_errors_carry_the_remedy(name: str, options: dict, says: str) -> None:
    with pytest.raises(UnknownEnvironment, match=says.replace("(", r"\(")):
        make(name, options)
