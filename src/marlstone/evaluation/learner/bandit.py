"""The smallest thing to learn: episodes of one step, in which one of three actions earns 1 and the others nothing."""

from typing import Any

import jax
import jax.numpy as jnp

from marlstone.algorithm import Algorithm, Policy
from marlstone.architectures import Decentralized, Mlp
from marlstone.core.distributions import Discrete, draw_group_noise
from marlstone.core.records import replace
from marlstone.core.types import Group, Leaf, Spec, Step, Trajectory
from marlstone.credit import Individual
from marlstone.evaluation.credit.random_play import quick
from marlstone.learners import Learner

Array = Any
SPEC = Spec((Group("players", ("player_0", "player_1"), {"one": Leaf("vector", (1,))}, Discrete(3)),), state=1, horizon=1)
BEST = (2, 1)  # what each player should do
ENVS, STEPS, UPDATES, LR = 8, 16, 60, 1e-2
CHANCE = 1 / 3


def played(algorithm: Algorithm, policy: Policy, key: Array, b: int) -> Trajectory:
    """A rollout of `STEPS` steps of `b` bandits, `[b t ...]`; every other step is a reset."""
    n, first = SPEC.n, jnp.broadcast_to(jnp.arange(STEPS + 1) % 2 == 0, (b, STEPS + 1))
    fill = lambda value, *shape: jnp.broadcast_to(jnp.asarray(value), (b, STEPS + 1, *shape))
    ends = ~first
    blank = Step(
        ({"one": fill(1.0, n, 1)},), fill(0.0, 1), fill(0.0, n), fill(0.0), jnp.where(ends[..., None], 0.0, jnp.ones(n)),
        jnp.where(ends, 0.0, 1.0), first, ends, (None,), fill(True, n), fill(True, n), {},
    )  # fmt: skip
    now = jax.tree.map(lambda x: x[:, 0], blank)
    heads, _ = algorithm.heads(policy, now, algorithm.memory(b))
    heads = tuple(jnp.broadcast_to(h[:, None], (b, STEPS, *h.shape[1:])) for h in heads)
    action = algorithm.sample(heads, (None,), draw_group_noise([SPEC.groups[0].space], [n], key, (b, STEPS)))
    right = (action[0] == jnp.asarray(BEST)).astype(jnp.float32)
    reward = jnp.where(ends[..., None], jnp.concatenate([jnp.zeros((b, 1, n)), right], 1), 0.0)
    step = replace(blank, reward=reward, team_reward=reward.sum(-1))
    return Trajectory(step, action, algorithm.log_prob(heads, (None,), action), algorithm.memory(b))


def learned(learner: Learner) -> tuple[float, float]:
    """What an agent earns per decision before learning, and by what was learned in `UPDATES` updates, without exploration."""
    algorithm, b = Algorithm(SPEC, Decentralized(Mlp((8,))), Individual(), learner), ENVS * learner.minibatches

    def run(key: Array) -> tuple[Array, Array]:
        k1, k2, k3 = jax.random.split(key, 3)
        shapes = jax.eval_shape(lambda k: played(algorithm, algorithm.init(k, None).policy, k, b), k1)
        train = algorithm.init(k1, shapes)

        def one(train: Any, at: tuple[Array, Array]) -> tuple[Any, None]:
            number, key = at
            k1, k2 = jax.random.split(key)
            return algorithm.update(train, played(algorithm, train.policy, k1, b), number / UPDATES, k2)[0], None

        after, _ = jax.lax.scan(one, train, (jnp.arange(UPDATES, dtype=jnp.float32), jax.random.split(k2, UPDATES)))

        def earned(policy: Policy) -> Array:
            trajectory = played(algorithm, replace(policy, explore=jnp.zeros(())), k3, b)
            return trajectory.step.reward.sum() / trajectory.acts.sum()

        return earned(train.policy), earned(after.policy)

    before, later = quick(run)(jax.random.key(0))
    return float(before), float(later)
