"""A talking policy as it is deployed decides what it decided in training and judging, with memory and managers, and what may not talk is
refused."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from marlstone.algorithm import Algorithm
from marlstone.architectures import Decentralized, Gru, Hierarchical, Mlp
from marlstone.comms import Broadcast, Channel, Link, NoMessages, Targeted
from marlstone.comms.talking import channel_of, with_channel
from marlstone.config import load
from marlstone.core.distributions import Box, Composite, Discrete
from marlstone.core.errors import UserError
from marlstone.core.records import replace
from marlstone.core.types import Leaf
from marlstone.core.user_code import load as loaded
from marlstone.credit import Individual, Team
from marlstone.envs.faults import Fault
from marlstone.envs.faults.contract import faults_of, with_faults
from marlstone.envs.make import make
from marlstone.envs.wrappers import wrap_env
from marlstone.evaluation.comms_cases import RandomSteps, blank
from marlstone.evaluation.credit.random_play import quick
from marlstone.learners import PolicyGradient
from marlstone.play.action_selectors import deployed
from marlstone.policy.deployed import link_draws
from marlstone.policy.gate import watched
from marlstone.policy.policy import Policy
from tests.batches import begun

pytestmark = pytest.mark.usefixtures("compiled_once")
ROOT = Path(__file__).parents[2]
LINE = f"{ROOT / 'tests' / 'twin.py'}:make?length=7"
LED = Hierarchical(Mlp((6,)), every=2, span=2, roles=2, manager=Mlp((4,)))
Thinned = loaded(str(ROOT / "examples" / "my_channel.py")).Thinned
CASES: dict[str, tuple[Any, Channel]] = {
    "targeted, memory, budget": (Decentralized(Gru(6, 5, ())), Targeted("dithered", 2, signature=2, budget_bits=(4.0,))),
    "symbols, managers": (LED, Broadcast("symbols", 3)),
    "float, each with a budget": (Decentralized(Mlp((6,)), "none"), Broadcast("float", 1, budget_bits=(20.0,), per_agent=True)),
}


def acting(name: str) -> tuple[Any, Algorithm, Any, Policy, Channel]:
    """Its environment as runs judge in it, the combination, random weights, and the artifact."""
    architecture, channel = CASES[name]
    adapter = make(LINE)
    led = wrap_env(adapter, architecture.managers(), channel=channel)
    it = Algorithm(led.spec, architecture, Individual(), PolicyGradient(), channel=channel)
    trained = jax.tree.map(lambda x: x + 0.5 * jax.random.normal(jax.random.key(1), x.shape), begun(it).policy)
    return led, it, trained, Policy.of(it, trained, "mode", adapter.wiring, {"env": LINE}), channel


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if "float" in n else n for n in CASES])
def test_a_loaded_policy_decides_what_was_judged(name: str, tmp_path: Path) -> None:
    """By mode, in NumPy and in JAX, on what the environment itself gives: the same actions, though messages, budgets and what was heard
    live in the environment there and in the policy's memory here."""
    led, it, trained, made, channel = acting(name)
    policy = Policy.load(made.save(tmp_path / "policy"))
    compiled = Policy.load(tmp_path / "policy", backend="jax")
    assert policy.channel == channel and policy.agents == ("puller", "pusher")

    def decide(step: Any, memory: Any) -> Any:
        heads, memory = it.heads(deployed(trained), step, memory)
        return it.mode(heads, step.legal), memory

    decide, raw, did = quick(decide), make(LINE)._env, set()
    for episode in range(3):
        step, (seen, _), memory, mine, theirs = led.reset(episode), raw.reset(seed=episode), it.memory(1), None, None
        while not step.last:
            action, memory = jax.device_get(decide(jax.tree.map(lambda x: np.asarray(x)[None], step), memory))
            (actions, mine), (also, theirs) = (p.act(seen, m) for p, m in ((policy, mine), (compiled, theirs)))
            step = led.step(it.emit(tuple(a[0] for a in action)))
            wanted = {a: int(x) for a, x in zip(policy.agents, led.layout.acted(action)[0][0], strict=True)}
            assert actions == also == wanted
            np.testing.assert_array_equal(mine.wire.sent, led._wire.sent)
            np.testing.assert_allclose(mine.wire.bits, led._wire.bits, rtol=1e-4)
            np.testing.assert_allclose(mine.budget.left, led._budget.left, rtol=1e-4)
            np.testing.assert_allclose(mine.wire.said, led._wire.said, atol=1e-5)
            did.add((*actions.values(), led._wire.sent.tobytes(), led._wire.said.round(2).tobytes()))
            seen, *_ = raw.step(actions)
    assert len(did) > (1 if "symbols" in name else 3)


