"""The fast actor says, samples and remembers what the compiled algorithm does, by any weights, in a process without JAX."""

import functools
import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import pytest
from scipy import stats

from marlstone.algorithm import Algorithm, Policy
from marlstone.architectures import Ctde, Decentralized, Gru, Hierarchical, Mlp
from marlstone.core.distributions import Box, Composite, Discrete, MultiDiscrete, draw_group_noise
from marlstone.core.normalize import Moments
from marlstone.core.records import replace
from marlstone.core.types import Group, Leaf, Spec, Step
from marlstone.credit import Counterfactual, Individual, Qmix, Team, Vdn
from marlstone.encoders.image import Image
from marlstone.envs.make import make
from marlstone.fleet.learner import described
from marlstone.learners import PolicyGradient, Pqn, QLearning
from marlstone.policy.numpy_actor import FastActor, describe, weights
from tests.batches import begun, built, quick

B, T = 24, 20
SEE = Group(
    "see", tuple("abcd"), {"eyes": Leaf("image", (9, 10, 2), "uint8"), "ears": Leaf("vector", (3,))}, Discrete(4),
    ("cat", "dog", "cat", "dog"), {"ears": (3, 2, 3, 2)}, default=1,
)  # fmt: skip
PICK = Group("pick", tuple("efg"), {"view": Leaf("vector", (5,))}, MultiDiscrete((2, 3)), ("elk", "elk", "fox"), default=(0, 1))
TURN = Group("turn", tuple("hi"), {"view": Leaf("vector", (2,))}, Box(2), ("hen", "ibis"))
BOTH = Group(
    "both", tuple("jk"), {"view": Leaf("vector", (4,))}, Composite((Discrete(3), Box(2), MultiDiscrete((2, 2))), ("pick", "turn", "bits")),
    ("jay", "kite"), default=((0, 0.1, 0.2, 1, 0), (2, 0, 0, 0, 1)),
)  # fmt: skip
MIXTURE = Spec((SEE, BOTH), 3)
SPEC, LISTED = Spec((SEE, PICK, TURN), 3), Spec((SEE, PICK), 3)
MASKED = {"see", "turn", "both"}
LED = Hierarchical(Gru(6, 5, (4,), "tanh"), "type", every=3, span=3, roles=2, manager=Mlp((4, 5), "tanh"))
SMALL = Image((3, 4))
LAYER = Mlp((8, 6), "tanh", norm="layer")
PARTS: dict[str, tuple[Spec, Any, Any, Any]] = {
    "all": (SPEC, Decentralized(Mlp((8, 6))), Team(), PolicyGradient()),
    "anonymous": (SPEC, Decentralized(LAYER, agent_ids=False, trunk="shared"), Team(), PolicyGradient(normalize_observations=False)),
    "type_mixed": (SPEC, Ctde(LAYER, "type", image=SMALL), Counterfactual(), PolicyGradient()),
    "composite": (MIXTURE, Ctde(Mlp((6,)), "type", image=SMALL), Counterfactual(), PolicyGradient()),
    "none": (SPEC, Decentralized(Gru(7, 6, ()), "none", image=SMALL), Individual(), PolicyGradient()),
    "type_gru_mixed": (SPEC, Ctde(Gru(7, 6, (5,), "tanh", "layer"), "type", image=SMALL), Counterfactual(), PolicyGradient()),
    "gru_greedy": (LISTED, Ctde(Gru(7, 6, (5,))), Qmix(4, 5), QLearning()),
    "greedy": (LISTED, Decentralized(LAYER, "none", image=SMALL), Vdn(), Pqn()),
    "managers": (built("proving:additive?rows=2", LED).spec, LED, Team(explore=0.05), PolicyGradient()),
}


