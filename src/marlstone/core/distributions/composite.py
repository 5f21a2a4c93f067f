"""Choices and numbers in one action: independent parts, each a distribution of its own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from marlstone.core.arrays import Array
from marlstone.core.distributions.box import Box
from marlstone.core.distributions.categorical import log_softmax, masked
from marlstone.core.distributions.discrete import Discrete
from marlstone.core.distributions.multi_discrete import MultiDiscrete
from marlstone.core.distributions.speech import Content, Gate

Part = Discrete | MultiDiscrete | Box | Content
NUMBERS = Box | Content
POINTS = 32  # recorded actions over which an expectation is taken; a multiple of a Box's 8


@dataclass(frozen=True)
class _Place:
    """Where a part stands in heads, in recorded actions, and in encodings, masks and noise."""

    name: str
    part: Part
    head: slice
    action: slice
    code: slice

    def of_action(self, action: Array) -> Array:
        """The part's own recorded action."""
        mine = action[..., self.action]
        if isinstance(self.part, NUMBERS):
            return mine
        mine = mine.astype(np.int32)
        return mine[..., 0] if isinstance(self.part, Discrete) else mine

    def in_action(self, mine: Array) -> Array:
        """The part's entries of the whole action."""
        mine = mine.__array_namespace__().asarray(mine, dtype=np.float32)
        return mine[..., None] if isinstance(self.part, Discrete) else mine

    def legal(self, legal: Array | None) -> Array | None:
        """The part's own mask."""
        return None if legal is None else legal[..., self.code]


