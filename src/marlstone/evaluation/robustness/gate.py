"""Fitting a gate to a frozen policy's own episodes, and calibrating it to a false alarm rate (`policy.gate`).

    threshold = the ceil((1 - a) (m + 1))-th smallest of the m scores of calibrating episodes,  a = the false alarm rate

An episode's score is the largest of any agent in any of its decisions, since steps of an episode depend on each other: with
probability at least 1 - a over episodes like those it was calibrated on, nobody is outside in the whole episode (split conformal
prediction, Vovk et al. 2005; rank of exchangeable scores). One half of the episodes fits: two thirds of it make the core and the
known values, one third the units; the other half calibrates. None of this says how often anything new is found: that is measured.
"""

import json
from collections.abc import Callable
from math import ceil, floor
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from marlstone.algorithm import Algorithm, Policy
from marlstone.core.acting import Act
from marlstone.core.compile_options import FAST_COMPILE, supported
from marlstone.core.errors import UserError
from marlstone.core.records import replace
from marlstone.core.types import Spec, Trajectory
from marlstone.play.episodes import together
from marlstone.play.player import Player
from marlstone.policy.gate import CORE, VALUES, Familiar, Gate, blank, features, readings, score, strangeness, watched, width
from marlstone.policy.policy import Policy as FrozenPolicy
from marlstone.rollout.state import State
from marlstone.runs.arrays import manifest_of, placed, prepared, read
from marlstone.runs.leaves import mismatch, rebuild

Array = Any
RATE = 0.05  # of familiar episodes that may raise an alarm
EPISODES = 128  # of each seed
ROWS = 4096  # an agent's observations among which a core is chosen
LEAST_DISTANCE, LEAST_READING = 0.1, 0.05  # standard deviations below which nothing is strange
AT_ONCE = 64  # steps scored together
SLACK = 1e-3  # of the threshold: programs round differently
FOLDER = "gates"  # in a run's directory


def least_episodes(rate: float) -> int:
    """How many episodes a gate of this rate takes at least. Raises `UserError` for what is no rate."""
    if not 0 < rate < 1:
        raise UserError(f"false alarm rate is {rate}: give a probability between 0 and 1, such as {RATE}")
    return 2 * max(ceil(1 / rate - 1 - 1e-9), 3)


