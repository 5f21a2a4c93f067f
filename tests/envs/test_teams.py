"""Whose rewards are the team's: agents by name, type or group, in JAX and in NumPy; everything else stays as it was."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from marlstone.core.errors import UserError
from marlstone.envs.conformance import first_legal
from marlstone.envs.make import make
from marlstone.envs.teams import declared_team, members, with_team

LINE = f"{Path(__file__).parents[1] / 'twin.py'}:make"
WORLDS = f"{Path(__file__).parents[1] / 'policy' / 'worlds.py'}:make"


@pytest.mark.parametrize(
    ("pattern", "agents"),
    [
        ("cam_0", ("cam_0",)),
        ("cam*", ("cam_0", "cam_1")),
        ("arm", ("arm_0", "arm_1")),
        ("dj + cam_1", ("cam_1", "dj")),
        ("*_?", ("cam_0", "cam_1", "arm_0", "arm_1")),
    ],
)
def test_agents_by_name_type_and_pattern(pattern: str, agents: tuple[str, ...]) -> None:
    assert members(make(WORLDS).spec, pattern, "team") == agents


def test_a_pattern_that_names_nobody_is_refused_with_the_agents_there_are() -> None:
    with pytest.raises(UserError, match=r"team: 'wolf\*' names no agent; the agents are cam_0, cam_1, arm_0, arm_1, dj"):
        members(make(WORLDS).spec, "cam+wolf*", "team")


def test_the_environments_own_team_is_left_alone() -> None:
    env = make("proving:rps")
    assert with_team(env, declared_team(env.spec)) is env


@pytest.mark.parametrize("name", [LINE, "proving:pair"], ids=["python", "jax"])
def test_the_teams_reward_is_the_sum_of_its_agents(name: str) -> None:
    """Rewards, ends and observations are the environment's, to the bit."""
    plain, env = make(name), make(name)
    agents = plain.spec.agents
    teamed = with_team(env, agents[-1:])
    assert teamed.spec.opponents == agents[:-1]
    assert teamed.spec.groups == plain.spec.groups
    for a, b in played(plain, teamed):
        np.testing.assert_allclose(b.team_reward, np.asarray(b.reward)[-1], rtol=1e-6)
        for x, y in zip(
            jax.tree.leaves((a.obs, a.reward, a.discount, a.last)), jax.tree.leaves((b.obs, b.reward, b.discount, b.last)), strict=True
        ):
            np.testing.assert_array_equal(x, y)


def played(*envs: Any) -> list[tuple[Any, ...]]:
    """Steps of one episode of each, all by the same actions and keys."""
    jax_ = not hasattr(envs[0], "reset")
    key, states, rows = jax.random.key(0), [None] * len(envs), []
    steps = []
    for i, e in enumerate(envs):
        if jax_:
            states[i], step = e.init(key)
        else:
            step = e.reset(3)
        steps.append(step)
    while not bool(steps[0].last):
        rows.append(tuple(steps))
        action = first_legal(envs[0].spec, steps[0])
        for i, e in enumerate(envs):
            if jax_:
                states[i], steps[i] = e.step(states[i], tuple(jax.numpy.asarray(a) for a in action), key)
            else:
                steps[i] = e.step(action)
    return [*rows, tuple(steps)]