def test_a_policy_with_a_users_channel_names_its_class(tmp_path: Path) -> None:
    """And thins what is said where it is deployed, by draws of its own."""
    channel = Thinned(size=2, gate=False, keep=0.25)
    adapter = make(LINE)
    talking = wrap_env(adapter, channel=channel)
    it = Algorithm(talking.spec, Decentralized(Mlp((6,))), Individual(), PolicyGradient(), channel=channel)
    folder = Policy.of(it, begun(it).policy, "mode", adapter.wiring).save(tmp_path / "policy")
    with pytest.raises(UserError, match=r"a channel of its user's own, Thinned: give its class, as in Policy.load\(path, parts=\[Thinned"):
        Policy.load(folder)
    policy, rng, raw = Policy.load(folder, parts=[Thinned]), np.random.default_rng(0), make(LINE)._env
    sent, steps = 0, 0
    for episode in range(12):
        (seen, _), memory = raw.reset(seed=episode), None
        while raw.agents:
            actions, memory = policy.act(seen, memory, rng)
            sent, steps = sent + int(memory.wire.sent.sum()), steps + 1
            seen, *_ = raw.step(actions)
    assert 0.1 < sent / (2 * steps) < 0.4


def test_a_policy_that_was_just_made_knows_its_users_channel() -> None:
    channel = Thinned(size=2)
    it = Algorithm(channel.over(make("proving:pair")).spec, Decentralized(Mlp((6,))), Individual(), PolicyGradient(), channel=channel)
    assert Policy.of(it, begun(it).policy, "mode").channel == channel


def test_a_policy_loads_no_code(tmp_path: Path) -> None:
    """A description that names a channel by a file, as only configurations do, is refused and the file is left alone."""
    channel, code = Broadcast(size=2), tmp_path / "mine.py"
    code.write_text("raise SystemExit('this ran')")
    it = Algorithm(channel.over(make("proving:pair")).spec, Decentralized(Mlp((6,))), Individual(), PolicyGradient(), channel=channel)
    folder = Policy.of(it, begun(it).policy, "mode").save(tmp_path / "policy")
    told = json.loads((folder / "policy.json").read_text())
    told["channel"]["kind"] = f"{code}:Mine"
    (folder / "policy.json").write_text(json.dumps(told))
    with pytest.raises(UserError, match="a channel of its user's own, Mine: give its class"):
        Policy.load(folder)


@pytest.mark.parametrize("backend", ["numpy", "jax"])
def test_the_first_message_is_lost_as_often_as_any(backend: Any) -> None:
    """A link's state where an episode begins, and what becomes of it in the first step, are drawn apart; neither shares its numbers with
    the noise of actions."""
    channel = Broadcast(size=1, gate=False, link=Link(0.1, 0.25))
    it = Algorithm(channel.over(make("proving:pair")).spec, Decentralized(Mlp((6,))), Individual(), PolicyGradient(), channel=channel)
    policy, n = Policy.of(it, begun(it).policy, "mode"), it.spec.n
    keys = jax.random.split(jax.random.key(0), 400)
    u = np.asarray(jax.vmap(lambda k: link_draws(policy.deployed.talk, k)[0])(keys))
    u = u if backend == "jax" else link_draws(policy.deployed.talk, np.random.default_rng(0), (400,))[0]
    apart = ~np.eye(n, dtype=bool)
    lost = []
    for at_first, step in u:
        bad, _, _ = channel.link.fate(channel.link.begin(at_first[0]), step)
        lost.append(bad[apart].mean())
    assert np.mean(lost) == pytest.approx(0.1 / 0.35, abs=0.03)
    other = np.asarray(jax.vmap(lambda k: jax.random.uniform(jax.random.split(k, 2)[1], u.shape[1:]))(keys))
    assert abs(np.corrcoef(other.ravel(), u.ravel())[0, 1]) < 0.05


