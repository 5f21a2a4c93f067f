"""The controller of a budget: what episodes used, as plain Python counts it, and how prices move."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marlstone.comms import LINKS, Broadcast
from marlstone.comms.layout import BUDGET_SCALE
from marlstone.comms.learning import QUANTILE, Speech, begin_price, sent_in
from marlstone.core.multiplier import AIM, HIGHEST, INTEGRAL, PROPORTIONAL
from marlstone.core.records import replace
from marlstone.core.types import Step, Trajectory
from marlstone.evaluation.comms_cases import channel_case
from marlstone.evaluation.credit.random_play import quick

N, B, T = 4, 3, 12
whole = lambda x: x


def trajectory(channel: Broadcast, seed: int, often: float = 0.3) -> tuple[Speech, Trajectory]:
    """Random episodes of all lengths; bits of every sender and recipient; budgets drawn for each episode, where several are shown."""
    rng = np.random.default_rng(seed)
    spec = channel_case(channel, None).layout(channel).spec
    first = rng.random((B, T + 1)) < often
    first[:, 1:] &= ~first[:, :-1]  # a reset is no end
    sent = (rng.random((B, T + 1, N, N)) < 0.5) & ~np.eye(N, dtype=bool) & ~first[:, :, None, None]
    bits = np.where(sent, rng.exponential(4, sent.shape), 0)
    links = np.concatenate([np.zeros_like(bits), sent, bits], -1).astype(np.float32)
    told = np.zeros((B, T + 1), np.float32)
    for b, t in np.ndindex(told.shape):
        fresh = np.log2(rng.choice(channel.levels)) / BUDGET_SCALE
        told[b, t] = told[b, t - 1] if t and not first[b, t] else fresh
    obs, at = [], 0
    for g in spec.groups:
        inbox = np.zeros((B, T + 1, g.count, channel.heard(N) + channel.shown), np.float32)
        inbox[..., -1] = told[..., None]
        obs.append({"inbox": inbox, LINKS: links[:, :, at : at + g.count]})
        at += g.count
    zeros = np.zeros((B, T + 1), np.float32)
    here = np.ones((B, T + 1, N), bool)
    step = Step(tuple(obs), zeros[..., None], zeros, zeros, here, zeros, first, first, (None,) * 3, here, here, {})
    return Speech(channel, spec), Trajectory(step, (), np.zeros((B, T, N), np.float32), None)


def used(channel: Broadcast, made: Trajectory) -> list[float | None]:
    """By budget, the 95th percentile over episodes, as far as they are shown, of bits per joint step; an episode weighs its steps."""
    links = np.concatenate([x[LINKS] for x in made.step.obs], 2)[..., 2 * N :]
    told = np.asarray(made.step.obs[0]["inbox"])[:, :, 0, -1]
    levels = np.log2(channel.levels) / BUDGET_SCALE
    episodes: list[list[tuple[float, int]]] = [[] for _ in levels]
    for b in range(B):
        spent, steps, level = 0.0, 0, 0
        for t in range(T):
            if made.step.first[b, t] and steps:
                episodes[level].append((spent / steps, steps))
                spent, steps = 0.0, 0
            level = int(np.argmin(np.abs(levels - told[b, t]))) if channel.shown else 0
            if not made.step.first[b, t + 1]:
                each = links[b, t + 1].sum(-1)
                spent, steps = spent + (each.sum() if not channel.per_agent else 0), steps + 1
        if steps:
            episodes[level].append((spent / steps, steps))
    out: list[float | None] = []
    for mine in episodes:
        mine.sort()
        reached, total = 0, sum(steps for _, steps in mine)
        found = None
        for mean, steps in mine:
            reached += steps
            if found is None and reached >= QUANTILE * total:
                found = mean
        out.append(found)
    return out


@functools.cache
def compiled(channel: Broadcast) -> Any:
    return quick(lambda price, made: Speech(channel, channel_case(channel, None).layout(channel).spec).next_price(price, made, 0.9, whole))


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([(5.0,), (2.0, 8.0)]), st.sampled_from([0.0, 0.2, 0.6]))
def test_what_was_used_is_a_percentile_over_episodes(seed: int, budgets: tuple[float, ...], often: float) -> None:
    """Of joint steps: resets are none, and a step's messages count where they were sent."""
    channel = Broadcast(size=2, budget_bits=budgets)
    speech, made = trajectory(channel, seed, often)
    after, figures = compiled(channel)(begin_price(channel), made)
    wanted = [0.0 if x is None else x for x in used(channel, made)]
    np.testing.assert_allclose(after.used, wanted, rtol=1e-4)
    real = ~made.step.first[:, 1:]
    counted = {k: v.sum() for k, v in sent_in(channel, speech.spec, made).items()}
    assert float(figures["bits_per_step"]) == pytest.approx(float(counted["bits"]) / real.sum(), rel=1e-4)
    assert float(figures["messages_per_step"]) == pytest.approx(float(counted["messages"]) / real.sum(), rel=1e-4)


