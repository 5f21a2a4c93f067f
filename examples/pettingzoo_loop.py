"""A PettingZoo environment played by a loaded policy, which imports no JAX: `python examples/pettingzoo_loop.py RUN/policy/seed-1000`.

Without an argument, a policy is trained first. `pip install marlstone[mpe]`.
"""

import sys

from mpe2 import simple_spread_v3

import marlstone as ms


def trained() -> str:
    """The folder of a policy trained for a moment."""
    run = ms.train("pettingzoo:mpe2.simple_spread_v3", credit="team", steps=2_000, seeds=1)
    return str(run.path / "policy" / f"seed-{run.result.seeds[0]}")


policy = ms.Policy.load(sys.argv[1] if len(sys.argv) > 1 else trained())
env = simple_spread_v3.parallel_env()
total = 0.0
for episode in range(5):
    observations, infos = env.reset(seed=episode)
    memory = None
    while env.agents:
        actions, memory = policy.act(observations, memory, infos=infos)
        observations, rewards, terminations, truncations, infos = env.step(actions)
        total += sum(rewards.values())
print(f"team return: {total / 5:.1f}, acting: {policy.acting}")
