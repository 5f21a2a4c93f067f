"""What agents say: noise that does not depend on it, codes that exist, bits expected as they are counted, gradients past rounding."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marlstone.core.distributions import Content, Gate, MultiDiscrete
from marlstone.core.distributions.speech import LEAST_SHARE

few = settings(max_examples=15, deadline=None)
DRAWS = 20_000


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@few
@given(st.integers(1, 4), st.sampled_from([0.1, 0.5, 2.0]), st.floats(-3, 3))
def test_dither_is_noise_that_does_not_depend_on_what_is_said(size: int, step: float, at: float) -> None:
    """Uniform in a step around what the network put out, with the same mean and spread wherever that lies; a multiple of the step, less the
    dither that both sides know, so that it can be coded."""
    content = Content(size, "dithered", step)
    head = np.full((DRAWS, size), at, np.float32)
    noise = content.noise(rng(), (DRAWS,))
    action = content.sample(head, None, noise)
    error = content.sent(action) - head
    assert np.abs(error).max() <= step / 2 * (1 + 1e-3) + 1e-5
    assert np.abs(error.mean(0)).max() < step * 0.01
    np.testing.assert_allclose(error.std(0), step / 12**0.5, rtol=0.02)
    whole = content.sent(action) / step + noise
    np.testing.assert_allclose(whole, np.round(whole), atol=1e-3)
    np.testing.assert_allclose(content.bits(action), np.log2(2 * np.abs(head) / step + 1).sum(-1), rtol=1e-3, atol=1e-4)


@few
@given(st.integers(2, 9), st.integers(0, 99))
def test_symbols_have_a_code_and_cost_what_is_expected(size: int, seed: int) -> None:
    """Kraft's inequality, also where some share is 0; no symbol costs more than its least share; expected bits are the mean of bits."""
    content, draw = Content(size, "symbols"), np.random.default_rng(seed)
    shares = draw.random(size).astype(np.float32) * (draw.random(size) < 0.7)
    head = content.with_shares(np.concatenate([draw.normal(size=size), np.zeros(size)]).astype(np.float32), shares)
    lengths = -head[size:] / np.log(2)
    assert (2.0**-lengths).sum() <= 1 + 1e-5 and lengths.max() <= -np.log2(LEAST_SHARE) + 0.01
    heads = np.broadcast_to(head, (DRAWS, 2 * size))
    action = content.sample(heads, None, content.noise(draw, (DRAWS,)))
    sent = content.sent(action)
    assert set(np.unique(sent)) <= {0.0, 1.0} and (sent.sum(-1) == 1).all()
    p = np.exp(head[:size] - head[:size].max())
    np.testing.assert_allclose(sent.mean(0), p / p.sum(), atol=0.02)
    bits = content.bits(action)
    np.testing.assert_allclose(bits, (sent * lengths).sum(-1), rtol=1e-4, atol=1e-4)
    assert abs(float(content.expected_bits(head)) - bits.mean()) < 5 * bits.std() / DRAWS**0.5 + 1e-3


def test_what_is_said_without_shares_costs_as_if_all_were_equally_likely() -> None:
    content = Content(4, "symbols")
    head = content.with_shares(np.zeros((3, 8), np.float32), np.ones(4, np.float32))
    np.testing.assert_allclose(content.expected_bits(head), 2, rtol=1e-4)


@pytest.mark.parametrize("content", [Content(3), Content(3, bounded=False), Content(3, "dithered"), Content(3, "symbols")], ids=str)
def test_learning_says_what_acting_sent_and_gradients_pass(content: Content) -> None:
    """`resent` under the recorded noise is what was sent; its gradient is that of a message that was not rounded; no probability, no
    entropy, no bonus."""
    head = jnp.asarray(rng().normal(size=(5, content.head)), jnp.float32)
    action = content.sample(head, None, content.noise(jax.random.key(0), (5,)))
    assert action.shape[1:] == content.action_shape
    np.testing.assert_allclose(content.resent(head, action), content.sent(action), atol=1e-6)
    grad = jax.grad(lambda h: (content.resent(h, action) * jnp.arange(1.0, 4)).sum())(head)[:, :3]
    assert np.isfinite(grad).all() and grad.any(-1).all()
    if content.form == "dithered":
        np.testing.assert_allclose(grad, np.tile([1.0, 2, 3], (5, 1)))
    assert not content.log_prob(head, None, action).any() and not content.entropy(head, None).any()
    bits = jax.grad(lambda h: content.expected_bits(h).sum())(head)
    assert bits.any() == (content.form != "float")


