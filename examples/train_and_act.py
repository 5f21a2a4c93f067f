"""Train a team in a bundled game and act with what was learned, in under ten lines: `python examples/train_and_act.py`."""

import marlstone as ms

run = ms.train("proving:climbing", architecture="ctde", credit="counterfactual", steps=4_000, seeds=1)
policy = run.policy()
observations = {agent: [0.0, 1.0] for agent in policy.agents}  # one vector per agent, as this game gives it
actions, memory = policy.act(observations)
print(f"return {run.result.return_iqm:.2f}, actions {actions}, saved in {policy.save(run.path / 'deployed')}")
