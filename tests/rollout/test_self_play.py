"""A league of one's own past: snapshots in time, opponents as drawn, and the same bits after a resume."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.architectures import Decentralized, Mlp
from marlstone.config import RunConfig
from marlstone.config.schema import Evaluation, Rollout, SelfPlay
from marlstone.core.errors import UserError
from marlstone.core.records import replace
from marlstone.envs.make import make
from marlstone.learners import PolicyGradient
from marlstone.rollout.self_play import League, Rules, after_update, begin_league, with_players
from marlstone.rollout.sides import Sides
from marlstone.runs.checkpoint import load, newest
from marlstone.runs.directory import RunDirectory
from marlstone.training.loop import runtime_of, train
from tests.standing import always

pytestmark = pytest.mark.usefixtures("compiled_once")
B, T = 4, 4


def config(**changes: Any) -> RunConfig:
    own = SelfPlay("blue", every=2 * B * T, keep=3, current=0.25)
    fields: dict[str, Any] = {"steps": 8 * B * T, "seeds": 1, "seed": 0, "checkpoint_every": 4 * B * T, "self_play": own} | changes
    learner = PolicyGradient(epochs=1, minibatches=1)
    return RunConfig(
        "proving:rps?rows=3",
        Decentralized(Mlp((4,))),
        learner=learner,
        rollout=Rollout(B, T),
        evaluate=Evaluation(2, logged=0),
        **fields,
    )


def league(taken: int, games: list[float], wins: list[float]) -> League:
    return League((), jnp.int32(taken), jnp.array(games), jnp.array(wins), jnp.zeros((2, 3)))


def test_chances() -> None:
    """Of the places that are filled; the rest is the share against the policy as it stands."""
    known = league(2, [98.0, 98.0, 0.0], [98.0, 0.0, 0.0])
    chances = lambda sampling, league=known: np.asarray(Rules(3, sampling, 0.25).chances(league))
    np.testing.assert_allclose(chances("uniform"), [0.375, 0.375, 0, 0.25])
    np.testing.assert_allclose(chances("latest"), [0, 0.75, 0, 0.25])
    np.testing.assert_allclose(chances("latest", league(4, [0] * 3, [0] * 3)), [0.75, 0, 0, 0.25])
    beaten = (np.array([0.01, 0.99])) ** 2
    np.testing.assert_allclose(chances("prioritized")[:2], 0.75 * beaten / beaten.sum(), rtol=1e-3)


def test_opponents_are_those_who_were_drawn() -> None:
    """A league of rock, paper and scissors: what red's rock earns is what the one drawn makes of it, and the result is told of that one."""
    env = Sides("", {}, ("blue", 3, "uniform", 0.25)).over(make("proving:rps?rows=2"))
    from marlstone.algorithm import Algorithm
    from marlstone.credit import Individual

    it = Algorithm(env.spec, Decentralized(Mlp((4,))), Individual(), PolicyGradient(epochs=1, minibatches=1))
    players = [always(it, [9.0 * (i == k) * 9 for i in range(3)]).policy for k in (0, 1, 2)]
    rules = env.rules
    known = replace(begin_league(rules, players[0]), policies=jax.tree.map(lambda *x: jnp.stack(x), *players), taken=jnp.int32(3))
    playing = with_players(env, it, known, players[1])

    def episode(key: Any) -> Any:
        state, _ = playing.init(key)
        for k in jax.random.split(key, 2):
            state, step = playing.step(state, (jnp.array([0]),), k)
        return state.who, state.returns, state.results, step.last

    who, returns, results, last = jax.tree.map(np.asarray, jax.jit(jax.vmap(episode))(jax.random.split(jax.random.key(0), 400)))
    assert last.all()
    wanted = np.array([0.0, -1.0, 2.0, -1.0])[who]
    np.testing.assert_allclose(returns[:, 0], wanted, atol=1e-6)
    share = np.bincount(who, minlength=4) / 400
    np.testing.assert_allclose(share, 0.25, atol=0.1)
    for place, won in ((0, 0.5), (1, 0.0), (2, 1.0)):
        mine = results[who == place]
        np.testing.assert_array_equal(mine[:, 0, place], 1)
        np.testing.assert_array_equal(mine[:, 1, place], won)
    assert (results[who == 3] == 0).all()


