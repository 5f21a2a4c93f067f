"""A frozen opponent is part of the environment: it acts as its artifact does, and those who learn meet the same game without it."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.algorithm import Algorithm
from marlstone.architectures import Decentralized, Gru, Mlp
from marlstone.core.errors import UserError
from marlstone.credit import Individual
from marlstone.envs.conformance import first_legal
from marlstone.envs.make import make
from marlstone.envs.wrappers import wrap_env
from marlstone.learners import PolicyGradient
from marlstone.policy.policy import Policy
from marlstone.rollout.sides import Sides, wiring_of
from marlstone.rollout.worker_pool import Workers
from tests.standing import always, by_chance
from tests.twin import Twin

pytestmark = pytest.mark.usefixtures("compiled_once")
LINE = f"{Path(__file__).parents[1] / 'twin.py'}:make"
WORLDS = f"{Path(__file__).parents[1] / 'policy' / 'worlds.py'}:make"
GRU = Decentralized(Gru(6, 5, ()))


def artifact(env: Any, folder: Path, architecture: Any = GRU, heads: Any = None, act: str = "mode") -> Path:
    """A policy of random weights, or of these heads, of who learns in `env`."""
    it = Algorithm(env.spec, architecture, Individual(), PolicyGradient(epochs=1, minibatches=1))
    policy = (by_chance(it, 3, 3.0) if heads is None else always(it, *heads)).policy
    return Policy.of(it, policy, act, wiring_of(env)).save(folder)


@pytest.fixture(scope="module")
def pusher(tmp_path_factory: pytest.TempPathFactory, compiled_once: None) -> Path:
    """A recurrent policy of the pusher's, trained beside somebody else."""
    return artifact(Sides("", {"puller": "random"}).over(make(LINE)), tmp_path_factory.mktemp("policy") / "pusher")


def test_it_acts_as_its_artifact_does(pusher: Path) -> None:
    """The raw environment stepped by hand, by the artifact's `act`, beside the one in which it is frozen: the same episodes."""
    env, raw, policy = Sides("", {"push*": str(pusher)}).over(make(LINE)), make(LINE)._env, Policy.load(pusher)
    assert env.spec.agents == ("puller",)
    taken = set()
    for seed in (1, 2):
        step, (seen, _) = env.reset(seed), raw.reset(seed=seed)
        memory = None
        for t in range(5):
            np.testing.assert_array_equal(step.obs[0]["obs"][0], seen["puller"])
            theirs, memory = policy.act({"pusher": seen["pusher"]}, memory)
            taken.add(theirs["pusher"])
            mine = (t * t + seed) % 3
            seen, reward, _, _, _ = raw.step({"puller": mine, **theirs})
            step = env.step((np.array([mine]),))
            assert float(step.reward[0]) == pytest.approx(reward["puller"], rel=1e-6)
            assert float(step.team_reward) == float(step.reward[0])
        assert bool(step.last)
    assert len(taken) > 1  # else any opponent would have done


def test_in_jax_as_in_numpy(pusher: Path) -> None:
    sides = Sides("", {"pusher": str(pusher)})
    host = sides.over(make(LINE))
    fused = sides.over(
        Twin(
            make(LINE).spec,
        )
    )
    assert fused.spec.agents == host.spec.agents
    state, a = fused.init(jax.random.key(0))
    b = host.reset(0)
    stepped = jax.jit(fused.step)
    for t in range(5):
        action = (np.array([t % 3], np.int32),)
        state, a = stepped(state, tuple(map(jnp.asarray, action)), jax.random.key(t))
        b = host.step(action)
        np.testing.assert_allclose(a.obs[0]["obs"], b.obs[0]["obs"], rtol=1e-5)
        np.testing.assert_allclose(a.reward, b.reward, rtol=1e-4, atol=1e-6)
        assert bool(a.last) == bool(b.last)