def test_prices_follow_a_proportional_integral_controller() -> None:
    """On log(used / aim) cut to -1..1, from the moment on when the channel closes; never below 0, nor above what is allowed."""
    channel = Broadcast(size=2, budget_bits=(5.0,), opening=0.3)
    speech, made = trajectory(channel, 1)
    start = begin_price(channel)
    assert start is not None
    spent = used(channel, made)[0]
    assert spent is not None
    error = float(np.clip(np.log(spent / (AIM * 5.0)), -1, 1))
    assert error > 0
    price, total = start, 0.0
    for progress in (0.0, 0.29, 0.3, 0.5, 0.9):
        price, figures = speech.next_price(price, made, jnp.float32(progress), whole)
        if progress < 0.3:
            assert float(price.now[0]) == float(price.sum[0]) == 0
            continue
        total = min(max(total + INTEGRAL * error, 0), HIGHEST)
        np.testing.assert_allclose(price.sum[0], total, rtol=1e-4)
        np.testing.assert_allclose(price.now[0], min(max(total + PROPORTIONAL * error, 0), HIGHEST), rtol=1e-4)
        assert float(figures["price"]) == float(price.now[0])
    silent = replace(made, step=replace(made.step, obs=tuple({**x, LINKS: np.zeros_like(x[LINKS])} for x in made.step.obs)))
    below, _ = speech.next_price(price, silent, jnp.float32(0.9), whole)
    np.testing.assert_allclose(below.sum[0], max(total - INTEGRAL, 0), rtol=1e-4)
    assert float(below.now[0]) == 0


def test_a_budget_of_each_agent_is_that_of_whoever_sent_most() -> None:
    speech, made = trajectory(Broadcast(size=2, budget_bits=(5.0,), per_agent=True), 2, 0.0)
    start = begin_price(speech.channel)
    assert start is not None
    after, _ = speech.next_price(start, made, jnp.float32(0.9), whole)
    links = np.concatenate([x[LINKS] for x in made.step.obs], 2)[:, 1:, :, 2 * N :]
    assert float(after.used[0]) == pytest.approx(links.sum(-1).mean(1).max(-1).max(), rel=1e-4)


def test_a_fixed_price_stays_and_budgets_that_were_not_met_keep_theirs() -> None:
    fixed, made = trajectory(Broadcast(size=2, price=0.25, opening=0.5), 3)
    start = begin_price(fixed.channel)
    assert start is not None
    for progress, price in ((0.4, 0.0), (0.5, 0.25)):
        after, figures = fixed.next_price(start, made, jnp.float32(progress), whole)
        assert float(after.now[0]) == float(figures["price"]) == price
    channel = Broadcast(size=2, budget_bits=(2.0, 1e6))
    speech, made = trajectory(replace(channel, budget_bits=(2.0,)), 3)
    speech = replace(speech, channel=channel)
    told = tuple({**x, "inbox": np.full((*x["inbox"].shape[:-1], 1), np.log2(2.0) / BUDGET_SCALE, np.float32)} for x in made.step.obs)
    made = replace(made, step=replace(made.step, obs=told))
    start = jax.tree.map(lambda x: jnp.array([0.5, 0.7], jnp.float32), begin_price(channel))
    after, _ = speech.next_price(start, made, jnp.float32(0.9), whole)
    assert float(after.sum[1]) == pytest.approx(0.7) and float(after.used[1]) == pytest.approx(0.7) and float(after.sum[0]) != 0.5


def test_without_a_budget_speaking_costs_nothing() -> None:
    speech, made = trajectory(Broadcast(size=2), 4)
    start: Any = begin_price(speech.channel)
    after, figures = speech.next_price(start, made, jnp.float32(0.9), whole)
    assert set(figures) == {"messages_per_step", "bits_per_step"} and float(after.now.sum()) == 0
    assert not np.asarray(speech.cost(after, jnp.ones((B, T, N)), made)).any()
