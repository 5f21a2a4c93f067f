"""A policy artifact decides as the run it was made of does, on what the environment itself gives, without JAX; damage is refused."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from marlstone.algorithm import Algorithm
from marlstone.architectures import Ctde, Decentralized, Gru, Hierarchical, Mlp
from marlstone.config import RunConfig, dump, load
from marlstone.core.errors import UserError
from marlstone.credit import Individual, Team, Vdn
from marlstone.encoders.image import Image
from marlstone.envs.make import make
from marlstone.envs.wrappers import wrap_env
from marlstone.learners import PolicyGradient, Pqn
from marlstone.play.action_selectors import deployed
from marlstone.policy.policy import DESCRIPTION, WEIGHTS, Policy
from marlstone.runs.directory import RunDirectory
from marlstone.training.loop import train
from tests.batches import begun

WORLDS = f"{Path(__file__).parent}/worlds.py:make"
SMALL = Image((3, 4))
LED = Hierarchical(Gru(6, 5, ()), every=3, span=3, roles=2, manager=Mlp((8,)))
CASES: dict[str, tuple[str, Any, Any, Any]] = {
    "every space": (WORLDS, Decentralized(Mlp((8, 6)), image=SMALL), Individual(), PolicyGradient()),
    "recurrent, masks in infos": (f"{WORLDS}?masks=info", Ctde(Gru(7, 6, (5,)), "none", image=SMALL), Individual(), PolicyGradient()),
    "no masks": (f"{WORLDS}?masks=none", Decentralized(Mlp((8,), norm="layer"), "type", image=SMALL), Individual(), PolicyGradient()),
    "particles": ("pettingzoo:mpe2.simple_spread_v3?max_cycles=12", Decentralized(Gru(7, 6, ())), Team(), PolicyGradient()),
    "particles, managers": ("pettingzoo:mpe2.simple_spread_v3?max_cycles=12", LED, Team(), PolicyGradient()),
    "particles, values": ("pettingzoo:mpe2.simple_spread_v3?max_cycles=12", Decentralized(Mlp((8,))), Vdn(), Pqn()),
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


@pytest.mark.parametrize("name", CASES)
def test_decisions_are_those_of_training(name: str, tmp_path: Path) -> None:
    """The run's compiled algorithm on rows of its adapter, and the loaded artifact on what an equal environment gives: the same actions."""
    it, led, trained, made = frozen(name)
    policy = Policy.load(made.save(tmp_path / "policy"))
    it_acts = jax.jit(lambda row, memory: it.heads(deployed(trained), row, memory))
    env, decisions = raw(name), 0
    for episode in range(12):
        row, (seen, infos) = led.reset(episode), env.reset(seed=episode)
        memory, remembered = it.memory(1), None
        while not row.last:
            batch = jax.tree.map(lambda x: np.asarray(x)[None], row)
            heads, memory = it_acts(batch, memory)
            still = [0 * z for z in it_noise(it)]
            action = it.emit(it.sample(heads, batch.legal, still))
            ours, remembered = policy.act(seen, remembered, infos=infos)
            theirs = _of(led)._arranged.act(tuple(np.asarray(a)[0] for a in action[: len(_of(led).spec.groups)]))
            wanted = {a: x for a, x in zip(_of(led)._arranged.agents, theirs, strict=True) if a in ours}
            assert_same(ours, wanted)
            decisions += len(ours)
            row = led.step(tuple(np.asarray(a)[0] for a in action))
            seen, _, _, _, infos = env.step({a: x for a, x in ours.items() if a in env.agents})
    assert decisions > 100


def it_noise(it: Algorithm) -> list[Any]:
    rng = np.random.default_rng(0)
    return [g.space.noise(rng, (1, g.count)) for g in it.spec.groups]


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


@pytest.mark.usefixtures("compiled_once")
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
