"""Policies that know what they have not seen: a gate on every agent's observation, and what acts in its place outside.

    score = max(d(x) / u_d,  max_f g_f(x_f) / u_f,  s / u_s),      outside: score > threshold, or no number

of features x, an agent's observation as its policy sees it (normalized, clipped; pictures as 4 x 4 means): d, the distance to the
nearest of a core of observations; g_f, how far reading f is from the nearest value ever read; s, for how many rows nothing has
changed at all. Units u say how large each was on familiar episodes that the core does not come from. Array code only, NumPy or
JAX; fitted and calibrated in `evaluation.robustness.gate`.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from marlstone.algorithm import Algorithm
from marlstone.core.distributions import Box
from marlstone.core.errors import UserError, suggest
from marlstone.core.normalize import CLIP
from marlstone.core.records import record, replace
from marlstone.core.types import Group, Leaf, Spec, Step
from marlstone.play.action_selectors import Actions, Decider, chosen

Array = Any
Fallback = Literal["default", "baseline", "ask"]
CORE, VALUES, POOL = 256, 64, 4  # observations and values of each reading that a gate remembers; a picture's rows and columns of means
STREAM = 7207  # folded into a row's key for the baseline, apart from what the policy draws


@record
class Familiar:
    """What one group is used to: `mean`, `std [n f]` make features; `real [n f]`, which of them are no padding; `core [CORE f]`; `values
    [VALUES f]`; the units of distance `[]`, of each reading `[f]` and of stillness `[]`."""

    mean: Array
    std: Array
    real: Array
    core: Array
    values: Array
    distance: Array
    reading: Array
    still: Array


@record
class Gate:
    """A gate for every group, and one threshold for all: infinite, the gate is off."""

    groups: tuple[Familiar, ...]
    threshold: Array


# ---- features and scores
def _pool(size: int) -> np.ndarray:
    """`[rows size]`: means over as many stretches as a picture keeps."""
    parts = np.array_split(np.arange(size), min(POOL, size))
    return np.stack([np.isin(np.arange(size), p) / len(p) for p in parts]).astype(np.float32)


def width(leaf: Leaf) -> int:
    """How many features a leaf becomes."""
    return leaf.shape[0] if leaf.kind == "vector" else min(POOL, leaf.shape[0]) * min(POOL, leaf.shape[1]) * leaf.shape[2]


def readings(group: Group, obs: dict[str, Array]) -> Array:
    """A group's observation as plain numbers, `[... n f]`, leaves in the spec's order."""
    xp, parts = next(iter(obs.values())).__array_namespace__(), []
    for name, leaf in group.observation.items():
        x = obs[name].astype(np.float32)
        if leaf.kind == "image":
            means = xp.einsum("ph,qw,...hwc->...pqc", _pool(leaf.shape[0]), _pool(leaf.shape[1]), x)
            x = means.reshape(*means.shape[:-3], -1) / (255 if leaf.dtype == "uint8" else 1)
        parts.append(x)
    return xp.concatenate(parts, axis=-1)


def features(known: Familiar, x: Array) -> Array:
    """Readings `[... n f]` as the policy sees them; padding is 0."""
    xp = x.__array_namespace__()
    return xp.where(known.real > 0, xp.clip((x - known.mean) / known.std, -CLIP, CLIP), 0)


def strangeness(known: Familiar, x: Array) -> tuple[Array, Array]:
    """Of features `[... n f]`: distance to the core `[... n]`, and of each reading to the nearest value `[... n f]`."""
    xp = x.__array_namespace__()
    squares = ((x[..., None, :] - known.core) ** 2 * known.real[:, None, :]).sum(-1)
    gaps = xp.abs(x[..., None, :] - known.values).min(-2) * known.real
    return xp.sqrt(squares.min(-1)), gaps


def score(known: Familiar, x: Array, still: Array) -> Array:
    """`[... n]` of features `[... n f]` and how many rows they have not changed `[... n]`."""
    xp = x.__array_namespace__()
    distance, gaps = strangeness(known, x)
    return xp.maximum(xp.maximum(distance / known.distance, (gaps / known.reading).max(-1)), still / known.still)


def outside(gate: Gate, scores: Array) -> Array:
    """NaN, which no number is, lies outside."""
    return ~(scores <= gate.threshold) & (gate.threshold < np.inf)


# ---- deciding
@record
class Guarded:
    """What `Gated` decides by: what its inner decider does, a gate, and what its baseline decides by (() without one)."""

    policy: Any
    gate: Gate
    baseline: Any = ()


@record
class Watching:
    """Memory: of both deciders; per group the last features `[b n_g f]`; `still [b n]`, rows since they changed; `away [b n]`, who was
    outside; and what is told."""

    inner: Any
    baseline: Any
    seen: tuple[Array, ...]
    still: Array
    away: Array
    told: dict[str, Array]


@dataclass(frozen=True)
class Gated:
    """`inner`, but where an agent's observation lies outside the gate, `fallback` acts for it:

    `default`: the declared default action, or, where that is illegal, the first legal one; `baseline`: what the `baseline` decides, which
    watches from the beginning; `ask`: the default, while somebody is asked: one question each time an agent gets outside.
    Tells `outside`, decisions taken by the fallback, and `asked`, questions, summed over agents.
    """

    inner: Decider
    fallback: Fallback = "default"
    baseline: Decider | None = None

    def __post_init__(self) -> None:
        if self.fallback not in get_args(Fallback):
            raise UserError(f"Gated.fallback is {self.fallback!r}: {suggest(self.fallback, get_args(Fallback))}")
        if (self.fallback == "baseline") != (self.baseline is not None):
            raise UserError(f"Gated.fallback is {self.fallback!r} with baseline = {self.baseline!r}: one needs the other")
        if self.baseline is not None and self.baseline.algorithm.spec.groups != self.algorithm.spec.groups:
            raise UserError("Gated.baseline sees or does other things than the policy: train it in the same environment")

    @property
    def algorithm(self) -> Algorithm:
        return self.inner.algorithm

    def memory(self, b: int) -> Watching:
        groups, n = self.algorithm.spec.groups, self.algorithm.spec.n
        return Watching(
            self.inner.memory(b),
            () if self.baseline is None else self.baseline.memory(b),
            tuple(jnp.zeros((b, g.count, sum(width(leaf) for leaf in g.observation.values()))) for g in groups),
            jnp.zeros((b, n)),
            jnp.zeros((b, n), bool),
            {"outside": jnp.zeros(b), "asked": jnp.zeros(b)},
        )

    def told(self, memory: Watching) -> dict[str, Array]:
        return memory.told

    def decide(self, policy: Guarded, step: Step, memory: Watching, key: Array, temperature: Array) -> tuple[Actions, Watching]:
        action, inner = self.inner.decide(policy.policy, step, memory.inner, key, temperature)
        baseline = memory.baseline
        if self.baseline is None:
            other = self._held(action, step)
        else:
            other, baseline = self.baseline.decide(policy.baseline, step, baseline, jax.random.fold_in(key, STREAM), temperature)
        memory, away = self._watched(policy.gate, step, memory)
        return chosen(self.algorithm.spec, away, other, action), replace(memory, inner=inner, baseline=baseline)

    def _held(self, action: Actions, step: Step) -> Actions:
        """The declared default, where it is legal."""

        def of(space: Any, default: Array, ok: Array | None) -> Array:
            return default if ok is None or isinstance(space, Box) else space.mode(space.encode(default), ok).astype(default.dtype)

        groups = self.algorithm.spec.groups
        return tuple(of(g.space, g.default_like(a), ok) for g, a, ok in zip(groups, action, step.legal, strict=True))

    def _watched(self, gate: Gate, step: Step, memory: Watching) -> tuple[Watching, Array]:
        """Memory after looking at a row, and which agents are outside `[b n]`: only those who decide."""
        scores, seen, counts = [], [], []
        fresh, start = step.first[:, None], 0
        for g, known, obs, before in zip(self.algorithm.spec.groups, gate.groups, step.obs, memory.seen, strict=True):
            x = features(known, readings(g, obs))
            same = (x == before).all(-1) & ~fresh
            still = jnp.where(same, memory.still[:, start : start + g.count] + 1, 0)
            start += g.count
            scores.append(score(known, x, still))
            seen.append(x)
            counts.append(still)
        away = outside(gate, jnp.concatenate(scores, -1)) & step.present & step.deciding
        asked = (away & ~(memory.away & ~fresh)).sum(-1) if self.fallback == "ask" else jnp.zeros(step.first.shape)
        said = {"outside": away.sum(-1).astype(jnp.float32), "asked": asked.astype(jnp.float32)}
        return replace(memory, seen=tuple(seen), still=jnp.concatenate(counts, -1), away=away, told=said), away


def off(gate: Gate) -> Gate:
    """The same, but nothing is outside."""
    return replace(gate, threshold=np.full_like(gate.threshold, np.inf))


def blank(spec: Spec, seeds: int) -> Gate:
    """Shapes of the gates of so many seeds, stacked. Nothing is computed."""

    def one(g: Group) -> Familiar:
        f = sum(width(leaf) for leaf in g.observation.values())
        shape = lambda *axes: jax.ShapeDtypeStruct((seeds, *axes), jnp.float32)
        each = shape(g.count, f)
        return Familiar(each, each, each, shape(CORE, f), shape(VALUES, f), shape(), shape(f), shape())

    return Gate(tuple(one(g) for g in spec.groups), jax.ShapeDtypeStruct((seeds,), jnp.float32))