def test_a_policy_of_several_budgets_keeps_the_one_it_is_given(tmp_path: Path) -> None:
    """Bits of an episode stay within it, and the larger one is used."""
    channel, adapter = Broadcast("float", 1, gate=False, budget_bits=(16.0, 64.0)), make(LINE)
    it = Algorithm(wrap_env(adapter, channel=channel).spec, Decentralized(Mlp((6,))), Individual(), PolicyGradient(), channel=channel)
    made = Policy.of(it, begun(it).policy, "mode", adapter.wiring)
    sent = {}
    for bits in channel.budget_bits:
        policy, raw = Policy.load(made.with_budget(bits).save(tmp_path / f"{bits:g}")), make(LINE)._env
        (seen, _), memory, spent, steps = raw.reset(seed=0), None, 0.0, 0
        while raw.agents:
            actions, memory = policy.act(seen, memory)
            spent, steps = spent + float(memory.wire.bits.sum()), steps + 1
            assert spent <= bits * steps
            seen, *_ = raw.step(actions)
        sent[bits] = spent / steps
    assert 0 < sent[16.0] < sent[64.0]
    with pytest.raises(UserError, match="with_budget: 20 is no budget that this policy was trained for: choose one of 16, 64"):
        made.with_budget(20)


def test_a_gate_looks_at_the_world_and_not_at_messages() -> None:
    """As many features as without a channel, also where agents see the symbol that they said last."""
    plain, talking = make("proving:pair").spec, Broadcast("symbols", 3).over(make("proving:pair")).spec
    for a, b in zip(plain.groups, talking.groups, strict=True):
        assert list(watched(b)) == list(a.observation) and "said" in b.observation


def test_networks_see_the_inbox_and_not_what_is_recorded() -> None:
    """Whatever `links` holds, actions are the same; whatever the inbox holds, they are not."""
    spec = Broadcast(size=2).over(make("proving:pair")).spec
    it, rng = Algorithm(spec, Decentralized(Mlp((6,))), Individual(), PolicyGradient(), channel=Broadcast(size=2)), np.random.default_rng(0)
    train = begun(it)
    heads = quick(lambda step: it.heads(train.policy, step, it.memory(2))[0])
    obs = tuple({k: rng.normal(size=(2, g.count, *x.shape)).astype(np.float32) for k, x in g.observation.items()} for g in spec.groups)
    step = blank(spec, np.ones((2, spec.n), bool), obs)
    changed = lambda leaf: replace(step, obs=tuple({**x, leaf: np.asarray(x[leaf]) + 1} for x in step.obs))
    before, unseen, other = heads(step), heads(changed("links")), heads(changed("inbox"))
    for a, b, c in zip(before, unseen, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert (np.abs(np.asarray(a) - np.asarray(c)) > 1e-3).any()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"env": "proving:rps", "comms": "broadcast"}, r"within one team, and .* play against it: .*--opponent .*=random"),
        ({"env": "proving:pair", "comms": "targeted", "comms.reach": "near"}, "reach is 'near', and group .* name one, or leave it out"),
        ({"env": "proving:pair", "comms": "targeted", "comms.message": "symbols"}, "use float or dithered, or broadcast"),
        ({"env": "proving:pair", "comms": "broadcast", "comms.price": "1", "comms.budget_bits": "[3]"}, "both given: .*leave one out"),
        ({"env": "proving:climbing", "comms": "broadcast", "learner": "q_learning"}, "use learner = 'policy_gradient', or comms = 'none'"),
        ({"env": "proving:pair", "comms": "none", "comms.size": "3"}, "comms.size is given, but nobody speaks: add --comms broadcast"),
        ({"env": "proving:pair", "comms": "broadcast", "comms.budget_bits": "[-1]"}, r"comms.budget_bits is \(-1.0,\): give bits above 0"),
        ({"env": "proving:pair", "comms": "broadcast", "comms.link.delay": "99"}, "comms.link.delay is 99: give 0 to 16 steps"),
        ({"env": "proving:pair", "comms": "broadcast", "comms.link.loss": "2"}, "comms.link.loss is 2.0: give a probability"),
        ({"env": "proving:pair", "comms": "broadcast", "comms.step": "0.1"}, "step is 0.1, and only dithered messages .* leave it out"),
        ({"env": "proving:pair", "comms": "broadcast", "comms.gate": "false", "comms.open": "1"}, "comms.open is 1.0, and without a gate"),
        ({"env": "proving:pair", "comms": "broadcast", "comms.per_agent": "true"}, "per_agent is True, and there is no budget: add"),
        ({"env": "proving:pair", "comms": "broadcast", "comms.opening": "0.1"}, "opening is 0.1, and speaking never costs"),
        ({"env": "proving:pair", "comms": "broadcast", "comms.hold": "65"}, "comms.hold is 65: give 0 to 64 steps"),
        ({"env": "proving:pair", "comms": f"{ROOT / 'examples' / 'my_channel.py'}:Thinned", "comms.keep": "0"}, "keep is 0.0: give a"),
    ],
    ids=lambda x: " ".join(v.rpartition("/")[2] for v in x.values()) if isinstance(x, dict) else "",
)  # fmt: skip
def test_what_cannot_talk_is_refused(given: dict[str, str], says: str) -> None:
    """With part, field, value and remedy, before anything runs."""
    with pytest.raises(ValueError, match=says):
        config = load(None, given)
        env = config.comms.over(make(config.env))
        Algorithm(env.spec, config.architecture, config.credit, config.learner, channel=config.comms)


