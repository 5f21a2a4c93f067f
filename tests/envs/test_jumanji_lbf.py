"""Our level-based foraging plays by jumanji's rules, and starts from jumanji's distribution."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.core.compile_options import FASTEST_COMPILE, supported
from marlstone.envs.jumanji import make
from marlstone.envs.jumanji.lbf import LbfState

pytest.importorskip("jumanji", reason="needs marlstone[jumanji]")

from jumanji.environments.routing.lbf.env import LevelBasedForaging
from jumanji.environments.routing.lbf.generator import RandomGenerator
from jumanji.environments.routing.lbf.types import Agent, Food, State

TASKS = ["8x8-2p-2f-coop", "2s-10x10-3p-3f"]


@functools.cache
def pair(task: str, penalty: float = 0.0):
    ours = make("LevelBasedForaging", {"task": task, "time_limit": 7, "penalty": penalty})
    generator = RandomGenerator(
        grid_size=ours.grid, fov=ours.sight, num_agents=ours.agents, num_food=ours.food, max_agent_level=2, force_coop=ours.coop
    )
    return ours, LevelBasedForaging(generator=generator, time_limit=7, penalty=penalty)


def as_ours(s: State) -> LbfState:
    i = functools.partial(jnp.asarray, dtype=jnp.int32)
    return LbfState(
        i(s.agents.position), i(s.agents.level), i(s.food_items.position), i(s.food_items.level), s.food_items.eaten, i(s.step_count)
    )


def as_jumanji(s: LbfState, key) -> State:
    agents = Agent(id=jnp.arange(s.level.size), position=s.agent, level=s.level, loading=jnp.zeros(s.level.size, bool))
    food = Food(id=jnp.arange(s.eaten.size), position=s.food, level=s.food_level, eaten=s.eaten)
    return State(agents=agents, food_items=food, step_count=s.clock, key=key)


@pytest.mark.parametrize(("task", "penalty"), [(TASKS[0], 0.0), (TASKS[1], 0.1)])
def test_step_equals_jumanji(task: str, penalty: float) -> None:
    """From crowded states (agents drawn beside food, any clock), one random action: the same state, reward and row."""
    ours, theirs = pair(task, penalty)

    @functools.partial(jax.jit, compiler_options=supported(FASTEST_COMPILE))
    @jax.vmap
    def compare(key):
        k = jax.random.split(key, 6)
        state = ours.fresh(k[0])
        beside = state.food[jax.random.randint(k[1], (ours.agents,), 0, ours.food)] + jax.random.randint(k[2], (ours.agents, 2), -1, 2)
        taken = (beside[:, None] == state.food).all(-1).any(1)
        taken |= ((beside[:, None] == state.agent).all(-1) | ((beside[:, None] == beside).all(-1) & ~jnp.eye(ours.agents, dtype=bool))).any(
            1
        )
        state = LbfState(
            jnp.where(taken[:, None], state.agent, beside), state.level, state.food, state.food_level,
            jax.random.bernoulli(k[3], 0.4, (ours.food,)), jax.random.randint(k[4], (), 0, 8),
        )  # fmt: skip
        action = jnp.where(jax.random.bernoulli(k[3]), 5, jax.random.randint(k[5], (ours.agents,), 0, 6))
        mine, row = ours.step(state, (action,), k[0])
        yours, timestep = theirs.step(as_jumanji(state, k[0]), action)
        return mine, row, as_ours(yours), timestep

    mine, row, yours, timestep = compare(jax.random.split(jax.random.key(0), 4096))
    for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(yours), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(row.obs[0]["view"], timestep.observation.agents_view)
    np.testing.assert_array_equal(row.legal[0], timestep.observation.action_mask)
    np.testing.assert_allclose(row.reward, timestep.reward, atol=1e-6)
    np.testing.assert_array_equal(row.last, timestep.step_type == 2)
    np.testing.assert_array_equal(row.discount, timestep.discount)
    assert (np.abs(row.reward).sum(1) > 0).sum() > 50, "the drawn states must include meals"
    assert row.last.mean() > 0.05 and (row.team_discount == 0).any() and (row.last & (row.team_discount == 1)).any()


@pytest.mark.parametrize("task", TASKS)
def test_starts_are_jumanjis(task: str) -> None:
    """Same start rows, and the same frequencies cell by cell and level by level, within five standard errors."""
    ours, theirs = pair(task)
    count = 8000
    mine, row = jax.jit(jax.vmap(ours.init))(jax.random.split(jax.random.key(1), count))
    yours = jax.jit(jax.vmap(lambda k: as_ours(theirs._generator(k))))(jax.random.split(jax.random.key(2), count))
    cells = ours.grid**2
    for name, size in (("agent", cells), ("food", cells), ("level", 4), ("food_level", 12)):
        a, b = np.asarray(getattr(mine, name)), np.asarray(getattr(yours, name))
        if size == cells:
            a, b = a[..., 0] * ours.grid + a[..., 1], b[..., 0] * ours.grid + b[..., 1]
        for i in range(a.shape[1]):
            p, q = (np.bincount(x[:, i], minlength=size) / count for x in (a, b))
            error = np.sqrt((p + q) / 2 / count * 2) + 1e-6
            assert np.max(np.abs(p - q) / error) < 5, f"{name} {i} is distributed otherwise than in jumanji"
    apart = np.abs(mine.food[:, :, None] - mine.food[:, None]).sum(-1) + 9 * np.eye(ours.food, dtype=int)
    assert apart.min() >= 2 and mine.food.min() >= 1 and mine.food.max() <= ours.grid - 2
    again = jax.jit(jax.vmap(lambda s, k: theirs._observer.state_to_observation(as_jumanji(s, k))))(
        mine, jax.random.split(jax.random.key(3), count)
    )
    np.testing.assert_array_equal(row.obs[0]["view"], again.agents_view)
    np.testing.assert_array_equal(row.legal[0], again.action_mask)
    assert row.first.all() and not row.last.any() and not np.asarray(row.reward).any()
