"""No illegal action reaches an environment, wherever its masks stand, and every action is one its own space contains."""

import os
from pathlib import Path
from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pettingzoo import AECEnv, ParallelEnv

from marlstone.core.distributions import Box
from marlstone.envs.actuators import make_actuator
from marlstone.envs.host.gymnasium import GymnasiumEnv
from marlstone.envs.host.pettingzoo import PettingZooEnv
from marlstone.envs.user_file import load

MASKS = load(str(Path(__file__).parents[1] / "cases" / "masks.py"))
SEE = spaces.Box(0, 1, (2,), np.float32)
AGENT_STEPS = int(os.environ.get("AGENT_STEPS", "10000"))  # of each adapter; `make soak` plays 100,000
WIDTHS = (5, 3, 4)
KINDS = ("info", "late", "much later", "obs", "named", "deep", "listed", "avail_actions", "sometimes", "boolean")


def sampled(spec, row, rng):
    """What a policy does: random heads, masked by `legal` alone."""
    out = []
    for group, legal in zip(spec.groups, row.legal, strict=True):
        head = rng.normal(size=(group.count, group.space.head)).astype(np.float32) * 3
        noise = group.space.noise(rng, (group.count,))
        out.append(np.asarray(group.space.emit(group.space.sample(head, legal, noise))))
    return tuple(out)


class Game:
    """What all games here share: `masks` are drawn each step, an eighth of them allow nothing; `given` to whom they may be shown; `illegal`
    counts what else was done."""

    def __init__(self, kind="info", length=60):
        self.kind, self.length, self.seed, self.illegal, self.acted, self.starved = kind, length, 0, 0, 0, 0

    def begin(self, seed):
        self.rng, self.t = np.random.default_rng(seed), 0

    def draw(self, names):
        self.masks = {}
        for a, n in zip(names, WIDTHS, strict=False):
            mask = self.rng.random(n) < 0.5
            self.masks[a] = (
                mask if self.rng.random() < 0.125 or self.kind in ("obs", "named") else mask | (np.arange(n) == self.rng.integers(n))
            )

    @property
    def shown(self):
        """Whether masks are given in this step; where they are not, anything goes."""
        return {"late": self.t > 0, "much later": self.t > 40, "sometimes": self.t % 3 == 0}.get(self.kind, True)

    def check(self, names, actions, spaces_):
        for a in names:
            x, mask = actions[a], self.masks[a]
            assert spaces_[a].contains(x) and isinstance(x, int), (a, x)
            self.acted += 1
            if not self.shown:
                continue
            if mask.any():
                self.illegal += not mask[x - getattr(spaces_[a], "start", 0)]
            else:
                self.starved += 1
                assert x == spaces_[a].start, "nothing is legal: the default action"

    def info(self, a):
        if not self.shown or self.kind in ("obs", "named", "deep"):
            return {}
        mask = self.masks[a]
        if self.kind == "listed":
            return {"legal_moves": np.flatnonzero(mask).tolist() if self.t % 2 else mask.astype(int).tolist()}
        name = "avail_actions" if self.kind == "avail_actions" else "action_mask"
        return {name: mask.tolist() if self.kind == "boolean" else mask.astype(np.int8)}

    def space(self, n):
        mask = spaces.MultiBinary(n)
        return {
            "obs": spaces.Dict({"observation": SEE, "action_mask": mask}), "named": spaces.Dict({"obs": SEE, "legal_actions": mask}),
            "deep": spaces.Dict({"here": spaces.Dict({"x": SEE, "action_mask": mask}), "far": SEE}),
        }.get(self.kind, SEE)  # fmt: skip

    def see(self, a):
        x = np.full(2, self.t / 100, np.float32)
        mask = self.masks[a].astype(np.int8)
        return {
            "obs": {"observation": x, "action_mask": mask}, "named": {"obs": x, "legal_actions": mask},
            "deep": {"here": {"x": x, "action_mask": mask}, "far": x},
        }.get(self.kind, x)  # fmt: skip


