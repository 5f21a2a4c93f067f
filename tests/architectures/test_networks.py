"""Networks: agents may be permuted, steps are sequences, what is shared is counted once, and every leaf of an observation is seen."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.algorithm import Algorithm
from marlstone.architectures import Ctde, Decentralized, Gru, Mlp
from marlstone.core.distributions import Discrete
from marlstone.core.normalize import Moments
from marlstone.core.records import replace
from marlstone.core.types import Group, Leaf, Spec, Step
from marlstone.credit import Individual
from marlstone.learners import PolicyGradient
from tests.batches import begun, quick

N, S, B, T = 4, 3, 2, 5
TYPES = ("cat", "dog", "cat", "dog")
SPEC = Spec(
    (Group("all", tuple("abcd"), {"eyes": Leaf("image", (9, 10, 2), "uint8"), "ears": Leaf("vector", (3,))}, Discrete(3), TYPES),), S
)
MLP, GRU = Mlp((6, 5), "tanh"), Gru(6, 5, (4,), "tanh")
BODIES = pytest.mark.parametrize("body", [MLP, GRU], ids=["mlp", "gru"])


def made(architecture: Any) -> Algorithm:
    return Algorithm(SPEC, architecture, Individual(), PolicyGradient())


def rows() -> Step:
    rng, lead = np.random.default_rng(0), (B, T)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    eyes = jnp.asarray(rng.integers(0, 256, (*lead, N, 9, 10, 2)), jnp.uint8)
    first = jnp.zeros(lead, bool).at[0, 2].set(True).at[1, 0].set(True)
    ones, yes = jnp.ones((*lead, N)), jnp.ones((*lead, N), bool)
    obs = ({"eyes": eyes, "ears": draw(*lead, N, 3)},)
    return Step(obs, draw(*lead, S), ones, ones[..., 0], ones, ones[..., 0], first, first, (None,), yes, yes, {})


def seen(algorithm: Algorithm) -> Any:
    """Moments that are not neutral, so that forgetting them is noticed."""
    rng = np.random.default_rng(1)
    fill = lambda m: Moments(
        jnp.asarray(rng.normal(size=m.mean.shape), jnp.float32), jnp.asarray(rng.uniform(0.5, 2, m.var.shape), jnp.float32), m.count + 1
    )
    return jax.tree.map(fill, algorithm.sets.unseen(), is_leaf=lambda x: isinstance(x, Moments))


def memory(algorithm: Algorithm) -> Any:
    rng = np.random.default_rng(2)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), algorithm.memory(B))


def forward(algorithm: Algorithm) -> Any:
    """`(nets, step, memory) -> heads, values, memory after`, over a sequence or one row."""
    a = algorithm.architecture

    def both(nets: Any, step: Step, memory: Any) -> Any:
        (heads,), cores, after = a.policy(SPEC, nets.actor, seen(algorithm), step, memory)
        (values,), last = a.value(SPEC, nets.critic, seen(algorithm), step, memory, cores)
        return heads, values, replace(after, critic=last.critic)

    return both


def close(a: Any, b: Any, tolerance: float = 2e-5) -> None:
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


ALL = [
    Decentralized(GRU), Decentralized(GRU, "type"), Decentralized(GRU, "none"), Decentralized(GRU, trunk="shared"), Ctde(GRU, "none"),
    Ctde(GRU, critic_sees="state"), Ctde(GRU, critic_sees="state", agent_ids=False), Decentralized(MLP, "type"),
]  # fmt: skip
NAMES = ["all", "type", "none", "trunk", "ctde", "state", "state_anonymous", "mlp"]


@pytest.mark.parametrize("architecture", ALL, ids=NAMES)
def test_row_by_row_is_the_whole_sequence(architecture: Any) -> None:
    """Heads, values and memory; memory is forgotten at `first`, in the middle of a trajectory too."""
    it = made(architecture)
    nets, step, start = begun(it).nets, rows(), memory(it)
    compiled = quick(forward(it))
    heads, values, end = compiled(nets, step, start)
    assert heads.shape == (B, T, N, 3) and values.shape == (B, T, N)
    now = start
    for t in range(T):
        h, v, now = compiled(nets, jax.tree.map(lambda x: x[:, t], step), now)  # noqa: B023
        close((h, v), (heads[:, t], values[:, t]))
    close(now, end)


def test_memory_matters_until_an_episode_begins() -> None:
    it = made(Decentralized(GRU))
    nets, step = begun(it).nets, rows()
    compiled = quick(forward(it))
    a, b = (np.asarray(compiled(nets, step, m)[0]) for m in (memory(it), it.memory(B)))
    assert (a[0, :2] != b[0, :2]).any(-1).all(), "before: remembered"
    np.testing.assert_array_equal(a[0, 2:], b[0, 2:], "from `first` on: forgotten")
    np.testing.assert_array_equal(a[1], b[1])
    near = jax.tree.map(lambda x: x, step)
    near = replace(near, obs=({**near.obs[0], "ears": near.obs[0]["ears"].at[:, 0].add(1.0)},))
    c = np.asarray(compiled(nets, near, memory(it))[0])
    assert (c[1, 1:] != a[1, 1:]).any(-1).all(), "what was seen changes later rows of the same episode"


@BODIES
@pytest.mark.parametrize("kind", [Decentralized, Ctde])
def test_permuting_agents_permutes_outputs(kind: Any, body: Any) -> None:
    it = made(kind(body, agent_ids=False))
    nets, step, start, order = begun(it).nets, rows(), memory(it), np.array([2, 0, 3, 1])
    compiled = quick(forward(it))
    swapped = replace(step, obs=jax.tree.map(lambda x: x[:, :, order], step.obs))
    heads, values, _ = compiled(nets, step, start)
    heads2, values2, _ = compiled(nets, swapped, jax.tree.map(lambda x: x[:, order], start))
    close((heads[:, :, order], values[:, :, order]), (heads2, values2))
    assert np.abs(np.asarray(heads2) - np.asarray(heads)).max() > 1e-2


@pytest.mark.parametrize("sharing", ["all", "type"])
def test_agents_that_share_are_told_who_they_are(sharing: Any) -> None:
    it = made(Decentralized(MLP, sharing))
    step = rows()
    alike = replace(step, obs=jax.tree.map(lambda x: jnp.repeat(x[:, :, :1], N, 2), step.obs))
    heads = np.asarray(quick(forward(it))(begun(it).nets, alike, it.memory(B))[0])
    assert all((heads[:, :, i] != heads[:, :, j]).any() for i in range(N) for j in range(i))


def test_agents_that_share_and_are_not_told_are_alike() -> None:
    step = rows()
    alike = replace(step, obs=jax.tree.map(lambda x: jnp.repeat(x[:, :, :1], N, 2), step.obs))
    anonymous = made(Decentralized(MLP, agent_ids=False))
    heads = np.asarray(quick(forward(anonymous))(begun(anonymous).nets, alike, anonymous.memory(B))[0])
    np.testing.assert_allclose(heads, np.repeat(heads[:, :, :1], N, 2), rtol=1e-6)


def test_agents_of_a_type_share_and_others_do_not() -> None:
    it = made(Decentralized(MLP, "type", agent_ids=False))
    step = rows()
    alike = replace(step, obs=jax.tree.map(lambda x: jnp.repeat(x[:, :, :1], N, 2), step.obs))
    flat = replace(seen(it), obs=jax.tree.map(lambda x: jnp.repeat(x[:1], 2, 0), seen(it).obs))
    heads, _, _ = it.architecture.policy(SPEC, begun(it).nets.actor, flat, alike, it.memory(B))
    h = np.asarray(heads[0])
    np.testing.assert_allclose(h[:, :, 0], h[:, :, 2], rtol=1e-6)
    assert np.abs(h[:, :, 0] - h[:, :, 1]).max() > 1e-2


@BODIES
def test_parameters_are_counted_once_per_set(body: Any) -> None:
    size = lambda sharing: sum(x.size for x in jax.tree.leaves(begun(made(Decentralized(body, sharing, agent_ids=False))).nets))
    one = size("all")
    assert size("type") == 2 * one and size("none") == 4 * one
    told = sum(x.size for x in jax.tree.leaves(begun(made(Decentralized(body))).nets))
    assert told == one + 2 * N * 6, "an identity is a row of the first layer of both networks"


def test_initial_policies_are_nearly_uniform_and_initial_sets_differ() -> None:
    it = made(Decentralized(Mlp((6, 5)), "none"))
    nets = quick(it.init)(jax.random.key(0)).nets
    heads, _, _ = quick(forward(it))(nets, rows(), it.memory(B))
    assert 0 < np.abs(np.asarray(heads)).max() < 0.2
    w = np.asarray(nets.actor[0].core[0].w)
    assert w.shape == (N, 6, 5) and len({x.tobytes() for x in w}) == N
    np.testing.assert_allclose(w[0].T @ w[0], 2 * np.eye(5), atol=1e-5)


def test_compiled_and_plain_agree() -> None:
    it = made(Ctde(GRU))
    nets, step, start = begun(it).nets, rows(), memory(it)
    with jax.disable_jit():
        plain = forward(it)(nets, jax.tree.map(lambda x: x[:, :2], step), start)
    close(quick(forward(it))(nets, jax.tree.map(lambda x: x[:, :2], step), start), plain)


@BODIES
def test_a_critic_of_the_state_sees_nothing_else(body: Any) -> None:
    for sees, observed in (("state", False), ("state_and_observation", True)):
        it = made(Ctde(body, critic_sees=sees))
        compiled = quick(forward(it))
        nets, step, start = begun(it).nets, rows(), it.memory(B)
        value = np.asarray(compiled(nets, step, start)[1])
        blind = replace(step, obs=({k: x + 1 for k, x in step.obs[0].items()},))
        assert (value != np.asarray(compiled(nets, blind, start)[1])).any() == observed
        heads = np.asarray(compiled(nets, step, start)[0])
        other = compiled(nets, replace(step, state=step.state + 1), start)
        assert (value != np.asarray(other[1])).any() and np.array_equal(heads, np.asarray(other[0])), "actors never see the state"


@pytest.mark.parametrize("sharing", ["all", "none"])
def test_pictures_reach_every_parameter(sharing: Any) -> None:
    """Of the filters, of both networks, for every agent; and are scaled to 0..1."""
    it = made(Decentralized(MLP, sharing))
    step, run = rows(), forward(it)
    loss = lambda nets: sum((x**2).sum() for x in run(nets, step, it.memory(B))[:2])
    nets = quick(it.init)(jax.random.key(1)).nets
    grads = quick(jax.grad(loss))(nets)
    for network in (*grads.actor, *grads.critic):
        for layer in network.fuse.encoders["eyes"]:
            for g in (layer.w, layer.b):
                assert np.isfinite(g).all() and (np.asarray(g) != 0).mean() > 0.5
                assert (np.abs(np.asarray(g).reshape(N if sharing == "none" else 1, -1)).sum(-1) > 0).all()
    floats = replace(SPEC.groups[0], observation={"eyes": Leaf("image", (9, 10, 2)), "ears": Leaf("vector", (3,))})
    fuse, wide = it.architecture.actor_fuse(SPEC.groups[0]), it.architecture.actor_fuse(floats)
    scaled = {"eyes": step.obs[0]["eyes"].astype(jnp.float32) / 255, "ears": step.obs[0]["ears"]}
    p = nets.actor[0].fuse
    close(fuse(p, step.obs[0], {}, None), wide(p, scaled, {}, None))