@functools.cache
def rows(name: str) -> tuple[Step, ...]:
    """T rows of B environments: anything that a combination's environment could show, in NumPy; episodes begin anywhere."""
    spec, rng = PARTS[name][0], np.random.default_rng(0)

    def leaf(g: Group, name: str, leaf: Leaf) -> np.ndarray:
        shape = (B, g.count, *leaf.shape)
        if leaf.dtype == "uint8":
            return rng.integers(0, 256, shape).astype(np.uint8)
        x = rng.normal(size=shape).astype(np.float32)
        for i, f in enumerate(g.features.get(name, ())):
            x[:, i, f:] = 0
        return x

    def legal(g: Group) -> np.ndarray | None:
        ok = rng.random((B, g.count, g.space.width)) < 0.6
        ok[0] = False  # nobody may do anything
        return ok if g.name in MASKED else None

    def row() -> Step:
        ones, yes, first = np.ones((B, spec.n), np.float32), np.ones((B, spec.n), bool), rng.random(B) < 0.1
        obs = tuple({k: leaf(g, k, x) for k, x in g.observation.items()} for g in spec.groups)
        state = rng.normal(size=(B, spec.state)).astype(np.float32)
        return Step(obs, state, ones, ones[:, 0], ones, ones[:, 0], first, first, tuple(legal(g) for g in spec.groups), yes, yes, {})

    return tuple(row() for _ in range(T))


@dataclass
class Case:
    """One combination: the compiled algorithm, what actors are told of it, and a policy of random numbers everywhere."""

    it: Algorithm
    description: dict[str, Any]
    act: Any
    blank: Policy

    def policy(self, seed: int = 0) -> Policy:
        rng = np.random.default_rng(seed)
        drawn = lambda m: Moments(rng.normal(size=m.mean.shape), rng.uniform(0.5, 2, m.var.shape), m.count)
        seen = jax.tree.map(drawn, self.blank.seen, is_leaf=lambda x: isinstance(x, Moments))
        actor = jax.tree.map(lambda x: rng.normal(size=x.shape, scale=0.3), self.blank.actor)
        return jax.tree.map(np.float32, Policy(actor, seen, 0.3))

    def actor(self, policy: Policy) -> FastActor:
        actor = FastActor(self.description)
        actor.load(weights(policy))
        return actor


@functools.cache
def case(name: str) -> Case:
    it = Algorithm(*PARTS[name])

    def act(policy: Policy, step: Step, memory: Any, noise: Any) -> Any:
        action, emitted, heads, memory = it.act(policy, step, memory, noise)
        return action, emitted, heads, it.log_prob(heads, step.legal, action), memory

    return Case(it, json.loads(json.dumps(describe(it))), quick(act), begun(it).policy)


def alike(a: Any, b: Any) -> bool:
    """Structure, shapes and types of two trees."""
    like = lambda tree: jax.tree.map(lambda x: (x.shape, str(x.dtype)), tree)
    return jax.tree.structure(a) == jax.tree.structure(b) and like(a) == like(b)


def disagreements(it: Case, policy: Policy, actor: FastActor, steps: tuple[Step, ...]) -> tuple[float, int, int]:
    """Both carry memories of their own over these rows: the largest error of a head, relative to the group's largest; how many agents'
    actions differ, and of how many."""
    rng, worst, differ, count = np.random.default_rng(1), 0.0, 0, 0
    mine, theirs = actor.memory(B), it.it.memory(B)
    assert alike(mine, theirs)
    for step in steps:
        noise = actor.noise(rng, (B,))
        heads, _ = actor.heads(step, mine)
        action, emitted, heads, mine = actor.act(step, mine, noise)
        logp = actor.log_prob(heads, step.legal, action)
        *right, theirs = jax.device_get(it.act(policy, step, theirs, noise))
        assert alike((action, emitted, heads, logp, mine), (*right, theirs))
        said = np.split(logp, np.cumsum([g.count for g in it.it.spec.groups])[:-1], -1)
        known = np.split(right[3], np.cumsum([g.count for g in it.it.spec.groups])[:-1], -1)
        for h, a, e, p, h2, a2, e2, p2 in zip(heads, action, emitted, said, right[2], right[0], right[1], known, strict=True):
            worst = max(worst, float(np.abs(h - h2).max() / np.abs(h2).max()))
            same = np.isclose(a, a2, rtol=1e-4, atol=1e-4).reshape(*p.shape, -1).all(-1)
            differ, count = differ + int((~same).sum()), count + same.size
            for x, y in ((p, p2), (e, e2)):
                np.testing.assert_allclose(x[same], y[same], rtol=1e-4, atol=1e-4)
    return worst, differ, count


