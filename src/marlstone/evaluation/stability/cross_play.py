"""Do training seeds learn to play with anybody, or only with themselves? Teams mixed from two seeds, beside each seed's own.

    R_ab = mean return of teams in which seed a plays one part and seed b the rest,  R_aa = self-play
    loss_ab = (R_aa + R_bb) / 2 - R_ab

Every pair meets the same episodes, so that differences are paired; splits of the team take turns over episodes
(`play.mixed_teams`). Both orders of a pair are played: a plays what b plays in the other.
"""

import jax
import numpy as np

from marlstone.core.acting import Act
from marlstone.play.action_selectors import Alone
from marlstone.play.mixed_teams import Mixed, Two, splits
from marlstone.play.player import Player
from marlstone.rollout.state import State

ROTATIONS = 4  # partners of each seed, at most: five seeds are all paired


def rotations(seeds: int, most: int = ROTATIONS) -> list[int]:
    """By how much seeds are shifted to find everyone a partner: 0 (themselves), then `most` at most, both orders of each pair."""
    if seeds - 1 <= most:
        return list(range(seeds))
    near = np.unique(np.linspace(1, (seeds - 1) // 2, max(most // 2, 1)).round().astype(int))
    return sorted({0, *near.tolist(), *(seeds - near).tolist()})


def cross_play(runtime: Player, state: State, episodes: int, act: Act = "mode", most: int = ROTATIONS) -> np.ndarray:
    """`[seeds seeds]`: mean team returns over `episodes`, by the seed of either part; NaN for pairs left out (of over `most` + 1 seeds).
    Each rotation is as much work as an evaluation with two policies. Raises `UserError` for a team of one agent."""
    policies, count = runtime.placement.trim(state.train.policy), len(runtime.seeds)
    decider = Mixed(Alone(runtime.algorithm), splits(runtime.algorithm.spec))
    play = runtime.evaluator(episodes, act, decider=decider)
    returns, who = np.full((count, count), np.nan), np.arange(count)
    for r in rotations(count, most):
        partner = (who + r) % count
        pairs = Two(policies, jax.tree.map(lambda x: x[partner], policies))  # noqa: B023
        played = play(runtime.placement.pad(pairs), (runtime.seeds[0],) * count)
        returns[who, partner] = [r.mean() if r.size else np.nan for r in played.per_seed()]
    return returns


def losses(returns: np.ndarray) -> np.ndarray:
    """`[seeds seeds]`: what each pair's mixed teams earn less than the two alone, on average; 0 on the diagonal, NaN where not played."""
    own = np.diag(returns)
    return (own[:, None] + own[None]) / 2 - returns


def relative_loss(returns: np.ndarray) -> float:
    """The mean loss over mixed pairs, relative to the mean return in self-play; NaN for one seed, or where self-play earns nothing."""
    mixed, scale = losses(returns)[~np.eye(len(returns), dtype=bool)], abs(float(np.diag(returns).mean()))
    played = mixed[~np.isnan(mixed)]
    return float(played.mean() / scale) if played.size and scale else float("nan")
