"""Every architecture with every credit method and learner: refused with a remedy, or it works."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone import architectures, credit, learners
from marlstone.algorithm import Algorithm
from marlstone.architectures import Architecture, Ctde, Decentralized, Gru, Hierarchical, Mlp
from marlstone.core.normalize import EmaMoments, Scales
from marlstone.core.records import replace
from marlstone.core.types import Trajectory
from marlstone.credit import (
    Attention,
    Counterfactual,
    Credit,
    Decoupled,
    Difference,
    Individual,
    Measured,
    Qmix,
    Qplex,
    Shaping,
    Team,
    Vdn,
)
from marlstone.envs.make import make
from marlstone.learners import PolicyGradient, Pqn, QLearning, Replay
from tests.batches import B, begun, built, combination, quick, rollout, trajectories_of
from tests.pairwise import pairwise

ADDITIVE, PAIR = "proving:additive?rows=2", "proving:pair"
MLP, GRU = Mlp((6, 5), "tanh"), Gru(6, 5, (4,), "tanh")
REPLAY = Replay(8, 3, 2, priority=0.5)
LEARNERS = (PolicyGradient(lr=1e-2, epochs=2, minibatches=2), QLearning(lr=1e-2, replay=REPLAY), Pqn(lr=1e-2, epochs=2, minibatches=2))
FILTERED = Decoupled(hidden=4)
CREDITS = (
    Individual(), Team(), Counterfactual(), Difference(), Measured(), Vdn(), Qmix(4, 5), Qplex(5), Attention(), Shaping(hidden=4), FILTERED,
)  # fmt: skip
LED = Hierarchical(MLP, every=3, span=3, roles=2, manager=Mlp((4, 5), "tanh"))
ARCHITECTURES = (Decentralized(MLP), Ctde(MLP), LED)
ALL = list(itertools.product(ARCHITECTURES, CREDITS, LEARNERS))
named = lambda parts: "-".join(type(p).kind for p in parts)


def test_the_grid_is_whole() -> None:
    """Every part that the package exports stands in it: a new one must be added here."""
    parts = lambda package, contract: {x for n in package.__all__ if hasattr(x := getattr(package, n), "kind") and issubclass(x, contract)}
    assert parts(architectures, Architecture) == {type(p[0]) for p in ALL}
    assert parts(credit, Credit) == {type(p[1]) for p in ALL}
    assert parts(learners, learners.Learner) == {type(p[2]) for p in ALL}


def shapes(name: str, architecture: Architecture) -> Any:
    """Rows, actions and log-probs `[b ...]` of a rollout of this game, as shapes."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), rollout(name, managers=architecture.managers()))


def accepted(name: str, parts: tuple[Any, ...]) -> Algorithm | ValueError:
    """The combination, or its refusal."""
    try:
        return Algorithm(built(name, parts[0]).spec, *parts)
    except ValueError as refusal:
        return refusal


@pytest.mark.parametrize("name", [ADDITIVE, PAIR], ids=["additive", "pair"])
@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a.kind)
def test_a_refusal_names_a_part_and_a_remedy(architecture: Architecture, name: str) -> None:
    for parts in (p for p in ALL if p[0] is architecture):
        if isinstance(refusal := accepted(name, parts), ValueError):
            said, words = str(refusal), [word for p in parts for word in (type(p).__name__, type(p).kind)]
            assert any(w in said for w in words) and any(w in said for w in ("choose another", ": use ", ": add --architecture ")), parts


ACCEPTED = [(name, *p) for p in ALL for name in (ADDITIVE, PAIR) if isinstance(accepted(name, p), Algorithm)]
COVER = [(name, parts) for name, *parts in pairwise(ACCEPTED)]


@pytest.mark.parametrize(("name", "parts"), COVER, ids=[f"{name}-{named(parts)}" for name, parts in COVER])
def test_an_update_keeps_what_it_carries(name: str, parts: list[Any]) -> None:
    """Shape by shape and type by type, in combinations that hold every pair; contributions are one number per decision of the team's."""
    it = Algorithm(built(name, parts[0]).spec, *parts)
    trajectories = Trajectory(*shapes(name, parts[0]), jax.eval_shape(lambda: it.memory(B)))
    train = jax.eval_shape(it.init, jax.random.key(0), trajectories)
    key = jax.random.key(0)
    after, metrics = jax.eval_shape(lambda t, c: it.update(t, c, jnp.float32(0.5), key), train, trajectories)
    like = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
    assert like(after) == like(train)
    assert metrics and all(m.shape == () for m in metrics.values())
    said = jax.eval_shape(it.contribution, train, trajectories)
    assert said.shape == (*trajectories.logp.shape[:-1], it.spec.team.n)


