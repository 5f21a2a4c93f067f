"""A policy artifact decides as the run it was made of does, on what the environment itself gives, without JAX; damage is refused."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from marlstone.algorithm import Algorithm
from marlstone.architectures import Ctde, Decentralized, Gru, Hierarchical, Mlp
from marlstone.config import RunConfig, dump, load
from marlstone.core.errors import UserError
from marlstone.core.records import replace
from marlstone.credit import Attention, Individual, Team, Vdn
from marlstone.encoders.image import Image
from marlstone.envs.make import make
from marlstone.envs.wrappers import wrap_env
from marlstone.learners import PolicyGradient, Pqn
from marlstone.play.action_selectors import Alone, deployed
from marlstone.play.gated import Gated, Guarded
from marlstone.policy.gate import Familiar, Gate, blank, features, readings, strangeness
from marlstone.policy.numpy_actor import FastActor
from marlstone.policy.policy import DESCRIPTION, WEIGHTS, Policy
from marlstone.runs.directory import RunDirectory
from marlstone.training.loop import train
from tests.batches import begun

pytestmark = pytest.mark.usefixtures("compiled_once")
ROBOTS = f"{Path(__file__).parents[1] / 'cases' / 'composite.py'}:make_env"
WORLDS = f"{Path(__file__).parent}/worlds.py:make"
SMALL = Image((3, 4))
LED = Hierarchical(Gru(6, 5, ()), every=3, span=3, roles=2, manager=Mlp((8,)))
HIGH = Hierarchical(Gru(6, 5, ()), "none", image=SMALL, every=3, span=3, roles=2, manager=Mlp((8,)))
PAIRED = Hierarchical(Mlp((6,)), "none", every=3, span=2, roles=2, manager=Mlp((8,)))
CASES: dict[str, tuple[str, Any, Any, Any]] = {
    "every space": (WORLDS, Decentralized(Mlp((8, 6)), image=SMALL), Individual(), PolicyGradient()),
    "recurrent, masks in infos": (f"{WORLDS}?masks=info", Ctde(Gru(7, 6, (5,)), "none", image=SMALL), Individual(), PolicyGradient()),
    "several parts in an action": (f"{ROBOTS}?masks=nested", PAIRED, Individual(), PolicyGradient()),
    "no masks": (f"{WORLDS}?masks=none", Decentralized(Mlp((8,), norm="layer"), "type", image=SMALL), Individual(), PolicyGradient()),
    "particles": ("pettingzoo:mpe2.simple_spread_v3?max_cycles=12", Decentralized(Gru(7, 6, ())), Team(), PolicyGradient()),
    "particles, managers": ("pettingzoo:mpe2.simple_spread_v3?max_cycles=12", LED, Team(), PolicyGradient()),
    "particles, values": ("pettingzoo:mpe2.simple_spread_v3?max_cycles=12", Decentralized(Mlp((8,))), Vdn(), Pqn()),
    "hierarchy over every space": (WORLDS, HIGH, Attention(), PolicyGradient()),
    "in turn": ("pettingzoo:classic.tictactoe_v3", Decentralized(Mlp((8,))), Individual(), PolicyGradient()),
}


def frozen(name: str, act: str = "mode") -> tuple[Algorithm, Any, Any, Policy]:
    """A combination with random weights, its environment as runs meet it, its policy arrays, and the artifact."""
    env, architecture, credit, learner = CASES[name]
    adapter = make(env)
    adapter.without_state()
    led = wrap_env(adapter, architecture.managers())
    it = Algorithm(led.spec, architecture, credit, learner)
    trained = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.key(1), x.shape), begun(it).policy)
    return it, led, trained, Policy.of(it, trained, act, adapter.wiring, {"env": env})


def raw(name: str) -> Any:
    """The environment itself."""
    return make(CASES[name][0])._env


DECISIONS = 10_000  # in all


@pytest.mark.parametrize("name", CASES)
def test_decisions_are_those_of_training(name: str, tmp_path: Path) -> None:
    """The run's compiled algorithm on its adapter's steps, and the loaded artifact, in NumPy and in JAX, on what an equal environment
    gives: the same actions, and logits within 1e-5 of the largest."""
    it, led, trained, made = frozen(name)
    folder = made.save(tmp_path / "policy")
    policy, compiled = Policy.load(folder), Policy.load(folder, backend="jax")
    forward = FastActor(dict(policy.description["network"]))
    forward.load(list(policy.arrays))

    @jax.jit
    def it_acts(row: Any, memory: Any) -> Any:
        heads, memory = it.heads(deployed(trained), row, memory)
        return heads, it.emit(it.mode(heads, row.legal)), memory

    env, decisions, episode, worst = raw(name), 0, 0, 0.0
    groups = len(_of(led).spec.groups)
    while decisions < DECISIONS / len(CASES):
        row, (seen, infos) = led.reset(episode), env.reset(seed=episode)
        memory, mine, remembered, in_jax = it.memory(1), forward.memory(1), None, None
        while not row.last:
            batch = jax.tree.map(lambda x: np.asarray(x)[None], row)
            heads, action, memory = jax.device_get(it_acts(batch, memory))
            ours_heads, mine = forward.heads(batch, mine)
            worst = max(worst, *(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(ours_heads, heads, strict=True)))
            ours, remembered = policy.act(seen, remembered, infos=infos)
            theirs = _of(led)._arranged.act(tuple(np.asarray(a)[0] for a in action[:groups]))
            wanted = {a: x for a, x in zip(_of(led)._arranged.agents, theirs, strict=True) if a in ours}
            assert_same(ours, wanted)
            also, in_jax = compiled.act(seen, in_jax, infos=infos)
            assert_same(also, wanted)
            decisions += len(ours)
            row = led.step(tuple(np.asarray(a)[0] for a in action))
            seen, _, _, _, infos = env.step({a: x for a, x in ours.items() if a in env.agents})
        episode += 1
    assert worst < 1e-5


def _of(led: Any) -> Any:
    """The adapter under managers."""
    return getattr(led, "env", led)


def assert_same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert set(ours) == set(theirs)
    for agent, x in ours.items():
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), x, theirs[agent])
        assert type(x) is type(theirs[agent])


def test_sampling_is_by_the_generator_and_by_what_is_legal() -> None:
    *_, policy = frozen("every space", "sample")
    env = raw("every space")
    seen, _ = env.reset(seed=3)
    drawn = [policy.act(seen, rng=np.random.default_rng(seed))[0] for seed in range(40)]
    again, _ = policy.act(seen, rng=np.random.default_rng(7))
    assert_same(again, drawn[7])
    assert len({x["cam_0"] for x in drawn}) > 1 and all(seen["cam_0"]["action_mask"][x["cam_0"] + 1] for x in drawn)
    greedy = {policy.act(seen, rng=np.random.default_rng(seed), acting="mode")[0]["cam_0"] for seed in range(5)}
    assert len(greedy) == 1
    assert set(policy.default_actions()) == set(policy.agents)
    assert all(env.action_space(a).contains(x) for a, x in policy.default_actions().items())


def opened(policy: Policy, seed: int, samples: Sequence[Any] = (), threshold: float = 1.0) -> Gate:
    """A gate of random numbers, outside which about half of the observations `samples` (per group, `[n_g ...]`) lie."""
    rng = np.random.default_rng(seed)
    drawn = {"mean": 0.0, "std": 3.0, "real": 1.0, "distance": 2.0, "reading": 1e3, "still": 50.0}
    made = lambda k, x: np.float32(rng.normal(size=x.shape) if k in ("core", "values") else np.full(x.shape, drawn[k]))
    groups = []
    for i, (g, like) in enumerate(zip(policy.deployed_spec.groups, blank(policy.deployed_spec).groups, strict=True)):
        known = Familiar(**{k: made(k, x) for k, x in vars(like).items()})
        far = [strangeness(known, features(known, readings(g, jax.tree.map(np.asarray, obs[i]))))[0] for obs in samples]
        groups.append(replace(known, distance=np.float32(np.median(far))) if far else known)
    return Gate(tuple(groups), np.float32(threshold))


@pytest.mark.parametrize("name", ["no masks", "recurrent, masks in infos", "particles, managers"])
def test_an_artifact_with_a_gate_acts_as_evaluation_judged_it(name: str, tmp_path: Path) -> None:
    """`play.gated` on rows of the adapter and the loaded folder on the environment's dictionaries: the same actions, the same agents
    outside, the same questions; in NumPy and in JAX."""
    it, led, trained, bare = frozen(name)
    gate = opened(bare, 1, [led.reset(episode).obs for episode in range(4)])
    made = bare.with_gate(gate, fallback="ask", rate=0.05, figures={"detection_rate": 0.5})
    folder = made.save(tmp_path / "policy")
    policy, compiled = Policy.load(folder), Policy.load(folder, backend="jax")
    assert policy.description["gate"] == {"fallback": "ask", "rate": 0.05, "figures": {"detection_rate": 0.5}}
    judged = Gated(Alone(it), "ask")
    decide = jax.jit(lambda row, memory: judged.decide(Guarded(trained, gate), row, memory, jax.random.key(0), 0.0))
    env, outside, inside, differ, groups = raw(name), 0, 0, 0, len(_of(led).spec.groups)
    for episode in range(4):
        row, (seen, infos) = led.reset(episode), env.reset(seed=episode)
        memory, remembered, in_jax, free = judged.memory(1), None, None, None
        while not row.last:
            action, memory = decide(jax.tree.map(lambda x: np.asarray(x)[None], row), memory)
            emitted = jax.device_get(it.emit(action))
            ours, remembered = policy.act(seen, remembered, infos=infos)
            also, in_jax = compiled.act(seen, in_jax, infos=infos)
            theirs = _of(led)._arranged.act(tuple(np.asarray(a)[0] for a in emitted[:groups]))
            wanted = {a: x for a, x in zip(_of(led)._arranged.agents, theirs, strict=True) if a in ours}
            assert_same(ours, wanted)
            assert_same(also, wanted)
            away, asked = policy.outside(remembered), policy.asked(remembered)
            assert (len(away), len(asked)) == tuple(int(memory.told[k][0]) for k in ("outside", "asked"))
            assert away == compiled.outside(in_jax) and set(asked) <= set(away)
            ungated, free = policy.without_gate().act(seen, free, infos=infos)
            differ += sum(not np.array_equal(np.asarray(ours[a]), np.asarray(ungated[a])) for a in ours if not isinstance(ours[a], tuple))
            outside += len(away)
            inside += int((row.present & row.deciding).sum()) - len(away)
            row = led.step(tuple(np.asarray(a)[0] for a in emitted))
            seen, _, _, _, infos = env.step({a: x for a, x in ours.items() if a in env.agents})
    assert outside > 10 and inside > 10 and differ > 5, "neither open nor shut"


def test_what_is_no_number_lies_outside_without_a_warning() -> None:
    *_, bare = frozen("particles")
    seen, infos = raw("particles").reset(seed=0)
    wide = opened(bare, 1, threshold=1e6)
    agents = list(bare.agents)
    seen[agents[0]] = np.full_like(seen[agents[0]], np.inf)
    seen[agents[1]] = np.full_like(seen[agents[1]], np.nan)
    policy = bare.with_gate(wide)
    actions, memory = policy.act(seen, infos=infos)
    assert policy.outside(memory) == (agents[1],), "an infinite reading is clipped to the farthest there is"
    assert actions[agents[1]] == policy.fallback_actions()[agents[1]]


def test_declared_fallback_actions_replace_the_policy_outside_and_survive_saving(tmp_path: Path) -> None:
    """Of every kind of action space; where a mask forbids one, the first legal action is done."""
    *_, bare = frozen("every space")
    env = raw("every space")
    seen, _ = env.reset(seed=3)
    declared = {"cam_0": 1, "arm_1": np.array([1.0, -1.5], np.float32), "dj": (1, np.array([0, 1], np.int8))}
    shut = Gate(opened(bare, 1).groups, np.float32(-1))
    folder = bare.with_fallback(declared).with_gate(shut).save(tmp_path / "policy")
    policy = Policy.load(folder)
    fallback = policy.fallback_actions()
    assert all(env.action_space(a).contains(x) for a, x in fallback.items())
    assert_same({a: fallback[a] for a in declared}, declared)
    assert fallback["cam_1"] == policy.default_actions()["cam_1"]
    seen["cam_0"]["action_mask"] = np.array([1, 1, 1])
    actions, memory = policy.act(seen)
    assert set(policy.outside(memory)) == set(policy.agents)
    assert_same({a: actions[a] for a in declared}, declared)
    seen["cam_0"]["action_mask"] = np.array([0, 1, 0])
    assert policy.act(seen)[0]["cam_0"] == 0
    assert bare.with_fallback(declared).act(seen, acting="mode")[0].keys() == actions.keys()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda p: p.with_fallback({"nobody": 1}), "'nobody' is no agent"),
        (lambda p: p.with_fallback({"cam_0": 7}), "agent 'cam_0': 7 is no action"),
        (lambda p: p.with_gate(opened(p, 1), fallback="baseline"), "give 'default' or 'ask'"),
        (lambda p: p.with_gate(Gate(opened(p, 1).groups[:-1], np.float32(1))), "of other observations"),
        (lambda p: Policy(p.description, p.arrays, backend="torch"), "Policy.backend is 'torch'"),
    ],
)
def test_what_cannot_act_is_refused_when_it_is_attached(wrong: Any, words: str) -> None:
    *_, policy = frozen("every space")
    with pytest.raises(UserError, match=re.escape(words)):
        wrong(policy)


def test_pure_functions_decide_alike_under_vmap_and_scan() -> None:
    """Many episodes of a JAX environment in one compiled program, and each step of one of them by `act`."""
    env, parts = make("proving:pair"), (Decentralized(Gru(4, 4, ())), Individual(), PolicyGradient())
    it = Algorithm(env.spec, *parts)
    trained = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.key(1), x.shape), begun(it).policy)
    bare = Policy.of(it, trained, "mode")
    policy = bare.with_gate(opened(bare, 2, [env.init(k)[1].obs for k in jax.random.split(jax.random.key(3), 4)]))
    pure = policy.pure()

    def episode(key: Any) -> Any:
        def step(carry: Any, k: Any) -> Any:
            state, row, memory = carry
            action, memory = pure.act(row, memory, k)
            state, after = env.step(state, action, k)
            return (state, after, memory), (row, action, memory.gate.away)

        return jax.lax.scan(step, (*env.init(key), pure.init()), jax.random.split(key, 5))[1]

    rows, actions, away = jax.device_get(jax.jit(jax.vmap(episode))(jax.random.split(jax.random.key(0), 3)))
    assert 0 < away.mean() < 1
    for e in range(3):
        memory = None
        for t in range(5):
            row = jax.tree.map(lambda x: x[e, t], rows)  # noqa: B023
            seen: dict[str, Any] = {}
            for g, obs, ok in zip(env.spec.groups, row.obs, row.legal, strict=True):
                for i, a in enumerate(g.agents):
                    seen[a] = {k: x[i] for k, x in obs.items()} | ({} if ok is None else {"action_mask": ok[i]})
            there = dict(zip(env.spec.agents, row.present, strict=True))
            ours, memory = policy.act({a: x for a, x in seen.items() if there[a]}, memory)
            theirs = {a: x[e, t, i] for g, x in zip(env.spec.groups, actions, strict=True) for i, a in enumerate(g.agents)}
            for a in ours:
                np.testing.assert_allclose(ours[a], theirs[a], atol=1e-5)


BLIND = {"observation": {"eye": np.zeros((3, 3), np.uint8), "at": 1}, "action_mask": np.ones(3)}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda seen: seen | {"cam_0": BLIND}, ("cam_0", "eye", "(3, 3)")),
        (lambda seen: seen | {"nobody": 1.0}, ("nobody", "cam_0")),
        (lambda seen: seen | {"dj": "text"}, ("dj",)),
    ],
)  # fmt: skip
def test_what_is_not_as_declared_is_refused_naming_agent_and_field(spoil: Any, words: tuple[str, ...]) -> None:
    *_, policy = frozen("every space")
    seen, _ = raw("every space").reset(seed=0)
    with pytest.raises(ValueError) as error:
        policy.act(spoil(seen))
    assert all(word in str(error.value) for word in words), error.value


def test_what_is_damaged_is_refused(tmp_path: Path) -> None:
    *_, policy = frozen("particles")
    folder = policy.save(tmp_path / "policy")
    with pytest.raises(UserError, match="exists already"):
        policy.save(folder)
    data, text = (folder / WEIGHTS).read_bytes(), (folder / DESCRIPTION).read_text()
    for name, content in ((WEIGHTS, data[:-1]), (WEIGHTS, bytes([*data[:-1], data[-1] ^ 1])), (DESCRIPTION, text[:-40])):
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(UserError):
            Policy.load(folder)
        (folder / WEIGHTS).write_bytes(data)
        (folder / DESCRIPTION).write_text(text)
    newer = json.loads(text) | {"version": 99}
    (folder / DESCRIPTION).write_text(json.dumps(newer))
    with pytest.raises(UserError, match="version 99"):
        Policy.load(folder)
    with pytest.raises(UserError, match="no policy"):
        Policy.load(tmp_path / "nowhere")


ALONE = """
import sys
from marlstone.policy.policy import Policy
from tests.policy.worlds import make
policy, env = Policy.load(sys.argv[1]), make()
seen, infos = env.reset(seed=1)
memory = None
while env.agents:
    actions, memory = policy.act(seen, memory, infos=infos)
    seen, _, _, _, infos = env.step(actions)
