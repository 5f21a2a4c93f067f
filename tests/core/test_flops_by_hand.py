"""FLOPs of every network, told apart by component, are within 2% of counts by hand: every body, credit method and encoder.

By hand, of a forward pass F with a first layer I whose input needs no gradient: learning is F for the targets, F again, F for the weights'
gradients and F - I for the inputs'; values and policies are read at T + 1 steps of a trajectory, critics of actions at T. All per step.
"""

from contextlib import suppress
from typing import Any

import jax.numpy as jnp
import pytest

from marlstone.algorithm import Algorithm
from marlstone.algorithm.costs import bytes_by_agent, flops_by_agent, flops_by_component
from marlstone.architectures import Ctde, Decentralized, Gru, Mlp
from marlstone.config.kinds import names
from marlstone.core.distributions import Discrete
from marlstone.core.flops import Flops
from marlstone.core.ledger import SHARED
from marlstone.core.types import Group, Leaf, Spec, Step, Trajectory
from marlstone.credit import Credit, Individual
from marlstone.encoders.image import Image
from marlstone.encoders.vector import Vector
from marlstone.learners import PolicyGradient, Pqn
from marlstone.rollout.unroll import RolloutState, trajectory_bytes, trajectory_shapes

B, T = 3, 10
N, D, A, S = 4, 9, 11, 13  # agents, features, actions, of the state
H, K = 32, 40  # units of bodies, and of credit's own networks
R = (T + 1) / T
VECTOR = {"obs": Leaf("vector", (D,))}


def spec_of(observation: dict[str, Leaf] = VECTOR, groups: int = 1) -> Spec:
    agents = lambda g: tuple(f"a{g}_{i}" for i in range(N))
    return Spec(tuple(Group(f"g{g}", agents(g), observation, Discrete(A)) for g in range(groups)), state=S, horizon=T)


def shapes(algorithm: Algorithm) -> Trajectory:
    """Of one rollout's trajectories, without an environment."""
    spec = algorithm.spec
    obs = tuple({k: jnp.zeros((B, g.count, *leaf.shape), leaf.dtype) for k, leaf in g.observation.items()} for g in spec.groups)
    each, one, yes = jnp.zeros((B, spec.n)), jnp.zeros(B), jnp.zeros(B, bool)
    step = Step(
        obs=obs, state=jnp.zeros((B, S)), reward=each, team_reward=one, discount=each, team_discount=one, first=yes, last=yes,
        legal=(None,) * len(spec.groups), present=each > 0, deciding=each > 0, metrics={},
    )  # fmt: skip
    return trajectory_shapes(algorithm, RolloutState(None, step, algorithm.memory(B)), T)


def counted(architecture: Any, credit: Credit = Individual(), **spec: Any) -> tuple[Algorithm, Flops]:
    algorithm = Algorithm(spec_of(**spec), architecture, credit, PolicyGradient(epochs=1, minibatches=1))
    return algorithm, algorithm.flops(shapes(algorithm))


def near(found: float, by_hand: float) -> None:
    assert found == pytest.approx(by_hand, rel=0.02), found / by_hand


def learned(forward: float, first: float, read: float = R) -> float:
    """Of an update that reads a network `read` times a step."""
    return read * (4 * forward - first)


MLP = Mlp((H, H))
BODY = {"mlp": (MLP, 2 * H * H), "gru": (Gru(H, H, (H,)), 2 * (3 * H * H) + 2 * (3 * H * H) + 2 * H * H)}
"""Bodies, and the products of what lies between first layer and head."""


@pytest.mark.parametrize("sharing", ["all", "none"])
@pytest.mark.parametrize("body", BODY)
def test_bodies(body: str, sharing: Any) -> None:
    """Actor and critic, with one parameter set and with one each; acting is one forward pass of the actor."""
    made, core = BODY[body]
    first = 2 * D * H
    _, flops = counted(Decentralized(made, sharing=sharing))
    assert flops.acting_by == {"actor_0": N * (first + core + 2 * H * A)} and flops.acting == sum(flops.acting_by.values())
    near(flops.learning_by["actor_0"], N * learned(first + core + 2 * H * A, first))
    critic = N * learned(first + core + 2 * H, first)
    near(flops.learning_by["critic_0"], critic if body == "mlp" else critic + N * (first + core - 2 * H * H))  # and its memory, once


