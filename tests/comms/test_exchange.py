"""One step of a channel, on what Hypothesis thinks of: links, holding, budgets, sizes of teams; held against plain Python."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marlstone.comms import Broadcast, Channel, Link, Targeted
from marlstone.comms.exchange import Messages, begin, draws, exchange
from marlstone.comms.layout import TalkLayout
from marlstone.core.records import replace
from marlstone.envs.make import make
from marlstone.evaluation.comms_cases import blank
from marlstone.evaluation.comms_mailbox import mailbox

T = 9
many = settings(max_examples=60, deadline=None)
shares = st.sampled_from([0.0, 0.2, 0.7, 1.0])
links = st.builds(Link, shares, st.sampled_from([0.1, 1.0]), shares, shares, st.integers(0, 3), shares)
teams = st.tuples(st.integers(2, 4), st.integers(0, 3), st.integers(0, 10_000))


def episode(channel: Channel, n: int, seed: int, often: float = 0.6) -> tuple[list[Any], np.ndarray, list[Messages]]:
    """What the wire, the budget, inboxes and bits were after each step, the uniform numbers, and what agents wanted to send."""
    rng = np.random.default_rng(seed)
    u = rng.random((T + 1, draws(channel), n, n), np.float32)
    wire, budget = begin(channel, n, u[0] if channel.drawing else None, channel.levels[0], np)
    out, asked = [(wire, budget, None, None)], []
    for t in range(T):
        to = (rng.random((n, n)) < often) & ~np.eye(n, dtype=bool)
        content = rng.normal(size=(n, channel.numbers)).astype(np.float32)
        asked.append(
            Messages(content, to, rng.exponential(4, n).astype(np.float32), rng.normal(size=(n, channel.private)).astype(np.float32))
        )
        wire, inbox, budget, bits = exchange(channel, wire, asked[-1], budget, u[t + 1] if channel.drawing else None)
        out.append((wire, budget, inbox, bits))
    return out, u, asked


@many
@given(links, teams)
def test_messages_arrive_as_a_mailbox_has_them(link: Link, team: tuple[int, int, int]) -> None:
    """Whatever the link does: lost, late, overtaken, twice, held; never before the next step."""
    n, hold, seed = team
    channel = Broadcast(size=2, link=link, hold=hold)
    out, u, asked = episode(channel, n, seed)
    ages = np.stack([wire.age for wire, *_ in out])
    np.testing.assert_array_equal(ages, mailbox(channel, np.stack([m.to for m in asked]), u))
    for s, (_, _, inbox, _) in enumerate(out[1:], 1):
        for i in range(n):
            heard = [asked[s - int(ages[s, i, j])].content[j] for j in range(n) if ages[s, i, j]]
            mean = np.mean(heard, 0) if heard else np.zeros(2)
            old = np.mean([1 / ages[s, i, j] for j in range(n) if ages[s, i, j]]) if heard else 0
            np.testing.assert_allclose(inbox[i], [*mean, len(heard) / (n - 1), old], atol=1e-5)


@many
@given(links, teams)
def test_attention_is_a_softmax_over_who_was_heard(link: Link, team: tuple[int, int, int]) -> None:
    n, hold, seed = team
    channel = Targeted(size=2, signature=3, link=link, hold=hold)
    out, _, asked = episode(channel, n, seed)
    for s, (wire, _, inbox, _) in enumerate(out[1:], 1):
        for i in range(n):
            heard = [asked[s - int(wire.age[i, j])].content[j] for j in range(n) if wire.age[i, j]]
            score = np.array([asked[s - 1].own[i] @ m[2:] / 3**0.5 for m in heard])
            share = np.exp(score - score.max(initial=0)) if heard else score
            value = sum((w * m[:2] for w, m in zip(share / share.sum(), heard, strict=True)), np.zeros(2)) if heard else np.zeros(2)
            np.testing.assert_allclose(inbox[i, :2], value, atol=1e-4)


@many
@given(links, teams, st.floats(0.5, 30), st.booleans())
def test_budgets_are_kept_in_every_prefix_and_senders_take_turns(
    link: Link, team: tuple[int, int, int], level: float, per_agent: bool
) -> None:
    """A plain loop over senders, the first of them another at each step: each message is sent whole while what is left suffices."""
    n, hold, seed = team
    channel = Broadcast(size=2, link=link, hold=hold, budget_bits=(float(np.float32(level)),), per_agent=per_agent)
    out, _, asked = episode(channel, n, seed)
    level, left = channel.budget_bits[0], np.full(n, channel.budget_bits[0])
    spent = np.zeros(n)
    for t, (wire, budget, _, bits) in enumerate(out[1:]):
        sent, refused = asked[t].to & (bits >= 0) & wire.sent, 0
        pool, asks = left.copy(), np.zeros(n)
        for k in range(n):
            j = (t + k) % n
            for i in range(n):
                if not asked[t].to[i, j]:
                    continue
                who = j if per_agent else 0
                asks[who] += asked[t].bits[j]
                if abs(asks[who] - pool[who]) > 1e-3:  # float32 may decide otherwise
                    assert wire.sent[i, j] == (asks[who] <= pool[who]), (t, i, j)
                refused += not wire.sent[i, j]
        assert wire.refused == refused and (wire.sent <= asked[t].to).all() and (sent == wire.sent).all()
        np.testing.assert_allclose(bits, np.where(wire.sent, asked[t].bits, 0))
        cost = bits.sum(0) if per_agent else np.full(n, bits.sum())
        spent, left = spent + cost, left - cost + level
        assert (spent <= level * (t + 1) * (1 + 1e-5) + 1e-4).all()
        np.testing.assert_allclose(budget.left, left if per_agent else left[0], rtol=1e-4, atol=1e-3)


def test_what_is_not_enforced_refuses_nothing_and_training_does_not_enforce() -> None:
    channel = Broadcast(size=2, budget_bits=(1.0,))
    assert not channel.training.enforce and channel.enforce and Broadcast(size=2).training == Broadcast(size=2)
    out, _, asked = episode(channel.training, 3, 0)
    assert all((wire.sent == m.to).all() and not wire.refused for (wire, *_), m in zip(out[1:], asked, strict=True))


@pytest.mark.parametrize("link", [Link(), Link(delay=1)], ids=["ideal", "late"])
def test_what_a_channel_keeps_back_without_drawing_is_kept_back_over_every_link(link: Link) -> None:
    @dataclass(frozen=True)
    class Upwards(Broadcast):
        """From lower agents to higher ones alone."""

        def admits(self, to: Any, u: Any) -> Any:
            return to & np.tri(to.shape[0], k=-1, dtype=bool)

    out, _, asked = episode(Upwards(size=2, link=link), 4, 0)
    for (wire, *_), m in zip(out[1:], asked, strict=True):
        np.testing.assert_array_equal(wire.sent, m.to & np.tri(4, k=-1, dtype=bool))


def test_links_are_bad_as_long_and_as_often_as_they_say() -> None:
    """Gilbert and Elliott's chain: the share of bad links is the stationary one from the first step on, and stays it."""
    link, rng = Link(to_bad=0.1, to_good=0.3, loss=1.0), np.random.default_rng(0)
    bad = link.begin(rng.random((400, 400), np.float32))
    runs = 0
    for _ in range(6):
        np.testing.assert_allclose(bad.mean(), 0.25, atol=0.01)
        after, arrives, again = link.fate(bad, rng.random((4, 400, 400), np.float32))
        runs = (bad & after).sum() / bad.sum()
        assert ((arrives == 0) == after).all() and not again.any()
        bad = after
    assert runs == pytest.approx(0.7, abs=0.01)