TALLY: dict[str, tuple[int, int]] = {}


@pytest.mark.parametrize("name", PARTS)
def test_it_acts_as_the_compiled_algorithm_does(name: str) -> None:
    """The same noise, the same actions, over rows in which episodes begin anywhere; types and structure too."""
    it = case(name)
    policy = it.policy()
    worst, *TALLY[name] = disagreements(it, policy, it.actor(policy), rows(name))
    assert worst < 1e-5
    assert TALLY[name][0] <= 1, "two actions may lie closer than rounding, hardly ever"


def test_of_all_actions_hardly_any_differs() -> None:
    if set(TALLY) != set(PARTS):
        pytest.skip("needs every combination's count")
    differ, count = (sum(x) for x in zip(*TALLY.values(), strict=True))
    assert count >= 20_000 and differ <= 1e-4 * count


@pytest.mark.parametrize("name", ["type_gru_mixed", "gru_greedy"])
def test_new_weights_act_at_once_as_jax_says_of_them(name: str) -> None:
    """In the middle of an episode; what was sent may be overwritten afterwards."""
    it = case(name)
    old, new = it.policy(), it.policy(seed=7)
    actor, steps = it.actor(old), rows(name)[:2]
    before, _ = actor.heads(steps[0], actor.memory(B))
    sent = [np.array(x) for x in weights(new)]
    actor.load(sent)
    for x in sent:
        x[...] = 0
    worst, differ, _ = disagreements(it, new, actor, steps)
    assert worst < 1e-5 and not differ
    after, _ = actor.heads(steps[0], actor.memory(B))
    assert all(np.abs(a - b).max() > 1e-2 for a, b in zip(before, after, strict=True))


ALONE = """
import json, sys, warnings
warnings.simplefilter("error")
import numpy as np
from marlstone.core.types import Step
from marlstone.policy.numpy_actor import FastActor
with open(sys.argv[1] + "/said.json") as f:
    description = json.load(f)
sent = np.load(sys.argv[1] + "/sent.npz")
actor = FastActor(description)
actor.load([sent[f"w{i}"] for i in range(sum(k.startswith("w") for k in sent))])
obs = tuple({k: sent[f"{g.name}/{k}"] for k in g.observation} for g in actor.spec.groups)
legal = tuple(sent[g.name] if g.name in sent else None for g in actor.spec.groups)
b = len(sent["first"])
step = Step(obs, *[None] * 5, sent["first"], sent["first"], legal, None, None, {})
action, emitted, heads, memory = actor.act(step, actor.memory(b), actor.noise(np.random.default_rng(3), (b,)))
logp = actor.log_prob(heads, step.legal, action)
loaded = [m for m in ("jax", "jaxlib", "optax", "scipy") if m in sys.modules]
assert not loaded, loaded
np.savez(sys.argv[1] + "/came.npz", *action, *emitted, logp, *memory.actor)
"""


def test_its_process_never_imports_jax(tmp_path: Any) -> None:
    it = case("type_gru_mixed")
    policy, step = it.policy(), rows("type_gru_mixed")[0]
    (tmp_path / "said.json").write_text(json.dumps(it.description))
    sent = {f"w{i}": x for i, x in enumerate(weights(policy))} | {"first": step.first}
    for g, obs, legal in zip(it.it.spec.groups, step.obs, step.legal, strict=True):
        sent |= {f"{g.name}/{k}": x for k, x in obs.items()} | ({} if legal is None else {g.name: legal})
    np.savez(tmp_path / "sent.npz", **sent)
    subprocess.run([sys.executable, "-c", ALONE, str(tmp_path)], check=True, timeout=60)
    actor = it.actor(policy)
    action, emitted, heads, memory = actor.act(step, actor.memory(B), actor.noise(np.random.default_rng(3), (B,)))
    logp = actor.log_prob(heads, step.legal, action)
    came = np.load(tmp_path / "came.npz")
    for x, y in zip((*action, *emitted, logp, *memory.actor), (came[k] for k in came), strict=True):
        np.testing.assert_array_equal(x, y)


