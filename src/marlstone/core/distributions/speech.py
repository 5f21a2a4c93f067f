"""What an agent says, beside what it does: whether it speaks (`Gate`), and what (`Content`). Parts of a `Composite`.

A gate is a choice with a log-probability, without an entropy bonus: pulled towards one half it would never settle. Content is no choice:
it is a number (or a symbol) that the network puts out, without log-probability, and it learns from what its receivers' losses say of it.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from marlstone.core.arrays import Array
from marlstone.core.distributions.categorical import gumbel, log_softmax, masked
from marlstone.core.distributions.multi_discrete import MultiDiscrete

Form = Literal["float", "dithered", "symbols"]
FORMS: tuple[Form, ...] = ("float", "dithered", "symbols")
FLOAT_BITS = 32
SOFT = 6.0  # temperature of the softmax by which gradients reach a symbol's sender: at 1 they vanish once it is sure of itself
LEAST_SHARE = 1e-4  # of a symbol, as its code is made: none costs more than 13.3 bits


@dataclass(frozen=True)
class Gate(MultiDiscrete):
    """Whether to speak: one choice for all recipients, or one for each, between 0 (silent) and 1 (speaks). `open` is the logit with which
    gates begin: an untrained policy speaks with probability 1 / (1 + exp(-open))."""

    open: float = 2.0

    def entropy(self, head: Array, legal: Array | None) -> Array:
        """0: no bonus pulls gates towards one half."""
        return head.__array_namespace__().zeros_like(head[..., 0])

    def start(self, w: Array, b: Array) -> tuple[Array, Array]:
        """The last layer `w [... i h]`, `b [... h]` of an untrained policy, its gates open."""
        return w, b + self.open * (np.arange(self.head) % 2).astype(np.float32)

    # Two options each: all choices at once, by how much the logit of speaking is above that of silence.
    def _above(self, logits: Array) -> Array:
        return logits[..., 1::2] - logits[..., ::2]

    def sample(self, head: Array, legal: Array | None, noise: Array) -> Array:
        """Every choice by the Gumbel-max trick."""
        return (self._above(masked(head, legal) + noise) > 0).astype(np.int32)

    def mode(self, head: Array, legal: Array | None) -> Array:
        """To speak, where that is the likelier option."""
        return (self._above(masked(head, legal)) > 0).astype(np.int32)

    def log_prob(self, head: Array, legal: Array | None, action: Array) -> Array:
        """The sum over choices, which are independent."""
        xp, above = head.__array_namespace__(), self._above(masked(head, legal))
        return -xp.sum(_softplus(above * (1 - 2 * action).astype(np.float32)), axis=-1)

    def speaks(self, head: Array, legal: Array | None) -> Array:
        """The probability of speaking, choice by choice, `[... choices]`."""
        return head.__array_namespace__().exp(-_softplus(-self._above(masked(head, legal))))


def _softplus(x: Array) -> Array:
    """log(1 + e^x), whatever x; in absolute values, whose gradient costs half of what that of a maximum does."""
    xp = x.__array_namespace__()
    size = xp.abs(x)
    return (x + size) / 2 + xp.log(1 + xp.exp(-size))


@dataclass(frozen=True)
class Content:
    """`size` numbers that an agent says.

    Forms, z being the network's output:
      float      z itself, tanh where it is `bounded`; 32 bits a number
      dithered   step (round(z / step + u) - u), u uniform in [-1/2, 1/2) and known to both sides: z plus noise that does not depend on it;
                 log2(2 |z| / step + 1) bits a number (DDCL, 2511.01554)
      symbols    one of `size` symbols, one-hot, drawn by Gumbel noise from the softmax of z; -log2 of the symbol's share, which the second
                 half of the head holds (`comms.contract`): learned, and the same whatever the agent sees

    The recorded action is what is sent, `[size]`, followed by what sent it (nothing; the quantization error; the noise), so that `resent`
    can say what other parameters would have sent under the same noise, with gradients that pass as if nothing were rounded.

    Raises:
      ValueError: another form, no numbers, or a step that is not above 0.
    """

    size: int
    form: Form = "float"
    step: float = 0.5
    bounded: bool = True

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ValueError(f"Content.form is {self.form!r}: choose one of {', '.join(FORMS)}")
        if self.size < 1 or (self.form == "symbols" and self.size < 2):
            raise ValueError(f"Content.size is {self.size}: give at least {2 if self.form == 'symbols' else 1}")
        if not self.step > 0:
            raise ValueError(f"Content.step is {self.step}: give a positive number")

    @property
    def head(self) -> int:
        """One output a number; of symbols, a logit and the log of its share each."""
        return 2 * self.size if self.form == "symbols" else self.size

    @property
    def width(self) -> int:
        """Entries of encodings, masks and noise."""
        return self.size

    @property
    def action_shape(self) -> tuple[int, ...]:
        """What is sent, and what it takes to say what others would have sent."""
        return (self.size if self.form == "float" else 2 * self.size + (self.form == "symbols"),)

    @property
    def action_dtype(self) -> Any:
        """Numbers."""
        return np.float32

    # ---- what is said
    def noise(self, key: Array, shape: tuple[int, ...]) -> Array:
        """Dither in [-1/2, 1/2), Gumbel for symbols, zeros for floats, `[*shape size]`."""
        full = (*shape, self.size)
        if self.form == "symbols":
            return gumbel(key, full)
        if isinstance(key, np.random.Generator):
            return np.zeros(full, np.float32) if self.form == "float" else key.random(full, np.float32) - np.float32(0.5)
        import jax

        return jax.numpy.zeros(full) if self.form == "float" else jax.random.uniform(key, full) - 0.5

    def sample(self, head: Array, legal: Array | None, noise: Array) -> Array:
        """What is sent under this noise, as recorded."""
        xp = head.__array_namespace__()
        if self.form == "float":
            return self._bounded(head)
        if self.form == "dithered":
            sent = self.step * (xp.round(head / self.step + noise) - noise)
            return xp.concat([sent, sent - head], axis=-1)
        logits, shares = head[..., : self.size], head[..., self.size :]
        sent = self._hot(logits + noise)
        return xp.concat([sent, noise, -xp.sum(sent * shares, axis=-1, keepdims=True) / np.float32(np.log(2))], axis=-1)

    def mode(self, head: Array, legal: Array | None) -> Array:
        """What is sent without noise."""
        return self.sample(head, legal, head.__array_namespace__().zeros_like(head[..., : self.size]))

    def resent(self, head: Array, action: Array) -> Array:
        """What `head` would have sent under the noise of a recorded action, `[... size]`; differentiable in `head`."""
        xp = head.__array_namespace__()
        if self.form == "float":
            return self._bounded(head)
        rest = action[..., self.size : 2 * self.size]
        if self.form == "dithered":
            return head + rest
        from jax import lax

        soft = xp.exp(log_softmax((head[..., : self.size] + rest) / SOFT))
        return soft + lax.stop_gradient(self._hot(head[..., : self.size] + rest) - soft)

    def sent(self, action: Array) -> Array:
        """What was sent, of a recorded action, `[... size]`."""
        return action[..., : self.size]

    def bits(self, action: Array) -> Array:
        """Bits of what was sent, `[...]`."""
        xp = action.__array_namespace__()
        if self.form == "float":
            return xp.full(action.shape[:-1], np.float32(FLOAT_BITS * self.size))
        if self.form == "dithered":
            return self._magnitude(action[..., : self.size] - action[..., self.size :])
        return action[..., -1]

    def expected_bits(self, head: Array) -> Array:
        """Bits that `head` says on average, `[...]`, differentiable in it."""
        xp = head.__array_namespace__()
        if self.form == "float":
            return xp.full(head.shape[:-1], np.float32(FLOAT_BITS * self.size))
        if self.form == "dithered":
            return self._magnitude(head)
        p = xp.exp(log_softmax(head[..., : self.size]))
        return -xp.sum(p * head[..., self.size :], axis=-1) / np.float32(np.log(2))

    def with_shares(self, head: Array, shares: Array) -> Array:
        """The head of symbols whose codes are made for `shares [... size]`, which need not add up to 1; others as they are."""
        if self.form != "symbols":
            return head
        xp = head.__array_namespace__()
        p = xp.maximum(shares, 0) + 1e-8
        p = xp.maximum(p / xp.sum(p, axis=-1, keepdims=True), LEAST_SHARE)
        logp = xp.log(p / xp.sum(p, axis=-1, keepdims=True))
        logits = head[..., : self.size]
        return xp.concat([logits, xp.broadcast_to(logp, logits.shape).astype(head.dtype)], axis=-1)

    def _bounded(self, head: Array) -> Array:
        return head.__array_namespace__().tanh(head) if self.bounded else head

    def _magnitude(self, z: Array) -> Array:
        xp = z.__array_namespace__()
        return xp.sum(xp.log2(2 * xp.abs(z) / self.step + 1), axis=-1)

    def _hot(self, x: Array) -> Array:
        xp = x.__array_namespace__()
        return (xp.arange(self.size) == xp.argmax(x, axis=-1)[..., None]).astype(np.float32)

    # ---- as any other part of an action
    def start(self, w: Array, b: Array) -> tuple[Array, Array]:
        """The last layer of an untrained policy: a hundred times that of choices, whose gain is .01, so that there is something to hear; of
        symbols five times more, so that an untrained sender means something by them."""
        return (500 if self.form == "symbols" else 100) * w, b

    def with_temperature(self, head: Array, temperature: float) -> Array:
        """The same head: content is no choice."""
        return head

    def scale_head(self, w: Array, b: Array, factor: Array) -> tuple[Array, Array]:
        """The last layer as it is."""
        return w, b

    def log_prob(self, head: Array, legal: Array | None, action: Array) -> Array:
        """0."""
        return head.__array_namespace__().zeros_like(head[..., 0])

    def entropy(self, head: Array, legal: Array | None) -> Array:
        """0."""
        return head.__array_namespace__().zeros_like(head[..., 0])

    def points(self, head: Array, legal: Array | None = None) -> Array:
        """What is sent without noise, `[1 ... k]`."""
        return self.mode(head, legal)[None]

    def encode(self, action: Array) -> Array:
        """What was sent, within (-1, 1)."""
        return action.__array_namespace__().tanh(self.sent(action))

    def legal_or_default(self, action: Array, legal: Array | None, default: Array | None = None) -> Array:
        """The action: nothing that is said is illegal."""
        return action

    def emit(self, action: Array) -> Array:
        """The recorded action: the channel takes it apart."""
        return action
