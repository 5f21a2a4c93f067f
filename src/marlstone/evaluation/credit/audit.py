"""Does a credit method tell the truth? What it says each agent was worth, beside what each was worth (`truth.py`).

Per training seed, both are means per episode: of a step's worth, times steps per episode; of a share, summed over one.
Over seeds they are IQMs with 95% intervals, each for its agent alone; correlations' lie within [-1, 1]. "Nothing" means that the whole
interval of the truth lies within 2% of the team's return, never "not significant", and harm that it lies below that: by intervals that hold
for all agents together (`stats.families`).

Decision by decision, claims are compared with worth discounted by the learner's gamma (`findings`): what methods learn from. Totals per
agent are given both ways. Decisions are continued by the deployed way of acting, again and again with other keys, until the standard
error of what they were worth is a fifth of their spread, or `continuations` are used up; how far claims agree is then told as a share
of the noise ceiling (`reliability`). `judgement` puts it into a sentence.
"""

from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from marlstone.algorithm import Algorithm, Train
from marlstone.config import RunConfig
from marlstone.config.kinds import name_of
from marlstone.core.acting import Act
from marlstone.core.episodes import whole_episodes
from marlstone.core.records import replace
from marlstone.core.seeds import component_key
from marlstone.core.types import Trajectory
from marlstone.envs.make import is_jax
from marlstone.envs.vectorized import Vectorized
from marlstone.evaluation.credit import host_truth
from marlstone.evaluation.credit.findings import Measured, Told
from marlstone.evaluation.credit.host_truth import Compiled, Revisited, revisited
from marlstone.evaluation.credit.reliability import ENOUGH, standard_error
from marlstone.evaluation.credit.summary import picture, summary
from marlstone.evaluation.credit.truth import (
    Chosen,
    Decisions,
    Worth,
    coalition_returns,
    continued,
    deciding,
    default_chances,
    gather,
    recorded_play,
    shapley,
)
from marlstone.evaluation.credit.truth import choose as choose_decisions
from marlstone.play.judging import choose
from marlstone.play.player import Player
from marlstone.rollout.state import State
from marlstone.runs.checkpoint import Checkpoint
from marlstone.training.fused import Fused
from marlstone.training.trained import trained

Array = Any
MOST_AGENTS = 16  # audited of larger teams
WIDEST = 4096  # environments stepped together
EPISODES, ROWS = 32, 4096  # that a host environment plays to be audited in, the fewer
SPARE = 4  # of its states are kept for one decision that is measured
CONTINUATIONS, BY_PYTHON = 16, 4  # of a decision, at most, in JAX and where Python steps
PLAYS = 4  # of an episode whose shares are measured, at most: each is played by every coalition