def test_a_central_critic_reads_the_state_once_for_all() -> None:
    _, flops = counted(Ctde(MLP))
    first = N * 2 * D * H + 2 * S * H
    near(flops.learning_by["critic_0"], learned(first + N * (2 * H * H + 2 * H), first))


@pytest.mark.parametrize(("kind", "leaf"), [("image", Leaf("image", (16, 12, 3))), ("vector", Leaf("vector", (D,)))])
def test_encoders(kind: str, leaf: Leaf) -> None:
    """In actor and critic; other leaves stay outside."""
    if kind == "image":
        encoder: Any = Image((4, 6))
        first, rest, wide = 2 * (8 * 6) * 27 * 4, 2 * (8 * 6) * 36 * 6, 8 * 6 * 6  # the second picture is 8 x 6: no stride
    else:
        encoder, first, rest, wide = Vector((K, K)), 2 * D * K, 2 * K * K, K
    algorithm, flops = counted(Decentralized(MLP, encoders={"seen": encoder}), observation={"plain": Leaf("vector", (D,)), "seen": leaf})
    encoding = N * (first + rest)
    assert flops.acting_by["actor_0/encoder_1"] == encoding
    assert flops.acting_by["actor_0"] == N * (2 * D * H + 2 * wide * H + 2 * H * H + 2 * H * A)
    for name in ("actor", "critic"):
        near(flops.learning_by[f"{name}_0/encoder_1"], learned(encoding, N * first))
    assert set(flops_by_component(algorithm.spec, flops.acting_by)) == {"actor g0", "actor g0, encoder seen"}


def hyper(width: int, inputs: int = S, hidden: int = K) -> tuple[float, float]:
    """A network that makes weights: all of it, and its first layer."""
    return 2 * inputs * hidden + 2 * hidden * width, 2 * inputs * hidden


def mixing(*parts: tuple[float, float]) -> float:
    return sum(learned(*part) for part in parts)


def attention() -> float:
    keys = 16
    head = lambda over: N * (2 * K * (2 * keys + K) + 2 * over * keys + 2 * over * K)
    seen = N * 2 * D * K + N * 2 * A * K
    forward = seen + head(T) + head(N) + N * 2 * K * K + N * 2 * A * K
    inputs = seen + N * 2 * A * K  # what is looked up or observed needs no gradient
    return 2 * forward + 2 * forward - inputs


def decoupled() -> float:
    ways = 2
    network = N * (2 * D * K + 2 * K * K + 2 * K * A * (1 + ways) + 2 * K * (2 + ways))
    could = N * (2 * ways * A + 2 * ways * ways * A)
    over = 2 * T * N * ways * ways * 2 + 2 * T * N
    pairs = 2 * N * N * ways + 2 * N * N
    return 2 * (network + could + over) + network + 2 * pairs + 2 * network - N * 2 * D * K + 2 * pairs


def shaping() -> float:
    rewards = N * (R * 2 * D * K + 2 * A * K + 2 * K * K + 2 * K)
    first = N * (R * 2 * D * K + 2 * A * K)
    critic = R * N * (2 * D * K + 2 * K)
    return 4 * rewards - first + 3 * critic - R * N * 2 * D * K


Q_FIRST = N * (2 * D * H + 2 * A * H) + 2 * S * H
Q = learned(Q_FIRST + N * (2 * H * H + 2 * H * A), Q_FIRST, 1)
BY_HAND: dict[str, tuple[dict[str, Any], dict[str, float]]] = {
    "individual": ({}, {}),
    "team": ({}, {}),
    "counterfactual": ({}, {"q_0": Q}),
    "difference": ({}, {"q_0": Q}),
    "measured": ({}, {"q_0": Q}),
    "vdn": ({}, {}),
    "qmix": ({"embed": 8, "hidden": K}, {"credit": mixing(hyper(8 * N), hyper(8), hyper(8), hyper(1))}),
    "attention": ({"hidden": K}, {"credit": attention()}),
    "decoupled": ({"hidden": K}, {"credit": decoupled()}),
    "shaping": ({"hidden": K}, {"credit": shaping()}),
}


