"""Any nesting of Dict and Tuple of choices, bits and Boxes: what policies choose comes back to the environment in the form of its space."""

import itertools
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pettingzoo import ParallelEnv

from marlstone.core.distributions import Box, Composite, Discrete, MultiDiscrete
from marlstone.core.types import Step
from marlstone.envs.actuators import make_actuator
from marlstone.envs.conformance import NonConforming
from marlstone.envs.default_actions import declared_defaults, recorded_action
from marlstone.envs.faults.actions import ActionDelay, ActionLoss
from marlstone.envs.faults.by_agent import replace_actions
from marlstone.envs.grouping import arrange, arrangement_from_json
from marlstone.envs.host.gymnasium import GymnasiumEnv
from marlstone.envs.host.pettingzoo import PettingZooEnv
from marlstone.envs.make import make
from marlstone.envs.masks import flat_mask, options
from marlstone.envs.spaces import UnsupportedSpace
from tests.envs.test_legal_actions import boxes, choices, like, nested, sampled

CASE = f"{Path(__file__).parents[1] / 'cases' / 'composite.py'}:make_env"
SEE = spaces.Box(-1, 1, (2,), np.float32)
ANY = nested(st.one_of(choices(), boxes()))
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def alike(a: Any, b: Any, scale: float) -> None:
    """Equal structure and choices; numbers to a rounding of the widest bounds."""
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for k in a:
            alike(a[k], b[k], scale)
    elif isinstance(a, tuple):
        for x, y in zip(a, b, strict=True):
            alike(x, y, scale)
    elif np.asarray(a).dtype.kind == "f":
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * scale)
    else:
        np.testing.assert_array_equal(a, b)


def widest(space: Any) -> float:
    if isinstance(space, spaces.Dict | spaces.Tuple):
        return max(map(widest, space.spaces.values() if isinstance(space, spaces.Dict) else space.spaces))
    return float(max(1, np.abs([space.low, space.high]).max())) if isinstance(space, spaces.Box) else 1.0


@QUICK
@given(space=ANY, seed=st.integers(0, 2**20))
def test_flat_and_back_is_the_action_itself(space: Any, seed: int) -> None:
    """A sample of the space, recorded as networks record it, emitted, and put together again: in its nesting, types, dtypes and shapes."""
    space.seed(seed)
    sample = space.sample()
    recorded = recorded_action(space, sample)
    assert recorded is not None
    arranged = arrange(["x"], {"x": SEE}, {"x": space}, defaults={"x": recorded})
    (group,) = arranged.groups
    (back,) = arranged.act((group.space.emit(group.recorded_defaults),))
    assert space.contains(back) and like(back, sample), (space, back)
    alike(back, sample, widest(space))
    again = arrangement_from_json(arranged.wiring)
    assert again.groups == arranged.groups
    np.testing.assert_array_equal(again.groups[0].recorded_defaults, group.recorded_defaults)


def wider(space: Any) -> Any:
    """The same nesting, every leaf larger."""
    if isinstance(space, spaces.Dict):
        return spaces.Dict({k: wider(s) for k, s in space.spaces.items()})
    if isinstance(space, spaces.Tuple):
        return spaces.Tuple(tuple(map(wider, space.spaces)))
    if isinstance(space, spaces.Discrete):
        return spaces.Discrete(int(space.n) + 2)
    if isinstance(space, spaces.MultiDiscrete):
        return spaces.MultiDiscrete(space.nvec + 1)
    return space if isinstance(space, spaces.MultiBinary) else spaces.Box(-1, 1, (int(np.prod(space.shape)) + 2,))


@QUICK
@given(space=ANY, seed=st.integers(0, 2**20))
def test_beside_a_larger_agent_every_sample_is_in_its_own_space(space: Any, seed: int) -> None:
    """Both share a group, padded leaf by leaf; random heads, and modes, under the masks that padding makes."""
    rng, acts = np.random.default_rng(seed), {"small": space, "large": wider(space)}
    arranged = arrange(["small", "large"], dict.fromkeys(acts, SEE), acts)
    (group,) = arranged.groups
    (legal,) = arranged.legal({}, pytest.fail)[0]
    legal = np.ones((2, group.space.width), bool) if legal is None else legal
    head = rng.normal(size=(2, group.space.head)).astype(np.float32) * 3
    for recorded in (group.space.sample(head, legal, group.space.noise(rng, (2,))), group.space.mode(head, legal)):
        for agent, x in zip(acts, arranged.act((group.space.emit(recorded),)), strict=True):
            assert acts[agent].contains(x) and like(x, acts[agent].sample()), (acts[agent], x)


