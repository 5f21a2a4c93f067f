"""What agents do without: leaves that they are never given, actions that are illegal for them, links that do not exist."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.algorithm import Algorithm
from marlstone.architectures import Decentralized, Mlp
from marlstone.comms import Broadcast, Targeted
from marlstone.comms.talking import talking
from marlstone.core.errors import UserError
from marlstone.credit import Individual
from marlstone.envs.faults import MessageCut, Withheld, fault_from_json, fault_to_json, with_faults
from marlstone.envs.make import make
from marlstone.evaluation.credit.random_play import quick
from marlstone.learners import PolicyGradient
from marlstone.policy.policy import Policy
from tests.batches import begun

pytestmark = pytest.mark.usefixtures("compiled_once")
WORLDS = f"{Path(__file__).parent / 'worlds.py'}:make"


def test_a_channel_without_a_link_is_one_on_which_it_is_cut() -> None:
    """Said once in the channel or once as a fault: the same steps, in which nothing was sent on it; a sender without links is shut."""
    for talk in (Broadcast(size=1), Targeted(size=1, signature=1)):
        signal, action = make("proving:signal"), {}
        without, cut = talking(type(talk)(**{**vars(talk), "cut": ("worker>*",)}), signal), talking(talk, signal)
        cut = with_faults([MessageCut(("worker>*",))], cut)
        (g,) = cut.spec.groups
        said = jnp.ones((2, g.space.action_shape[0])) * 0.3
        gates = slice(1, 1 + talk.choices(2))
        action = (said.at[:, gates].set(1.0),)
        for env in (without, cut):
            (state, step), forth, steps = env.init(jax.random.key(0)), quick(env.step), []
            for t in range(3):
                state, step = forth(state, action, jax.random.key(t))
                steps.append(step)
            if env is without:
                kept = steps
                shut = np.asarray(step.legal[0])[:, g.space.parts[0].width : g.space.parts[0].width + 2 * talk.choices(2)]
                assert not shut[1, 1::2].any() and shut[0, 1::2].any()
        for mine, theirs in zip(kept, steps, strict=True):
            assert all((mine.obs[0][k] == theirs.obs[0][k]).all() for k in mine.obs[0])
            assert mine.metrics["messages_per_step"] == theirs.metrics["messages_per_step"] == 1
    with pytest.raises(UserError, match=r"comms.cut: links names 'boss', who does not talk"):
        talking(Broadcast(cut=("boss>*",)), make("proving:signal"))
    with pytest.raises(ValueError, match=r"comms.cut has 'scout': write a link as 'sender>recipient'"):
        Broadcast(cut=("scout",))


def test_what_is_withheld_is_refused_where_it_is_not_there() -> None:
    spec = make("proving:signal").spec
    refused = lambda **fields: Withheld(**fields).refuses(spec)
    assert refused(leaves=("team:role",), actions=("worker:4",)) == ""
    assert "leaves has 'rule', which nobody observes; did you mean 'role'" in refused(leaves=("rule",))
    assert "all that group 'team' observes" in refused(leaves=("role", "team:symbol"))
    assert "actions has 'worker:9', which is no agent's action" in refused(actions=("worker:9",))
    assert "a default action" in refused(actions=("worker:0",))
    with pytest.raises(UserError, match="leaves and actions are both empty"):
        Withheld()
    both = Withheld(("role",), ("worker:4",))
    assert fault_from_json(fault_to_json(both)) == both


def test_a_withheld_leaf_is_not_observed_and_a_withheld_action_not_legal() -> None:
    """Where nothing else is left, the default is."""
    env = with_faults([Withheld(("role",), tuple(f"worker:{k}" for k in (1, 2, 3, 4)))], make("proving:signal"))
    _, step = env.init(jax.random.key(0))
    assert set(step.obs[0]) == set(env.spec.groups[0].observation) == {"symbol"}
    assert np.asarray(step.legal[0]).astype(int).tolist() == [[1, 0, 0, 0, 0]] * 2


def test_a_policy_acts_without_what_was_withheld(tmp_path: Path) -> None:
    """From a world of pictures, numbers, choices and masks: with the leaf or without it the same actions, never one that is withheld."""
    adapter = make(f"{WORLDS}?shy=false")
    cams = next(g for g in adapter.spec.groups if "cam_0" in g.agents)
    eye = next(k for k, leaf in cams.observation.items() if leaf.kind == "image")
    withheld = Withheld((f"{cams.name}:{eye}",), ("cam_1:2", "dj:0=1"))
    env = with_faults([withheld], adapter)
    it = Algorithm(env.spec, Decentralized(Mlp((6,))), Individual(), PolicyGradient())
    trained = begun(it).policy
    policy = Policy.load(Policy.of(it, trained, "mode", adapter.wiring, withheld=[withheld]).save(tmp_path / "policy"))
    compiled = Policy.load(tmp_path / "policy", backend="jax")
    assert policy.withheld == (withheld,)
    decide = quick(lambda step: it.mode(it.heads(trained, step, it.memory(1))[0], step.legal))
    raw, step, done = make(f"{WORLDS}?shy=false")._env, env.reset(3), list[Any]()
    seen, _ = raw.reset(seed=3)
    while not step.last:
        blind = {a: x if not a.startswith("cam") else {**x, "observation": {"at": x["observation"]["at"]}} for a, x in seen.items()}
        actions, _ = policy.act(seen)
        for other, given in ((policy, blind), (compiled, blind)):
            also, _ = other.act(given)
            assert all(str(also[a]) == str(x) for a, x in actions.items() if not a.startswith("arm"))
        recorded = jax.device_get(decide(jax.tree.map(lambda x: np.asarray(x)[None], step)))
        step = env.step(it.emit(tuple(a[0] for a in recorded)))
        assert [actions[a] + 1 for a in cams.agents] == np.ravel(recorded[adapter.spec.groups.index(cams)]).tolist()
        done.append((actions["cam_1"], actions["dj"]))
        seen, *_ = raw.step(actions)
    assert all(cam < 1 and int(np.ravel(np.asarray(dj[0]))[0]) == 0 for cam, dj in done)
