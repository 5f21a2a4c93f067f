"""Grounds for credit: what a game says its agents are worth is what paired episodes measure."""

import functools
from itertools import product
from math import factorial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.core.compile_options import FASTEST_COMPILE, supported
from marlstone.core.records import replace
from marlstone.envs.make import UnknownEnvironment, make
from marlstone.envs.proving import Climbing, Flip, Plan
from marlstone.envs.proving.saboteur import SaboteurState
from marlstone.envs.proving.symbols import SymbolState
from marlstone.envs.team_games import below
from marlstone.envs.vectorized import Vectorized

NOISY = {"proving:dummy?sigma=0.5": [3]}  # agents whose worth is an expectation: measured within five standard errors
GROUNDS = [
    "proving:climbing?rows=2",
    "proving:climbing?rows=2&game=penalty&penalty=-10",
    "proving:additive?rows=2",
    "proving:dummy?sigma=0.5",
    "proving:saboteur?rows=4",
    "proving:redundant?rows=4",
    "proving:delayed?rows=4",
    "proving:flip?rows=6&at=4",
    "proving:plan?reach=1&rows=6",
    "proving:swarm?agents=5&rows=3",
]


def walk(state, env: Plan):
    """The best actions in `plan`."""
    return (jnp.stack([jnp.where(state.done == 1, 2, 1), jnp.asarray(2)]),)


def measure(name: str, coalitions: np.ndarray, episodes: int):
    """Of one random row in each episode: the team return `[e c]` when agents outside a coalition `[c n]` play the default on that
    row, keys and all other actions staying; and `contribution` and `shapley` as the game says them, `[e n]`.

    Actions are uniform, legal or not; in `plan` the carrier's are mostly best play, and after the row everybody's.
    """
    env = make(name)
    groups = env.spec.groups
    cuts = np.cumsum([g.count for g in groups])[:-1]

    def act(t, at, state, key):
        drawn = tuple(below(g.space.size, jax.random.uniform(jax.random.fold_in(key, 1 + i), (g.count,))) for i, g in enumerate(groups))
        if not isinstance(env, Plan):
            return drawn
        good = (t > at) | ((t < at) & (jax.random.uniform(key, (2,)) < jnp.array([0.9, 0.2])))
        return jax.tree.map(lambda x, y: jnp.where(good, x, y), walk(state, env), drawn)

    def one(key):
        k1, k2 = jax.random.split(key)
        at = below(env.spec.horizon, jax.random.uniform(k1))

        def run(mask):
            def body(carry, x):
                state, total, over, said = carry
                t, k = x
                action = act(t, at, state, jax.random.fold_in(k, 7))
                truth = (env.contribution(state, action), env.shapley(state, action))
                kept = jnp.split(mask, cuts)
                played = tuple(jnp.where(m | (t != at), a, g.default) for a, m, g in zip(action, kept, groups, strict=True))
                state, row = env.step(state, played, k)
                said = jax.tree.map(lambda x, y: jnp.where((t == at) & ~over, x, y), truth, said)
                return (state, total + jnp.where(over, 0, row.team_reward), over | row.last, said), None

            begin = (env.init(k2)[0], jnp.zeros(()), jnp.zeros((), bool), (jnp.zeros(env.spec.n), jnp.zeros(env.spec.n)))
            steps = (jnp.arange(env.spec.horizon), jax.random.split(k1, env.spec.horizon))
            (_, total, _, said), _ = jax.lax.scan(body, begin, steps)
            return total, said

        total, said = jax.vmap(run)(jnp.asarray(coalitions))
        return total, *jax.tree.map(lambda x: x[-1], said)  # the last coalition is everybody: the episode as taken

    run = jax.jit(jax.vmap(one), compiler_options=supported(FASTEST_COMPILE))
    return jax.tree.map(np.asarray, run(jax.random.split(jax.random.key(0), episodes)))


