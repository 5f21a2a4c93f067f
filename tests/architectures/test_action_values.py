"""Action values know what the others did, never what the agent did itself: one pass says what a pass per action would."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.algorithm import Algorithm
from marlstone.architectures import Architecture, Ctde, Decentralized, Gru, Mlp
from marlstone.core.distributions import concat_agents, enumerable
from marlstone.core.normalize import normalize
from marlstone.core.records import replace
from marlstone.core.types import Trajectory
from marlstone.credit import Counterfactual, Individual
from marlstone.envs.make import make
from marlstone.learners import PolicyGradient
from tests.batches import B, T, begun, quick, trajectories_of

PAIR = "proving:pair"
MLP, GRU = Mlp((6, 5), "tanh"), Gru(6, 5, (4,), "tanh")
ARCHITECTURES = pytest.mark.parametrize(
    "architecture", [Ctde(MLP), Ctde(GRU, "none"), Ctde(MLP, critic_sees="state", agent_ids=False)], ids=["mlp", "gru_none", "state"]
)
N, GROUPS = 4, [range(2), range(2, 3), range(3, 4)]  # two Discrete players, a Box arm, a MultiDiscrete


class Critics:
    """The action-value critics of one architecture in `pair`, random everywhere, compiled once."""

    def __init__(self, architecture: Architecture) -> None:
        self.algorithm = it = Algorithm(make(PAIR).spec, architecture, Individual(), PolicyGradient())
        central = Algorithm(it.spec, Ctde(architecture.body), Counterfactual(), PolicyGradient())
        rng = np.random.default_rng(0)
        shapes = jax.eval_shape(lambda k: architecture.init(it.spec, k, frozenset({"q_chosen"}))[2], jax.random.key(0))
        self.q = jax.tree.map(lambda x: rng.normal(size=x.shape, scale=0.5).astype(np.float32), shapes)
        self.seen, self.trajectories = begun(it).seen, trajectories_of(central, PAIR)
        memory = architecture.memory(it.spec, B, frozenset({"q_chosen"}))
        self.memory = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), memory)
        self._said = quick(self._said)

    def _said(self, trajectory: Trajectory, asked: tuple[Any, ...], heads: tuple[Any, ...], q: Any = None) -> Any:
        it, rows = self.algorithm, jax.tree.map(lambda x: x[:, :-1], trajectory.step)
        said, _ = it.architecture.q(it.spec, self.q if q is None else q, self.seen, rows, trajectory.action, self.memory)
        of = concat_agents([s.of(a) for s, a in zip(said, asked)])
        mean = concat_agents([s.mean(h, ok) for s, h, ok in zip(said, heads, rows.legal)])
        return of, mean, tuple(s.z for s in said)

    def heads(self) -> tuple[Any, ...]:
        rng = np.random.default_rng(3)
        return tuple(rng.normal(size=(B, T, g.count, g.space.head)).astype(np.float32) for g in self.algorithm.spec.groups)

    def of(self, trajectory: Trajectory, asked: tuple[Any, ...] | None = None, q: Any = None) -> np.ndarray:
        """Values `[b t n]` of the actions `asked`, by default those recorded."""
        return np.asarray(
            self._said(trajectory, trajectory.action if asked is None else asked, self.heads(), self.q if q is None else q)[0]
        )

    def rest(self, trajectory: Trajectory) -> tuple[np.ndarray, Any]:
        """Expectations under the policies, and everything ready for candidates."""
        return jax.device_get(self._said(trajectory, trajectory.action, self.heads(), self.q)[1:])


critics = functools.cache(Critics)


def did(trajectory: Trajectory) -> np.ndarray:
    return np.asarray(trajectory.step.present & trajectory.step.deciding)[:, :-1]


def otherwise(trajectory: Trajectory, agent: int) -> Trajectory:
    """The same batch in which one agent acted otherwise on every row."""
    action = [np.array(a) for a in trajectory.action]
    g, i = next((g, agent - r.start) for g, r in enumerate(GROUPS) if agent in r)
    action[g][:, :, i] = action[g][:, :, i] + 0.7 if action[g].dtype == np.float32 else 1 - action[g][:, :, i] % 2
    return replace(trajectory, action=tuple(action))


def ready(it: Critics, trajectory: Trajectory) -> list[np.ndarray]:
    """Per agent, `[b t ...]`."""
    return [z[:, :, i] for z in it.rest(trajectory)[1] for i in range(z.shape[2])]


# ---- who is told what
@ARCHITECTURES
@pytest.mark.parametrize("agent", range(N), ids=["player_0", "player_1", "arm_0", "late_0"])
def test_values_depend_on_what_the_others_did_and_not_on_ones_own_action(architecture: Any, agent: int) -> None:
    it = critics(architecture)
    trajectory = it.trajectories
    before, after = ready(it, trajectory), ready(it, otherwise(trajectory, agent))
    acted = did(trajectory)[..., agent]
    assert 0.1 < acted.mean()
    recurrent = isinstance(architecture.body, Gru)
    for n, (x, y) in enumerate(zip(before, after)):
        if n == agent:
            np.testing.assert_allclose(x, y, atol=2e-6)  # a sum less its own term: up to rounding
        else:
            moved = np.abs(x - y).max(-1) > 2e-5
            assert moved[acted].all(), f"agent {n} is not told what agent {agent} did"
            assert recurrent or not moved[~acted].any(), f"agent {n} is told of an action that agent {agent} never took"


@pytest.mark.parametrize("body", [MLP, GRU], ids=["mlp", "gru"])
def test_decentralized_critics_are_told_of_nobody(body: Any) -> None:
    it = critics(Decentralized(body))
    before = ready(it, it.trajectories)
    for agent in range(N):
        for x, y in zip(before, ready(it, otherwise(it.trajectories, agent))):
            np.testing.assert_array_equal(x, y)
    assert all(j.others is None for j in it.q)


@ARCHITECTURES
def test_actions_of_the_absent_are_nothing(architecture: Any) -> None:
    """Bit for bit, also through memory: player_1 after its death, late_0 before it comes."""
    it = critics(architecture)
    gone, action = ~did(it.trajectories), [np.array(a) for a in it.trajectories.action]
    for a, r in zip(action, GROUPS):
        mask = gone[..., r.start : r.stop]
        a[mask] = a[mask] + 3.3 if a.dtype == np.float32 else 1 - a[mask] % 2
    assert gone.mean() > 0.1
    changed = replace(it.trajectories, action=tuple(action))
    for x, y in zip(ready(it, it.trajectories), ready(it, changed)):
        np.testing.assert_array_equal(x, y)


# ---- one pass
@ARCHITECTURES
def test_one_pass_says_what_a_pass_per_action_says(architecture: Any) -> None:
    """Asking for an action gives what recording it would have given; and where actions are listed, all stand in one row."""
    it = critics(architecture)
    for n in range(N):
        other = otherwise(it.trajectories, n)
        asked = it.of(it.trajectories, other.action)[..., n]
        np.testing.assert_allclose(asked, it.of(other)[..., n], atol=1e-6)
        assert (asked != it.of(it.trajectories)[..., n]).any()
    ones, z = jax.tree.map(np.zeros_like, it.trajectories.action), it.rest(it.trajectories)[1]
    for a in range(3):
        players = replace(it.trajectories, action=(ones[0] + a, *it.trajectories.action[1:])).action
        np.testing.assert_allclose(it.of(it.trajectories, players)[..., :2], z[0][..., a], atol=1e-6)


@ARCHITECTURES
def test_expectations_are_sums_over_actions(architecture: Any) -> None:
    """By enumeration, or for a Box, exactly the mean over its points."""
    it = critics(architecture)
    mean, z = it.rest(it.trajectories)
    for g, (group, head, ok, r) in enumerate(zip(it.algorithm.spec.groups, it.heads(), it.trajectories.step.legal, GROUPS)):
        if enumerable(group.space):
            each = np.asarray(group.space.mean(z[g], head, None if ok is None else ok[:, :-1]))
        else:
            points = np.asarray(group.space.points(head))
            with_ = lambda p: (*it.trajectories.action[:g], p, *it.trajectories.action[g + 1 :])  # noqa: B023
            each = np.mean([it.of(it.trajectories, with_(p))[..., r.start : r.stop] for p in points], 0)
            assert np.abs(each - it.of(it.trajectories)[..., r.start : r.stop]).max() > 0.01
        np.testing.assert_allclose(mean[..., r.start : r.stop], each, atol=1e-5)


# ---- the first layer
def test_the_first_layer_is_a_product_over_the_others_actions() -> None:
    """h_i = fuse_i + W_i (one-hots of every agent but i, concatenated): written with one dense matrix per agent."""
    it = critics(Ctde(Mlp((6,))))
    trajectory, architecture, spec = it.trajectories, it.algorithm.architecture, it.algorithm.spec
    rows = jax.tree.map(lambda x: x[:, :-1], trajectory.step)
    values = architecture.action_values(spec)
    state = normalize(it.seen.state, rows.state)
    encoded = [np.asarray(g.space.encode(jnp.asarray(a))) for g, a in zip(spec.groups, trajectory.action)]
    by_agent = [e[:, :, i] for e in encoded for i in range(e.shape[2])]
    said = ready(it, trajectory)
    for n in range(N):
        g = next(g for g, r in enumerate(GROUPS) if n in r)
        i, p = n - GROUPS[g].start, it.q[g]
        tables = [w[j] for w in p.others for j in range(len(w))]
        told = np.concatenate([x * did(trajectory)[..., [j]] for j, x in enumerate(by_agent) if j != n], -1)
        dense = np.concatenate([w for j, w in enumerate(tables) if j != n])
        first = np.asarray(values.fuses[g](p.network.fuse, rows.obs[g], it.seen.obs[g], state))[:, :, i] + told @ dense
        features = np.maximum(first, 0)
        if enumerable(spec.groups[g].space):
            features = features @ p.network.head.w + p.network.head.b
        np.testing.assert_allclose(said[n], features, atol=1e-4)


def test_critics_grow_linearly_with_the_team() -> None:
    """For shared parameters every further agent brings one table and one identity, and no layer grows."""

    def count(n: int) -> int:
        architecture, spec = Ctde(MLP), make(f"proving:swarm?agents={n}").spec
        return sum(
            x.size
            for x in jax.tree.leaves(jax.eval_shape(lambda k: architecture.init(spec, k, frozenset({"q_chosen"}))[2], jax.random.key(0)))
        )

    sizes = [count(n) for n in (10, 20, 40, 80)]
    table, identity = 5 * 6, 6
    assert np.diff(sizes).tolist() == [(table + identity) * more for more in (10, 20, 40)]