loaded = [m for m in ("jax", "jaxlib", "optax") if m in sys.modules]
assert not loaded, loaded
"""


def test_no_jax_is_needed(tmp_path: Path) -> None:
    *_, policy = frozen("every space")
    folder = policy.save(tmp_path / "policy")
    done = subprocess.run([sys.executable, "-c", ALONE, str(folder)], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr


def test_the_documentations_loop_plays_what_training_left(tmp_path: Path) -> None:
    """It returns what the record says of this way of acting, up to the episodes' own chance."""
    run = RunDirectory.create(tmp_path / "runs" / "spread", dump(spread := _spread()))
    record = train(spread, run, limited=False)
    assert record["policy"] == [str(tmp_path / "runs" / "spread" / "policy" / "seed-1000")]
    page = (Path(__file__).parents[2] / "docs" / "policy.md").read_text()
    (program,) = re.findall(r'```python title="play.py"\n(.*?)```', page, re.S)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = re.fullmatch(r"team return: (-?[\d.]+), acting: (.*)\n", done.stdout)
    assert said is not None and said[2] == record["acting"]
    low, high = np.min(record["episode_returns"]), np.max(record["episode_returns"])
    assert low < float(said[1]) < high and abs(float(said[1]) - record["return_iqm"]) < 2 * np.std(record["episode_returns"])


def _spread() -> RunConfig:
    asked = {
        "env": "pettingzoo:mpe2.simple_spread_v3", "steps": "256", "seeds": "1", "seed": "1000", "rollout.envs": "4",
        "rollout.length": "16",
        "architecture.body.hidden": "[8]", "evaluate.episodes": "20", "evaluate.logged": "0",
    }  # fmt: skip
    return load(None, asked)
