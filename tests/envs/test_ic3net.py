"""`proving:traffic_junction` and `proving:predator_prey` are IC3Net's environments, step by step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.core.compile_options import FASTEST_COMPILE, supported
from marlstone.core.records import replace
from marlstone.core.types import Step
from marlstone.envs.board import INK, color_of, is_picture
from marlstone.envs.make import UnknownEnvironment, make
from marlstone.envs.proving.predator_prey import HuntState
from marlstone.envs.proving.traffic_junction import TrafficState
from tests.envs.contract_laws import trains
from tests.envs.ic3net_rules import HuntRules, TrafficRules


@functools.cache
def traffic(options: str, episodes: int) -> tuple[Step, np.ndarray, np.ndarray]:
    """Steps `[e t+1]`, actions `[e t n]` and chances `[e t 3 p]` of play that brakes less or more often, from episode to episode."""
    env = make(f"proving:traffic_junction?{options}")

    def one(key, often):
        def body(carry, k):
            state, step = carry
            action = jax.random.bernoulli(jax.random.fold_in(k, 1), often, (env.spec.n,)).astype(jnp.int32)
            return env.step(state, (action,), k), (step, action, env.draw(k))

        (_, last), (steps, actions, chances) = jax.lax.scan(body, env.init(key), jax.random.split(key, env.spec.horizon))
        return jax.tree.map(lambda x, y: jnp.concatenate([x, y[None]]), steps, last), actions, chances

    run = jax.jit(jax.vmap(one), compiler_options=supported(FASTEST_COMPILE))
    return jax.tree.map(np.asarray, run(jax.random.split(jax.random.key(3), episodes), jnp.linspace(0, 0.9, episodes)))


@pytest.mark.parametrize(
    ("options", "episodes"),
    [
        ("difficulty=easy", 40),
        ("difficulty=medium&vision=1&add_rate=0.9", 4),
        ("difficulty=hard", 4),
        pytest.param("difficulty=easy&vision=2&add_rate=0.7", 100, marks=pytest.mark.slow),
        pytest.param("difficulty=medium", 60, marks=pytest.mark.slow),
        pytest.param("difficulty=hard&vision=1&add_rate=0.5", 30, marks=pytest.mark.slow),
    ],
)
def test_traffic_junction_is_ic3nets(options: str, episodes: int) -> None:
    """What is observed, rewarded and counted, who is there, and whose return goes on, in every step of every episode."""
    given = dict(item.split("=") for item in options.split("&"))
    steps, actions, chances = traffic(options, episodes)
    crashes, refilled = 0, 0
    for e in range(episodes):
        rules = TrafficRules(given["difficulty"], int(given.get("vision", 0)), float(given.get("add_rate", 0)) or None)
        assert not steps.present[e, 0].any() and not steps.obs[0]["view"][e, 0].any() and steps.first[e, 0]
        for t in range(actions.shape[1]):
            reward, here, kept, shares = rules.step(actions[e, t], chances[e, t])
            np.testing.assert_allclose(steps.reward[e, t + 1], reward, atol=1e-5)
            np.testing.assert_allclose(steps.team_reward[e, t + 1], reward.sum(), atol=1e-4)
            np.testing.assert_array_equal(steps.present[e, t + 1], here)
            np.testing.assert_array_equal(steps.discount[e, t + 1], kept)
            np.testing.assert_allclose(steps.obs[0]["view"][e, t + 1], rules.view(), atol=1e-6)
            assert steps.metrics["collisions"][e, t + 1] == shares and steps.metrics["success"][e, t + 1] == 1 - rules.crashed
            crashes, refilled = crashes + shares, refilled + (here & ~kept & steps.present[e, t]).sum()
    assert crashes > 0 and steps.last[:, -1].all() and not steps.last[:, :-1].any() and (steps.team_discount == 1).all()
    if "add_rate" in given:
        assert refilled > 0, "in some step another car must have entered the slot that one left"


def test_the_state_of_a_junction_tells_where_every_car_is() -> None:
    """A critic reads of each slot what the car observes: whether it is there, its cell and its route."""
    steps, _, _ = traffic("difficulty=easy", 40)
    slots = steps.state[..., :-1].reshape(*steps.state.shape[:-1], 5, 6)
    view, there = steps.obs[0]["view"], steps.present
    np.testing.assert_array_equal(slots[..., 0], there)
    assert not slots[~there].any() and np.abs(steps.state).max() <= 1
    np.testing.assert_allclose(slots[..., 3][there], view[..., 1][there])
    cell = make("proving:traffic_junction").roads.grid[tuple(np.rint(6 * slots[..., k]).astype(int) for k in (1, 2))]
    np.testing.assert_array_equal(cell[there], view[..., 2:16].argmax(-1)[there])


def test_a_car_that_alone_drives_on_earns_only_its_time() -> None:
    """A return in closed form: a car of seven cells is rewarded for its ages 0 to 6, and leaves without the reward of that step."""
    env, zero = make("proving:traffic_junction?add_rate=1e-6"), jnp.zeros(5, jnp.int32)
    state = TrafficState(jnp.int32(0), jnp.arange(5) == 2, zero, zero, zero, zero > 0, jnp.bool_(False))
    step = jax.jit(env.step, compiler_options=supported(FASTEST_COMPILE))
    rewards, there = [], []
    for t in range(8):
        state, after = step(state, (jnp.zeros(5, jnp.int32),), jax.random.key(t))
        rewards.append(float(after.team_reward))
        there.append(bool(after.present.any()))
    np.testing.assert_allclose(rewards, [-0.01, -0.02, -0.03, -0.04, -0.05, -0.06, 0, 0], atol=1e-6)
    assert there == [True] * 6 + [False] * 2


@functools.cache
def hunt(options: str, episodes: int) -> tuple[Step, np.ndarray]:
    """Steps `[e t+1]` and actions `[e t n]` of random play; after an end rows go on, and mean nothing."""
    env = make(f"proving:predator_prey?{options}")

    def one(key):
        def body(carry, k):
            state, step = carry
            action = jax.random.randint(jax.random.fold_in(k, 1), (env.spec.n,), 0, 5)
            return env.step(state, (action,), k), (step, action)

        (_, last), (steps, actions) = jax.lax.scan(body, env.init(key), jax.random.split(key, env.spec.horizon))
        return jax.tree.map(lambda x, y: jnp.concatenate([x, y[None]]), steps, last), actions

    run = jax.jit(jax.vmap(one), compiler_options=supported(FASTEST_COMPILE))
    return jax.tree.map(np.asarray, run(jax.random.split(jax.random.key(5), episodes)))


@pytest.mark.parametrize(
    ("options", "episodes"),
    [
        ("", 30),
        ("mode=cooperative&dim=3&agents=2&vision=1&max_steps=30", 30),
        ("mode=competitive&dim=2&agents=2&vision=1&max_steps=6&time_limit=terminate", 30),
        ("dim=2&agents=2&max_steps=6", 30),
        pytest.param("dim=20&agents=10&vision=1&max_steps=80", 5, marks=pytest.mark.slow),
    ],
)
def test_predator_prey_is_ic3nets(options: str, episodes: int) -> None:
    """What is observed and rewarded, when it ends and how, and the two figures that are reported."""
    env = make(f"proving:predator_prey?{options}")
    steps, actions = hunt(options, episodes)
    n, d, arrived, done = env.agents, env.dim, 0, 0
    for e in range(episodes):
        cells = np.rint(steps.state[e, 0, : 2 * n] * (d - 1)).astype(int).reshape(n, 2)
        rules = HuntRules(env.mode, d, env.vision, cells, np.rint(steps.state[e, 0, 3 * n : 3 * n + 2] * (d - 1)).astype(int))
        assert len({*rules.at, rules.prey}) == n + 1, "everybody starts on a cell of its own"
        np.testing.assert_allclose(steps.obs[0]["view"][e, 0], rules.view(), atol=1e-6)
        length = 0
        for t in range(env.max_steps):
            length += not all(p == rules.prey for p in rules.at)
            reward, over = rules.step(actions[e, t])
            late = t + 1 == env.max_steps
            np.testing.assert_allclose(steps.reward[e, t + 1], reward, atol=1e-6)
            np.testing.assert_allclose(steps.obs[0]["view"][e, t + 1], rules.view(), atol=1e-6)
            assert steps.last[e, t + 1] == (over or late)
            assert (steps.discount[e, t + 1] == steps.team_discount[e, t + 1]).all()
            assert steps.team_discount[e, t + 1] == 1 - (over or (late and env.time_limit == "terminate"))
            assert steps.metrics["success"][e, t + 1] == all(p == rules.prey for p in rules.at)
            assert steps.metrics["steps"][e, 1 : t + 2].sum() == length
            if over:
                assert length == t + 1
                break
        arrived += sum(p == rules.prey for p in rules.at)
        done += all(p == rules.prey for p in rules.at)
    assert 0 < arrived < episodes * n and (done > 0 or d > 3), "some must have found it, others not"


@pytest.mark.parametrize("name", ["traffic_junction?add_rate=0.9&reach=2", "predator_prey?reach=1"])
def test_a_reach_is_of_rows_and_columns(name: str) -> None:
    """Of all pairs that are there, those that their places say, and nobody of itself."""
    env = make(f"proving:{name}")
    run = traffic if "traffic" in name else hunt
    steps = run(name.partition("?")[2], 8)[0]
    n, side = env.spec.n, 6 if "traffic" in name else 4
    if "traffic" in name:
        slots = steps.state[..., : 6 * n].reshape(*steps.first.shape, n, 6)
        place, there = np.rint(slots[..., 1:3] * side), slots[..., 0] > 0
    else:
        place, there = np.rint(steps.state[..., : 2 * n].reshape(*steps.first.shape, n, 2) * side), steps.present
    apart = np.abs(place[..., :, None, :] - place[..., None, :, :]).max(-1)
    wanted = (apart <= env.reach) & there[..., :, None] & there[..., None, :] & ~np.eye(n, dtype=bool)
    np.testing.assert_array_equal(steps.obs[0]["reach"], wanted)
    assert 0 < wanted.mean() < 0.9


def test_pictures_show_who_is_where() -> None:
    """A car's color at its cell, and none elsewhere on the road; the prey beside its predators."""
    env, still = make("proving:traffic_junction"), np.zeros(5, np.int32)
    state = TrafficState(np.int32(0), still > 0, still, still + 3, still, still > 0, np.bool_(False))
    drawn, road = env.render(replace(state, alive=np.arange(5) == 2)), env.render(state)
    assert (road[18 * 5 + 9, 18 * 3 + 9] != road[9, 9]).any(), "all of the road is drawn"
    changed = np.argwhere((drawn != road).any(-1)) // 18
    assert is_picture(drawn) and {tuple(c) for c in changed} == {(3, 3)} and (drawn[3 * 18 + 9, 3 * 18 + 9] == color_of(2)).all()

    env = make("proving:predator_prey")
    picture = env.render(HuntState(np.int32(0), np.array([0, 6, 24]), np.int32(8), np.zeros(3, bool)))
    assert is_picture(picture) and (picture[24 * 1 + 12, 24 * 3 + 12] == INK).all() and (picture[24 + 5, 24 + 12] == color_of(1)).all()


