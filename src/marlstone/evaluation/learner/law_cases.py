"""What laws of learners are checked on: one learner in one combination, a batch of random play, and that batch changed."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp
import numpy as np

from marlstone.algorithm import Algorithm, Train
from marlstone.config import RunConfig
from marlstone.config import load as configured
from marlstone.core.errors import UserError
from marlstone.core.records import replace
from marlstone.core.types import Spec, Trajectory
from marlstone.envs.make import is_jax, make
from marlstone.envs.protocol import Env
from marlstone.evaluation.credit.random_play import drawn, quick, rollout, trajectories_of
from marlstone.learners import Learner

Array = Any
Sharing = Literal["all", "none"]
USUAL = ("proving:pair", "proving:dummy?rows=3")  # everything a step can hold; where all actions must be discrete
ENVS = 4
SURE = 1  # a verdict must not hang on how a program was compiled


@dataclass(frozen=True, eq=False)
class LearnerCase:
    """One learner where it is checked. Networks are random numbers; what is played is random play, in which half of the ends are
    terminations and half are truncations."""

    config: RunConfig

    def __post_init__(self) -> None:
        if not is_jax(self.config.env):
            raise UserError(f"laws are checked in environments written in JAX, and {self.config.env} is not: leave out --env")
        if self.config.architecture.managers() is not None:
            raise UserError("laws are checked without managers: choose --architecture decentralized or ctde")
        self.algorithm("all")  # refused here if it does not fit

    @property
    def learner(self) -> Learner:
        """The learner that is checked."""
        return self.config.learner

    @cached_property
    def spec(self) -> Spec:
        """The environment's agents and spaces."""
        return self.config.comms.over(make(self.config.env)).spec

    def algorithm(self, sharing: Sharing) -> Algorithm:
        """The combination, parameters shared by all agents of a group, or by none."""
        architecture = replace(self.config.architecture, sharing=sharing)
        return Algorithm(self.spec, architecture, self.config.credit, self.learner, channel=self.config.comms)

    @cached_property
    def length(self) -> int:
        """Steps: two episodes and the beginning of a third, where they are short."""
        return min(64, 2 * ((self.spec.horizon or 14) + 1) + 2)

    @cached_property
    def trajectories(self) -> Trajectory:
        """A batch of random play, `[b t ...]`, whose ends are truncations in every other environment."""
        b = int(np.lcm(ENVS, self.learner.minibatches))
        batch = trajectories_of(self.algorithm("all"), rollout(cast(Env, self.config.comms.over(make(self.config.env))), b, self.length))
        step, cut = batch.step, np.arange(b)[:, None] % 2 == 1
        last = np.asarray(step.last)
        whole = np.where(last, cut, np.asarray(step.team_discount)).astype(np.float32)
        each = np.where(last[..., None], cut[..., None] & np.asarray(step.present), np.asarray(step.discount)).astype(np.float32)
        return replace(batch, step=replace(step, team_discount=whole, discount=each))

    def begun(self, sharing: Sharing = "all", version: int = 1) -> Train:
        """A state of random networks. At version 0 the first batch's observation moments are used at once, later on they are not."""
        train = drawn(self.algorithm(sharing), self.trajectories)
        return replace(train, version=jnp.array(version, jnp.int32))

    @cached_property
    def _updates(self) -> dict[Sharing, Any]:
        def of(sharing: Sharing) -> Any:
            it = self.algorithm(sharing)
            return quick(lambda train, trajectories: it.update(train, trajectories, 0.25, jax.random.key(7)), SURE)

        return {"all": of("all"), "none": of("none")}

    def update(self, train: Train, trajectories: Trajectory, sharing: Sharing = "all") -> tuple[Train, dict[str, np.ndarray]]:
        """One update at a quarter of the budget, and the figures it records."""
        return cast(tuple[Train, dict[str, np.ndarray]], jax.device_get(self._updates[sharing](train, trajectories)))

    def updated(self, trajectories: Trajectory, times: int = 1, sharing: Sharing = "all", version: int = 1) -> Train:
        """The state after so many updates on the same batch."""
        train = self.begun(sharing, version)
        for _ in range(times):
            train, _ = self.update(train, trajectories, sharing)
        return train


# ---- the same batch, changed
def _noise(x: np.ndarray) -> np.ndarray:
    """Other values of the same kind: actions stay valid."""
    if x.dtype.kind == "f":
        return x + np.random.default_rng(9).normal(size=x.shape).astype(x.dtype) * 3
    return ((x + 1) % 2).astype(x.dtype)


