"""A policy with tools as it is deployed decides what it decided in training and judging: pending calls, results, budgets and the memory
live in what it remembers."""

import threading
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from marlstone.algorithm import Algorithm
from marlstone.architectures import Decentralized, Gru, Hierarchical, Mlp
from marlstone.comms import Broadcast, NoMessages
from marlstone.core.errors import UserError
from marlstone.credit import Individual
from marlstone.envs.make import make
from marlstone.envs.wrappers import wrap_env
from marlstone.evaluation.credit.random_play import quick
from marlstone.learners import PolicyGradient, QLearning
from marlstone.play.action_selectors import deployed
from marlstone.policy.policy import Policy
from marlstone.tools import DelayLine, ExternalMemory, FunctionTool, Toolbox
from tests.batches import begun

pytestmark = pytest.mark.usefixtures("compiled_once")
ROOT = Path(__file__).parents[2]
LINE = f"{ROOT / 'tests' / 'twin.py'}:make?length=7"
SOURCES = Path(__file__).parent / "sources.py"
LOOK = DelayLine("look", reads="obs", size=1, arguments=3, latency=2, team_calls=4, price=0.5)
SYMBOLS = ExternalMemory(2, 3, symbols=True, shared=True, writes=2)
NUMBERS = ExternalMemory(2, 2, lookup="attention")
LED = Hierarchical(Mlp((6,)), every=2, span=2, roles=2, manager=Mlp((4,)))
CASES: dict[str, tuple[Any, Toolbox, Any]] = {
    "choices": (Decentralized(Gru(6, 5, ())), Toolbox((LOOK,), SYMBOLS), NoMessages()),
    "numbers, managers": (LED, Toolbox((LOOK,), NUMBERS), NoMessages()),
    "messages": (Decentralized(Mlp((6,))), Toolbox((LOOK,)), Broadcast("float", 2)),
}


def raw_line() -> Any:
    made: Any = make(LINE)
    return made._env


def acting(name: str) -> Any:
    """Its environment, the combination, random weights, and the artifact."""
    architecture, box, channel = CASES[name]
    adapter: Any = make(LINE)
    env = wrap_env(adapter, architecture.managers(), channel=channel, tools=box)
    it = Algorithm(env.spec, architecture, Individual(), PolicyGradient(), channel=channel)
    trained = jax.tree.map(lambda x: x + 0.5 * jax.random.normal(jax.random.key(1), x.shape), begun(it).policy)
    return env, it, trained, Policy.of(it, trained, "mode", adapter.wiring, {"env": LINE}, tools=box)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n != "choices" else n for n in CASES])
def test_a_loaded_policy_decides_what_was_judged(name: str, tmp_path: Path) -> None:
    """By mode, in NumPy and in JAX, on what the environment itself gives, hidden leaves too."""
    env, it, trained, made = acting(name)
    policy = Policy.load(made.save(tmp_path / "policy"))
    compiled = Policy.load(tmp_path / "policy", backend="jax")
    assert policy.toolbox == CASES[name][1] and policy.agents == ("puller", "pusher")

    def decide(step: Any, memory: Any) -> Any:
        heads, memory = it.heads(deployed(trained), step, memory)
        return it.mode(heads, step.legal), memory

    decide, raw, did = quick(decide), raw_line(), set()
    tooled = env.env if name == "messages" else env
    for episode in range(2):
        step, (seen, _), memory = env.reset(episode), raw.reset(seed=episode), it.memory(1)
        mine: Any = None
        theirs: Any = None
        while not step.last:
            action, memory = jax.device_get(decide(jax.tree.map(lambda x: np.asarray(x)[None], step), memory))
            (actions, mine), (also, theirs) = (p.act(seen, m) for p, m in ((policy, mine), (compiled, theirs)))
            emitted = it.emit(tuple(a[0] for a in action))
            own = tooled.layout.acted(env.layout.acted(emitted) if name == "messages" else emitted)[0]
            step = env.step(emitted)
            wanted = {a: int(x) for a, x in zip(policy.agents, own, strict=True)}
            assert actions == also == wanted
            for field in ("called", "left", "valid", "calls", "written", "reads"):
                assert (np.asarray(getattr(mine.tools, field)) == getattr(tooled._state, field)).all(), field
            np.testing.assert_allclose(mine.tools.used, tooled._state.used, atol=1e-6)
            did |= {bool(mine.tools.called.any()), bool(mine.tools.reads.any())}
            seen = raw.step(wanted)[0]
    assert True in did