def fit_gate(runtime: Player, state: State, episodes: int = EPISODES, rate: float = RATE, act: Act = "mode") -> Gate:
    """Gates of every seed's policy, stacked `[seeds ...]`, on the host: fitted and calibrated on `episodes` of its own, acting as it will.

    Raises `UserError` where there are too few to calibrate `rate`, or not enough of them end.
    """
    if episodes < (least := least_episodes(rate)):
        raise UserError(f"a gate with a false alarm rate of {rate} takes at least {least} episodes, not {episodes}: play more")
    size = min(episodes, runtime.b)
    play = runtime.player(size, act)
    rounds = [play(state, nth) for nth in range(-(-episodes // size))]
    policies, algorithm = runtime.placement.trim(state.train.policy), runtime.algorithm
    scored = scorer(algorithm)
    gates = []
    for i in range(len(runtime.seeds)):
        trajectories = jax.tree.map(lambda x: x[:episodes], together([replace(r[i], memory=None) for r in rounds]))
        gates.append(fitted(algorithm, jax.tree.map(lambda x: x[i], policies), trajectories, rate, scored))  # noqa: B023
    return jax.tree.map(lambda *xs: np.stack(xs), *gates)


def scorer(algorithm: Algorithm) -> Callable[..., list[Any]]:
    """Compiled once for all seeds: per group, of readings `[r n f]` and stillness `[r n]`, distances, gaps, scores."""

    def one(known: Familiar, x: Array, still: Array) -> tuple[Array, Array, Array]:
        x = features(known, x)
        return *strangeness(known, x), score(known, x, still)

    rows = lambda known, x, still: jax.lax.map(lambda row: one(known, *row), (x, still), batch_size=AT_ONCE)
    return jax.jit(rows, compiler_options=supported(FAST_COMPILE))


def fitted(algorithm: Algorithm, policy: Policy, trajectories: Trajectory, rate: float, scored: Callable[..., Any]) -> Gate:
    """One policy's gate, from whole episodes `[e t ...]`."""
    acts = np.asarray(trajectories.acts)
    whole = np.flatnonzero(acts.any((1, 2)))
    if len(whole) < least_episodes(rate):
        raise UserError(f"only {len(whole)} episodes of {len(acts)} ended, and a false alarm rate of {rate} takes {least_episodes(rate)}")
    half = len(whole) // 2
    core, unit, calibrating = np.split(whole, [half - half // 3, half])
    start, scores, groups = 0, [], []
    first = np.asarray(trajectories.step.first)[:, :-1]
    for i, g in enumerate(algorithm.spec.groups):
        mine = acts[:, :, start : start + g.count]
        x = readings(g, {k: np.asarray(v)[:, :-1] for k, v in trajectories.step.obs[i].items()})
        known = _seen(algorithm, policy, i, x[core], mine[core])
        seen = features(known, x)
        still, start = _still(seen, first), start + g.count
        known = _remembered(known, seen[core], mine[core])

        def over(episodes: np.ndarray, known: Familiar) -> list[np.ndarray]:
            flat = lambda y: y[episodes].reshape(-1, *y.shape[2:])
            return [np.asarray(y).reshape(len(episodes), -1, *y.shape[1:]) for y in scored(known, flat(x), flat(still))]  # noqa: B023

        distance, gaps, _ = over(unit, known)
        here = mine[unit]
        most = lambda y, least: np.float32(max(np.max(y, initial=0.0, where=here), least))  # noqa: B023
        reading = np.maximum(np.max(gaps, (0, 1, 2), initial=0.0, where=here[..., None]), LEAST_READING).astype(np.float32)
        known = replace(known, distance=most(distance, LEAST_DISTANCE), reading=reading, still=most(still[unit], 1.0))
        groups.append(known)
        scores.append(np.max(over(calibrating, known)[2], (1, 2), initial=0.0, where=mine[calibrating]))
    ranked = np.sort(np.max(scores, 0))
    quantile = ranked[len(ranked) - floor(rate * (len(ranked) + 1) + 1e-9)]  # the ceil((1 - a)(m + 1))-th, counted from 1
    return Gate(tuple(groups), np.float32(quantile * (1 + SLACK) + SLACK))


def _seen(algorithm: Algorithm, policy: Policy, i: int, x: np.ndarray, here: np.ndarray) -> Familiar:
    """How a group's policy sees: by the moments it was frozen with; where it has none, and for pictures, by those of readings `x`."""
    g, moments = algorithm.spec.groups[i], policy.seen.obs[i]
    own, f = np.array(algorithm.architecture.owners(g)), x.shape[-1]
    some, at = x[here], 0
    mean, var, real = (np.empty((g.count, f), np.float32) for _ in range(3))
    mean[:], var[:], real[:] = some.mean(0), some.var(0), 1
    for name, leaf in watched(g).items():
        part = slice(at, at + width(leaf))
        at += width(leaf)
        if name in moments:
            m = jax.tree.map(np.asarray, moments[name])
            mean[:, part], var[:, part] = (y[own] if y.ndim == 2 else y for y in (m.mean, m.var))
        if name in g.features:
            real[:, part] = np.arange(leaf.shape[0]) < np.array(g.features[name])[:, None]
    none = lambda *shape: np.ones(shape, np.float32)
    return Familiar(mean, np.sqrt(var + np.float32(1e-6)), real, none(CORE, f), none(VALUES, f), none(), none(f), none())


def _still(x: np.ndarray, first: np.ndarray) -> np.ndarray:
    """`[e t n]`: for how many steps features `[e t n f]` have not changed."""
    out = np.zeros(x.shape[:-1], np.float32)
    for t in range(1, len(first.T)):
        same = (x[:, t] == x[:, t - 1]).all(-1) & ~first[:, t, None]
        out[:, t] = np.where(same, out[:, t - 1] + 1, 0)
    return out


def _remembered(known: Familiar, x: np.ndarray, here: np.ndarray) -> Familiar:
    """A core of the observations `[e t n f]` of those who decided, and values of each reading."""
    rows = x[here]
    values = [_values(x[..., f][here & (known.real[:, f] > 0)]) for f in range(x.shape[-1])]
    return replace(known, core=core_of(rows), values=np.stack(values, -1).astype(np.float32))


def core_of(rows: np.ndarray, size: int = CORE) -> np.ndarray:
    """`[size f]`: observations that lie apart, each the farthest from those before (Gonzalez 1985: covers all within twice the least radius
    possible). Repeated where there are fewer different ones."""
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), ROWS)).astype(int)]
    chosen, apart = [0], ((rows - rows[0]) ** 2).sum(-1)
    while len(chosen) < size and apart.max() > 0:
        chosen.append(int(apart.argmax()))
        apart = np.minimum(apart, ((rows - rows[chosen[-1]]) ** 2).sum(-1))
    return rows[np.resize(chosen, size)]


def _values(x: np.ndarray, size: int = VALUES) -> np.ndarray:
    """`[size]`: all the different values; of more, those next to evenly spaced ones, the ends among them."""
    if not x.size:  # a reading that nobody has
        return np.zeros(size)
    found = np.unique(x)
    if len(found) > size:
        grid = np.linspace(found[0], found[-1], size)
        found = found[np.abs(found[:, None] - grid).argmin(0)]
    return np.resize(found, size)


# ---- kept
def save_gate(path: Path, gates: Gate, **told: Any) -> Path:
    """Write the gates of all seeds to a folder that is not there yet, whole or not at all. `told`: for the manifest, as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return placed(prepared(path, gates, {"kind": "gate", **told}), path)


def load_gate(path: Path, runtime: Player) -> Gate:
    """The gates at `path`, after checking every byte. Raises `UserError` where they are damaged, or of another environment."""
    return read_gate(path, runtime.algorithm.spec, len(runtime.seeds))


def read_gate(path: Path, spec: Spec, seeds: int) -> Gate:
    """As `load_gate`, for a policy's own `spec`, managers included."""
    stored, like = read(path), blank(spec, seeds)
    if manifest_of(path).get("kind") != "gate" or (why := mismatch(stored, like)) is not None:
        raise UserError(f"gate {str(path)!r} does not fit this run: {why}; fit another")
    return jax.tree.map(np.asarray, rebuild(stored, like))


def gated(policy: FrozenPolicy, run: Path, fallback: Literal["default", "ask"] = "default") -> FrozenPolicy:
    """A run's deployed policy behind the gate that `evaluate --suite edge-cases` measured of it, with the figures it measured.

    Raises `UserError` where none was measured of just these weights and this way of acting.
    """
    updates, seed = policy.source.get("updates"), policy.source.get("seed")
    found = []
    for path in sorted((run / FOLDER).glob("*"), key=lambda p: p.stat().st_mtime):
        told = manifest_of(path) if path.is_dir() else {}
        if told.get("version") == updates and told.get("acting") == policy.acting and seed in told.get("seeds", ()):
            found.append((path, told))
    if not found:
        measure = f"marlstone evaluate {run} --suite edge-cases"
        raise UserError(f"run {run} has no gate for this policy, acting by {policy.acting}: measure one with {measure}")
    path, told = found[-1]
    figures = json.loads(figures_of(path).read_text()) if figures_of(path).is_file() else None
    gate = read_gate(path, policy.deployed_spec, len(told["seeds"])).of_seed(told["seeds"].index(seed))
    return policy.with_gate(gate, fallback=fallback, rate=told["rate"], figures=figures)


def kept_at(run: Path, runtime: Player, state: State, episodes: int = EPISODES, rate: float = RATE, act: Act = "mode") -> Path:
    """Where in a run's directory the gates of just these policies, rate and acting are kept."""
    version = int(np.asarray(runtime.placement.first(state.train.version)))
    return run / FOLDER / f"{version:08d}-{rate:g}-{episodes}-{act}"


def kept_gate(run: Path, runtime: Player, state: State, episodes: int = EPISODES, rate: float = RATE, act: Act = "mode") -> Gate:
    """The gates kept in a run's directory for just these policies, rate and acting; where there are none yet, fitted and kept."""
    path = kept_at(run, runtime, state, episodes, rate, act)
    if not path.exists():
        version = int(np.asarray(runtime.placement.first(state.train.version)))
        gates = fit_gate(runtime, state, episodes, rate, act)
        save_gate(path, gates, version=version, rate=rate, acting=act, seeds=list(runtime.seeds))
    return load_gate(path, runtime)


def figures_of(path: Path) -> Path:
    """The file beside the gates at `path` that holds what was measured of them, as JSON."""
    return path.with_name(f"{path.name}.json")
