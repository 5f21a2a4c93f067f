"""`proving:signal` and `proving:errands`: the closed forms that they declare are what play, or exact planning, gives."""

import functools
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.core.compile_options import FASTEST_COMPILE, supported
from marlstone.core.distributions import Discrete, MultiDiscrete
from marlstone.core.spec_json import spec_from_json, spec_to_json
from marlstone.core.types import Group, Leaf, Spec, spec_difference
from marlstone.envs.make import UnknownEnvironment, make
from marlstone.envs.proving.signal import CHANCE, SignalState
from tests.envs.contract_laws import keeps_its_contract, trains


@functools.cache
def play(name: str, policy, episodes: int = 400):
    """Steps `[e t+1]` and actions `[e t n]` of `policy(t, step before, step now) -> [n]`."""
    env = make(name)

    def one(key):
        def body(carry, x):
            state, before, step = carry
            action = policy(x[0], before, step)
            after, got = env.step(state, (action,), x[1])
            return (after, step, got), (step, action, state)

        state, first = env.init(key)
        steps = (jnp.arange(env.spec.horizon), jax.random.split(key, env.spec.horizon))
        (_, _, last), (found, actions, states) = jax.lax.scan(body, (state, first, first), steps)
        return jax.tree.map(lambda x, y: jnp.concatenate([x, y[None]]), found, last), actions, states

    run = jax.jit(jax.vmap(one), compiler_options=supported(FASTEST_COMPILE))
    return jax.tree.map(np.asarray, run(jax.random.split(jax.random.key(0), episodes)))


def told(t, before, step):
    """A worker that was told in the step before what the scout saw."""
    return jnp.stack([jnp.zeros((), jnp.int32), jnp.argmax(before.obs[0]["symbol"][0]) + 1])


def likeliest(t, before, step):
    return jnp.array([0, 1])


def asker(t, before, step):
    """Acts what is shown, asks where nothing is."""
    task = step.obs[0]["task"]
    return jnp.where(task.any(-1), jnp.argmax(task, -1) + 1, 5)


def guesser(t, before, step):
    return jnp.full(step.obs[0]["task"].shape[0], 1 + t % 4)


# ---- signal
def test_a_told_worker_earns_everything_and_an_untold_one_no_more_than_is_said() -> None:
    env = make("proving:signal")
    got = play("proving:signal", told)[0]
    np.testing.assert_allclose(got.team_reward.sum(1), env.best_return, atol=1e-5)
    np.testing.assert_allclose(got.metrics["named"].sum(1), 1, atol=1e-5)
    silent = play("proving:signal", likeliest)[0].team_reward.sum(1)
    assert abs(silent.mean() - env.best_silent_return) < 5 * silent.std() / np.sqrt(len(silent))
    of_each = [0.0, *(p - 0.25 * (1 - p) for p in CHANCE)]  # of every action that knows nothing: symbols are drawn independently
    assert env.best_silent_return == pytest.approx(max(of_each)) == pytest.approx(0.3125)


def test_the_least_bits_of_a_message_are_those_of_its_symbols() -> None:
    """Symbols come with the chances said, independent from step to step; no prefix code is shorter than the one that is declared."""
    env = make("proving:signal")
    shown = play("proving:signal", told)[2].shown
    share = (shown[..., None] == np.arange(4)).mean((0, 1))
    assert np.abs(share - CHANCE).max() < 5 * 0.5 / np.sqrt(shown.size)
    pairs = (shown[:, :-1, None] == np.arange(4))[..., None] & (shown[:, 1:, None] == np.arange(4))[..., None, :]
    assert np.abs(pairs.mean((0, 1)) - np.outer(CHANCE, CHANCE)).max() < 5 * 0.5 / np.sqrt(shown.size)
    assert env.entropy == pytest.approx(1.815, abs=5e-4)
    lengths = [n for n in product(range(1, 5), repeat=4) if sum(2.0**-k for k in n) <= 1]  # Kraft: those that a prefix code can have
    assert env.huffman == pytest.approx(min(np.dot(n, CHANCE) for n in lengths)) == pytest.approx(1.85)


def test_a_message_is_worth_what_a_worker_loses_without_it() -> None:
    """Two episodes with one message withheld in one of them; the mean over episodes is the declared worth."""
    env = make("proving:signal?rows=4")
    steps, _, states = play("proving:signal?rows=4", told, 2000)
    for t in range(4):
        without = lambda at, before, step, t=t: jnp.where(at == t + 1, likeliest(at, before, step), told(at, before, step))
        lost = steps.team_reward.sum(1) - play("proving:signal?rows=4", without, 2000)[0].team_reward.sum(1)
        said = jax.vmap(env.told)(SignalState(states.t[:, t], states.shown[:, t], states.before[:, t]))
        np.testing.assert_allclose(lost, said, atol=1e-6)
        assert abs(lost.mean() - env.message_worth * (t < 3)) < 5 * lost.std() / np.sqrt(2000) + 1e-9
    silent = lambda at, before, step: jnp.where(at == 2, 0, told(at, before, step))
    worth = steps.team_reward.sum(1) - play("proving:signal?rows=4", silent, 2000)[0].team_reward.sum(1)
    np.testing.assert_allclose(worth, env.action_worth, atol=1e-6)


