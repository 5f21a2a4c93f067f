"""JaxMARL's games beside MPE: real ends and time limits apart, turns, deaths, true metrics; everything registered trains or is refused."""

import functools
import importlib.util

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.core.compile_options import FASTEST_COMPILE, supported
from marlstone.envs.jaxmarl import make
from marlstone.envs.jaxmarl.build import GAMES
from marlstone.envs.jaxmarl.mabrax import MaBrax
from marlstone.envs.jaxmarl.unavailable import LearnedEnemy, Robotarium
from marlstone.envs.make import make as make_env
from marlstone.envs.names import UnknownEnvironment
from tests.envs.contract_laws import keeps_its_contract, trains

jaxmarl = pytest.importorskip("jaxmarl", reason="needs marlstone[jaxmarl]")
pytestmark = pytest.mark.usefixtures("compiled_once")

PLAYABLE = [name for game in GAMES if game not in (LearnedEnemy, Robotarium) for name in game.names]
REFUSED = [*LearnedEnemy.names, *Robotarium.names]
SHORT = {  # short episodes, so that some end
    "overcooked": "?max_steps=12",
    "overcooked_v2": "?max_steps=12",
    "storm": "?num_agents=3&num_inner_steps=12",
    "storm_2p": "?num_inner_steps=12",
    "storm_np": "?num_inner_steps=12",
    "coin_game": "?num_inner_steps=5&num_outer_steps=2",
    "jaxnav": "?max_steps=12&lidar_num_beams=9",
    "hanabi": "?max_life_tokens=1",
    **dict.fromkeys(("SMAX", "HeuristicEnemySMAX"), "?scenario=3m&max_steps=12"),
    **dict.fromkeys(MaBrax.names, "?episode_length=12"),
}


def short(name: str) -> str:
    return f"jaxmarl:{name}{SHORT.get(name, '')}"


def quick(f):
    return jax.jit(f, compiler_options=supported(FASTEST_COMPILE))


def test_every_registered_name_is_known() -> None:
    from jaxmarl.registration import registered_envs

    assert sorted([*PLAYABLE, *REFUSED]) == sorted(registered_envs)


def test_battles_keep_the_contract() -> None:
    """The other games that are tested below do so there; those that train in every run are `test_worlds`."""
    keeps_its_contract(short("HeuristicEnemySMAX"))


@pytest.mark.slow
@pytest.mark.parametrize("name", PLAYABLE)
def test_everything_registered_keeps_the_contract_and_trains(name: str) -> None:
    if name in MaBrax.names and importlib.util.find_spec("brax") is None:
        pytest.skip("needs marlstone[mabrax]")
    keeps_its_contract(short(name))
    trains(short(name))


@pytest.mark.parametrize("name", [name for game in GAMES[1:] for name in game.names if name in PLAYABLE])
def test_what_a_step_gives_depends_on_the_action_of_every_group(name: str) -> None:
    """Read off the traced program, backwards from its outputs: an adapter that hands over actions in a form that a game takes for something
    else (a dict's keys for `storm_2p`'s actions) plays a game in which no one can act."""
    if name in MaBrax.names and importlib.util.find_spec("brax") is None:
        pytest.skip("needs marlstone[mabrax]")
    env = make_env(short(name))
    state = jax.eval_shape(env.init, jax.random.key(0))[0]
    actions = tuple(jnp.asarray(group.recorded_defaults) for group in env.spec.groups)
    traced = jax.make_jaxpr(lambda actions, state, key: env.step(state, actions, key))(actions, state, jax.random.key(0)).jaxpr
    variables = lambda xs: {x for x in xs if isinstance(x, jax.extend.core.Var)}
    read = variables(traced.outvars)
    for equation in reversed(traced.eqns):
        if read & set(equation.outvars):
            read |= variables(equation.invars)
    assert all(x in read for x in traced.invars[: len(actions)])


def test_two_players_of_storm_meet_as_jaxmarl_plays_it() -> None:
    """The same actions with the same keys, handed to JaxMARL's own `step_env` as it takes them: the same rewards, which someone gets."""
    env = make("storm_2p", {"num_inner_steps": 152})
    theirs = jaxmarl.make("storm_2p", num_inner_steps=152)

    @quick
    @jax.vmap
    def play(key):
        start, moves, steps = jax.random.split(key, 3)
        joint = jax.random.randint(moves, (151, 2), 0, 5)

        def tick(carry, x):
            ours, reference = carry
            action, k = x
            ours, step = env.step(ours, (action,), k)
            _, reference, rewards, *_ = theirs.step_env(k, reference, (action[0], action[1]))
            return (ours, reference), (step.reward, jnp.stack(rewards), step.team_reward)

        begin = env.init(start)[0], theirs.reset(start)[1]
        return jax.lax.scan(tick, begin, (joint, jax.random.split(steps, 151)))[1]

    ours, reference, team = play(jax.random.split(jax.random.key(0), 32))
    np.testing.assert_array_equal(ours, reference)
    np.testing.assert_allclose(team, ours.sum(-1), rtol=1e-6)
    assert np.asarray(ours).any()