def test_a_policy_of_one_side_plays_the_other(tmp_path: Path) -> None:
    """Red's paper against rock: in a symmetric game a policy of red plays blue, agent by agent."""
    made = Sides("", {"blue": "random"}).over(make("proving:rps?rows=2"))
    paper = artifact(made, tmp_path / "paper", Decentralized(Mlp((4,))), [[0.0, 9.0, 0.0]])
    env = Sides("", {"blue": str(paper)}).over(make("proving:rps?rows=2"))
    state, _ = env.init(jax.random.key(0))
    _, step = env.step(state, (jnp.array([0]),), jax.random.key(0))
    assert float(step.team_reward) == pytest.approx(-0.5)


@pytest.mark.parametrize("who", ["random", "default"])
def test_words(who: str) -> None:
    """Every space and mask: chance plays everything that is legal, `default` always the same."""
    env, seen = Sides("", {"cam+dj": who}).over(make(WORLDS)), set()
    inner = env.env.step
    env.env.step = lambda joint: (seen.add((int(joint[0][0]), tuple(joint[2][0]))), inner(joint))[1]
    step = env.reset(1)
    assert env.spec.agents == ("arm_0", "arm_1")
    while not step.last:
        step = env.step(first_legal(env.spec, step))
    assert (len({b for _, b in seen}) > 1) == (who == "random")


def test_who_is_left_is_arranged_as_if_alone(tmp_path: Path) -> None:
    """Without arm_1, arm_0's spaces need no padding, and its policy acts on what the environment gives it."""
    env = Sides("", {"arm_1": "random", "cam": "random"}).over(make(WORLDS))
    arm = env.spec.groups[0]
    assert (arm.agents, arm.space.size, arm.observation["0"].shape, arm.features) == (("arm_0",), 1, (2,), {})
    policy = Policy.load(artifact(env, tmp_path / "arm"))
    seen, _ = make(WORLDS)._env.reset(seed=1)
    actions, _ = policy.act({a: seen[a] for a in policy.agents if a in seen})
    assert set(actions) <= {"arm_0", "dj"}
    again = Sides("", {"arm_0+dj": str(tmp_path / "arm")}).over(make(WORLDS))
    assert again.spec.agents == ("cam_0", "cam_1", "arm_1")
    step = again.reset(1)
    while not step.last:
        step = again.step(first_legal(again.spec, step))


def refused(sides: Sides, name: str = WORLDS) -> str:
    with pytest.raises(UserError) as error:
        sides.over(make(name))
    return str(error.value)


def test_refusals_name_who_and_what(pusher: Path, tmp_path: Path) -> None:
    assert "cam_0 is named by 'cam' and by '*_0'" in refused(Sides("", {"cam": "random", "*_0": "random"}))
    assert "both name cam_0, cam_1" in refused(Sides("cam", {"cam": "random"}))
    assert "leave somebody out, who learns" in refused(Sides("", {"*": "random"}))
    assert "opponents: 'wolf' names no agent; the agents are cam_0" in refused(Sides("", {"wolf": "random"}))
    assert "there is no folder" in refused(Sides("", {"dj": str(tmp_path / "none")}))
    text = refused(Sides("", {"dj": str(pusher)}))
    assert "agent 'dj', played by 'pusher': its observation space is" in text
    assert "trained for these agents, in this environment" in text
    assert "it acts for pusher, not for cam_0, cam_1" in refused(Sides("", {"cam": str(pusher)}))


def test_worker_processes_step_it(pusher: Path) -> None:
    """As in this process: the same episode from the same seed; policies and wirings know only who learns."""
    sides = Sides("", {"pusher": str(pusher)})
    with Workers(LINE, 2, num_workers=1, sides=sides) as pool:
        assert pool.spec == sides.over(make(LINE)).spec
        assert pool.wiring is not None
        assert pool.wiring["agents"] == ["puller"]
        _, step = pool.init(np.arange(2))
        for _ in range(3):
            _, step = pool.step(None, (np.zeros((2, 1), np.int32),))
        here = wrap_env(make(LINE), sides=sides)
        here.reset(0)  # the game is the same for every seed
        for _ in range(3):
            mine = here.step((np.zeros(1, np.int32),))
        np.testing.assert_array_equal(step.reward[0], mine.reward)