def test_a_worker_sees_nothing_of_the_symbol_and_a_scout_can_only_watch() -> None:
    steps, actions, states = play("proving:signal", told)
    assert not steps.obs[0]["symbol"][:, :, 1].any()
    np.testing.assert_array_equal(steps.obs[0]["symbol"][:, :-1, 0].argmax(-1), states.shown)
    assert steps.legal[0][:, :, 0].sum() == steps.first.size and steps.legal[0][:, :, 0, 0].all() and steps.legal[0][:, :, 1].all()
    contribution = jax.vmap(jax.vmap(make("proving:signal").contribution))(states, (actions,))
    np.testing.assert_allclose(contribution.sum(-1), steps.team_reward[:, 1:], atol=1e-6)
    assert not contribution[..., 0].any() and not steps.team_reward[:, 1].any(), "nothing is to be named in the first step"


# ---- errands
def planned(chatty: bool, rows: int) -> float:
    """What one worker's best policy earns, in shares: by backward induction over whether its task is known."""
    guess, value = 1 / 4 - 3 / 4 / 4, {True: 0.0, False: 0.0}
    for _ in range(rows):
        after = {known: value[known and not chatty] for known in (True, False)}  # an act renews the task of the chatty
        value = {
            True: max(1 + after[True], value[True]),
            False: max(guess + after[False], value[True], value[False]),  # act blindly, ask, wait
        }
    return value[False]


@pytest.mark.parametrize(("name", "chatty"), [("proving:errands?rows=8", True), ("proving:errands?rows=8&chatty=false", False)])
def test_the_best_errands_ask_as_often_as_is_said(name: str, chatty: bool) -> None:
    env = make(name)
    steps, actions, states = play(name, asker, 200)
    np.testing.assert_allclose(steps.team_reward.sum(1), env.best_return, atol=1e-5)
    assert (actions == 5).mean() == pytest.approx(env.best_asking) == (0.5 if chatty else 1 / 8)
    assert env.spec.groups[0].requests == (5,)
    assert planned(chatty, 8) == pytest.approx(4 if chatty else 7), "and nothing is better"
    guessed = play(name, guesser, 200)[0].team_reward.sum(1)
    blind = 8 / 16 / (4 if chatty else 7)
    assert abs(guessed.mean() - blind) < 5 * guessed.std() / np.sqrt(200) + 1e-6
    fresh = (states.task[:, 1:] != states.task[:, :-1]).mean((0, 2))  # acts are every second step of the chatty
    assert np.abs(fresh - (np.array([0, 0.75] * 4)[:7] if chatty else 0)).max() < 0.1


@pytest.mark.parametrize("name", ["proving:signal?rows=5", "proving:errands?rows=6&workers=2", "proving:errands?chatty=false&rows=6"])
def test_they_keep_the_contract(name: str) -> None:
    keeps_its_contract(name, b=4, t=16)


@pytest.mark.parametrize("name", ["proving:signal", pytest.param("proving:errands", marks=pytest.mark.slow)])
def test_an_update_learns_from_them(name: str) -> None:
    trains(name)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("proving:errands?rows=7", "even"),
        ("proving:errands?workers=0", "at least 1"),
        ("proving:signal?rows=1", "at least 2"),
        ("proving:signal?exploit=true", "no option 'exploit'"),
    ],
)
def test_options_that_make_no_game_are_refused(name: str, says: str) -> None:
    with pytest.raises(UnknownEnvironment, match=says):
        make(name)


# ---- requests
def asking(requests: tuple[int, ...], space=None) -> Spec:
    return Spec((Group("g", ("a", "b"), {"x": Leaf("vector", (1,))}, space or Discrete(3), requests=requests),), state=1)


def test_requests_go_into_a_specs_text_and_back() -> None:
    """Also where there are none, as in what was written before there were any."""
    for spec in (asking((2,)), asking(())):
        assert spec_from_json(spec_to_json(spec)) == spec
    assert "requests" not in spec_to_json(asking(()))["groups"][0]
    assert "requests" in spec_difference(asking((2,)), asking(())) and not spec_difference(asking((2,)), asking((2,)))


@pytest.mark.parametrize(
    ("requests", "space", "says"),
    [
        ((3,), Discrete(3), "from 0 to 2"),
        ((-1,), Discrete(3), "from 0 to 2"),
        ((1, 1), Discrete(3), "different"),
        ((1,), MultiDiscrete((2, 2)), "several parts"),
    ],
)
def test_requests_that_are_no_actions_are_refused(requests, space, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        asking(requests, space)