def test_a_saturated_gate_says_no_warning() -> None:
    """Exponentials in a gate may overflow: it is shut, and stays finite."""
    it = case("none")
    policy = it.policy()
    actor = it.actor(replace(policy, actor=jax.tree.map(lambda x: 300 * x, policy.actor)))
    heads, memory = actor.heads(rows("none")[0], actor.memory(B))
    assert all(np.isfinite(x).all() for x in (*heads, *memory.actor))


def test_noise_is_distributed_as_training_draws_it() -> None:
    """Same shapes and types; Gumbel for choices, normal for a Box, by Kolmogorov and Smirnov's test."""
    actor = FastActor(case("all").description)
    noise, groups = actor.noise(np.random.default_rng(0), (20, 60)), SPEC.groups
    theirs = jax.device_get(
        quick(lambda key: draw_group_noise([g.space for g in groups], [g.count for g in groups], key, (20, 60)))(jax.random.key(0))
    )
    assert alike(noise, theirs)
    for x, y, law in zip(noise, theirs, ("gumbel_r", "gumbel_r", "norm"), strict=True):
        for z in (x, y):
            assert stats.kstest(z.reshape(-1), law, method="asymp").pvalue > 1e-3
    assert not np.array_equal(noise[0], actor.noise(np.random.default_rng(1), (20, 60))[0])


# ---- refusals
class Whisper(Decentralized):
    def policy(self, *args: Any) -> Any:
        return super().policy(*args)


class Deep(Mlp):
    pass


@pytest.mark.parametrize(
    ("part", "parts"),
    [
        ("Whisper", (Whisper(LAYER), Team(), PolicyGradient())),
        ("'see': Deep", (Decentralized(Deep((4,))), Team(), PolicyGradient())),
    ],
)
def test_what_it_cannot_run_is_refused_with_the_remedy(part: str, parts: tuple[Any, ...]) -> None:
    """Of a fleet; whoever else describes a policy is told the part alone, since its remedy would be another one."""
    with pytest.raises(ValueError, match=f"{part} .*use fleet.actor = 'reference'"):
        described(Algorithm(SPEC, *parts))
    with pytest.raises(ValueError, match=f"{part} .*NumPy cannot run") as error:
        describe(Algorithm(SPEC, *parts))
    assert "fleet" not in str(error.value)


def test_how_actors_explore_follows_from_what_their_outputs_are() -> None:
    """Policies act by chance alone, unless credit asks for more; action values are acted on epsilon-greedily."""
    how = lambda spec, *parts: describe(Algorithm(spec, Decentralized(LAYER), *parts))["exploring"]
    assert how(SPEC, Team(), PolicyGradient()) is None
    assert how(SPEC, Team(explore=0.1), PolicyGradient()) == "mixed"
    assert how(make("proving:dummy?rows=3").spec, Individual(), Pqn()) == "greedy"


def test_weights_that_do_not_fit_are_refused_by_name_and_the_old_ones_stay() -> None:
    it = case("all")
    policy, step = it.policy(), rows("all")[0]
    with pytest.raises(ValueError, match="no weights yet"):
        FastActor(it.description).heads(step, it.it.memory(B))
    actor, sent = it.actor(policy), weights(policy)
    before, _ = actor.heads(step, actor.memory(B))
    wrong = [np.zeros_like(x) for x in sent]
    at = next(i for i, x in enumerate(sent) if x.shape == (3, 8))
    bad = {
        r"none of them 'seen": wrong[:-1],
        r"1 more than": [*wrong, wrong[0]],
        r"'actor.0.fuse.leaves.ears' came as float32\[8, 3\]: .* float32\[3, 8\]": [*wrong[:at], wrong[at].T, *wrong[at + 1 :]],
        r"'actor.0.fuse.leaves.ears' came as float64": [*wrong[:at], wrong[at].astype(float), *wrong[at + 1 :]],
    }
    for message, arrays in bad.items():
        with pytest.raises(ValueError, match=message):
            actor.load(arrays)
    after, _ = actor.heads(step, actor.memory(B))
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
