"""Whole episodes as trajectories, played apart from training: what the store logs one by one, and what logs of episodes hold."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from marlstone.algorithm import Algorithm
from marlstone.comms.learning import sent_in
from marlstone.config import RunConfig
from marlstone.core.acting import Act, temperature
from marlstone.core.compile_options import FAST_COMPILE, supported
from marlstone.core.episodes import WholeEpisodes, whole_episodes
from marlstone.core.records import replace
from marlstone.core.types import Spec, Trajectory
from marlstone.play.action_selectors import deployed
from marlstone.play.evaluator import longest
from marlstone.play.player import Player
from marlstone.runs.store import Store

Array = Any
LINKS = 16  # agents, up to whom every link is told apart
ASSUMED = 500  # steps of an episode of undeclared length, where its cost is weighed and a piece of it is played
MOST, SHARE = 16, 0.02  # episodes per seed and checkpoint by default: at most, and of the steps between checkpoints


def how_many(config: RunConfig, spec: Spec) -> int:
    """Episodes per seed to log at every checkpoint, as `evaluate.logged` says."""
    if (asked := config.evaluate.logged) is not None:
        return asked
    return int(np.clip(SHARE * config.steps_between_checkpoints / (spec.horizon or ASSUMED), 1, MOST))


def spans(spec: Spec, length: int, most: int | None) -> tuple[int, int]:
    """How an episode is played: steps in a piece, at most as many as a rollout has, and how many pieces hold the longest."""
    length = min(length, spec.horizon or ASSUMED)
    return length, -(-longest(spec, most) // length)


def acting_by(algorithm: Algorithm, act: Act | None) -> Callable[..., Any]:
    """`Algorithm.act` as training does it (None), or as a deployed policy acts; heads are of the distribution that is sampled."""
    if act is None:
        return algorithm.act
    heat = temperature(act)

    def as_deployed(policy: Any, step: Any, memory: Any, noise: Any) -> tuple[Any, Any, Any, Any]:
        heads, memory = algorithm.heads(deployed(policy), step, memory)
        if heat:
            heads = tuple(g.space.with_temperature(h, heat) for g, h in zip(algorithm.spec.groups, heads, strict=True))
            action = algorithm.sample(heads, step.legal, noise)
        else:
            action = algorithm.mode(heads, step.legal)
        return action, algorithm.emit(action), heads, memory

    return as_deployed


def joined(piece: Callable[[int, Any], tuple[Any, Trajectory]], begin: Any, pieces: int, act: Act | None) -> Trajectory:
    """Trajectories `[b t ...]` of whole first episodes from `piece(k, carry) -> carry, trajectories`, pieces that follow each other, until
    everyone has ended one. All steps but those of each environment's first whole episode are made resets, which nobody counts. Made longer
    to 1, 2, 4 ... pieces' steps, so that programs over them compile few times; log-probs of modes are 0."""
    carry, ended, parts = begin, np.array(False), list[Trajectory]()
    while len(parts) < pieces and not np.all(ended):
        carry, part = piece(len(parts), carry)
        parts.append(part)
        step = part.step
        ended = ended | (step.last[:, 1:] & ~step.first[:, 1:]).any(1)
    whole = lambda xs: np.concatenate([np.asarray(x)[:, :-1] for x in xs[:-1]] + [np.asarray(xs[-1])], 1)
    step = jax.tree.map(lambda *xs: whole(xs), *(p.step for p in parts))
    action, logp = jax.tree.map(lambda *xs: np.concatenate(xs, 1), *((p.action, p.logp) for p in parts))
    trajectories = Trajectory(step, action, np.zeros_like(logp) if act == "mode" else logp, jax.tree.map(np.asarray, parts[0].memory))
    return _isolated(longer(trajectories, min(pieces, 1 << (len(parts) - 1).bit_length()) * parts[0].logp.shape[1]))