def test_in_storm_who_meets_is_rewarded_by_the_matrix_when_both_interact() -> None:
    """One has collected the first kind of coin, another the second, and they face each other, the last pair of three; random play hardly
    ever gets there."""
    env = make("storm", {"num_agents": 3})
    state, _ = env.init(jax.random.key(0))
    places = jnp.array([[0, 0, 0], [3, 3, 0], [3, 4, 2]], state.agent_positions.dtype)
    grid = jnp.zeros_like(state.grid).at[0, 0].set(1).at[3, 3].set(2).at[3, 4].set(3)
    coins = jnp.array([[0, 0], [1, 0], [0, 1]], state.agent_inventories.dtype)
    met = state.replace(agent_positions=places, grid=grid, agent_inventories=coins)
    step = quick(lambda action: env.step(met, (action,), jax.random.key(1))[1])
    both, one = step(jnp.array([4, 3, 3])), step(jnp.array([4, 3, 4]))
    np.testing.assert_array_equal(both.reward, [0, 0, 5])
    assert both.team_reward == 5 and not one.reward.any()


@functools.cache
def battle():
    """Four steps of 3m from states in which the enemy, or we, or nobody, or one of us has no health left; nobody's is at the limit."""
    env = make("HeuristicEnemySMAX", {"scenario": "3m"})
    state, _ = env.init(jax.random.key(0))
    health = np.asarray(state.state.unit_health)
    fallen = {"won": [3, 4, 5], "lost": [0, 1, 2], "limit": [], "one": [0]}
    healths = np.stack([np.where(np.isin(np.arange(6), who), 0, health) for who in fallen.values()])
    clocks = np.where(np.array(list(fallen)) == "limit", 100, 5)

    @quick
    @jax.vmap
    def run(units, clock):
        inner = state.state.replace(unit_health=units, step=clock)
        return env.step(state.replace(state=inner), (jnp.full(3, 4),), jax.random.key(1))[1]

    rows = run(healths, clocks)
    return env, {name: jax.tree.map(lambda x, i=i: np.asarray(x)[i], rows) for i, name in enumerate(fallen)}


@pytest.mark.parametrize(("end", "over", "terminated", "rate"), [("won", 1, 1, 1), ("lost", 1, 1, 0), ("limit", 1, 0, 0), ("one", 0, 0, 0)])
def test_battles_end_by_death_or_by_time(end: str, over: int, terminated: int, rate: int) -> None:
    env, rows = battle()
    row = rows[end]
    assert env.spec.horizon == 101
    assert (bool(row.last), row.team_discount == 0, float(row.metrics["win_rate"])) == (over, terminated, rate)
    assert (row.team_reward >= 1) == (end == "won")


def test_dead_units_are_absent_and_can_only_stand_still() -> None:
    _, rows = battle()
    row = rows["one"]
    assert row.present.tolist() == [False, True, True] and row.discount.tolist() == [0, 1, 1]
    assert row.legal[0].sum(-1)[0] == 1 and row.legal[0][0, 4] and (row.legal[0].sum(-1)[1:] > 1).all()
    assert not row.obs[0]["view"][0].any()
    assert rows["limit"].discount.tolist() == [1, 1, 1]


def test_smax_has_its_own_global_state_and_default_order() -> None:
    env, rows = battle()
    assert env.spec.state == rows["one"].state.size == 6 * 12
    assert env.spec.groups[0].default == 4 and env.spec.groups[0].space.size == 5 + 3


def test_a_battle_of_two_sides_has_a_team_and_opponents() -> None:
    env = make("SMAX", {"scenario": "3m"})
    assert env.spec.opponents == ("enemy_0", "enemy_1", "enemy_2")
    np.testing.assert_allclose(env.share, 1 / 3)


@functools.cache
def kitchen(shaping: float):
    """cramped_room, the first cook before the counter with a soup, the second before the pot with an onion; both interact."""
    from jaxmarl.environments.overcooked.common import DIR_TO_VEC, OBJECT_TO_INDEX

    env = make("overcooked", {"layout": "cramped_room", "shaping": shaping})
    state, _ = env.init(jax.random.key(0))
    down, up = (int(np.flatnonzero((np.asarray(DIR_TO_VEC) == d).all(1))[0]) for d in ([0, 1], [0, -1]))
    turned = jnp.array([down, up])
    state = state.replace(
        agent_pos=jnp.array([[3, 2], [2, 1]], state.agent_pos.dtype),
        agent_dir_idx=turned.astype(state.agent_dir_idx.dtype),
        agent_dir=DIR_TO_VEC[turned].astype(state.agent_dir.dtype),
        agent_inv=jnp.array([OBJECT_TO_INDEX["dish"], OBJECT_TO_INDEX["onion"]], state.agent_inv.dtype),
    )
    return env, quick(env.step)(state, (jnp.array([5, 5]),), jax.random.key(1))[1]