class Together(Game, ParallelEnv):
    """All at once; the second of them leaves halfway."""

    possible_agents = ("a_0", "b_0", "c_0")
    acts: ClassVar = dict(zip(possible_agents, (spaces.Discrete(5), spaces.Discrete(3, start=4), spaces.Discrete(4)), strict=True))

    def observation_space(self, a):
        return self.space(int(self.acts[a].n))

    def action_space(self, a):
        return self.acts[a]

    def reset(self, seed=None, options=None):
        self.begin(seed)
        self.agents = list(self.possible_agents)
        self.draw(self.possible_agents)
        return {a: self.see(a) for a in self.agents}, {a: self.info(a) for a in self.agents}

    def step(self, actions):
        assert set(actions) == set(self.agents)
        self.check(self.agents, actions, self.acts)
        self.t += 1
        self.draw(self.possible_agents)
        n, end = list(self.agents), self.t >= self.length
        gone = {a: a == "b_0" and self.t == self.length // 2 for a in n}
        self.agents = [a for a in n if not (gone[a] or end)]
        return {a: self.see(a) for a in n}, dict.fromkeys(n, 0.0), gone, dict.fromkeys(n, end), {a: self.info(a) for a in n}

    def close(self):
        pass


class InTurn(Game, AECEnv):
    """One after the other."""

    metadata = {"name": "in_turn_v0", "is_parallelizable": False}  # noqa: RUF012
    possible_agents = ("a_0", "b_0", "c_0")
    render_mode = None
    observation_space, action_space, acts = Together.observation_space, Together.action_space, Together.acts

    def observe(self, a):
        return self.see(a)

    def reset(self, seed=None, options=None):
        self.begin(seed)
        self.agents = list(self.possible_agents)
        self.draw(self.possible_agents)
        zeros = lambda v: dict.fromkeys(self.agents, v)
        self.rewards, self._cumulative_rewards, self.terminations, self.truncations = zeros(0.0), zeros(0.0), zeros(False), zeros(False)
        self.agent_selection = "a_0"
        self.infos = {a: self.info(a) for a in self.agents}

    def step(self, action):
        a = self.agent_selection
        if self.terminations[a] or self.truncations[a]:
            return self._was_dead_step(action)
        self.check([a], {a: action}, self.acts)
        self.t += 1
        self.draw(self.possible_agents)
        if self.t >= self.length:
            self.truncations = dict.fromkeys(self.agents, True)
        self.infos = {x: self.info(x) for x in self.agents}
        self.agent_selection = self.agents[(self.agents.index(a) + 1) % 3]


class AtATable(Game, gym.Env):
    """Tuple spaces; `how` the masks stand in `info`."""

    names = (0, 1, 2)
    action_space = spaces.Tuple(tuple(Together.acts.values()))

    def __init__(self, kind="info", how="list"):
        super().__init__(kind)
        self.how = how
        self.observation_space = spaces.Tuple(tuple(self.space(n) for n in WIDTHS))

    def told(self):
        each = [self.info(a) for a in self.names]
        if self.how == "infos" or not all(each):
            return {f"agent_{i}": x for i, x in enumerate(each)} if self.t % 2 else each
        name = next(iter(each[0]))
        masks = [x[name] for x in each]
        match self.how:
            case "dict":
                return {name: {f"agent_{i}": m for i, m in enumerate(masks)} if self.t % 2 else dict(enumerate(masks))}
            case "flat":
                return {name: np.concatenate(masks)}
            case "tuple":
                return {name: tuple(masks)}
        return {name: masks}

    def reset(self, seed=None, options=None):
        self.begin(seed)
        self.draw(self.names)
        return tuple(self.see(a) for a in self.names), self.told()

    def step(self, actions):
        assert self.action_space.contains(actions) and isinstance(actions, tuple)
        self.check(self.names, dict(enumerate(actions)), dict(enumerate(self.action_space.spaces)))
        self.t += 1
        self.draw(self.names)
        return tuple(self.see(a) for a in self.names), (0.0,) * 3, False, self.t >= self.length, self.told()


class Asked(AtATable):
    """Its masks are asked for, as SMAC's are."""

    def told(self):
        return {}

    def get_avail_actions(self):
        return [self.masks[a].astype(int).tolist() for a in self.names]


ADAPTED = {
    **{f"parallel, {k}": (lambda k=k: Together(k), PettingZooEnv) for k in KINDS},
    **{f"in turn, {k}": (lambda k=k: InTurn(k), PettingZooEnv) for k in KINDS},
    **{f"gymnasium, {k}": (lambda k=k: AtATable(k), GymnasiumEnv) for k in KINDS},
    **{f"gymnasium, {how}": (lambda how=how: AtATable("late", how), GymnasiumEnv) for how in ("tuple", "dict", "flat", "infos")},
    "gymnasium, asked": (Asked, GymnasiumEnv),
}


@pytest.mark.parametrize("adapter", ["parallel", "in turn", "gymnasium"])
def test_no_illegal_action_reaches_an_environment(adapter):
    mine = {k: v for k, v in ADAPTED.items() if k.startswith(adapter)}
    acted = starved = 0
    for k, (made, adapt) in enumerate(mine.values()):
        game = made()
        env, rng, episode = adapt(game), np.random.default_rng(k), 0
        while game.acted < AGENT_STEPS / len(mine):
            row, episode = env.reset(episode), episode + 1
            while not row.last:
                row = env.step(sampled(env.spec, row, rng))
        assert game.illegal == 0, list(mine)[k]
        acted, starved = acted + game.acted, starved + game.starved
    assert acted >= AGENT_STEPS and starved > AGENT_STEPS / 1000


@pytest.mark.parametrize("where", ["info", "late", "obs", "named"])
@pytest.mark.parametrize("boolean", [False, True])
def test_the_case_of_the_late_mask(where, boolean, tmp_path, monkeypatch):
    import json

    monkeypatch.setenv("CASE_LOG", str(tmp_path / "log"))
    env, rng = PettingZooEnv(MASKS.make_env(where, boolean)), np.random.default_rng(0)
    for seed in range(20):
        row = env.reset(seed)
        while not row.last:
            row = env.step(sampled(env.spec, row, rng))
    log = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert len(log) == 200 and not any(x["illegal"] for x in log)


def test_an_agent_without_a_legal_action_plays_its_default_and_waits():
    game = Together("info")
    env = PettingZooEnv(game)
    env.reset(0)
    game.draw = lambda names: (
        game.masks.update(dict.fromkeys(names, np.zeros(5, bool))) or game.masks.update(b_0=np.zeros(3, bool), c_0=np.zeros(4, bool))
    )
    row = env.step(sampled(env.spec, env.reset(0), np.random.default_rng(0)))
    assert not row.deciding.any() and row.present.all()
    np.testing.assert_array_equal([x.argmax() for legal in row.legal for x in legal], [0, 0, 0])
    assert all(x.sum() == 1 for legal in row.legal for x in legal)


def test_a_mask_of_another_length_that_comes_late_is_counted():
    class Longer(Together):
        def info(self, a):
            return {"action_mask": np.ones(9)} if self.t > 5 and a == "c_0" else super().info(a)

        def check(self, names, actions, spaces_):
            super().check([a for a in names if self.t <= 5 or a != "c_0"], actions, spaces_)

    env, found, rng = PettingZooEnv(Longer()), [], np.random.default_rng(0)
    env.report = lambda *what: found.append(what[:3])
    row = env.reset(0)
    while not row.last:
        row = env.step(sampled(env.spec, row, rng))
    assert set(found) == {("wrong_shape", "c_0", "action_mask")} and len(found) == 55


def arrays(dtypes, shapes):
    return st.tuples(st.sampled_from(dtypes), st.sampled_from(shapes))


def boxes():
    bounds = st.tuples(st.floats(-100, 100, width=16), st.floats(0, 100, width=16))
    return st.builds(
        lambda b, how: spaces.Box(how[0](b[0]), how[0](b[0]) + how[0](b[1]), how[1], how[0]),
        bounds, arrays((np.float16, np.float32, np.float64), ((), (1,), (3,), (2, 2), (1, 2, 3))),
    )  # fmt: skip


def choices():
    return st.one_of(
        st.builds(lambda n, start: spaces.Discrete(n, start=start), st.integers(1, 6), st.integers(-3, 3)),
        st.builds(
            lambda n, dtype: spaces.MultiDiscrete(n, dtype=dtype),
            st.lists(st.integers(1, 4), min_size=1, max_size=3), st.sampled_from((np.int64, np.int8)),
        ),
        st.builds(
            lambda n, start: spaces.MultiDiscrete(np.full((2, 2), n), start=np.full((2, 2), start)), st.integers(1, 4), st.integers(-2, 2)
        ),
        st.builds(spaces.MultiBinary, st.sampled_from((1, 3, (2, 2)))),
    )  # fmt: skip


def nested(inner):
    grow = lambda x: st.one_of(
        st.lists(x, min_size=1, max_size=3).map(lambda s: spaces.Tuple(tuple(s))),
        st.lists(x, min_size=1, max_size=3).map(lambda s: spaces.Dict({f"k{i}": v for i, v in enumerate(s)})),
    )
    return st.recursive(inner, grow, max_leaves=4)


def like(x, sample):
    """Whether an action is of the type, dtype and shape that its space's own samples have."""
    if isinstance(sample, tuple):
        return type(x) is tuple and all(map(like, x, sample))
    if isinstance(sample, dict):
        return type(x) is dict and x.keys() == sample.keys() and all(like(x[k], sample[k]) for k in x)
    if isinstance(sample, np.ndarray):
        return isinstance(x, np.ndarray) and (x.dtype, x.shape) == (sample.dtype, sample.shape)
    return isinstance(x, int)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(space=st.one_of(nested(choices()), nested(boxes())), seed=st.integers(0, 2**20), room=st.integers(0, 2))
def test_every_action_is_one_that_its_space_contains(space, seed, room):
    """From what policies emit, padded by `room` as beside larger agents: of the space's own type, dtype and shape, at the bounds too."""
    rng, it = np.random.default_rng(seed), make_actuator(space, "x")
    if it.kind == "Box":
        extreme = rng.choice([-1.0, 1.0, 0.0, rng.uniform(-1, 1)], it.sizes[0] + room).astype(np.float32)
        action = it.act(extreme)
    else:
        row = np.array([rng.integers(n) for n in it.sizes], np.int32)
        action = it.act(int(row[0]) if it.kind == "Discrete" else row)
    assert space.contains(action) and like(action, space.sample()), (space, action)


@pytest.mark.parametrize("single", [False, True])
def test_nested_choices_are_played_and_masked_option_by_option(single):
    hand = spaces.Tuple((spaces.Discrete(3), spaces.Dict({"grip": spaces.MultiBinary(2), "turn": spaces.Discrete(2, start=1)})))

    class Hands(gym.Env):
        observation_space = SEE if single else spaces.Tuple((SEE, SEE))
        action_space = spaces.Dict({"hand": hand}) if single else spaces.Tuple((hand, hand))

        def reset(self, seed=None, options=None):
            return (np.zeros(2, np.float32) if single else (np.zeros(2, np.float32),) * 2), {}

        def step(self, action):
            assert self.action_space.contains(action), action
            mask = np.array([0, 1, 0, 1, 0, 0, 1, 1, 0], bool)
            chosen = action["hand"] if single else action[0]
            if self.masked:
                assert chosen[0] == 1 and chosen[1]["grip"].tolist() == [0, 1] and chosen[1]["turn"] == 1
            self.masked = True
            info = {"action_mask": mask if single else [mask, np.ones(9)]}
            return (
                (np.zeros(2, np.float32) if single else (np.zeros(2, np.float32),) * 2),
                (1.0 if single else (1.0, 1.0)),
                False,
                False,
                info,
            )

        masked = False

    env, rng = GymnasiumEnv(Hands()), np.random.default_rng(0)
    row = env.reset(0)
    for _ in range(50):
        row = env.step(sampled(env.spec, row, rng))
    assert not isinstance(env.spec.groups[0].space, Box)


def test_hanabi_is_masked():
    """JaxMARL's Hanabi tells its legal moves by another method than other games."""
    pytest.importorskip("jaxmarl")
    import jax
    import jax.numpy as jnp

    from marlstone.envs.make import make

    env = make("jaxmarl:hanabi")
    assert env.masked and env.spec.groups[0].space.size == 21

    def step(carry, key):
        state, row, illegal, acted = carry
        k1, k2, k3 = jax.random.split(key, 3)
        (legal,) = row.legal
        action = jnp.argmax(jnp.where(legal, jax.random.gumbel(k1, legal.shape), -jnp.inf), -1)
        truth = env.env.get_legal_moves(state)
        wrong = sum(truth[a][action[i]] == 0 for i, a in enumerate(env.spec.agents))
        state, row = env.step(state, (action,), k2)
        fresh = env.init(k3)
        state, row = jax.tree.map(lambda a, b: jnp.where(row.last, a, b), fresh, (state, row))
        return (state, row, illegal + wrong, acted + 2), None

    def play(key):
        state, row = env.init(key)
        begin = (state, row, jnp.int32(0), jnp.int32(0))
        return jax.lax.scan(step, begin, jax.random.split(key, AGENT_STEPS // 100))[0][2:]

    illegal, acted = jax.jit(jax.vmap(play))(jax.random.split(jax.random.key(0), 50))
    assert int(illegal.sum()) == 0 and int(acted.sum()) == AGENT_STEPS