def _where(mask: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.where(mask.reshape(*mask.shape, *(1,) * (x.ndim - mask.ndim)), _noise(np.asarray(x)), x)


def _by_group(spec: Spec, mask: np.ndarray) -> list[np.ndarray]:
    """`[b t n]` -> one `[b t n_g]` per group."""
    return np.split(mask, np.cumsum([g.count for g in spec.groups])[:-1], -1)


def with_reset_steps_changed(trajectories: Trajectory) -> Trajectory:
    """Actions that a reset ignored, their log-probs, and rewards on the first step of an episode are other numbers."""
    reset, step = ~np.asarray(trajectories.real), trajectories.step
    after = np.concatenate([np.zeros_like(reset[:, :1]), reset], 1)
    step = replace(step, reward=_where(after, step.reward), team_reward=_where(after, step.team_reward))
    action = tuple(_where(reset, a) for a in trajectories.action)
    return replace(trajectories, step=step, action=action, logp=_where(reset, trajectories.logp))


def with_agent_absent(spec: Spec, trajectories: Trajectory, agent: int, changed: bool) -> Trajectory:
    """The agent is never there. What stands in its place is zeros, or (`changed`) other numbers: observations, actions, log-probs."""
    step, (b, t, _) = trajectories.step, trajectories.logp.shape
    gone = np.broadcast_to(np.arange(spec.n) == agent, (b, t + 1, spec.n))
    zero = lambda mask, x: np.where(mask.reshape(*mask.shape, *(1,) * (x.ndim - mask.ndim)), np.zeros_like(x), x)
    fill = (lambda mask, x: _where(mask, zero(mask, x))) if changed else zero
    obs = tuple({k: fill(m, x) for k, x in leaves.items()} for m, leaves in zip(_by_group(spec, gone), step.obs, strict=True))
    action = tuple(fill(m, a) for m, a in zip(_by_group(spec, gone[:, :-1]), trajectories.action, strict=True))
    flags = {k: zero(gone, np.asarray(getattr(step, k))) for k in ("reward", "discount", "present", "deciding")}
    return replace(trajectories, step=replace(step, obs=obs, **flags), action=action, logp=fill(gone[:, :-1], trajectories.logp))


def with_agent_changed(spec: Spec, trajectories: Trajectory, agent: int) -> Trajectory:
    """All that concerns one agent is different: what it saw, did and got."""
    step, (b, t, _) = trajectories.step, trajectories.logp.shape
    its = np.broadcast_to(np.arange(spec.n) == agent, (b, t + 1, spec.n))
    obs = tuple({k: _where(m, x) for k, x in leaves.items()} for m, leaves in zip(_by_group(spec, its), step.obs, strict=True))
    action = tuple(_where(m, a) for m, a in zip(_by_group(spec, its[:, :-1]), trajectories.action, strict=True))
    step = replace(step, obs=obs, reward=_where(its, step.reward))
    return replace(trajectories, step=step, action=action, logp=-np.abs(_where(its[:, :-1], trajectories.logp)))


def with_final_observations_changed(trajectories: Trajectory, truncated: bool) -> Trajectory:
    """What agents see at the end of an episode is different, where it was truncated or where it terminated; the last step of the batch,
    from which all are bootstrapped, stays."""
    step = trajectories.step
    ends = np.array(step.last) & ((np.asarray(step.team_discount) > 0) == truncated)
    ends[:, -1] = False
    obs = tuple({k: _where(ends, x) for k, x in leaves.items()} for leaves in step.obs)
    return replace(trajectories, step=replace(step, obs=obs, state=_where(ends, step.state)))


def with_rewards(trajectories: Trajectory, reward: float) -> Trajectory:
    """Every agent, and the team, gets this reward on every step that is not a reset."""
    step = trajectories.step
    real = np.concatenate([np.zeros_like(trajectories.real[:, :1]), trajectories.real], 1)
    on = lambda x: np.where(real.reshape(*real.shape, *(1,) * (x.ndim - 2)), np.full_like(x, reward), np.zeros_like(x))
    return replace(trajectories, step=replace(step, reward=on(step.reward), team_reward=on(step.team_reward)))


def learner_case(learner: str, given: dict[str, str]) -> LearnerCase:
    """Where the learner called `learner` is checked: as `given` (dotted fields of a configuration), and else in the first usual
    environment that it can act in. Raises ValueError, the first environment's, where it can act in none."""
    first: ValueError | None = None
    for env in (given["env"],) if "env" in given else USUAL:
        try:
            return LearnerCase(configured(None, {"learner": learner, "architecture": "decentralized", **given, "env": env}))
        except ValueError as error:
            first = first or error
    assert first is not None
    raise first