def test_one_agent_and_leaves_and_metrics_of_a_channels_names_are_refused() -> None:
    spec = make("proving:pair").spec
    with pytest.raises(UserError, match="one agent has nobody to talk to: use comms = 'none'"):
        Broadcast().over(RandomSteps(replace(spec, groups=spec.groups[1:2])))
    taken = tuple(replace(g, observation={**g.observation, "inbox": Leaf("vector", (2,))}) for g in spec.groups)
    with pytest.raises(UserError, match="group 'players' has an observation leaf 'inbox', which the channel would overwrite: rename it"):
        Broadcast().over(RandomSteps(replace(spec, groups=taken)))
    both = Composite((Discrete(3), Box(1)), ("move", "listen"))
    named = tuple(replace(g, space=both, default=0) for g in spec.groups)
    with pytest.raises(UserError, match="has a part of its actions called 'listen', as messages have one: rename it"):
        Broadcast().over(RandomSteps(replace(spec, groups=named)))
    counted = replace(spec, metrics={"bits_per_step": spec.metrics["score"]})
    with pytest.raises(UserError, match="has a metric 'bits_per_step' already: rename it"):
        Broadcast().over(RandomSteps(counted))


def test_without_a_channel_environments_are_as_they_are() -> None:
    env = make("proving:pair")
    assert NoMessages().over(env) is env
    assert Algorithm(env.spec, Decentralized(Mlp((4,))), Team(), PolicyGradient()).speech is None


def test_faults_go_below_the_channel_and_its_link_is_replaced() -> None:
    """Other faults leave messages alone; a fault that has a link is the channel's."""

    @dataclass(frozen=True)
    class Lost(Fault):
        link: Link = Link(loss_good=1.0)

    @dataclass(frozen=True)
    class Other(Fault):
        kind = "other"

    talking = Targeted(size=2).over(make("proving:pair"))
    under = with_faults((Lost(), Other()), talking)
    assert channel_of(under) == replace(Targeted(size=2), link=Link(loss_good=1.0)) and faults_of(under) == (Other(), Lost())
    assert (
        channel_of(with_channel(under, hold=3)).hold == 3 and with_channel(make("proving:pair"), hold=3).spec == make("proving:pair").spec
    )