def test_snapshots_replace_the_oldest_and_results_are_counted_once() -> None:
    policy = lambda x: {"w": jnp.full(2, float(x))}
    state = lambda total: __import__("marlstone.rollout.self_play", fromlist=["LeagueState"]).LeagueState(
        None, None, None, None, None, jnp.tile(jnp.array(total, jnp.float32), (5, 1, 1))
    )
    it = begin_league(Rules(2, "uniform", 0.0), policy(0))
    it = after_update(it, state([[1, 0], [1, 0]]), policy(1), jnp.array(False))
    np.testing.assert_array_equal(np.asarray(it.policies["w"])[:, 0], [0, 0])
    np.testing.assert_array_equal(it.games, [5, 0])
    it = after_update(it, state([[1, 0], [1, 0]]), policy(2), jnp.array(True))
    np.testing.assert_array_equal(np.asarray(it.policies["w"])[:, 0], [0, 2])
    np.testing.assert_allclose(it.games, [4.9, 0])
    it = after_update(it, state([[2, 3], [1, 3]]), policy(3), jnp.array(True))
    np.testing.assert_array_equal(np.asarray(it.policies["w"])[:, 0], [3, 2])
    np.testing.assert_allclose(it.games, [0, 15])
    assert int(it.taken) == 3


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, compiled_once: None) -> tuple[Any, RunDirectory]:
    run = RunDirectory.create(tmp_path_factory.mktemp("run") / "whole", "", {})
    return train(config(), run, limited=False), run


def test_a_run_keeps_its_league(whole: Any) -> None:
    """The policies of updates 4, 6 and 8 at the end, in a league of three; the newest is the one that was trained last."""
    record, run = whole
    backend = runtime_of(config())
    state, _ = load(newest(run.checkpoints).path, backend.placement.trim(backend.start()))
    assert int(state.league.taken[0]) == 5
    newest_place = jax.tree.map(lambda x: np.asarray(x)[0, 4 % 3], state.league.policies)
    for a, b in zip(jax.tree.leaves(newest_place), jax.tree.leaves(state.train.policy), strict=True):
        np.testing.assert_array_equal(a, np.asarray(b)[0])
    assert float(np.asarray(state.league.games).sum()) > 0
    assert record["opponents"]["blue"] == {"policy": "self_play", "sampling": "uniform", "keep": 3, "evaluated_against": "random"}
    assert set(record["agent_returns"]) == {"red_0"}


def test_a_resumed_run_is_the_uninterrupted_one(whole: Any, tmp_path: Path) -> None:
    record, _ = whole
    run = RunDirectory.create(tmp_path / "half", "", {})
    contacts: list[Any] = []
    stop = lambda: bool(list(run.checkpoints.glob("step-*"))) if contacts.append(0) is None else False
    half = train(config(), run, limited=False, stop=stop)
    assert half["stopped"]
    again = train(config(), run, limited=False, resume=newest(run.checkpoints))
    assert again["parameters_sha256"] == record["parameters_sha256"]
    assert again["resumed_from_step"] > 0


def test_refusals(tmp_path: Path) -> None:
    line = f"{Path(__file__).parents[1] / 'twin.py'}:make"
    with pytest.raises(UserError, match="stepped by Python: let both sides learn"):
        Sides("", {}, ("pusher", 2, "uniform", 0.2)).over(make(line))
    with pytest.raises(UserError, match=r"3 agents learn .* and 1 are played"):
        Sides("", {}, ("arm", 2, "uniform", 0.2)).over(make("proving:pair"))
    with pytest.raises(ValueError, match="leave the fleet out"):
        from marlstone.config.schema import Fleet

        config(fleet=Fleet("local"))
    with pytest.raises(ValueError, match="nobody is played"):
        SelfPlay(keep=3)
