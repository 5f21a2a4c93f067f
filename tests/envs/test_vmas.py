"""VMAS scenarios, where VMAS and torch are installed: declared spaces, ends told apart, seeds that repeat, rewards as they are given."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from marlstone.core.errors import UserError
from marlstone.envs.host.recognize import KINDS, adapt
from marlstone.envs.make import make
from marlstone.envs.names import UnknownEnvironment
from marlstone.envs.own_metrics import Info, measured
from marlstone.envs.user_file import load

if any(importlib.util.find_spec(p) is None for p in ("vmas", "torch")):
    pytest.skip("needs the extra vmas", allow_module_level=True)

rows_of = load(str(Path(__file__).parent / "test_pettingzoo.py"))


@pytest.mark.parametrize(("agents", "more"), [(4, ""), (3, "&continuous_actions=false")])
def test_a_scenario_keeps_the_laws_and_its_time_limit_is_a_truncation(agents: int, more: str) -> None:
    env = make(f"vmas:balance?max_steps=6&n_agents={agents}{more}")
    rows, again, other = (rows_of.play(env, seed) for seed in (3, 3, 4))
    rows_of.check_rows(env, rows)
    assert env.spec.n == agents and env.spec.horizon == 6 and len(rows) == 7
    assert rows_of.ends_like(rows, "truncate") or rows[-1].team_discount == 0
    assert all((a.state == b.state).all() and (a.reward == b.reward).all() for a, b in zip(rows, again, strict=True))
    assert (rows[0].state != other[0].state).any()
    saved, step = env.snapshot(), env.reset(1)
    env.restore(saved)
    np.testing.assert_array_equal(env.reset(1).state, step.state)
    env.close()


def test_steps_equal_those_of_vmas() -> None:
    """Observations and rewards of the adapter and of the library's own loop, seed and actions alike."""
    import torch
    import vmas

    env = make("vmas:transport?n_agents=2&max_steps=4")
    plain = vmas.make_env("transport", num_envs=1, device="cpu", seed=0, max_steps=4, n_agents=2)
    step, seen = env.reset(5), plain.reset(seed=5)
    for t in range(4):
        np.testing.assert_array_equal(step.obs[0]["obs"], np.stack([x[0].numpy() for x in seen]))
        action = np.full((2, 2), 0.5 - 0.25 * t, np.float32)
        step = env.step((action,))
        seen, rewards, *_ = plain.step([torch.as_tensor(a)[None] for a in action])
        np.testing.assert_array_equal(step.reward, [r[0].numpy() for r in rewards])
    assert step.last


def test_infos_are_metrics_and_batches_and_unknown_options_are_refused() -> None:
    import vmas

    env = measured(make("vmas:balance?n_agents=3&max_steps=3"), [Info("pos_rew")])
    assert rows_of.play(env, 1)[-1].metrics["pos_rew"] != 0
    batch = vmas.make_env("balance", num_envs=2, device="cpu")
    assert next(k.name for k in KINDS if not k.lacks(batch)) == "a VMAS environment"
    with pytest.raises(UserError, match="num_envs is 2: make it with num_envs=1"):
        adapt(batch, "here")
    for name in ("vmas:balanse", "vmas:balance?num_envs=4"):
        with pytest.raises(UnknownEnvironment, match="vmas:balan"):
            make(name)
