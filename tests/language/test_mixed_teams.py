"""A language model, a trained policy and a function in one PettingZoo environment."""

import jax
import pytest

from examples.stub_language_model import Stub
from marlstone.algorithm import Algorithm
from marlstone.architectures import Decentralized, Mlp
from marlstone.credit import Team
from marlstone.envs.make import make
from marlstone.language.agents import LanguageAgent
from marlstone.language.credit import default_action, individual
from marlstone.language.endpoint import Endpoint, LanguageModel
from marlstone.language.parsers import Choice
from marlstone.language.playing import play
from marlstone.learners import PolicyGradient
from marlstone.policy.policy import Policy
from tests.batches import begun

pytestmark = pytest.mark.usefixtures("compiled_once")


def test_a_language_model_plays_beside_a_policy_that_decides_as_it_does_alone() -> None:
    from mpe2 import simple_spread_v3

    adapter = make("pettingzoo:mpe2.simple_spread_v3?max_cycles=4")
    adapter.without_state()
    it = Algorithm(adapter.spec, Decentralized(Mlp((4,))), Team(), PolicyGradient())
    drawn = jax.tree.map(lambda x: x + 0.3 * jax.random.normal(jax.random.key(1), x.shape), begun(it).policy)
    policy = Policy.of(it, drawn, "mode", adapter.wiring)
    make_env = lambda: simple_spread_v3.parallel_env(max_cycles=4)
    with Stub() as stub:
        model = LanguageModel(Endpoint("stub", stub.url, max_tokens=8, seed=1))
        words = Choice(("wait", "left", "right", "go", "across"))
        agents = {"agent_0": LanguageAgent(model, words, default=0), "agent_1": policy, "agent_2": policy}
        played = play(make_env(), agents, episodes=2, tell=lambda _: None)
    assert [(d.agent, d.kind) for d in played.decisions[:3]] == [("agent_0", "language"), ("agent_1", "policy"), ("agent_2", "policy")]
    # the same joint actions, stepped by hand, give the policy's decisions and the rewards that were recorded
    env = make_env()
    for episode in range(2):
        seen, _ = env.reset(seed=episode)
        memory = None
        for step in range(4):
            now = {d.agent: d for d in played.decisions if (d.episode, d.step) == (episode, step)}
            actions, memory = policy.act({a: seen[a] for a in ("agent_1", "agent_2")}, memory)
            assert {a: int(x) for a, x in actions.items()} == {a: now[a].action for a in actions}
            seen, rewards, _, _, _ = env.step({a: d.action for a, d in now.items()})
            assert {a: d.reward for a, d in now.items()} == {a: float(r) for a, r in rewards.items()}
    own = [r for r in individual(played.decisions).rewards if r is not None]
    assert len(own) == 8 and sum(own) == pytest.approx(sum(played.agent_returns["agent_0"]))
    worth = default_action(played.decisions, make_env, {"agent_0": 0})
    assert all((r == 0.0) for r, d in zip(worth.rewards, played.decisions) if d.kind == "language" and d.action == 0)
