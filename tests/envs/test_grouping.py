"""Groups from spaces: what is padded, what is masked, what is refused."""

from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces

from marlstone.core import distributions as dist
from marlstone.envs.grouping import arrange
from marlstone.envs.guards import BadStep, refuse
from marlstone.envs.host.pettingzoo import PettingZooEnv
from marlstone.envs.spaces import UnsupportedSpace
from marlstone.envs.user_file import load

EXAMPLES = load(str(Path(__file__).parent / "host_examples.py"))


def box(*shape, dtype=np.float32, low=-1.0, high=1.0):
    return spaces.Box(low, high, shape, dtype)


def zoo(seen, acts, **more):
    return PettingZooEnv(EXAMPLES.Spaces(seen, acts, **more))


def test_sizes_are_padded_and_masked():
    env = zoo(
        {"a_0": box(3), "a_1": box(5), "b_0": box(4)}, {"a_0": spaces.Discrete(2), "a_1": spaces.Discrete(4), "b_0": spaces.Discrete(3)}
    )
    (group,) = env.spec.groups
    assert group.agents == ("a_0", "a_1", "b_0") and group.types == ("a", "a", "b") and group.name == "a+b"
    assert group.observation["obs"].shape == (5,) and group.features["obs"] == (3, 5, 4)
    assert group.space == dist.Discrete(4) and env.spec.state == 12
    row = env.reset(1)
    np.testing.assert_array_equal(row.legal[0], [[1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 0]])
    raw = env._env.latest
    np.testing.assert_array_equal(row.obs[0]["obs"][0], [*raw["a_0"], 0, 0])
    np.testing.assert_array_equal(row.state, np.concatenate([raw["a_0"], raw["a_1"], raw["b_0"]]))


def test_box_stands_beside_discrete_and_state_follows_the_agent_axis():
    seen = {"arm_0": box(2), "lamp_0": box(2), "arm_1": box(2)}
    acts = {"arm_0": box(2, low=0.0, high=4.0), "lamp_0": spaces.Discrete(3, start=5), "arm_1": box(1)}
    env = zoo(seen, acts)
    arms, lamps = env.spec.groups
    assert arms.agents == ("arm_0", "arm_1") and lamps.agents == ("lamp_0",)
    assert env.spec.agents == ("arm_0", "arm_1", "lamp_0") and arms.space == dist.Box(2)
    row = env.reset(0)
    np.testing.assert_array_equal(row.legal[0], [[True, True], [True, False]])
    np.testing.assert_array_equal(row.legal[1], [[True, True, True]])  # choices always carry `legal`: a mask may still come
    raw = env._env.latest
    np.testing.assert_array_equal(row.state, np.concatenate([raw["arm_0"], raw["arm_1"], raw["lamp_0"]]))
    env.step((np.array([[-1.0, 0.5], [1.0, 9.0]], np.float32), np.array([2], np.int32)))
    np.testing.assert_allclose(env._env.done["arm_0"], [0.0, 3.0])
    np.testing.assert_allclose(env._env.done["arm_1"], [1.0])
    assert env._env.done["lamp_0"] == 7


def test_dicts_become_leaves_and_images_stay_images():
    env = PettingZooEnv(EXAMPLES.pictures())
    (group,) = env.spec.groups
    assert {k: (v.kind, v.shape, v.dtype) for k, v in group.observation.items()} == {
        "camera/front": ("image", (16, 12, 3), "uint8"),
        "body/speed": ("vector", (2,), "float32"),
        "body/gear": ("vector", (3,), "float32"),
    }
    row, raw = env.reset(3), env._env.latest["car_1"]
    np.testing.assert_array_equal(row.obs[0]["camera/front"][1], raw["camera"]["front"])
    np.testing.assert_array_equal(row.obs[0]["body/gear"][1], np.eye(3)[raw["body"]["gear"]])
    assert env.spec.state == 10 and row.state.shape == (10,)


def test_every_kind_of_observation_becomes_numbers():
    space = spaces.Tuple(
        (
            box(), box(2, 3), box(3, 3, 2), spaces.MultiBinary(3), spaces.MultiDiscrete([2, 3]),
            spaces.Discrete(3, start=-1), box(4, dtype=np.float64), spaces.Box(0, 9, (2,), np.int64),
        )
    )  # fmt: skip
    env = zoo({"x": space}, {"x": spaces.MultiBinary(2)})
    sizes = {k: v.shape[0] for k, v in env.spec.groups[0].observation.items()}
    assert sizes == {"0": 1, "1": 6, "2": 18, "3": 3, "4": 5, "5": 3, "6": 4, "7": 2}
    row, raw = env.reset(0), env._env.latest["x"]
    np.testing.assert_array_equal(row.obs[0]["2"][0], raw[2].reshape(-1))
    np.testing.assert_array_equal(row.obs[0]["4"][0], [*np.eye(2)[raw[4][0]], *np.eye(3)[raw[4][1]]])
    np.testing.assert_array_equal(row.obs[0]["5"][0], np.eye(3)[raw[5] + 1])
    env.step((np.array([[1, 0]], np.int32),))
    np.testing.assert_array_equal(env._env.done["x"], [1, 0])


