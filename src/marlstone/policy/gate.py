"""A gate on what every agent observes, and which action replaces the policy's outside it: array code alone, NumPy or JAX.

    score = max(d(x) / u_d,  max_f g_f(x_f) / u_f,  s / u_s),      outside: score > threshold, or no number

of features x, an agent's observation as its policy sees it (normalized, clipped; pictures as 4 x 4 means): d, the distance to the
nearest of a core of observations; g_f, how far reading f is from the nearest value ever read; s, for how many steps nothing has
changed at all. Units u say how large each was on familiar episodes that the core does not come from.

Fitted and calibrated in `evaluation.robustness.gate`; evaluations play it by `play.gated`, deployed policies by `policy.deployed`.
"""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Literal, Self

import numpy as np

from marlstone.comms import SAID
from marlstone.core.normalize import CLIP
from marlstone.core.records import record, replace
from marlstone.core.types import Group, Leaf, Spec, Step

Array = Any
Fallback = Literal["default", "baseline", "ask"]
CORE, VALUES, POOL = 256, 64, 4  # observations and values of each reading that a gate remembers; a picture's rows and columns of means


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

    def arrays(self) -> list[np.ndarray]:
        """Its arrays in a fixed order, as `of` takes them."""
        return [np.asarray(getattr(g, f.name)) for g in self.groups for f in fields(g)] + [np.asarray(self.threshold)]

    @classmethod
    def of(cls, arrays: Sequence[Array]) -> Self:
        """The gate that `arrays` came from. Raises ValueError where their number is no gate's."""
        each = len(fields(Familiar))
        if len(arrays) % each != 1:
            raise ValueError(f"a gate of {len(arrays)} arrays: it has {each} for each group, and a threshold; measure it again")
        return cls(tuple(Familiar(*arrays[i : i + each]) for i in range(0, len(arrays) - 1, each)), arrays[-1])

    def of_seed(self, i: int) -> Self:
        """One training seed's gate out of those of all, stacked `[seeds ...]`."""
        return type(self).of([x[i] for x in self.arrays()])


# ---- features and scores
def _pool(size: int) -> np.ndarray:
    """`[rows size]`: means over as many stretches as a picture keeps."""
    parts = np.array_split(np.arange(size), min(POOL, size))
    return np.stack([np.isin(np.arange(size), p) / len(p) for p in parts]).astype(np.float32)


def watched(group: Group) -> dict[str, Leaf]:
    """The leaves that a gate looks at: what is heard, and what an agent itself said last, is not the world."""
    return {name: leaf for name, leaf in group.observation.items() if leaf.kind in ("vector", "image") and name != SAID}


def width(leaf: Leaf) -> int:
    """How many features a leaf becomes."""
    return leaf.shape[0] if leaf.kind == "vector" else min(POOL, leaf.shape[0]) * min(POOL, leaf.shape[1]) * leaf.shape[2]


def feature_count(group: Group) -> int:
    """How many features an agent of this group has for its gate; messages are not among them."""
    return sum(map(width, watched(group).values()))


def readings(group: Group, obs: dict[str, Array]) -> Array:
    """A group's observation as plain numbers, `[... n f]`, leaves in the spec's order."""
    xp, parts = next(iter(obs.values())).__array_namespace__(), []
    for name, leaf in watched(group).items():
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
    """`[... n]` of features `[... n f]` and how many steps they have not changed `[... n]`."""
    xp = x.__array_namespace__()
    distance, gaps = strangeness(known, x)
    return xp.maximum(xp.maximum(distance / known.distance, (gaps / known.reading).max(-1)), still / known.still)


def outside(gate: Gate, scores: Array) -> Array:
    """NaN, which no number is, lies outside."""
    return ~(scores <= gate.threshold) & (gate.threshold < np.inf)


def off(gate: Gate) -> Gate:
    """The same, but nothing is outside."""
    return replace(gate, threshold=np.full_like(gate.threshold, np.inf))