def test_few_combinations_are_refused() -> None:
    """What remains open to users, counted: a part must not come to refuse more by accident."""

    works = lambda *parts, name=ADDITIVE: isinstance(accepted(name, parts), Algorithm)
    open_to = {kind: sum(works(*p) for p in ALL if named(p).startswith(kind)) for kind in ("decentralized", "ctde", "hierarchical")}
    assert open_to == {"decentralized": 16, "ctde": 24, "hierarchical": 24}
    assert not any(works(*p, name=PAIR) for p in ALL if not isinstance(p[2], PolicyGradient))
    assert sum(works(*p, name=PAIR) for p in ALL) == 26


# ---- a sample, really run
SAMPLE = [
    (PAIR, Ctde(MLP), Counterfactual(trust=0.7), LEARNERS[0]),
    (ADDITIVE, Ctde(MLP, "none", critic_sees="state"), Difference(), LEARNERS[0]),
    (ADDITIVE, Ctde(MLP), Qmix(4, 5), LEARNERS[0]),
    (ADDITIVE, Ctde(MLP), Qplex(5), LEARNERS[1]),
    (ADDITIVE, Ctde(GRU), Qmix(4, 5), LEARNERS[2]),
    (ADDITIVE, Decentralized(MLP, "none"), Vdn(), LEARNERS[1]),
    (PAIR, LED, Counterfactual(), LEARNERS[0]),
    (ADDITIVE, replace(LED, body=GRU, span=8), Qmix(4, 5), LEARNERS[1]),
    (ADDITIVE, replace(LED, sharing="none"), Difference(), LEARNERS[0]),
]


@pytest.mark.parametrize(("name", "parts"), [(n, p) for n, *p in SAMPLE], ids=[named(p) for _, *p in SAMPLE])
def test_every_parameter_learns_and_stays_finite(name: str, parts: list[Any]) -> None:
    """Networks, critics and mixers: every array, and of all numbers nine in ten; the others weigh what never varies."""
    it = combination(name, *parts)
    trajectories = it.trajectories()
    start, end = begun(it.it, like=trajectories), it.updated(trajectories)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((end.nets, end.opt, end.targets, end.target_params)))
    moved = jax.tree.map(lambda x, y: np.asarray(x) != y, start.nets, end.nets)
    alone = {f".q[{g}].others[{g}]" for g, group in enumerate(it.it.spec.groups) if group.count == 1}  # nobody else's action to look up
    for path, x in jax.tree_util.tree_leaves_with_path(moved):
        where = jax.tree_util.keystr(path)
        assert x.any() != (where in alone), f"{where} did not move"
    assert np.concatenate([np.ravel(x) for x in jax.tree.leaves(moved)]).mean() > 0.9
    if it.it.learner.replay is not None:
        assert int(end.replay.added) == B and (np.asarray(end.replay.priority) > 0).sum() == B
    assert int(end.version) == 1


# ---- action values keep their meaning when their scale moves
@pytest.mark.parametrize("sharing", ["all", "none"])
def test_rescaled_heads_say_the_same_action_values(sharing: Any) -> None:
    """In a Discrete, a Box and a MultiDiscrete group; were `real` values not restored by head, they would be others."""
    it = Algorithm(make(PAIR).spec, Ctde(GRU, sharing), Counterfactual(), LEARNERS[0])
    train, trajectories, k, rng = begun(it), trajectories_of(it, PAIR), sum(it.sets.sizes), np.random.default_rng(1)

    def scale(mean: float) -> EmaMoments:
        return EmaMoments(*(jnp.asarray(x, jnp.float32) for x in (mean * rng.normal(size=k), rng.uniform(0.5, 20, k) ** 2, np.ones(k))))

    old, new = (Scales(scale(10), scale(5)) for _ in range(2))
    nets = it.sets.preserved(train.nets, old, new)
    asked = frozenset({"value", "q_chosen", "q_expected", "q_default"})

    @quick
    def views(nets: Any, scale: Scales, trajectories: Trajectory) -> tuple[Any, ...]:
        v = it.views(nets, train.seen, scale, trajectories, asked)
        return v.value, v.q_chosen, v.q_expected, v.q_default

    asks = (train.nets, old), (nets, new), (train.nets, new)
    for before, after, heads_alone in zip(*(views(n, s, trajectories) for n, s in asks), strict=True):
        np.testing.assert_allclose(before, after, rtol=1e-4, atol=2e-3)
        assert np.abs(np.asarray(heads_alone) - before).max() > 0.5
    assert nets.actor is train.nets.actor and nets.q[0].others is train.nets.q[0].others