def enumerate_shapley(value: np.ndarray, coalitions: np.ndarray) -> np.ndarray:
    """`[e n]` from `value [e 2^n]`: sum over S without i of |S|! (n - |S| - 1)! / n! (v(S + i) - v(S))."""
    n = coalitions.shape[1]
    index = {tuple(c): k for k, c in enumerate(coalitions.tolist())}
    share = np.zeros((len(value), n))
    for i in range(n):
        for c, k in index.items():
            if not c[i]:
                joined = index[(*c[:i], True, *c[i + 1 :])]
                size = sum(c)
                share[:, i] += factorial(size) * factorial(n - size - 1) / factorial(n) * (value[:, joined] - value[:, k])
    return share


def agree(name: str, measured: np.ndarray, said: np.ndarray) -> None:
    for i in range(said.shape[1]):
        gap = measured[:, i] - said[:, i]
        if i in NOISY.get(name, []):
            assert gap.std() > 0.01 and abs(gap.mean()) < 5 * gap.std() / np.sqrt(len(gap))
        else:
            np.testing.assert_allclose(gap, 0, atol=3e-6 * max(1, np.abs(measured).max()))


@pytest.mark.parametrize("name", GROUNDS)
def test_what_agents_are_worth_is_what_paired_episodes_measure(name: str) -> None:
    n = make(name).spec.n
    coalitions = np.array(list(product([False, True], repeat=n)))
    value, contribution, shapley = measure(name, coalitions, 400)
    without = [int(np.flatnonzero((coalitions == (np.arange(n) != i)).all(1))[0]) for i in range(n)]
    agree(name, value[:, -1:] - value[:, without], contribution)
    agree(name, enumerate_shapley(value, coalitions), shapley)
    if name not in NOISY:
        np.testing.assert_allclose(shapley.sum(1), value[:, -1] - value[:, 0], atol=1e-5 * max(1, np.abs(value).max()))
    idle = {"proving:dummy?sigma=0.5": [2, 3]}.get(name, [])
    assert [i for i in range(n) if not contribution[:, i].any()] == idle, "the rest must have been worth something"


def test_a_swarm_is_worth_what_is_measured_at_scale() -> None:
    name, n = "proving:swarm?agents=64&rows=2", 64
    value, contribution, _ = measure(name, np.concatenate([~np.eye(n, dtype=bool), np.ones((1, n), bool)]), 50)
    np.testing.assert_allclose(value[:, -1:] - value[:, :-1], contribution, atol=1e-6)
    assert make("proving:swarm?agents=1024").spec.state <= 32 and np.unique(contribution.round(6)).size > 3


def _say(row):
    return (jnp.argmax(row.obs[0]["symbol"], -1) + 1,)


def _harm_least(row):
    return (*_say(row), jnp.argmax(row.legal[1], -1).astype(jnp.int32))


def _say_rotated(row):
    return (_say(row)[0] % 4 + 1,)


def _mind_the_neighbor(row):
    return (_say(row)[0] % 4,)  # the loud symbol is left unsaid


def _walk(row):
    key, door = row.obs[0]["progress"][0]
    return (jnp.stack([jnp.where((key > 0) & (door == 0), 2, 1), jnp.asarray(2)]),)