@dataclass(frozen=True)
class Composite:
    """Several parts in one action, some of them choices and some numbers: a Dict or Tuple of both, flattened.

    Recorded actions are float32 `[... k]`, part after part: a Discrete's index, a MultiDiscrete's indices, a Box's numbers before `emit`
    squashes them; float32 holds every index exactly. `legal`, encodings and noise are `[... a]`, part after part too: an entry for every
    option, and one for every number, where False means padding. Parts are independent given what the agent sees, so log-probabilities
    and entropies add up.

    Attributes:
      parts: at least one Box, and at least one Discrete or MultiDiscrete.
      names: one per part, as the environment calls them (`"arm/grip"`); none: their numbers.

    Raises:
      ValueError: parts that are all choices or all numbers, for which there are simpler spaces; other kinds of parts; names that repeat.
    """

    parts: tuple[Part, ...]
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for p in self.parts:
            if not isinstance(p, Part):
                raise ValueError(f"Composite.parts holds {p!r}: give Discrete, MultiDiscrete and Box, one after another, not nested")
        numbers = [isinstance(p, NUMBERS) for p in self.parts]
        if not any(numbers):
            sizes = tuple(n for p in self.parts for n in (p.sizes if isinstance(p, MultiDiscrete) else (p.size,)))
            raise ValueError(f"Composite.parts are all choices: use MultiDiscrete({sizes}), which value-based learners take, too")
        if all(numbers) and not any(isinstance(p, Content) for p in self.parts):
            raise ValueError(f"Composite.parts are all Boxes: use Box({sum(p.width for p in self.parts)})")
        if not self.names:
            object.__setattr__(self, "names", tuple(map(str, range(len(self.parts)))))
        if len(self.names) != len(self.parts) or len(set(self.names)) < len(self.names):
            raise ValueError(f"Composite.names is {self.names}: give {len(self.parts)} different names, one per part")

    @cached_property
    def _places(self) -> tuple[_Place, ...]:
        lengths = [(p.head, max(1, sum(p.action_shape)), p.width) for p in self.parts]
        ends = np.cumsum(lengths, axis=0)
        slices = [[slice(int(e) - n, int(e)) for n, e in zip(ns, es, strict=True)] for ns, es in zip(lengths, ends, strict=True)]
        return tuple(_Place(name, p, *s) for name, p, s in zip(self.names, self.parts, slices, strict=True))

    @property
    def head(self) -> int:
        """The outputs of every part, one after another."""
        return sum(p.head for p in self.parts)

    @property
    def width(self) -> int:
        """One entry for every option of the choices and for every number."""
        return sum(p.width for p in self.parts)

    @property
    def action_shape(self) -> tuple[int, ...]:
        """One entry for every choice and for every number."""
        return (self._places[-1].action.stop,)

    @property
    def action_dtype(self) -> Any:
        """Numbers are real, and indices stand among them."""
        return np.float32

    @cached_property
    def chosen(self) -> np.ndarray:
        """`[a]` booleans: which entries of encodings and masks are options of a choice; the others are numbers."""
        return np.concatenate([np.full(p.width, not isinstance(p, NUMBERS)) for p in self.parts])

    # ---- between the whole and its parts
    def split(self, action: Array) -> dict[str, Array]:
        """By part's name: indices as int32 `[...]` or `[... choices]`, numbers `[... size]`. Of recorded and of emitted actions."""
        return {at.name: at.of_action(action) for at in self._places}

    def join(self, parts: Mapping[str, Array]) -> Array:
        """The inverse of `split`: float32 `[... k]`."""
        return self._join([parts[name] for name in self.names])

    def _join(self, parts: list[Array]) -> Array:
        joined = [at.in_action(x) for at, x in zip(self._places, parts, strict=True)]
        return joined[0].__array_namespace__().concat(joined, axis=-1)

    def by_part(self, head: Array) -> list[Array]:
        """Every part's own head."""
        return [head[..., at.head] for at in self._places]

    def masks(self, legal: Array | None) -> list[Array | None]:
        """Every part's own mask."""
        return [at.legal(legal) for at in self._places]

    # ---- the distribution
    def noise(self, key: Array, shape: tuple[int, ...]) -> Array:
        """Gumbel for the choices, normal for the numbers, `[*shape a]`; from a JAX key, each part by a key of its own."""
        if isinstance(key, np.random.Generator):
            return np.concatenate([p.noise(key, shape) for p in self.parts], axis=-1)
        import jax

        keys = jax.random.split(key, len(self.parts))
        return jax.numpy.concatenate([p.noise(k, shape) for p, k in zip(self.parts, keys, strict=True)], axis=-1)

    def sample(self, head: Array, legal: Array | None, noise: Array) -> Array:
        """Every part by its own noise."""
        return self._join([at.part.sample(head[..., at.head], at.legal(legal), noise[..., at.code]) for at in self._places])

    def mode(self, head: Array, legal: Array | None) -> Array:
        """The likeliest legal option of every choice, and the numbers' means before squashing."""
        return self._join([at.part.mode(head[..., at.head], at.legal(legal)) for at in self._places])

    def with_temperature(self, head: Array, temperature: float) -> Array:
        """The head of every part at that temperature."""
        return head.__array_namespace__().concat(
            [at.part.with_temperature(head[..., at.head], temperature) for at in self._places], axis=-1
        )

    def start(self, w: Array, b: Array) -> tuple[Array, Array]:
        """The last layer `w [... i h]`, `b [... h]` of an untrained policy, as the parts that say something begin."""
        return self._layer(lambda part, w, b: part.start(w, b) if isinstance(part, Gate | Content) else (w, b), w, b)

    def scale_head(self, w: Array, b: Array, factor: Array) -> tuple[Array, Array]:
        """The last layer `w [... i h]`, `b [... h]` of a policy every part of which is `factor` times as sharp."""
        return self._layer(lambda part, w, b: part.scale_head(w, b, factor), w, b)

    def _layer(self, change: Callable[[Part, Array, Array], tuple[Array, Array]], w: Array, b: Array) -> tuple[Array, Array]:
        scaled = [change(at.part, w[..., at.head], b[..., at.head]) for at in self._places]
        xp = b.__array_namespace__()
        return xp.concat([x for x, _ in scaled], axis=-1), xp.concat([x for _, x in scaled], axis=-1)

    def log_prob(self, head: Array, legal: Array | None, action: Array) -> Array:
        """The sum over parts: log-probabilities of choices, log-densities of squashed numbers."""
        return sum(at.part.log_prob(head[..., at.head], at.legal(legal), at.of_action(action)) for at in self._places)

    def entropy(self, head: Array, legal: Array | None) -> Array:
        """The sum over parts, in nats; of numbers as `Box.entropy`."""
        return sum(at.part.entropy(head[..., at.head], at.legal(legal)) for at in self._places)

    def mixed(self, head: Array, legal: Array | None, epsilon: Array, default: Any = None) -> Array:
        """The head that explores in every choice by itself, as `Discrete.mixed`; numbers explore by their own deviation."""

        def of(at: _Place) -> Array:
            mine, ok = head[..., at.head], at.legal(legal)
            if isinstance(at.part, NUMBERS):
                return mine
            return at.part.mixed(mine, ok, epsilon, None if default is None else at.of_action(self._declared(default)))

        return head.__array_namespace__().concat([of(at) for at in self._places], axis=-1)

    def _declared(self, default: Any) -> np.ndarray:
        declared = np.asarray(default, np.float32)  # one number stands for all entries
        return np.broadcast_to(declared, self.action_shape) if declared.ndim == 0 else declared

    def points(self, head: Array, legal: Array | None = None) -> Array:
        """Recorded actions over which expectations under the policy are taken, equally weighted, `[32 ... k]`, by the same fixed draws in
        every step: numbers as `Box.points`, choices at 32 evenly spaced quantiles, each part in a random order of its own.

        An option's share is off by at most 1/32; a baseline made of them depends on no action, so that policy gradients keep their mean.
        """
        out, rng = [], np.random.default_rng(1)
        for at in self._places:
            mine, ok = head[..., at.head], at.legal(legal)
            if isinstance(at.part, NUMBERS):
                few = at.part.points(mine)
                out.append(few[rng.permutation(POINTS) % len(few)])
            elif isinstance(at.part, Discrete):
                out.append(_quantiles(mine, ok, rng))
            else:
                out.append(_choices(at.part, mine, ok, rng))
        return self._join(out)

    # ---- for networks, credit and environments
    def encode(self, action: Array) -> Array:
        """One-hots of the choices and squashed numbers, part after part, `[... a]`."""
        parts = [at.part.encode(at.of_action(action)) for at in self._places]
        return parts[0].__array_namespace__().concat(parts, axis=-1)

    def legal_or_default(self, action: Array, legal: Array | None, default: Array | None = None) -> Array:
        """Choice by choice as `Discrete.legal_or_default`; numbers as they are."""
        of = lambda at: None if default is None else at.of_action(default)
        parts = [at.part.legal_or_default(at.of_action(action), at.legal(legal), of(at)) for at in self._places]
        return self._join(parts).astype(action.dtype)

    def emit(self, action: Array) -> Array:
        """Indices as they are, numbers squashed into (-1, 1), in one float32 array: `split` takes it apart."""
        return self._join([at.part.emit(at.of_action(action)) for at in self._places])


def _quantiles(head: Array, legal: Array | None, rng: np.random.Generator) -> Array:
    """Options of one choice at evenly spaced quantiles of its policy, in a random order, `[32 ...]`."""
    xp = head.__array_namespace__()
    below = xp.cumsum(xp.exp(log_softmax(masked(head, legal))), axis=-1)
    at = ((rng.permutation(POINTS) + 0.5) / POINTS).astype(np.float32).reshape(-1, *(1,) * head.ndim)
    return xp.sum(below[None, ..., :-1] < at, axis=-1).astype(np.int32)


def _choices(part: MultiDiscrete, head: Array, legal: Array | None, rng: np.random.Generator) -> Array:
    """Of every choice, `[32 ... choices]`."""
    xp, ends = head.__array_namespace__(), np.cumsum(part.sizes)
    parts = [slice(int(e) - n, int(e)) for n, e in zip(part.sizes, ends, strict=True)]
    return xp.stack([_quantiles(head[..., s], None if legal is None else legal[..., s], rng) for s in parts], axis=-1)