def blank(spec: Spec, seeds: int | None = None) -> Gate:
    """Zeros of the shapes of a gate, or of the gates of so many seeds, stacked; they take no memory."""
    zeros = lambda *axes: np.broadcast_to(np.float32(0), axes if seeds is None else (seeds, *axes))

    def one(g: Group) -> Familiar:
        f = feature_count(g)
        each = zeros(g.count, f)
        return Familiar(each, each, each, zeros(CORE, f), zeros(VALUES, f), zeros(), zeros(f), zeros())

    return Gate(tuple(one(g) for g in spec.groups), zeros())


# ---- step by step
@record
class GateMemory:
    """What a gate remembers of an episode: per group the last features `[b n_g f]`; `still [b n]`, steps since they changed; `away
    [b n]`, who is outside now; `asked [b n]`, who got outside just now."""

    seen: tuple[Array, ...]
    still: Array
    away: Array
    asked: Array


def init_memory(spec: Spec, b: int, xp: Any = np) -> GateMemory:
    """Before the first step of `b` environments."""
    nobody = xp.zeros((b, spec.n), bool)
    seen = tuple(xp.zeros((b, g.count, feature_count(g)), np.float32) for g in spec.groups)
    return GateMemory(seen, xp.zeros((b, spec.n), np.float32), nobody, nobody)


def watch(spec: Spec, gate: Gate, step: Step, memory: GateMemory) -> GateMemory:
    """Memory after looking at a step of `b` environments. Only agents who are present and decide can be outside."""
    xp = step.present.__array_namespace__()
    scores, seen, counts = [], [], []
    fresh, start = step.first[:, None], 0
    for g, known, obs, before in zip(spec.groups, gate.groups, step.obs, memory.seen, strict=True):
        with np.errstate(invalid="ignore", over="ignore"):  # what is no number, or too large a one, is outside
            x = features(known, readings(g, obs))
        same = (x == before).all(-1) & ~fresh
        still = xp.where(same, memory.still[:, start : start + g.count] + 1, 0).astype(np.float32)
        start += g.count
        scores.append(score(known, x, still))
        seen.append(x)
        counts.append(still)
    away = outside(gate, xp.concatenate(scores, -1)) & step.present & step.deciding
    return GateMemory(tuple(seen), xp.concatenate(counts, -1), away, away & ~(memory.away & ~fresh))


def held(spec: Spec, action: tuple[Array, ...], legal: tuple[Array | None, ...], declared: Any = None) -> tuple[Array, ...]:
    """Recorded actions of who is outside: the declared one, where it is legal, else the first legal one.

    Args: `action`: what the policy would do, `[... n_g ...]`, for shapes; `declared`: per group, recorded (None: default actions).
    """

    def of(space: Any, default: Array, ok: Array | None) -> Array:
        return default if ok is None else space.legal_or_default(default, ok)

    def wanted(i: int, a: Array) -> Array:
        if declared is None:
            return spec.groups[i].default_like(a)
        xp = a.__array_namespace__()
        return xp.broadcast_to(xp.asarray(declared[i], dtype=a.dtype), a.shape)

    return tuple(of(g.space, wanted(i, a), ok) for i, (g, a, ok) in enumerate(zip(spec.groups, action, legal, strict=True)))


def chosen(spec: Spec, which: Array, there: tuple[Array, ...], elsewhere: tuple[Array, ...]) -> tuple[Array, ...]:
    """Recorded actions: `there` of the agents for whom `which [... n]` holds, `elsewhere` of the others."""
    start, out = 0, []
    for g, a, b in zip(spec.groups, there, elsewhere, strict=True):
        mine = which[..., start : start + g.count]
        start += g.count
        out.append(a.__array_namespace__().where(mine.reshape(*mine.shape, *(1,) * (a.ndim - mine.ndim)), a, b))
    return tuple(out)