@functools.cache
def play(name: str, script, episodes: int = 1000):
    """Rows `[e t+1]` and actions `[e t]`: random legal play in the first half of the episodes, `script(row)` in the others."""
    env = make(name)
    groups = env.spec.groups

    def one(key, scripted):
        def body(carry, k):
            state, row = carry
            k1, k2 = jax.random.split(k)
            noise = [g.space.noise(jax.random.fold_in(k1, i), (g.count,)) for i, g in enumerate(groups)]
            drawn = tuple(g.space.sample(0 * z, m, z) for g, z, m in zip(groups, noise, row.legal, strict=True))
            action = jax.tree.map(lambda x, y: jnp.where(scripted, x, y), script(row), drawn)
            return env.step(state, action, k2), (row, action)

        (_, row), (rows, actions) = jax.lax.scan(body, env.init(key), jax.random.split(key, env.spec.horizon))
        return jax.tree.map(lambda x, y: jnp.concatenate([x, y[None]]), rows, row), actions

    run = jax.jit(jax.vmap(one), compiler_options=supported(FASTEST_COMPILE))
    return jax.tree.map(np.asarray, run(jax.random.split(jax.random.key(0), episodes), jnp.arange(episodes) >= episodes // 2))


BEST = {
    "proving:additive": (_say, 1.0),
    "proving:dummy": (_say, 1.0),
    "proving:saboteur": (_harm_least, 0.9),
    "proving:redundant": (_say, 1.0),
    "proving:delayed": (_say, 1.0),
    "proving:flip?at=1": (_say_rotated, 1.0),
    "proving:plan?reach=2&rows=10": (_walk, 1.0),
    "proving:swarm?agents=16": (_mind_the_neighbor, 1.0),
}
CHANCE = ("proving:dummy", "proving:saboteur", "proving:swarm")  # 1 only in expectation


@pytest.mark.parametrize("name", BEST)
def test_best_return_is_the_documented_one(name: str) -> None:
    script, best = BEST[name]
    row, _ = play(name, script)
    got = row.team_reward.sum(1)
    if "score" in row.metrics and "swarm" not in name:
        np.testing.assert_allclose(row.metrics["score"].sum(1)[len(got) // 2 :], best, atol=1e-5)
    got, chance = got[len(got) // 2 :], got[: len(got) // 2]
    assert (chance.mean() < 0.2 and chance.std() > 0) or "plan" in name
    if name.startswith(CHANCE):
        assert 0.001 < got.std() < 0.2 and abs(got.mean() - best) < 5 * got.std() / np.sqrt(got.size)
    else:
        np.testing.assert_allclose(got, best, atol=1e-5)


def test_a_swarm_pays_each_by_itself_and_the_next() -> None:
    """r_i = c_i - 2 a [a_{i+1} is loud], and a selfish swarm, which says every symbol it is shown, earns two thirds."""
    row, (said,) = play("proving:swarm?agents=16&sigma=0", _say, 400)
    a, shown = 4 / (3 * 8), row.obs[0]["symbol"][:, :-1].argmax(-1)
    own = a * np.where(said == 0, 0, np.where(said == shown + 1, 1, -0.25))
    paid = own - 2 * a * (said[..., np.arange(1, 17) % 16] == 4)
    np.testing.assert_allclose(row.reward[:, 1:] * 16, paid, atol=1e-5)
    np.testing.assert_allclose(row.team_reward, row.metrics["score"], atol=1e-6)
    np.testing.assert_allclose(row.state[:, :-1, :4], (shown[..., None] == np.arange(4)).mean(-2), atol=1e-6)
    got = row.team_reward.sum(1)[200:]
    assert abs(got.mean() - 2 / 3) < 5 * got.std() / np.sqrt(200)


@pytest.mark.parametrize("name", BEST)
def test_rows_are_the_protocols(name: str) -> None:
    """Shapes and types of the spec, one first and one last row, ends as said, only legal actions, equal pay (but in `swarm`)."""
    spec = make(name).spec
    row, action = play(name, BEST[name][0])
    e, t = row.first.shape
    assert t == spec.horizon + 1 and row.first[:, 0].all() and not row.first[:, 1:].any()
    assert row.last[:, -1].all() and not row.last[:, :-1].any()
    assert not row.reward[:, 0].any() and not row.team_reward[:, 0].any()
    assert row.reward.shape == row.discount.shape == row.present.shape == row.deciding.shape == (e, t, spec.n)
    assert row.state.shape == (e, t, spec.state) and row.state.dtype == row.reward.dtype == row.team_reward.dtype == np.float32
    assert {k: v.shape for k, v in row.metrics.items()} == dict.fromkeys(spec.metrics, (e, t))
    for group, obs, legal, act in zip(spec.groups, row.obs, row.legal, action, strict=True):
        assert {k: (v.shape[2:], v.dtype) for k, v in obs.items()} == {
            k: ((group.count, *leaf.shape), np.float32) for k, leaf in group.observation.items()
        }
        assert legal is None or np.take_along_axis(legal[:, :-1], act[..., None], -1).all()
    assert max(np.abs(x).max() for x in (row.state, *jax.tree.leaves(row.obs))) <= 1, "what networks see is normalized"
    np.testing.assert_array_equal(row.discount.all(-1), row.team_discount)
    assert (row.team_discount[:, :-1] == 1).all() and set(row.team_discount[:, -1]) == ({0.0, 1.0} if "plan" in name else {0.0})
    np.testing.assert_allclose(row.reward.sum(-1), row.team_reward, atol=1e-6)
    assert ("swarm" in name) == bool(np.ptp(row.reward, axis=-1).max() > 1e-6)


def test_a_saboteur_harms_whatever_it_may_do() -> None:
    """On free rows, four in five, every legal action harms and the default is not legal; on the others only the default is."""
    row, action = play("proving:saboteur", _harm_least)
    legal = row.legal[1][:, :, 0]
    free = ~legal[..., 0]
    env = make("proving:saboteur")
    state = SaboteurState(jnp.array(0), jnp.zeros(3, jnp.int32), jnp.array(True))
    worth = np.array([env.contribution(state, (state.symbol, jnp.array([a])))[3] for a in range(4)])
    assert worth[0] == 0 and (worth[1:] < 0).all()
    np.testing.assert_array_equal(legal, (worth != 0) == free[..., None])
    assert abs(free.mean() - 0.8) < 5 * 0.4 / np.sqrt(free.size) and set(action[1].flat) == {0, 1, 2, 3}
    np.testing.assert_array_equal(row.state[..., -1], row.obs[1]["time"][..., 0, 0], "nothing seen tells of the coin")


def test_the_redundant_are_symmetric() -> None:
    """Twins that both work contribute nothing and share half each; to swap either pair is to swap its worth."""
    env = make("proving:redundant?rows=2")
    symbol = jnp.array([1, 1, 0, 3])
    worth = jax.jit(lambda symbol, said: (env.contribution(SymbolState(0, symbol), (said,)), env.shapley(SymbolState(0, symbol), (said,))))
    np.testing.assert_allclose(worth(symbol, symbol + 1), [[0, 0, 1 / 6, 1 / 6], [1 / 12, 1 / 12, 1 / 6, 1 / 6]], atol=1e-7)
    for said in ([2, 0, 1, 0], [2, 3, 2, 4], [0, 2, 1, 1]):
        for swap in ([1, 0, 2, 3], [0, 1, 3, 2]):
            index = jnp.array(swap)
            straight, swapped = worth(symbol, jnp.array(said)), worth(symbol[index], jnp.array(said)[index])
            np.testing.assert_array_equal(np.array(straight)[:, swap], swapped)
            assert (np.array(straight) != swapped).any()
    shown = play("proving:redundant", _say)[0].obs[0]["symbol"]
    np.testing.assert_array_equal(shown[:, :, 0], shown[:, :, 1], "twins see one symbol")
    assert abs((shown[:, :, 1] == shown[:, :, 2]).all(-1).mean() - 0.25) < 0.05, "everybody else their own"


def test_a_delayed_sum_is_for_critics_only() -> None:
    row, _ = play("proving:delayed", _say)
    scores = row.metrics["score"]
    np.testing.assert_allclose(row.team_reward[:, -1], scores.sum(1), atol=1e-6)
    assert not row.team_reward[:, :-1].any() and scores.std() > 0.01
    np.testing.assert_allclose(row.state[..., -1], np.cumsum(scores, 1), atol=1e-6)
    assert {k: v.shape[-1] for k, v in row.obs[0].items()} == {"symbol": 4}, "and an observation has no room for it"


def test_a_flip_comes_once_in_a_life() -> None:
    """What was right earns 1 before row `at` of each copy's life, over all its episodes, and costs a quarter from then on."""
    at, b = 8, 3
    vector = Vectorized(Flip(rows=3, at=at), b)

    def body(carry, key):
        after = vector.step(carry[0], jax.vmap(_say)(carry[1]), jax.random.split(key, b))
        return after, after

    run = jax.jit(
        lambda k: jax.lax.scan(body, vector.init(jax.random.split(k, b)), jax.random.split(k, 20)),
        compiler_options=supported(FASTEST_COMPILE),
    )
    states, row = jax.tree.map(np.asarray, run(jax.random.key(5))[1])
    lived = np.cumsum(~row.first, 0)
    np.testing.assert_array_equal(states.env.lived, lived)
    np.testing.assert_allclose(row.team_reward, np.where(row.first, 0, np.where(lived < at, 1, -0.25)) / 3, atol=1e-6)


def test_a_flip_is_seen_only_in_the_reward() -> None:
    env = Flip(at=8)
    begin, first = env.init(jax.random.key(0))
    step = jax.jit(lambda lived: env.step(replace(begin, lived=lived), _say(first), jax.random.key(1))[1])
    before, after = step(6), step(7)
    assert before.team_reward > 0 > after.team_reward
    hide = lambda row: replace(row, reward=0, team_reward=0)
    for x, y in zip(jax.tree.leaves(hide(before)), jax.tree.leaves(hide(after)), strict=True):
        np.testing.assert_array_equal(x, y)


def test_a_reset_keeps_what_an_environment_remembers() -> None:
    """Few resets or all, each copy goes on with its own memory, from its own key."""
    b = 16
    vector, keys, ages = Vectorized(Flip(rows=2), b), jax.random.split(jax.random.key(1), b), np.arange(b) * 10

    @functools.partial(jax.jit, compiler_options=supported(FASTEST_COMPILE))
    def run(over):
        state, row = vector.init(keys)
        aged = replace(state, env=replace(state.env, lived=jnp.asarray(ages)), over=over)
        return (state.env, row), vector.step(aged, (jnp.zeros((b, 4), jnp.int32),), keys)

    few = np.isin(np.arange(b), [3, 9])
    for over in (few, few | True, ~few):
        (fresh, first), (after, row) = run(over)
        np.testing.assert_array_equal(after.env.lived, np.where(over, ages, ages + 1))
        np.testing.assert_array_equal(after.env.t, np.where(over, 0, 1))
        np.testing.assert_array_equal(after.env.symbol[over], fresh.symbol[over])
        for x, y in zip(jax.tree.leaves(row), jax.tree.leaves(first), strict=True):
            np.testing.assert_array_equal(x[over], y[over])


def test_random_walks_do_not_find_the_plan() -> None:
    """Held directions reach what row-by-row chance does not."""
    env, key = Plan(), jax.random.key(0)

    def wins(actions):
        def body(carry, a):
            state, row = env.step(carry[0], (a,), key)
            won = carry[1] | (row.team_reward > 0)
            return (jax.tree.map(lambda x, y: jnp.where(won, x, y), carry[0], state), won), None

        return jax.lax.scan(body, (env.init(key)[0], jnp.zeros((), bool)), actions)[0][1]

    drawn = np.random.default_rng(0).integers(0, 3, (2, 10_000, env.rows, 2))
    drawn[1] = drawn[1, :, np.arange(env.rows) // 8 * 8].swapaxes(0, 1)
    flat, held = jax.jit(jax.vmap(jax.vmap(wins)), compiler_options=supported(FASTEST_COMPILE))(drawn).mean(1)
    assert flat < 0.001 and 0.17 < held < 0.21


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("proving:climbing?game=penalties", "did you mean 'penalty'"),
        ("proving:climbing?penalty=-3", "with game=penalty"),
        ("proving:climbing?game=penalty&penalty=3", "at most 0"),
        ("proving:swarm?agents=1", "2 to 1024"),
        ("proving:swarm?sigma=-1", "at least 0"),
        ("proving:dummy?sigma=-1", "at least 0"),
        ("proving:flip?at=-1", "0 for never"),
        ("proving:plan?rows=19", "takes 20"),
        ("proving:plan?reach=0", "at least 1"),
        ("proving:delayed?rows=1", "at least 2"),
    ],
)
def test_options_that_make_no_game_are_refused(name: str, says: str) -> None:
    with pytest.raises(UnknownEnvironment, match=says):
        make(name)


def test_the_default_is_the_safe_action() -> None:
    for game, default, row in (("climbing", 2, [0, 0, 5]), ("penalty", 1, [0, 2, 0])):
        env = Climbing(game=game)
        assert env.spec.groups[0].default == default
        np.testing.assert_array_equal(env.payoff[default], row)
