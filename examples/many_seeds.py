"""Train many seeds in one compiled program: training is a pure function to jit and vmap. `python examples/many_seeds.py`."""

import jax
import numpy as np

import marlstone as ms

train = ms.make_train(env="proving:climbing", architecture="ctde", credit="counterfactual", steps=4_000)
out = jax.jit(jax.vmap(train))(jax.random.split(jax.random.key(0), 8))
print(f"last return of each seed: {np.asarray(out.metrics['return'])[:, -1].round(1)}")

best = int(np.nanargmax(out.metrics["return"][:, -1]))
policy = train.freeze(jax.tree.map(lambda x: x[best], out.policy), acting="mode")
print(f"seed number {best} acts: {policy.act({agent: [0.0, 1.0] for agent in policy.agents})[0]}")