def test_where_predators_and_prey_start_is_uniform() -> None:
    """Each of them is on each of the four cells a quarter of the time."""
    env = make("proving:predator_prey?dim=2&agents=3")
    state, _ = jax.jit(jax.vmap(env.init), compiler_options=supported(FASTEST_COMPILE))(jax.random.split(jax.random.key(0), 4000))
    cells = np.concatenate([np.asarray(state.at), np.asarray(state.prey)[:, None]], axis=1)
    share = (cells[..., None] == np.arange(4)).mean(0)
    assert np.abs(share - 0.25).max() < 5 * np.sqrt(0.25 * 0.75 / 4000)


@pytest.mark.parametrize(
    "name", ["proving:traffic_junction?difficulty=easy", pytest.param("proving:predator_prey?dim=3", marks=pytest.mark.slow)]
)
def test_an_update_learns_from_them(name: str) -> None:
    trains(name)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("proving:traffic_junction?difficulty=middle", "medium"),
        ("proving:traffic_junction?vision=3", "0 to 2"),
        ("proving:traffic_junction?add_rate=1.5", "at most 1"),
        ("proving:traffic_junction?time_limit=never", "terminate"),
        ("proving:predator_prey?mode=mixd", "did you mean 'mixed'"),
        ("proving:predator_prey?agents=25", "1 to 24"),
        ("proving:predator_prey?vision=5", "0 to 4"),
        ("proving:predator_prey?dim=1", "at least 2"),
        ("proving:predator_prey?max_steps=0", "at least 1"),
        ("proving:predator_prey?reach=-1", "for no limit"),
        ("proving:traffic_junction?reach=-1", "for no limit"),
    ],
)
def test_options_that_make_no_game_are_refused(name: str, says: str) -> None:
    with pytest.raises(UnknownEnvironment, match=says):
        make(name)
