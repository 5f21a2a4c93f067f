"""Environments of other libraries declare their default actions, which reach credit's truth, waiting agents, fallbacks and policies."""

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces as gs

from marlstone.algorithm import Algorithm
from marlstone.architectures import Decentralized, Mlp
from marlstone.core.spec_json import spec_from_json, spec_to_json
from marlstone.credit import Attention, Individual
from marlstone.envs.conformance import NonConforming
from marlstone.envs.default_actions import declared_defaults
from marlstone.envs.faults.by_agent import default_actions
from marlstone.envs.grouping import arrange, arrangement_from_json
from marlstone.envs.host.gymnasium import GymnasiumEnv
from marlstone.envs.host.pettingzoo import PettingZooEnv
from marlstone.learners import PolicyGradient
from marlstone.policy.policy import Policy
from marlstone.rollout.counterfactuals import without
from tests.batches import begun

ACTIONS = {
    "light_0": gs.Discrete(3, start=5),
    "light_1": gs.Discrete(5, start=5),
    "lift": gs.MultiDiscrete(np.array([[3, 4], [2, 2]])),
    "arm": gs.Box(np.array([-2, 0], np.float32), np.array([2, 10], np.float32)),
    "hand": gs.Dict({"grip": gs.Discrete(3), "turn": gs.MultiBinary(2)}),
}
DEFAULTS = {"light_0": 6, "light_1": 9, "lift": [[2, 3], [0, 1]], "arm": [2.0, 2.5], "hand": {"grip": 2, "turn": [0, 1]}}


class Works:
    """Five agents, four kinds of action; `done` is what reached `step`. `masked`: no light may do anything."""

    metadata: Any = {"name": "works", "is_parallelizable": True}  # noqa: RUF012
    possible_agents: Any = list(ACTIONS)  # noqa: RUF012

    def __init__(self, default_actions: Any = None, masked: bool = False) -> None:
        self.masked, self.done = masked, {}
        if default_actions is not None:
            self.default_actions = default_actions

    def observation_space(self, agent: str) -> Any:
        return gs.Box(-1, 1, (2,), np.float32)

    def action_space(self, agent: str) -> Any:
        return ACTIONS[agent]

    def _seen(self) -> Any:
        nothing = lambda a: {"action_mask": np.zeros(ACTIONS[a].n, np.int8)} if self.masked and a.startswith("light") else {}
        return {a: np.zeros(2, np.float32) for a in self.agents}, {a: nothing(a) for a in self.agents}

    def reset(self, seed: Any = None, options: Any = None) -> Any:
        self.agents = list(ACTIONS)
        return self._seen()

    def step(self, actions: Any) -> Any:
        self.done = actions
        seen, infos = self._seen()
        return seen, dict.fromkeys(actions, 0.0), dict.fromkeys(actions, False), dict.fromkeys(actions, False), infos

    def close(self) -> None: ...


def same(a: Any, b: Any) -> bool:
    if isinstance(b, dict):
        return all(same(a[k], b[k]) for k in b)
    return bool(np.allclose(np.asarray(a), np.asarray(b), atol=1e-5))


def test_the_declared_action_is_what_everybody_rests_at() -> None:
    """Two lights of one group, with defaults and sizes of their own, included; by the spec, by its JSON, and where the fault puts it."""
    env = PettingZooEnv(Works(DEFAULTS))
    env.reset(0)
    assert spec_from_json(json.loads(json.dumps(spec_to_json(env.spec)))) == env.spec
    assert [g.agents for g in env.spec.groups if len(g.agents) > 1] == [("light_0", "light_1")]
    env.step(default_actions(env.spec, np))
    assert all(same(env._env.done[a], x) and ACTIONS[a].contains(env._env.done[a]) for a, x in DEFAULTS.items())


def test_any_action_of_any_space_may_be_the_default() -> None:
    for seed in range(20):
        chosen = {a: space.sample() for a, space in ACTIONS.items() if space.seed(seed) is not None}
        env = PettingZooEnv(Works(chosen))
        env.reset(0)
        env.step(default_actions(env.spec, np))
        assert all(same(env._env.done[a], x) for a, x in chosen.items())


def test_undeclared_agents_keep_the_first_option_and_the_middle() -> None:
    env, plain = PettingZooEnv(Works({"light_1": 7})), PettingZooEnv(Works())
    assert all(g.default == 0 for g in plain.spec.groups)
    env.reset(0)
    env.step(default_actions(env.spec, np))
    done = env._env.done
    assert done["light_0"] == 5 and done["light_1"] == 7 and same(done["arm"], [0, 5]) and same(done["lift"], np.zeros((2, 2)))