def test_prices_may_be_told() -> None:
    """What calls cost now is what the caller says, and is shown; names that are not there are refused."""
    *_, policy = acting("choices")
    seen, _ = raw_line().reset(seed=0)
    _, memory = policy.act(seen, prices={"look": 4.0})
    assert memory.told is not None and memory.told[0] == 4 and np.isnan(memory.told[1:]).all()
    with pytest.raises(UserError, match="memory_read"):
        policy.act(seen, prices={"nothing": 1.0})
    with pytest.raises(UserError, match="price of 'look'"):
        policy.act(seen, prices={"look": -1.0})


def test_fallback_and_default_actions_are_the_environments_own() -> None:
    """And call nothing."""
    *_, policy = acting("choices")
    assert policy.default_actions() == {"puller": 0, "pusher": 0}
    other = policy.with_fallback({"puller": 2})
    assert other.fallback_actions() == {"puller": 2, "pusher": 0} and other.deployed.fallback[0].tolist() == [[2, 0, 0], [0, 0, 0]]


def test_value_based_learners_follow_choices_alone() -> None:
    """A MultiDiscrete they take; numbers in a memory make a Composite, which they refuse."""
    env = wrap_env(make(LINE), tools=Toolbox((LOOK,)))
    assert Algorithm(env.spec, Decentralized(Mlp((4,))), Individual(), QLearning()).spec == env.spec
    env = wrap_env(make(LINE), tools=Toolbox((), NUMBERS))
    with pytest.raises(ValueError, match="Composite"):
        Algorithm(env.spec, Decentralized(Mlp((4,))), Individual(), QLearning())


def test_real_tools_of_a_policy_call_what_its_user_says(tmp_path: Path) -> None:
    """And nothing before: its folder names no endpoint and no file."""
    tool = FunctionTool("ask", function=f"{SOURCES}:double", size=2, sends=("obs",), wait=5.0, price=1.0)
    box = Toolbox((tool,))
    adapter: Any = make(LINE)
    env = wrap_env(adapter, tools=box)
    it = Algorithm(env.spec, Decentralized(Mlp((6,))), Individual(), PolicyGradient())
    trained = jax.tree.map(lambda x: x + 0.5 * jax.random.normal(jax.random.key(1), x.shape), begun(it).policy)
    saved = Policy.of(it, trained, "sample", adapter.wiring, {"env": LINE}, tools=box).save(tmp_path / "policy")
    assert "sources" not in (saved / "policy.json").read_text()
    seen, _ = raw_line().reset(seed=0)
    policy = Policy.load(saved)
    with pytest.raises(UserError, match="with_tools"):
        policy.act(seen)
    with pytest.raises(UserError, match="no real tool"):
        policy.with_tools({"other": print})
    asked: list[Any] = []

    def answer(call: Any) -> list[float]:
        asked.append(call)
        return [1.5, len(asked)]

    for backend in ("numpy", "jax"):
        asked.clear()
        mine, rng, memory = Policy.load(saved, backend=backend).with_tools({"ask": answer}), np.random.default_rng(0), None
        calls = 0
        for _ in range(6):
            before, (_, memory) = calls, mine.act(seen, memory, rng)
            calls += int(memory.tools.called.sum())
            if before:
                assert memory.tools.valid.any() and memory.tools.result[memory.tools.valid][:, 0].tolist() == [1.5] * int(
                    memory.tools.valid.sum()
                )
        for thread in threading.enumerate():
            if thread.name.startswith("tool "):
                thread.join(5)
        assert calls == len(asked) > 0 and {c.agent for c in asked} <= {"puller", "pusher"}
        np.testing.assert_allclose(asked[0].observation["obs"], seen[asked[0].agent], rtol=1e-6)