@dataclass(frozen=True, eq=False)
class Auditor:
    """Audits one algorithm in one environment: `decisions` steps per seed of worth, or, in JAX, `episodes` of shares.

    `act`: how policies act, as deployed (None: as training does). Each decision is continued, or episode played, up to `continuations`
    times, decisions for `window` steps (None: to the episode's end).
    """

    env: Vectorized | Revisited
    algorithm: Algorithm
    length: int
    decisions: int = 256
    episodes: int = 64
    act: Act | None = None
    continuations: int = CONTINUATIONS
    window: int | None = None

    @property
    def shares(self) -> bool:
        """Whether the method claims shares of the return, which are held against Shapley values."""
        return self.algorithm.claims and self.algorithm.credit.claims == "shares"

    @property
    def who(self) -> np.ndarray:
        """The agents audited: all, or an even choice of a large team."""
        n = self.algorithm.spec.team.n
        return np.unique(np.linspace(0, n - 1, min(n, MOST_AGENTS)).round().astype(int))

    def seed(self, train: Train, key: Array) -> Told:
        """Audit what one seed has learned."""
        k1, k2 = jax.random.split(key)
        if self.shares:
            return self._shares(train, k2)
        it, claimed, pay = self._gathered(train, k1)
        n = claimed.shape[-1]
        whole = whole_episodes(it.trajectories.step, np.concatenate([claimed, pay], -1), {})
        if not len(whole.env):
            raise ValueError(self._too_short)
        optimized = self._optimized(whole.agent_sums[:, n:])
        steps, team = whole.length.mean(), float(whole.team_return.mean())
        at, measured = self._measured(train.policy, it, k2)
        worth, discounted = measured.worth.mean(-1), measured.discounted.mean(-1)
        claimed_each = np.asarray(claimed).reshape(-1, claimed.shape[-1])[at][:, self.who]
        per_episode = lambda x: x.mean(0) * steps
        total, true, true_discounted = map(per_episode, (claimed_each, worth, discounted))
        return Told(total, true, claimed_each, discounted, team, optimized, None, measured, true_discounted)

    def _gathered(self, train: Train, key: Array) -> tuple[Decisions, Array, Array]:
        if isinstance(self.env, Vectorized):
            return _gathered(self, train, key)
        it = host_truth.gather(self.env, self._compiled, train.policy, key, self.length, SPARE * self.decisions)
        return it, *_claimed(self, replace(train, opt=None, replay=None), it.trajectories)

    def _measured(self, policy: Any, it: Decisions, key: Array) -> tuple[np.ndarray, Measured]:
        """Decisions, flat in `[b t]`, and what they were worth: continued until the standard error is small beside the spread."""
        count = self._together
        parts = [(self._choose(it, k1, count), k2) for k1, k2 in map(jax.random.split, jax.random.split(key, -(-self.decisions // count)))]
        rounds: list[Worth] = []
        while len(rounds) < self.continuations:
            k = len(rounds)
            played = [self._continued(policy, it, chosen, key if not k else jax.random.fold_in(key, k)) for chosen, key in parts]
            rounds.append(jax.tree.map(lambda *xs: np.concatenate([np.asarray(x) for x in xs]), *played))
            discounted = np.stack([w.discounted for w in rounds], -1)
            if len(rounds) > 1 and len(rounds) & (len(rounds) - 1) == 0 and standard_error(discounted) <= ENOUGH:
                break
        bias = None
        if self.window is not None:
            full = np.concatenate([np.asarray(self._continued(policy, it, chosen, key, whole=True).discounted) for chosen, key in parts])
            bias = float((discounted[..., 0] - full).mean() / max(full.std(), 1e-12))
        at, first = rounds[0].at, np.asarray(it.trajectories.step.first[:, :-1])
        position = np.arange(first.shape[1])
        time = (position - np.maximum.accumulate(np.where(first, position, 0), 1)).reshape(-1)[at]
        chances = np.asarray(_chances(self, policy, *deciding(it, at)))[:, self.who]
        return at, Measured(np.stack([w.worth for w in rounds], -1), discounted, time, chances, bias)

    def _choose(self, it: Decisions, key: Array, samples: int) -> Any:
        return _chosen(it, key, samples) if isinstance(self.env, Vectorized) else host_truth.choose(it, samples, key)

    def _continued(self, policy: Any, it: Decisions, chosen: Any, key: Array, whole: bool = False) -> Worth:
        window = None if whole else self.window
        if isinstance(self.env, Vectorized):
            worth: Worth = _continued(self, policy, chosen, key, window)
            return worth
        return host_truth.continued(self.env, self._compiled, policy, it, chosen, self.who, key, window)

    @cached_property
    def _compiled(self) -> Compiled:
        return Compiled(self.algorithm, self._together, self.act)

    @property
    def _together(self) -> int:
        """Decisions measured at once."""
        return min(max(1, WIDEST // (len(self.who) + 1)), self.decisions)

    @property
    def _too_short(self) -> str:
        return f"no episode ended within {self.length} steps: audit with a longer rollout (--set rollout.length)"

    def _optimized(self, reward: np.ndarray) -> float:
        """An episode's rewards `[e n]` as learning sums them up."""
        return float(reward.sum(-1).mean() if self.algorithm.credit.splits else reward.mean())

    def _shares(self, train: Train, key: Array) -> Told:
        """Episodes played again and again from the same beginnings: what is claimed of each play, and its Shapley values."""
        n, ended, plays = self.algorithm.spec.team.n, np.ones(self.episodes, bool), list[tuple[np.ndarray, np.ndarray]]()
        while len(plays) < self.continuations:
            k = np.uint32(len(plays))
            step, values = jax.device_get(_recorded(self, replace(train, opt=None, replay=None), key, k))
            whole = whole_episodes(step, values, {})
            sums = np.zeros((self.episodes, values.shape[-1] + 1))
            sums[whole.env] = np.concatenate([whole.agent_sums, whole.team_return[:, None]], 1)
            ended &= np.isin(np.arange(self.episodes), whole.env)
            if not ended.any():
                raise ValueError(self._too_short)
            plays.append((sums, shapley(partial(self._values, train.policy, key, k), n, np.random.default_rng(0))))
            played, true = (np.stack(x, -1)[ended] for x in zip(*plays, strict=True))
            if len(plays) > 1 and len(plays) & (len(plays) - 1) == 0 and standard_error(true) <= ENOUGH:
                break
        each, reward, returns = played[:, :n], played[:, n:-1], played[:, -1]
        error = float(np.abs(each.sum(1) - returns).mean() / max(abs(returns).mean(), 1e-9))
        each, true = each[:, self.who], true[:, self.who]
        claimed_each, true_each = each.mean(-1), true.mean(-1)
        optimized = self._optimized(np.moveaxis(reward, -1, 1).reshape(-1, n))
        measured = Measured(true, true, claimed=each)
        totals = claimed_each.mean(0), true_each.mean(0)
        return Told(*totals, claimed_each, true_each, float(returns.mean()), optimized, error, measured)

    def _values(self, policy: Any, key: Array, play: Array, coalitions: np.ndarray) -> np.ndarray:
        """v(S) `[e c]`, so many coalitions at a time as are stepped together."""
        most = max(1, WIDEST // self.episodes)
        split = [coalitions[i : i + most] for i in range(0, len(coalitions), most)]
        return np.concatenate([np.asarray(_coalitions(self, policy, c, key, play)) for c in split], 1)


# ---- compiled once for all seeds
@partial(jax.jit, static_argnums=0)
def _gathered(a: Auditor, train: Train, key: Array) -> tuple[Decisions, Array, Array]:
    assert isinstance(a.env, Vectorized)
    it = gather(a.env, a.algorithm, train.policy, key, a.length, a.act)
    return it, *_claimed(a, train, it.trajectories)


@partial(jax.jit, static_argnums=0)
def _claimed(a: Auditor, train: Train, trajectories: Trajectory) -> tuple[Array, Array]:
    return a.algorithm.contribution(train, trajectories), a.algorithm.pay(train, trajectories)


@partial(jax.jit, static_argnums=2)
def _chosen(it: Decisions, key: Array, samples: int) -> Chosen:
    return choose_decisions(it, samples, key)


@partial(jax.jit, static_argnums=(0, 4))
def _continued(a: Auditor, policy: Any, chosen: Chosen, key: Array, window: int | None) -> Any:
    return continued(a.env.env, a.algorithm, policy, chosen, a.who, key, act=a.act, window=window)


@partial(jax.jit, static_argnums=0)
def _chances(a: Auditor, policy: Any, step: Any, memory: Any, action: Any) -> Array:
    return default_chances(a.algorithm, policy, step, memory, action)


@partial(jax.jit, static_argnums=0)
def _coalitions(a: Auditor, policy: Any, coalitions: Array, key: Array, play: Array) -> Array:
    return coalition_returns(a.env.env, a.algorithm, policy, a.episodes, coalitions, key, a.act, play)


@partial(jax.jit, static_argnums=0)
def _recorded(a: Auditor, train: Train, key: Array, play: Array) -> tuple[Any, Array]:
    """The steps of one play, and what is claimed of each action and its reward, `[e t 2n]`."""
    trajectories = recorded_play(a.env.env, a.algorithm, train.policy, a.episodes, a.length, key, a.act, play)
    return trajectories.step, jnp.concatenate(_claimed(a, train, trajectories), -1)


def auditable(config: RunConfig) -> None:
    """Raises ValueError where what actions were worth cannot be measured: no state can be stepped again, or not as shares need it."""
    if is_jax(config.env):
        return
    if "contribution" in config.credit.answers() and config.credit.claims == "shares":
        raise ValueError(
            f"{name_of(config.credit)} claims shares, whose truth takes whole episodes of every coalition: audit it in an environment "
            f"written in JAX, not in {config.env}"
        )
    if config.architecture.managers() is not None:
        raise ValueError(f"{config.env} with managers cannot go back to a state it was in: audit in an environment written in JAX")
    if config.faults:
        raise ValueError(
            f"{config.env} under faults cannot go back to a state it was in: audit a run trained without, or one written in JAX"
        )
    if config.team or config.opponents:
        raise ValueError(
            f"{config.env} with teams or opponents of a run cannot go back to a state it was in: audit in an environment written in JAX"
        )
    revisited(config.env).env.close()


def audit_run(
    config: RunConfig, checkpoint: Checkpoint, decisions: int, path: Path, continuations: int | None = None, window: int | None = None
) -> dict[str, Any]:
    """Audit a trained run's newest policies; the picture goes to `path`. `continuations` and `window` as in `audit`."""
    auditable(config)
    with trained(config, checkpoint) as (runtime, state):
        audited = audit(runtime, state, config, decisions, continuations=continuations, window=window)
    kinds = {part: name_of(getattr(config, part)) for part in ("architecture", "credit", "learner")}
    record = {"run": str(checkpoint.path.parent.parent), "env": config.env, **kinds, "step": checkpoint.step, "seeds": list(runtime.seeds)}
    record |= audited
    record["picture"] = str(picture(path, record, f"{config.env}: {kinds['credit']} with {kinds['learner']}"))
    return record


def audit(
    runtime: Player,
    state: State,
    config: RunConfig,
    decisions: int,
    act: Act | None = None,
    continuations: int | None = None,
    window: int | None = None,
) -> dict[str, Any]:
    """The figures of an audit (`summary`) of every seed's policy as it stands, acting as deployed (`act`; None: which way that is, is found
    out first). `continuations`: of a decision, at most; `window`: steps of each (None: to the episode's end)."""
    act = choose(runtime, state, config) if act is None else act
    algorithm, length, train = runtime.algorithm, config.rollout.length, runtime.placement.trim(state.train)
    if (horizon := algorithm.spec.horizon) is not None:
        length = max(length, 2 * (horizon + 1))
    if is_jax(config.env):
        assert isinstance(runtime, Fused)
        auditor = Auditor(replace(runtime.env, b=32), algorithm, length, decisions, act=act, window=window)
        auditor = replace(auditor, continuations=continuations or (PLAYS if auditor.shares else CONTINUATIONS))
    else:
        length = max(length, decisions, min(EPISODES * (horizon + 1), ROWS) if horizon else ROWS)
        again = revisited(config.env, config.architecture.central)
        auditor = Auditor(again, algorithm, length, decisions, act=act, window=window, continuations=continuations or BY_PYTHON)
    agents = [algorithm.spec.team.agents[i] for i in auditor.who]
    one = lambda i, seed: auditor.seed(jax.tree.map(lambda x: x[i], train), component_key(seed, "audit"))
    try:
        told = [one(i, seed) for i, seed in enumerate(runtime.seeds)]
    finally:
        if isinstance(auditor.env, Revisited):
            auditor.env.env.close()
    record = summary(told, agents, algorithm.credit.claims if algorithm.claims else None)
    return record | {"acting": act, "discount": 1.0 if auditor.shares else algorithm.discount}