def test_truth_and_credit_see_it() -> None:
    """Whose action is swapped for the default, for contributions, gets its own; networks see it encoded."""
    env = PettingZooEnv(Works(DEFAULTS))
    action = tuple(jnp.zeros(np.shape(x), x.dtype) for x in default_actions(env.spec, np))
    out = jnp.array([a in ("light_1", "lift") for a in env.spec.agents])
    env.reset(0)
    env.step(tuple(np.asarray(x) for x in without(env.spec, action, out)))
    done = env._env.done
    assert done["light_0"] == 5 and done["light_1"] == 9 and same(done["lift"], DEFAULTS["lift"]) and same(done["arm"], [0, 5])
    for g, rest in zip(env.spec.groups, default_actions(env.spec, np), strict=True):
        recorded = rest if g.space.width == 2 and rest.dtype == np.float32 else g.space.encode(rest)
        assert np.allclose(g.encoded_default, recorded, atol=1e-5)
    Algorithm(env.spec, Decentralized(Mlp((4,))), Attention(), PolicyGradient())


def test_half_of_what_credit_lets_agents_explore_is_their_own_default() -> None:
    env = PettingZooEnv(Works(DEFAULTS))
    for g in env.spec.groups:
        if g.space.head == g.space.width:  # choices
            heads = g.space.mixed(np.zeros((g.count, g.space.head), np.float32), None, np.float32(1), g.default)
            assert (heads[g.encoded_default > 0] > heads[g.encoded_default == 0].max()).all()


def test_who_may_do_nothing_does_the_default() -> None:
    env = PettingZooEnv(Works(DEFAULTS, masked=True))
    row = env.reset(0)
    lights = next(i for i, g in enumerate(env.spec.groups) if "light_0" in g.agents)
    assert row.legal[lights].tolist() == [[False, True, False, False, False], [False] * 4 + [True]]
    assert not row.deciding[[env.spec.agents.index(a) for a in ("light_0", "light_1")]].any()


def test_a_policy_of_it_knows_them(tmp_path: Path) -> None:
    env = PettingZooEnv(Works(DEFAULTS, masked=True))
    it = Algorithm(env.spec, Decentralized(Mlp((4,))), Individual(), PolicyGradient())
    made = Policy.of(it, begun(it).policy, "mode", env.wiring, {"env": "works"})
    policy = Policy.load(made.save(tmp_path / "policy"))
    assert all(same(policy.default_actions()[a], x) for a, x in DEFAULTS.items())
    env.reset(0)
    actions, _ = policy.act(*env._env._seen()[:1], infos=env._env._seen()[1])
    assert actions["light_0"] == 6 and actions["light_1"] == 9
    old = {k: v for k, v in env.wiring.items() if k != "defaults"}  # written before there were any
    assert all(g.default == 0 for g in arrangement_from_json(old).groups)


class Team(gym.Env):
    observation_space = gs.Tuple((gs.Box(-1, 1, (1,)),) * 2)
    action_space = gs.Tuple((gs.Discrete(3), gs.Discrete(4)))
    done: Any = None

    def __init__(self, default_actions: Any) -> None:
        self.default_actions = default_actions

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        return tuple(np.zeros(1, np.float32) for _ in range(2)), {}

    def step(self, action: Any) -> Any:
        Team.done = action
        return tuple(np.zeros(1, np.float32) for _ in range(2)), [0.0, 0.0], False, False, {}


@pytest.mark.parametrize(("said", "done"), [(2, (2, 2)), ({"agent_1": 3}, (0, 3)), ({"agent_0": np.int64(1), "agent_1": 3}, (1, 3))])
def test_of_gymnasium_too_one_for_all_or_by_agent(said: Any, done: tuple[int, ...]) -> None:
    env = GymnasiumEnv(gym.wrappers.OrderEnforcing(Team(said)))  # declared beneath wrappers
    env.reset(0)
    env.step(default_actions(env.spec, np))
    assert Team.done == done


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"light_2": 5}, ("'light_2'", "did you mean", "light_")), ({"light_0": 0}, ("'light_0'", "0", "Discrete(3, start=5)")),
        ({"light_0": "stop"}, ("'light_0'", "'stop'", "Discrete")), ({"light_0": 5.5}, ("'light_0'", "5.5")),
        ({"lift": [0, 0]}, ("'lift'", "MultiDiscrete")), ({"arm": [3.0, 1.0]}, ("'arm'", "Box")), ({"arm": [0.0]}, ("'arm'", "Box")),
        ({"arm": [float("nan"), 1.0]}, ("'arm'", "nan")), ({"hand": {"grip": 2}}, ("'hand'", "Dict")), (6, ("6", "'lift'")),
    ],
)  # fmt: skip
def test_what_its_space_does_not_hold_is_refused_in_a_sentence(said: Any, words: tuple[str, ...]) -> None:
    with pytest.raises(NonConforming) as error:
        PettingZooEnv(Works(said))
    text = str(error.value)
    assert all(word in text for word in ("default_actions", *words)) and "\n" not in text, text


def test_one_value_for_all_may_be_a_dict_where_spaces_are() -> None:
    space = gs.Dict({"grip": gs.Discrete(3), "turn": gs.MultiBinary(2)})
    env = Works({"grip": 1, "turn": np.array([1, 0], np.int8)})
    found = declared_defaults(env, {"a": space, "b": space}, "works")
    assert found == {"a": (1, 1, 0), "b": (1, 1, 0)}
    see = gs.Box(-1, 1, (1,))
    assert arrange(["a", "b"], {"a": see, "b": see}, {"a": space, "b": space}, defaults=found).groups[0].default == (1, 1, 0)