def mask_of(space: Any, rng: np.random.Generator, path: tuple[Any, ...] = ()) -> tuple[Any, list[np.ndarray]]:
    """A mask nested as the space, some parts left out, and the same, flat."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        keys = list(space.spaces) if isinstance(space, spaces.Dict) else list(range(len(space.spaces)))
        inner = {k: mask_of(space.spaces[k], rng) for k in keys}
        flat = [x for _, f in inner.values() for x in f]
        if isinstance(space, spaces.Dict):
            return {k: m for k, (m, _) in inner.items() if m is not None or rng.random() < 0.5}, flat
        return tuple(m for m, _ in inner.values()), flat
    sizes = options(space)
    if not sizes or rng.random() < 0.2:
        return None, [np.ones(sum(sizes), bool)]
    each = [np.asarray((rng.random(n) < 0.5) | (np.arange(n) == rng.integers(n))) for n in sizes]
    return (np.concatenate(each).astype(np.int8) if rng.random() < 0.5 else [m.tolist() for m in each]), each


@QUICK
@given(space=ANY, seed=st.integers(0, 2**20))
def test_a_mask_is_nested_as_the_space_or_flat(space: Any, seed: int) -> None:
    rng, it = np.random.default_rng(seed), make_actuator(space, "x")
    if it.kind == "Box":
        return
    mask, parts = mask_of(space, rng)
    flat = np.concatenate(parts)
    np.testing.assert_array_equal(flat_mask(space, mask) if mask is not None else flat, flat)
    if mask is None:
        return
    ours, free = it.legal(it.sizes, mask)
    np.testing.assert_array_equal(ours, it.legal(it.sizes, flat)[0])
    assert free and ours[np.repeat(it.numbers, it.sizes)].all()


HAND = spaces.Dict({"tool": spaces.Discrete(3, start=1), "arm": spaces.Tuple((spaces.Box(-2, 4, (2,)), spaces.MultiBinary(2)))})


def test_parts_are_named_by_their_paths_and_the_numbers_of_a_smaller_agent_padded() -> None:
    other = spaces.Dict({"tool": spaces.Discrete(5), "arm": spaces.Tuple((spaces.Box(0, 1, (3,)), spaces.MultiBinary(2)))})
    renamed = spaces.Dict({"lever": spaces.Discrete(3), "arm": HAND["arm"]})
    acts = {"a_0": HAND, "a_1": other, "b_0": renamed}
    arranged = arrange(list(acts), dict.fromkeys(acts, SEE), acts)
    hands, levers = arranged.groups
    assert hands.agents == ("a_0", "a_1") and levers.agents == ("b_0",), "other names mean other things"
    assert hands.space == Composite((Box(3), MultiDiscrete((2, 2)), Discrete(5)), ("arm/0", "arm/1", "tool"))
    np.testing.assert_array_equal(arranged.structural[0], [[1, 1, 0, *[1] * 7, 0, 0], [1] * 12])
    emitted = np.array([[0, 1, 9, 1, 0, 2], [-1, 0, 1, 0, 1, 4]], np.float32), np.zeros((1, 5), np.float32)
    first, second, _ = arranged.act(emitted)
    np.testing.assert_allclose(first["arm"][0], [1, 4])
    np.testing.assert_allclose(second["arm"][0], [0, 0.5, 1])
    assert first["arm"][1].tolist() == [1, 0] and first["tool"] == 3 and second["tool"] == 4
    assert all(acts[a].contains(x) for a, x in (("a_0", first), ("a_1", second)))


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        ({"arm": ([1, 1], None)}, "'arm/0', which is numbers"),
        ({"leg": [1]}, "'leg': the action space has 'arm', 'tool'"),
        ({"tool": [1, 0]}, "'tool' has 2 entries"),
        ({"arm": [1, 0, 1, 1]}, "'arm' is [1, 0, 1, 1]: nest it"),
        ([1, 0, 1], "3 entries, dtype int64, for 7 actions"),
    ],
)
def test_masks_of_another_form_are_refused_by_name(mask: Any, words: str) -> None:
    with pytest.raises(ValueError) as error:
        make_actuator(HAND, "x").legal((2, 2, 2, 3), mask)
    assert words in str(error.value)


def test_a_choice_without_a_legal_option_takes_its_default_and_numbers_stay_free() -> None:
    recorded = recorded_action(HAND, {"tool": 3, "arm": ([0.0, 1.0], [0, 1])})
    arranged = arrange(["x"], {"x": SEE}, {"x": HAND}, defaults={"x": recorded})
    (legal,), waiting = arranged.legal({"x": ("action_mask", {"tool": [0, 0, 0], "arm": (None, [0, 0, 1, 0])})}, pytest.fail)
    np.testing.assert_array_equal(legal, [[1, 1, 1, 0, 1, 0, 0, 0, 1]])
    assert waiting == [], "who has numbers to choose decides"


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (spaces.Dict({"say": spaces.Text(3), "go": spaces.Box(0, 1)}), ("'who'", "'say'", "Text")),
        (spaces.Dict({"go": spaces.Tuple((spaces.Discrete(2), spaces.Box(-np.inf, np.inf)))}), ("'who'", "'go/1'", "finite bounds")),
        (spaces.Tuple((spaces.Discrete(2), spaces.Box(0, 9, (1,), np.int64))), ("'who'", "'1'", "MultiDiscrete")),
        (spaces.Dict({"go": spaces.Discrete(2), "no": spaces.Dict({})}), ("'who'", "empty")),
    ],
)
def test_what_cannot_be_done_is_refused_by_path(space: Any, words: tuple[str, ...]) -> None:
    with pytest.raises(UnsupportedSpace) as error:
        arrange(["who"], {"who": SEE}, {"who": space})
    assert all(w in str(error.value) for w in words), error.value


# ---- default actions
def test_defaults_are_one_nested_action_for_all_or_one_by_agent() -> None:
    class It:
        default_actions: ClassVar[Any] = {"tool": 3, "arm": ([-2, 1], [0, 1])}

    one = declared_defaults(It(), {"a": HAND, "b": HAND}, "it")
    assert one["a"] == one["b"] == (-10.0, 0.0, 0, 1, 2)
    It.default_actions = {"b": It.default_actions}
    assert set(declared_defaults(It(), {"a": HAND, "b": HAND}, "it")) == {"b"}
    for wrong in ({"tool": 9, "arm": ([-2, 1], [0, 1])}, {"tool": 3, "arm": ([-2, 9], [0, 1])}, {"tool": 3, "arm": ([-2, 1],)}):
        It.default_actions = {"b": wrong}
        with pytest.raises(NonConforming, match=r"default_actions\['b'\].*give one action of its space"):
            declared_defaults(It(), {"a": HAND, "b": HAND}, "it")


def test_faults_replace_actions_part_by_part() -> None:
    """A delayed or lost action: the default, or the old one; of what is no longer legal the choice alone gives way, numbers stay."""
    recorded = {"x": recorded_action(HAND, {"tool": 3, "arm": ([1.0, 1.0], [0, 1])})}
    acts = {"x": HAND, "y": HAND}
    arranged = arrange(list(acts), dict.fromkeys(acts, SEE), acts, defaults=dict.fromkeys(acts, recorded["x"]))
    spec = make(f"{CASE}?masks=nested").spec
    spec = type(spec)(arranged.groups, 4)
    (group,) = spec.groups
    old = np.array([[0.5, -0.5, 1, 1, 0], [0.25, 0, 1, 0, 1]], np.float32)
    now = np.array([[0, 0, 0, 0, 2], [0, 0, 0, 0, 2]], np.float32)
    legal = np.ones((2, 9), bool)
    legal[0, 6] = False  # its old tool is gone
    (acted,) = replace_actions(spec, np.array([True, False]), (old,), (now,), (legal,))
    np.testing.assert_array_equal(acted, [[0.5, -0.5, 1, 1, 2], now[1]])
    default = group.space.emit(group.recorded_defaults)
    step = Step((), np.zeros(4), np.zeros(2), 0, np.ones(2), 1, True, False, (legal,), np.ones(2, bool), np.ones(2, bool), {})
    for fault in (ActionDelay(rows=1), ActionLoss(rate=1.0)):
        memory = fault.begin(spec, step, Uniform())
        memory, (acted,) = fault.action(spec, memory, (old,), Uniform())
        np.testing.assert_array_equal(acted, default)
        assert acted.dtype == np.float32


class Uniform:
    """Draws of zero."""

    def uniform(self, shape: tuple[int, ...] = ()) -> np.ndarray:
        return np.zeros(shape, np.float32)


# ---- in adapters
class Hands:
    """What these environments share: a mask drawn each step, shown `where`; whatever is not in the space, or forbidden, fails."""

    def __init__(self, where: str = "infos", names: tuple[str, ...] = ("a_0", "a_1")) -> None:
        self.where, self.names, self.rng, self.mask, self.acted = where, names, np.random.default_rng(0), {}, 0

    def seen_space(self) -> Any:
        return {
            "observation": spaces.Dict({"observation": SEE, "action_mask": spaces.Dict({"tool": spaces.MultiBinary(3)})}),
            "named": spaces.Dict({"far": SEE, "legal_actions": spaces.MultiBinary(7)}),
        }.get(self.where, SEE)

    def look(self, a: str) -> Any:
        tools = (self.rng.random(3) < 0.5) | (np.arange(3) == self.rng.integers(3))
        self.mask[a] = tools
        x, tools = np.zeros(2, np.float32), tools.astype(np.int8)
        return {
            "observation": {"observation": x, "action_mask": {"tool": tools}},
            "named": {"far": x, "legal_actions": np.concatenate([np.ones(4, np.int8), tools])},
        }.get(self.where, x)

    def info(self, a: str) -> dict[str, Any]:
        tools = self.mask[a].astype(np.int8)
        return {"infos": {"action_mask": {"tool": tools}}, "flat": {"action_mask": [1, 1, 1, 1, *tools.tolist()]}}.get(self.where, {})

    def check(self, a: str, x: Any) -> None:
        assert HAND.contains(x) and like(x, HAND.sample()), x
        assert self.mask[a][x["tool"] - 1], (a, x)
        self.acted += 1


class Zoo(Hands, ParallelEnv):
    metadata = {"name": "hands"}  # noqa: RUF012

    @property
    def possible_agents(self) -> list[str]:
        return list(self.names)

    def observation_space(self, agent: str) -> Any:
        return self.seen_space()

    def action_space(self, agent: str) -> Any:
        return HAND

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.agents, self.t = list(self.names), 0
        return {a: self.look(a) for a in self.names}, {a: self.info(a) for a in self.names}

    def step(self, actions: Any) -> Any:
        for a, x in actions.items():
            self.check(a, x)
        self.t += 1
        flags = lambda v: dict.fromkeys(self.names, v)
        return {a: self.look(a) for a in self.names}, flags(0.0), flags(False), flags(False), {a: self.info(a) for a in self.names}


class Gym(Hands, gym.Env):
    """A team with Tuples, or one agent."""

    def __init__(self, where: str = "infos", names: tuple[str, ...] = ("a_0", "a_1")) -> None:
        super().__init__(where, names)
        many = len(names) > 1
        self.action_space = spaces.Tuple((HAND,) * len(names)) if many else HAND
        self.observation_space = spaces.Tuple((self.seen_space(),) * len(names)) if many else self.seen_space()

    def _give(self) -> tuple[Any, dict[str, Any]]:
        seen = tuple(self.look(a) for a in self.names)
        masks = [self.info(a).get("action_mask") for a in self.names]
        info = {} if masks[0] is None else {"action_mask": masks if len(masks) > 1 else masks[0]}
        return (seen if len(seen) > 1 else seen[0]), info

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        return self._give()

    def step(self, action: Any) -> Any:
        for a, x in zip(self.names, action if len(self.names) > 1 else (action,), strict=True):
            self.check(a, x)
        seen, info = self._give()
        return seen, 0.0, False, False, info


WHERE = ("infos", "flat", "observation", "named")
ADAPTED = {
    "pettingzoo": lambda w: PettingZooEnv(Zoo(w)),
    "gymnasium": lambda w: GymnasiumEnv(Gym(w)),
    "one agent": lambda w: GymnasiumEnv(Gym(w, ("a_0",))),
}


@pytest.mark.parametrize(("adapter", "where"), list(itertools.product(ADAPTED, WHERE)))
def test_adapters_play_what_spaces_hold_and_masks_allow(adapter: str, where: str) -> None:
    env, rng = ADAPTED[adapter](where), np.random.default_rng(1)
    (group,) = env.spec.groups
    assert isinstance(group.space, Composite) and list(group.observation) in (["obs"], ["far"])
    row, forbidden = env.reset(0), 0
    for _ in range(60):
        forbidden += (~row.legal[0]).sum()
        row = env.step(sampled(env.spec, row, rng))
    assert env._env.acted == 60 * group.count and forbidden > 30


def test_a_nested_mask_by_any_of_its_names_is_no_observation() -> None:
    acts = spaces.Dict({"tool": spaces.Discrete(3), "bits": spaces.MultiBinary(2)})
    mask = spaces.Dict({"tool": spaces.MultiBinary(3), "bits": spaces.MultiBinary(4)})
    arranged = arrange(["x"], {"x": spaces.Dict({"far": SEE, "avail_actions": mask})}, {"x": acts})
    assert list(arranged.groups[0].observation) == ["far"]
    masks: dict[str, Any] = {}
    arranged.read_masks({"x": {"far": 0, "avail_actions": {"tool": [0, 1, 0], "bits": [1, 0, 1, 1]}}}, masks, pytest.fail)
    np.testing.assert_array_equal(arranged.legal(masks, pytest.fail)[0][0], [[1, 0, 1, 1, 0, 1, 0]])


def test_a_tuple_of_one_agents_parts_is_told_apart_from_a_team() -> None:
    class Alone(Gym):
        def __init__(self) -> None:
            super().__init__("infos", ("a_0",))
            self.action_space = spaces.Tuple((spaces.Discrete(2), spaces.Box(0, 1)))

    with pytest.raises(UnsupportedSpace, match="one agent's action of several parts, declare it as a Dict"):
        GymnasiumEnv(Alone())
