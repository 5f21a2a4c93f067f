"""JaxMARL's particle worlds (Rutherford et al. 2024) at half the operations, to the same numbers.

JaxMARL's step draws normal noise that its default worlds multiply by zero, computes contact forces between all pairs of
entities (most cannot collide), caps speeds where none has a cap, builds observations with rolls by a traced index (gathers)
and decodes actions by a scatter. `lean` gives one environment *object* cheaper versions of exactly those methods, given its own
constants; its class stays as it is. The tests compare every step with an untouched environment's `step_env`.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from marlstone.core.types import Array
from marlstone.envs.team_games import others


def lean(env: Any) -> Any:
    """Replace methods of the MPE environment `env` (a fresh instance, not yet traced) by cheaper equal ones; returns it."""
    if not np.any(env.u_noise):
        env._apply_action_force = _controls
    if not np.any(env.c_noise):
        env._apply_comm_action = _messages
    if "_get_collision_force" not in _overridden(env):
        env._apply_environment_force = _contacts(env)
    if not np.any(np.asarray(env.moveable) & (np.asarray(env.max_speed) >= 0)) and "_integrate_state" not in _overridden(env):
        env._integrate_state = _integration(env)
    if not {"set_actions", "_decode_discrete_action"} & _overridden(env) and _is_discrete(env):
        env.set_actions = _controls_of(env)
    if type(env).__name__ == "SimpleSpreadMPE":
        env.get_obs, env.rewards = _spread_view(env), _spread_rewards(env)
    elif type(env).__name__ == "SimpleTagMPE":
        env.get_obs = _tag_view(env)
    return env


def _overridden(env: Any) -> set[str]:
    """Methods that the environment's class redefines over the base world's."""
    return {name for kind in type(env).__mro__ if kind.__name__ not in ("SimpleMPE", "MultiAgentEnv", "object") for name in vars(kind)}


def _is_discrete(env: Any) -> bool:
    """Whether every agent has the five choices of a particle: nothing, left, right, down, up."""
    return all(getattr(space, "n", None) == 5 for space in env.action_spaces.values())


def _controls_of(env: Any) -> Any:
    """Actions by agent as forces `[n 2]` and silent messages `[n c]`: -1 or 1 along one axis, times the agent's acceleration."""
    n = env.num_agents

    def set_actions(actions: dict[str, Array]) -> tuple[Array, Array]:
        choice = jnp.concatenate([jnp.reshape(actions[a], (1, 1)) for a in env.agents])
        push = jnp.where(jnp.mod(choice, 2) == 0, 1.0, -1.0) * (choice != 0)
        force = jnp.where((choice > 2) == (np.arange(env.dim_p) == 1), push, 0.0)
        return force * env.accel[:, None] * env.moveable[:n, None], jnp.zeros((n, env.dim_c))

    return set_actions


def _integration(env: Any) -> Any:
    """Places and velocities `[entities 2]` a step later, where nothing that moves has a greatest speed."""

    def integrate(force: Array, place: Array, velocity: Array, mass: Array, moveable: Array, _: Array) -> tuple[Array, Array]:
        place = place + velocity * env.dt
        velocity = velocity * (1 - env.damping)
        return place, velocity + (force / mass[:, None]) * env.dt * moveable[:, None]

    return integrate


def _controls(key: Array, rest: Array, u: Array, noise: Array, moveable: Array) -> Array:
    """Agents' own forces `[n 2]`, without the noise that the world's constants make zero."""
    return jnp.where(moveable[:, None], u, rest)


def _messages(key: Array, c: Array, noise: Array, silent: Array) -> Array:
    """Messages `[n c]`, without noise; silent agents send zeros."""
    return jnp.where(silent[:, None].astype(bool), jnp.zeros_like(c), c)


def _contacts(env: Any) -> Any:
    """Contact forces between the entities that can collide: on a, (c k / d) softplus((r_a + r_b - d) / k) (x_a - x_b)."""
    solid = np.flatnonzero(np.asarray(env.collide))
    free = np.asarray(env.moveable)[solid].astype(np.float32)
    reach = (np.asarray(env.rad)[solid, None] + np.asarray(env.rad)[None, solid]).astype(np.float32)
    self = np.eye(solid.size, dtype=bool)
    whole = solid.size and np.ptp(solid) + 1 == solid.size  # solid entities stand together: slices and pads, no gather or scatter

    def forces(total: Array, state: Any) -> Array:
        if solid.size < 2:
            return total
        place = state.p_pos[int(solid[0]) : int(solid[-1]) + 1] if whole else state.p_pos[solid]
        apart = place[:, None] - place[None]
        distance = jnp.sqrt(jnp.where(self, 1.0, jnp.sum(jnp.square(apart), axis=-1)))
        overlap = jnp.logaddexp(0, -(distance - reach) / env.contact_margin) * env.contact_margin
        push = env.contact_force * apart / distance[..., None] * overlap[..., None]
        push = jnp.sum(jnp.where(self[..., None], 0.0, push), axis=1) * free[:, None]
        if not whole:
            return total.at[solid].add(push)
        return total + jnp.pad(push, ((int(solid[0]), total.shape[0] - 1 - int(solid[-1])), (0, 0)))

    return forces


def _spread_view(env: Any) -> Any:
    """simple_spread: own velocity and place, landmarks, the others' places, their (silent) messages."""
    n = env.num_agents

    def get_obs(state: Any) -> dict[str, Array]:
        place = state.p_pos[:n]
        landmarks = (state.p_pos[n:] - place[:, None]).reshape(n, -1)
        team = (others(place) - place[:, None]).reshape(n, -1)
        messages = others(state.c).reshape(n, -1)
        view = jnp.concatenate([state.p_vel[:n], place, landmarks, team, messages], axis=1)
        return {a: view[i] for i, a in enumerate(env.agents)}

    return get_obs


def _spread_rewards(env: Any) -> Any:
    """simple_spread: minus the agent's own collisions, and minus the sum over landmarks of the nearest agent's distance."""
    n = env.num_agents
    reach = (np.asarray(env.rad)[:n, None] + np.asarray(env.rad)[None, :n]).astype(np.float32)
    solid = np.asarray(env.collide)[:n]
    pairs = solid[:, None] & solid[None] & ~np.eye(n, dtype=bool)

    def rewards(state: Any) -> dict[str, Array]:
        place, landmarks = state.p_pos[:n], state.p_pos[n:]
        apart = jnp.sqrt(jnp.sum(jnp.square(place[:, None] - place[None]), axis=-1))
        met = -1 * jnp.sum((apart < reach) & pairs, axis=1)
        far = jnp.sqrt(jnp.sum(jnp.square(place[None] - landmarks[:, None]), axis=-1))
        team = jnp.sum(-1 * jnp.min(far, axis=1))
        reward = met * env.local_ratio + team * (1 - env.local_ratio)
        return {a: reward[i] for i, a in enumerate(env.agents)}

    return rewards


def _tag_view(env: Any) -> Any:
    """simple_tag: as above without messages; the hunters also see the velocity of the last of the hunted."""
    n, hunters = env.num_agents, env.num_adversaries

    def get_obs(state: Any) -> dict[str, Array]:
        place = state.p_pos[:n]
        landmarks = (state.p_pos[n:] - place[:, None]).reshape(n, -1)
        team = (others(place) - place[:, None]).reshape(n, -1)
        view = jnp.concatenate([state.p_vel[:n], place, landmarks, team, others(state.p_vel[:n])[:, -1]], axis=1)
        return {a: view[i] if i < hunters else view[i, :-2] for i, a in enumerate(env.agents)}

    return get_obs