def test_choices_of_several_sizes_are_padded_one_by_one():
    acts = {"a_0": spaces.MultiDiscrete([2, 3]), "a_1": spaces.MultiDiscrete([4, 1])}
    env = zoo({"a_0": box(2), "a_1": box(2)}, acts)
    assert env.spec.groups[0].space == dist.MultiDiscrete((4, 3))
    np.testing.assert_array_equal(env.reset(0).legal[0], [[1, 1, 0, 0, 1, 1, 1], [1, 1, 1, 1, 1, 0, 0]])
    env.step((np.array([[1, 2], [3, 0]], np.int32),))
    np.testing.assert_array_equal(env._env.done["a_1"], [3, 0])


def test_action_masks_become_legal_not_a_leaf():
    space = spaces.Dict({"observation": box(3), "action_mask": spaces.MultiBinary(4)})
    env = zoo(
        {"a_0": space, "a_1": space}, dict.fromkeys(("a_0", "a_1"), spaces.Discrete(4)), masks={"a_0": [0, 1, 0, 1], "a_1": [0, 0, 0, 0]}
    )
    assert set(env.spec.groups[0].observation) == {"obs"}
    row = env.reset(0)
    np.testing.assert_array_equal(row.legal[0][0], [False, True, False, True])
    np.testing.assert_array_equal(row.legal[0][1], [True, False, False, False])  # nothing is allowed: its default action, and it waits
    np.testing.assert_array_equal(row.deciding, [True, False])


def test_action_masks_in_info():
    env = zoo({"a": box(3)}, {"a": spaces.Discrete(3)}, infos={"a": {"action_mask": np.array([1, 0, 0], np.int8)}})
    np.testing.assert_array_equal(env.reset(0).legal[0], [[True, False, False]])


@pytest.mark.parametrize(
    ("seen", "acts", "words"),
    [
        (spaces.Text(4), spaces.Discrete(2), ("'who'", "observation", "Text", "Box")),
        (spaces.Dict({"in": spaces.Sequence(box(1))}), spaces.Discrete(2), ("'who'", "'in'", "Sequence")),
        (spaces.Graph(box(1), None), spaces.Discrete(2), ("'who'", "Graph")),
        (box(2), box(2, low=-np.inf, high=np.inf), ("'who'", "action space", "finite bounds")),
        (box(2), spaces.Tuple((spaces.Discrete(2), box(1, dtype=np.int32))), ("'who'", "action space '1'", "MultiDiscrete")),
        (box(2), spaces.Tuple((spaces.Text(3),)), ("'who'", "action space", "MultiDiscrete")),
        (None, spaces.Discrete(2), ("'who'", "observation space", "None")),
        (box(2), None, ("'who'", "action space", "None")),
        (spaces.Dict({}), spaces.Discrete(2), ("'who'", "observation space", "at least one number")),
    ],
)
def test_what_cannot_be_expressed_is_refused_by_name(seen, acts, words):
    with pytest.raises(UnsupportedSpace) as error:
        arrange(["who"], {"who": seen}, {"who": acts})
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (np.zeros(4, np.float32), "wrong_shape"), (np.float32(1), "wrong_shape"), (np.array(["a", "b", "c"]), "wrong_dtype"),
        (np.array([1j, 2, 3]), "wrong_dtype"), ({"x": 1}, "wrong_shape"), ([[1, 2], [3]], "wrong_shape"), (np.zeros((1, 3)), "wrong_shape"),
    ],
)  # fmt: skip
def test_bad_observations_are_named(value, fault):
    arranged = arrange(["a_0", "a_1"], dict.fromkeys(("a_0", "a_1"), box(3)), dict.fromkeys(("a_0", "a_1"), spaces.Discrete(2)))
    obs = arranged.blank()
    with pytest.raises(BadStep) as error:
        arranged.write({"a_0": np.ones(3), "a_1": value}, obs, refuse)
    assert error.value.fault == fault and error.value.agent == "a_1" and "obs" in error.value.field
    seen = []
    arranged.write({"a_1": value}, obs, lambda *what: seen.append(what[0]))
    assert seen == [fault] and not obs[0]["obs"][1].any()
    arranged.write({"a_0": [1, 2, 3]}, obs, refuse)  # a list of the right length is welcome
    np.testing.assert_array_equal(obs[0]["obs"][0], [1, 2, 3])


def test_fractions_where_whole_numbers_were_declared_are_a_wrong_dtype():
    arranged = arrange(["a"], {"a": spaces.Box(0, 255, (16, 16, 3), np.uint8)}, {"a": spaces.Discrete(2)})
    with pytest.raises(BadStep, match="wrong_dtype"):
        arranged.write({"a": np.full((16, 16, 3), 0.5)}, arranged.blank(), refuse)