VALUES = {
    "vdn": ({}, []),
    "qmix": ({"embed": 8, "hidden": K}, [hyper(8 * N), hyper(8), hyper(8), hyper(1)]),
    "qplex": ({"hidden": K}, [hyper(N + 1), hyper(N, S + N)]),
}
"""Mixers of action values: of a value-based learner without target networks."""


def test_every_credit_method_has_a_count_by_hand() -> None:
    assert set(BY_HAND) | set(VALUES) == set(names(Credit))


@pytest.mark.parametrize("kind", VALUES)
def test_mixers_of_action_values(kind: str) -> None:
    """Read at T + 1 steps for the targets, and at T with their gradients."""
    fields, networks = VALUES[kind]
    algorithm = Algorithm(spec_of(), Ctde(MLP), names(Credit)[kind](**fields), Pqn(epochs=1, minibatches=1))
    flops = algorithm.flops(shapes(algorithm))
    actor, first = 2 * D * H + 2 * H * H + 2 * H * A, 2 * D * H
    near(flops.learning_by["actor_0"], N * (R * actor + R * (3 * actor - first)))
    assert flops.learning_by.get("credit", 0) == pytest.approx(sum(3 * whole - first + R * whole for whole, first in networks), rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("kind", names(Credit))
@pytest.mark.parametrize("architecture", [Ctde(MLP), Decentralized(MLP), Ctde(BODY["gru"][0], sharing="none")], ids=["ctde", "own", "gru"])
def test_every_combination_adds_up(architecture: Any, kind: str) -> None:
    """By component and by agent, to the FLOP; combinations that are refused aside."""
    credit = names(Credit)[kind]()
    for learner in (PolicyGradient(epochs=1, minibatches=1), Pqn(epochs=1, minibatches=1)):
        with suppress(ValueError):
            algorithm = Algorithm(spec_of(groups=2), architecture, credit, learner)
            flops = algorithm.flops(shapes(algorithm))
            for total, by in ((flops.acting, flops.acting_by), (flops.learning, flops.learning_by)):
                assert sum(by.values()) == total == sum(flops_by_agent(algorithm, by).values())
                assert sum(flops_by_component(algorithm.spec, by).values()) == total


def test_agents_and_shared_are_all_of_it() -> None:
    """FLOPs and bytes of two groups: an actor's are its agents', a central critic's are shared, a critic of one's own is one's own."""
    for architecture in (Ctde(MLP), Decentralized(MLP)):
        algorithm, flops = counted(architecture, groups=2)
        by = flops_by_agent(algorithm, flops.learning_by)
        assert sum(by.values()) == flops.learning and set(by) == {*algorithm.spec.agents, SHARED}
        actor = flops.learning_by["actor_1"] // N
        assert by["a1_0"] == by["a1_3"] == actor + (0 if architecture.central else flops.learning_by["critic_1"] // N)
        handed = shapes(algorithm)
        size = bytes_by_agent(algorithm.spec, handed)
        assert sum(size.values()) == trajectory_bytes(handed) and min(size.values()) >= 0 and size["a0_0"] == size["a1_3"] > 0


@pytest.mark.parametrize("kind", BY_HAND)
def test_credit_methods(kind: str) -> None:
    """Their own networks, beside actor and critic, which they do not change; and everything adds up to what is counted in all."""
    fields, own = BY_HAND[kind]
    _, flops = counted(Ctde(MLP), names(Credit)[kind](**fields))
    actor, critic = 2 * D * H + 2 * H * H + 2 * H * A, N * 2 * D * H + 2 * S * H
    near(flops.learning_by["actor_0"], N * learned(actor, 2 * D * H))
    near(flops.learning_by["critic_0"], learned(critic + N * (2 * H * H + 2 * H), critic))
    found = {k: v for k, v in flops.learning_by.items() if k.partition("_")[0] in ("q", "credit") and "/" not in k}
    if kind == "shaping":  # a step of learning ahead is differentiated: ten forward passes of the actor, three without the first layer
        near(flops.learning_by["credit/actor_0"], R * N * (10 * actor - 3 * 2 * D * H))
    for name, by_hand in own.items():
        near(found.pop(name), by_hand)
    assert sum(found.values()) <= 0.02 * flops.learning, found
    assert sum(flops.acting_by.values()) == flops.acting and sum(flops.learning_by.values()) == flops.learning
    assert flops.learning_by.get("other", 0) <= 0.02 * flops.learning