@pytest.mark.parametrize("shaping", [0.0, 2.0])
def test_shaped_reward_is_apart_from_what_was_delivered(shaping: float) -> None:
    """A soup is worth 20 to the team; the onion in the pot adds 3 times `shaping` to its cook's reward. The metrics are the same."""
    _, row = kitchen(shaping)
    np.testing.assert_allclose(row.reward, [10, 10 + 3 * shaping])
    assert row.team_reward == 20 + 3 * shaping
    assert {k: float(v) for k, v in row.metrics.items()} == {"deliveries": 1, "score": 20}


def test_observations_of_kitchens_are_not_scaled_as_pictures() -> None:
    env, row = kitchen(0.0)
    assert env.spec.groups[0].observation["view"].dtype == "float32"
    assert float(np.max(row.obs[0]["view"])) >= 1 and row.team_discount == 1


def test_in_hanabi_one_player_decides_and_the_score_is_what_was_earned() -> None:
    step, *_ = keeps_its_contract(short("hanabi"))
    assert (step.deciding.sum(-1) == 1).all()
    passing = step.legal[0].sum(-1) == 1
    assert (
        (passing | step.deciding).all() and step.legal[0][..., -1][~step.deciding].all() and not step.legal[0][..., -1][step.deciding].any()
    )
    assert (step.deciding[:, 1:] != step.deciding[:, :-1])[~step.first[:, 1:]].all(), "in turn"
    assert (step.team_discount[step.last] == 0).all()
    earned = np.zeros(len(step.last))
    for t in range(step.last.shape[1]):
        earned = np.where(step.first[:, t], 0, earned + step.team_reward[:, t])
        np.testing.assert_allclose(step.metrics["score"][:, t][~step.first[:, t]], earned[~step.first[:, t]], atol=1e-4)


def test_in_the_riddle_telling_terminates_and_time_truncates() -> None:
    step, actions, _ = keeps_its_contract(short("switch_riddle"), b=16)
    told = ((actions[0] == 2) & step.deciding[:, :-1]).any(-1) & ~step.first[:, 1:]
    ended = step.team_discount[:, 1:] == 0
    np.testing.assert_array_equal(told, ended)
    truncated = step.last[:, 1:] & ~ended
    assert truncated.any() and not step.team_reward[:, 1:][truncated].any()
    np.testing.assert_array_equal(step.metrics["solved"][:, 1:] == 1, step.team_reward[:, 1:] > 0)


def test_coins_are_counted_by_whose_they_were() -> None:
    """Without a coin nobody has a reward; with their own, one each; taking the other's costs it two."""
    step, *_ = keeps_its_contract("jaxmarl:coin_game?num_inner_steps=40&num_outer_steps=1", b=8)
    inner = ~step.last & ~step.first
    own, taken = step.metrics["own_coins"][inner], step.metrics["taken_coins"][inner]
    np.testing.assert_allclose(step.team_reward[inner], own - taken)
    assert own.any() and taken.any()


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_had_is_refused_in_a_sentence(name: str) -> None:
    with pytest.raises(UnknownEnvironment, match=r"take jaxmarl:HeuristicEnemySMAX|install it from"):
        make(name, {})


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("HeuristicEnemySMAX", {"scenario": "3mm"}, "did you mean '3m'"),
        ("HeuristicEnemySMAX", {"scenario": 3}, "3m"),
        ("HeuristicEnemySMAX", {"scenaro": "3m"}, "did you mean 'scenario'"),
        ("overcooked", {"layout": "cramped"}, "did you mean 'cramped_room'"),
        ("overcooked_v2", {"layout": "coordring"}, "did you mean 'coord_ring'"),
        ("overcooked", {"shaping": "yes"}, "give float"),
        ("overcooked", {"shapin": 1.0}, "did you mean 'shaping'"),
        ("SMAX", {"team": "red"}, "ally, enemy"),
        ("hanabi", {"num_agents": 9}, "between 2 and 5"),
        ("storm", {}, "take jaxmarl:storm_2p"),
    ],
)
def test_errors_carry_the_remedy(name: str, options: dict, says: str) -> None:
    with pytest.raises(UnknownEnvironment, match=says):
        make(name, options)


def test_mabrax_without_brax_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "brax" else real(name, *a))
    with pytest.raises(UnknownEnvironment, match=r"needs brax: pip install marlstone\[mabrax\]"):
        make("ant_4x2", {})