def test_floats_cost_32_bits_a_number_and_stay_within_bounds() -> None:
    content, head = Content(3), np.array([[5.0, -9, 0.1]], np.float32)
    action = content.mode(head, None)
    np.testing.assert_allclose(content.sent(action), np.tanh(head), rtol=1e-6)
    assert content.bits(action) == content.expected_bits(head) == 96
    assert content.sample(head, None, content.noise(rng(), (1,))).tolist() == action.tolist()


def test_numpy_and_jax_say_the_same() -> None:
    for content in (Content(3), Content(3, "dithered"), Content(3, "symbols")):
        head, noise = rng().normal(size=(7, content.head)).astype(np.float32), content.noise(rng(), (7,))
        ours, theirs = (content.sample(xp.asarray(head), None, xp.asarray(noise)) for xp in (np, jnp))
        assert isinstance(ours, np.ndarray)
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(content.bits(ours), content.bits(theirs), rtol=1e-5)


@few
@given(st.integers(1, 4), st.floats(-3, 3))
def test_gates_begin_open_and_are_choices_without_a_bonus(choices: int, opening: float) -> None:
    gate = Gate((2,) * choices, opening)
    _, b = gate.start(np.zeros((3, gate.head), np.float32), np.zeros(gate.head, np.float32))
    head = np.broadcast_to(b, (DRAWS, gate.head))
    p = 1 / (1 + np.exp(-opening))
    np.testing.assert_allclose(gate.speaks(head[:1], None), np.full((1, choices), p), rtol=1e-4)
    action = gate.sample(head, None, gate.noise(rng(), (DRAWS,)))
    np.testing.assert_allclose(action.mean(0), p, atol=0.02)
    assert not gate.entropy(head, None).any()
    ones = np.where(action == 1, np.log(p), np.log1p(-p)).sum(-1)
    np.testing.assert_allclose(gate.log_prob(head, None, action), ones, rtol=1e-3, atol=1e-4)


@few
@given(st.integers(1, 4), st.integers(0, 99))
def test_gates_are_choices_between_two_options(choices: int, seed: int) -> None:
    """As `MultiDiscrete` has them: the same samples and modes, log-probabilities and gradients, whatever is legal and however sure the
    policy is, in NumPy and JAX."""
    gate, plain, draw = Gate((2,) * choices), MultiDiscrete((2,) * choices), np.random.default_rng(seed)
    head = (draw.normal(size=(50, gate.head)) * draw.choice([0.1, 3, 200])).astype(np.float32)
    noise, mask = plain.noise(draw, (50,)), draw.random((50, gate.head)) < 0.7
    for legal in (None, mask):
        action = plain.sample(head, legal, noise)
        for xp in (np, jnp):
            np.testing.assert_array_equal(gate.sample(xp.asarray(head), legal, noise), action)
            np.testing.assert_array_equal(gate.mode(xp.asarray(head), legal), plain.mode(head, legal))
            np.testing.assert_allclose(
                gate.log_prob(xp.asarray(head), legal, action), plain.log_prob(head, legal, action), rtol=1e-4, atol=1e-5
            )
        ours, theirs = (jax.grad(lambda h, d=d, ok=legal, a=action: d.log_prob(h, ok, a).sum())(jnp.asarray(head)) for d in (gate, plain))
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
        speaks = jax.grad(lambda h, ok=legal: gate.speaks(h, ok).sum())(jnp.asarray(head))
        assert np.isfinite(speaks).all()


def test_a_gate_that_is_forbidden_is_shut() -> None:
    """Nobody speaks to itself: that option has no probability, and speaking there is not expected to cost anything."""
    gate, head = Gate((2, 2)), np.zeros((1, 4), np.float32)
    legal = np.array([[True, True, True, False]])
    np.testing.assert_allclose(gate.speaks(head, legal), [[0.5, 0.0]], atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ((0, "float"), "Content.size is 0: give at least 1"),
        ((1, "symbols"), "Content.size is 1: give at least 2"),
        ((2, "words"), "Content.form is 'words': choose one of float, dithered, symbols"),
        ((2, "dithered", 0.0), "Content.step is 0.0: give a positive number"),
    ],
)
def test_content_that_cannot_be_is_refused(fields: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Content(*fields)
