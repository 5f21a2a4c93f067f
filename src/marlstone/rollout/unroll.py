"""One rollout for every runtime: only `scan` differs. `lax.scan` where the environment is JAX, `host_scan` where it is not."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from marlstone.algorithm import Algorithm, Policy
from marlstone.architectures.contract import Memory
from marlstone.core.arrays import Array
from marlstone.core.distributions import draw_group_noise
from marlstone.core.records import record, replace
from marlstone.core.types import Step, Trajectory
from marlstone.envs.constant import filled, without
from marlstone.envs.protocol import VectorEnv


@record
class RolloutState:
    """Where `b` environments are between trajectories.

    Attributes:
      env: their states, `[b ...]`.
      step: their last step, `[b ...]`.
      memory: the policy's recurrent state.
    """

    env: Any
    step: Any
    memory: Memory


def draw_noise(algorithm: Algorithm, key: Array, length: int, b: int) -> tuple[tuple[Array, ...], Array]:
    """All a rollout's randomness at once: sampling noise per group `[t b n_g ...]` and environment keys `[t b]`."""
    k1, k2 = jax.random.split(key)
    groups = algorithm.spec.groups
    return draw_group_noise([g.space for g in groups], [g.count for g in groups], k1, (length, b)), jax.random.split(k2, (length, b))


def assemble(algorithm: Algorithm, scanned: tuple[Step, tuple[Array, ...], tuple[Array, ...]], last: Step, memory: Memory) -> Trajectory:
    """Steps as scanned, `[t b ...]`, and the step after them, `[b ...]` -> a batch of trajectories `[b t ...]`."""
    steps, action, heads = _by_environment(scanned)
    steps = jax.tree.map(lambda before, after: jnp.concatenate([before, after[:, None]], axis=1), steps, last)
    return _trajectories(algorithm, steps, action, heads, memory)


def _by_environment(scanned: Any) -> Any:
    """`[t b ...]` to `[b t ...]`."""
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), scanned)


def _trajectories(algorithm: Algorithm, steps: Step, action: tuple[Array, ...], heads: tuple[Array, ...], memory: Memory) -> Trajectory:
    """Of `[b t+1 ...]` steps, `[b t ...]` actions and heads."""
    legal = tuple(None if ok is None else ok[:, :-1] for ok in steps.legal)
    return Trajectory(steps, action, algorithm.log_prob(heads, legal, action), memory)


def unroll(
    env: VectorEnv,
    algorithm: Algorithm,
    policy: Policy,
    acting: RolloutState,
    noise: tuple[Array, ...],
    keys: Array,
    scan: Callable[..., Any] = lax.scan,
    act: Callable[..., Any] | None = None,
    trajectory: Callable[..., Trajectory] | None = None,
) -> tuple[RolloutState, Trajectory]:
    """T joint steps of `b` environments.

    Args:
      env: steps all `b` together.
      algorithm: whose policy acts.
      policy: its parameters.
      acting: where the environments are.
      noise: sampling noise per group, `[t b n_g ...]`.
      keys: environment keys, `[t b]`.
      scan: `lax.scan`, or `host_scan` where only Python can step.
      act: on a host, the compiled `Algorithm.act`.
      trajectory: on a host, the compiled `assemble`.

    Returns:
      Where they are now, and a batch of trajectories `[b t ...]`.
    """
    act, compiled = act or algorithm.act, trajectory is None
    constant: frozenset[str] = getattr(env, "constant", frozenset())

    def tick(
        now: RolloutState, inputs: tuple[tuple[Array, ...], Array]
    ) -> tuple[RolloutState, tuple[Step, tuple[Array, ...], tuple[Array, ...]]]:
        noise, keys = inputs
        action, emitted, heads, memory = act(policy, now.step, now.memory, noise)
        state, following = env.step(now.env, emitted, keys)
        return RolloutState(state, following, memory), (without(following, constant) if compiled else now.step, action, heads)

    after, scanned = scan(tick, acting, (noise, keys))
    if trajectory is not None:
        return after, trajectory(scanned, after.step, acting.memory)
    # A compiled loop records each step where it is made, and carries on only what acting reads: the rest of the last step was recorded.
    last = replace(jax.tree.map(lambda x: x[-1], scanned[0]), obs=after.step.obs, state=after.step.state)
    following, action, heads = _by_environment(scanned)
    join = lambda first, rest: jnp.concatenate([first[:, None], rest], axis=1)
    steps = jax.tree.map(join, without(acting.step, constant), following)
    return replace(after, step=filled(last, constant)), _trajectories(algorithm, filled(steps, constant), action, heads, acting.memory)


def trajectory_shapes(algorithm: Algorithm, acting: RolloutState, length: int) -> Trajectory:
    """Shapes of the trajectories of one rollout, `[b t ...]`. Nothing is computed."""
    b = acting.step.first.shape[0]
    groups = algorithm.spec.groups
    shapes = lambda tree: jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), x.dtype), tree)
    policy = jax.eval_shape(lambda key: algorithm.init(key, None).policy, jax.random.key(0))
    noise = jax.eval_shape(lambda key: draw_group_noise([g.space for g in groups], [g.count for g in groups], key, (b,)), jax.random.key(0))
    step, memory = shapes((acting.step, acting.memory))
    action, _, heads, _ = jax.eval_shape(algorithm.act, policy, step, memory, noise)
    scanned = jax.tree.map(lambda x: jax.ShapeDtypeStruct((length, *x.shape), x.dtype), (step, action, heads))
    return jax.eval_shape(partial(assemble, algorithm), scanned, step, memory)


def trajectory_bytes(trajectory: Trajectory) -> int:
    """Bytes of the trajectories of one rollout: what actors hand to a learner."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(trajectory))


def host_scan(tick: Callable[[Any, Any], tuple[Any, Any]], carry: Any, xs: Any) -> tuple[Any, Any]:
    """`lax.scan`'s signature, for what only Python can step: outputs are stacked in NumPy."""
    length = len(jax.tree.leaves(xs)[0])
    outputs = []
    for t in range(length):
        carry, out = tick(carry, jax.tree.map(lambda x: x[t], xs))  # noqa: B023
        outputs.append(out)
    return carry, jax.tree.map(lambda *leaves: np.stack(leaves), *outputs)