def test_copies_come_after_every_original_and_within_the_slots() -> None:
    link, rng = Link(loss_good=0.2, delay=2, copies=0.4), np.random.default_rng(0)
    _, arrives, again = link.fate(np.zeros((300, 300), bool), rng.random((4, 300, 300), np.float32))
    assert set(np.unique(arrives)) == {0, 1, 2, 3} and set(np.unique(again)) == {0, 4, 5, 6} and link.slots == 6
    np.testing.assert_allclose([(arrives == k).mean() for k in range(4)], [0.2, *[0.8 / 3] * 3], atol=0.01)
    assert not again[arrives == 0].any() and (again > 0).mean() == pytest.approx(0.8 * 0.4, abs=0.01)
    assert (Link(delay=2).slots, Link().slots, Link(copies=0.1).slots) == (3, 1, 2)
    assert Link(to_bad=0.3, loss=0.0).ideal and not Link(to_bad=0.3).ideal


def test_who_does_not_decide_hears_and_does_not_speak() -> None:
    """Out of turn an action counts for nothing, and nor does what it would say: bits that nobody learns from are never sent."""
    env = make("proving:pair")
    layout = TalkLayout(Broadcast(size=1, gate=False), env.spec)
    here = np.array([True, True, True, False])
    step = replace(blank(env.spec, here, ({},) * 2), deciding=np.array([False, True, True, True]))
    allowed = layout.allowed(step)
    assert allowed.any(0).tolist() == [False, True, True, False] and allowed.any(1).tolist() == [True, True, True, False]
