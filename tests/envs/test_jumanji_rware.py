"""Our robot warehouse plays by jumanji's rules; its time limit truncates and its collisions terminate."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.core.compile_options import FASTEST_COMPILE, supported
from marlstone.envs.jumanji import make
from marlstone.envs.jumanji.rware import WarehouseState

pytest.importorskip("jumanji", reason="needs marlstone[jumanji]")

from jumanji.environments.routing.robot_warehouse.env import RobotWarehouse
from jumanji.environments.routing.robot_warehouse.generator import RandomGenerator
from jumanji.environments.routing.robot_warehouse.utils import compute_action_mask

TASK, LIMIT = "small-4ag-hard", 16


@functools.cache
def pair(task: str):
    ours = make("RobotWarehouse", {"task": task, "time_limit": LIMIT})
    generator = RandomGenerator(
        shelf_rows=ours.rows, shelf_columns=ours.columns, column_height=8, num_agents=ours.agents, sensor_range=1,
        request_queue_size=ours.requests,
    )  # fmt: skip
    return ours, RobotWarehouse(generator=generator, time_limit=LIMIT)


def as_ours(env, s) -> WarehouseState:
    i = functools.partial(jnp.asarray, dtype=jnp.int32)
    place = i(jnp.stack([s.agents.position.x, s.agents.position.y], -1))
    shelf = env.code(i(jnp.stack([s.shelves.position.x, s.shelves.position.y], -1)))
    return WarehouseState(place, i(s.agents.direction), s.agents.is_carrying == 1, shelf, s.shelves.is_requested == 1, i(s.step_count))


@functools.cache
def walk(task: str, length: int = LIMIT + 1):
    """jumanji's episodes under busy actions, each state stepped by us as well. Robots start loaded half of the time."""
    ours, theirs = pair(task)

    def body(carry, key):
        state, k = carry, jax.random.split(key, 3)
        likely = jnp.log(jnp.array([0.05, 0.6, 0.12, 0.12, 0.11]))
        action = jax.random.categorical(k[0], likely, shape=(ours.agents,))
        mine, row = ours.step(as_ours(ours, state), (action,), k[1])
        after, timestep = theirs.step(state, action)
        return after, (mine, row, as_ours(ours, after), timestep)

    @functools.partial(jax.jit, compiler_options=supported(FASTEST_COMPILE))
    @jax.vmap
    def run(key):
        k = jax.random.split(key, 4)
        state = theirs.reset(k[0])[0]
        # half of the requested shelves at once: meals for the goals; and robots beside the goals, carrying
        spot = jax.random.bernoulli(k[1], 0.5)
        goal = jnp.array([ours.size[0] - 2, ours.size[1] // 2 - 1])
        first = state.request_queue[0]
        x, y = state.shelves.position.x, state.shelves.position.y
        free = ~jnp.any((state.agents.position.x == goal[0]) & (state.agents.position.y == goal[1]))
        spot = spot & free

        def moved(s):
            grid = s.grid.at[0, x[first], y[first]].set(0).at[0, goal[0], goal[1]].set(first + 1)
            grid = grid.at[1, s.agents.position.x[0], s.agents.position.y[0]].set(0).at[1, goal[0], goal[1]].set(1)
            shelves = s.shelves._replace(position=s.shelves.position._replace(x=x.at[first].set(goal[0]), y=y.at[first].set(goal[1])))
            position = s.agents.position._replace(x=s.agents.position.x.at[0].set(goal[0]), y=s.agents.position.y.at[0].set(goal[1]))
            agents = s.agents._replace(
                position=position, direction=s.agents.direction.at[0].set(2), is_carrying=s.agents.is_carrying.at[0].set(1)
            )
            return s.replace(grid=grid, shelves=shelves, agents=agents, action_mask=compute_action_mask(grid, agents))

        state = jax.tree.map(lambda a, b: jnp.where(spot, a, b), moved(state), state)
        return jax.lax.scan(body, state, jax.random.split(k[2], length))[1]

    return ours, run(jax.random.split(jax.random.key(0), 512))


def test_step_equals_jumanji() -> None:
    """State, reward, legal actions, views and collisions are jumanji's on every row up to the first end."""
    env, (mine, row, yours, timestep) = walk(TASK)
    last = np.asarray(timestep.step_type) == 2
    alive = np.cumsum(last, axis=1) - last == 0  # rows up to and with the first end
    crash = last & ((np.asarray(mine.clock) < LIMIT) | (np.asarray(row.team_discount) == 0))
    calm = alive & ~crash
    np.testing.assert_array_equal(np.asarray(row.last)[alive], last[alive])
    np.testing.assert_array_equal(np.asarray(row.team_reward)[alive], np.asarray(timestep.reward)[alive])
    for name in ("place", "direction", "carrying", "shelf", "clock"):
        np.testing.assert_array_equal(np.asarray(getattr(mine, name))[calm], np.asarray(getattr(yours, name))[calm], err_msg=name)
    delivered = np.asarray(row.team_reward) > 0
    quiet = calm & ~delivered  # after a delivery, the new request is another draw
    np.testing.assert_array_equal(np.asarray(mine.requested)[quiet], np.asarray(yours.requested)[quiet])
    np.testing.assert_array_equal(np.asarray(row.obs[0]["view"])[quiet], np.asarray(timestep.observation.agents_view)[quiet])
    np.testing.assert_array_equal(np.asarray(row.legal[0])[calm], np.asarray(timestep.observation.action_mask)[calm])
    assert (np.asarray(mine.requested).sum(-1)[calm] == env.requests).all()
    assert (delivered & alive).sum() > 10 and (crash & alive).sum() > 10 and (~np.asarray(row.legal[0])[calm]).sum() > 10


def test_limit_truncates_and_collision_terminates() -> None:
    _, (mine, row, _, timestep) = walk(TASK)
    last = np.asarray(timestep.step_type) == 2
    limit = np.asarray(mine.clock) == LIMIT
    first = last & (np.cumsum(last, axis=1) == 1)
    crashed = np.asarray(row.team_discount) == 0
    assert (np.asarray(timestep.discount)[first] == 0).all(), "jumanji does not tell the two ends apart"
    assert (first & limit & ~crashed).sum() > 5 and (first & ~limit).sum() > 5
    assert crashed[first & ~limit].all() and (np.asarray(row.discount)[first & limit & ~crashed] == 1).all()


def test_new_requests_and_starts_are_uniform() -> None:
    env = pair("tiny-2ag")[0]
    state, row = jax.jit(jax.vmap(env.init))(jax.random.split(jax.random.key(5), 8000))
    cells = np.asarray(env.code(state.place))
    assert (cells[:, 0] != cells[:, 1]).all() and (np.asarray(state.requested).sum(1) == 2).all()
    assert (np.asarray(row.legal[0])).all() and row.first.all()
    for counts in (np.bincount(cells[:, 1]), np.asarray(state.requested).sum(0), np.bincount(np.asarray(state.direction)[:, 0])):
        counts = counts[counts > 0]
        expected = counts.mean()
        assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)
    assert np.unique(cells).size == 110 and np.unique(np.asarray(state.direction)).size == 4