def longer(trajectories: Trajectory, steps: int) -> Trajectory:
    """The same whole episodes with `steps` steps: resets behind them, or fewer of those."""

    def fit(x: Array, steps: int) -> np.ndarray:
        more = max(0, steps - x.shape[1])
        return np.pad(x, [(0, 0), (0, more), *[(0, 0)] * (x.ndim - 2)], "edge")[:, :steps]

    step = jax.tree.map(lambda x: fit(x, steps + 1), trajectories.step)
    action, logp = jax.tree.map(lambda x: fit(x, steps), (trajectories.action, trajectories.logp))
    beyond = np.arange(steps + 1) >= trajectories.step.first.shape[1]
    return Trajectory(replace(step, first=step.first | beyond, last=step.last & ~beyond), action, logp, trajectories.memory)


def together(parts: Sequence[Trajectory]) -> Trajectory:
    """Batches of whole episodes as one, `[b1 + b2 ... t ...]`, with the steps of the longest."""
    steps = max(p.logp.shape[1] for p in parts)
    return jax.tree.map(lambda *xs: np.concatenate(xs), *(longer(p, steps) for p in parts))


def _isolated(trajectories: Trajectory) -> Trajectory:
    step = trajectories.step
    whole = whole_episodes(step, np.zeros((*trajectories.logp.shape[:2], 0)), {})
    env, which = np.unique(whole.env, return_index=True)
    b, t = step.first.shape
    begin, end = np.zeros(b, int), np.full(b, t - 1)
    begin[env], end[env] = whole.begin[which], whole.end[which]
    at = np.arange(t)
    outside = (at <= begin[:, None]) | (at > end[:, None])
    first = np.where(outside, True, step.first)
    first[:, 0] = np.where(begin == 0, step.first[:, 0], True)
    return replace(trajectories, step=replace(step, first=first, last=step.last & ~outside))


def scorer(algorithm: Algorithm) -> Callable[[Any, Trajectory], np.ndarray]:
    """`Algorithm.contribution` of batches of trajectories on the host, `[b t n]` of the team's agents, compiled once per shape."""
    contribution = jax.jit(algorithm.contribution, compiler_options=supported(FAST_COMPILE))
    return lambda train, trajectories: np.asarray(contribution(replace(train, opt=None, replay=None), trajectories))


def per_link(algorithm: Algorithm, trajectories: Trajectory) -> dict[str, float]:
    """Messages and bits per joint step of a batch of trajectories by sender and recipient, `messages/SENDER>RECIPIENT`; in teams of more
    than `LINKS` agents by sender alone, `messages/SENDER`. Nothing where nobody talks."""
    agents, steps, out = algorithm.spec.team.agents, max(int(np.asarray(trajectories.real).sum()), 1), dict[str, float]()
    for what, counts in sent_in(algorithm.channel, algorithm.spec, trajectories).items():
        each = np.asarray(counts, float) / steps
        for i, sender in enumerate(agents):
            if len(agents) > LINKS:
                out[f"{what}/{sender}"] = float(each[i].sum())
            else:
                out |= {f"{what}/{sender}>{agents[j]}": float(each[i, j]) for j in range(len(agents)) if j != i}
    return out


def recorder(runtime: Player, episodes: int) -> Callable[[Store, int, Any], None]:
    """`record(store, step, state)` plays `episodes` of every seed as it stands and logs them with what credit says of every agent."""
    play, contribution, spec = runtime.player(episodes), scorer(runtime.algorithm), runtime.algorithm.spec

    def record(store: Store, step: int, state: Any) -> None:
        train = runtime.placement.trim(replace(state.train, opt=None, replay=None))
        for i, (seed, trajectories) in enumerate(zip(runtime.seeds, play(state), strict=True)):
            runtime.meter.trajectories(i, runtime.algorithm, trajectories)
            mine = jax.tree.map(lambda x: x[i], train)  # noqa: B023
            whole: WholeEpisodes = whole_episodes(trajectories.step, contribution(mine, trajectories), spec.metrics)
            store.log(step, seed, whole, spec.agents)
            if sent := per_link(runtime.algorithm, trajectories):
                store.add(step, seed, sent)

    return record
