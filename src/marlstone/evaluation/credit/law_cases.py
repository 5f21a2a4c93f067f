"""What laws of credit are checked on: one method in one combination, a batch of random play, and that batch changed."""

import functools
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import jax
import numpy as np

from marlstone.algorithm import Algorithm, Train
from marlstone.config import RunConfig
from marlstone.config import load as configured
from marlstone.core.errors import UserError
from marlstone.core.records import record, replace
from marlstone.core.types import Spec, Trajectory, Views
from marlstone.credit import Asked, Credit
from marlstone.envs.make import is_jax, make
from marlstone.envs.protocol import Env
from marlstone.evaluation.credit.random_play import Rows, drawn, quick, rollout, trajectories_of
from marlstone.runs.leaves import named

Array = Any
USUAL = {
    "env": ("proving:pair", "proving:additive?rows=3"),  # everything the step protocol can say; where actions must be discrete
    "learner": ("policy_gradient", "pqn"),
    "architecture": ("ctde",),
}
ENVS = 4
SURE = 1  # a verdict must not hang on how a program was compiled


@record
class Given:
    """What a method is asked about: trajectories `[b t ...]` as credit sees them, views, the lambda-return's advantage `td [b t n]`, and
    what a mixer mixes, `chosen` and `best` `[b t+1 n]`."""

    trajectory: Trajectory
    views: Views
    td: Array
    chosen: Array
    best: Array


@dataclass(frozen=True, eq=False)
class Specimen:
    """One credit method where it is checked. Parameters, views and networks are random numbers; what is played is random play."""

    config: RunConfig

    def __post_init__(self) -> None:
        if not is_jax(self.config.env):
            raise UserError(f"laws are checked in environments written in JAX, and {self.config.env} is none: leave out --env")
        if self.config.architecture.managers() is not None:
            raise UserError(
                "credit speaks for the team, and this architecture adds managers, who keep their own reward: leave out --architecture"
            )
        self.algorithm  # noqa: B018, refused here if it does not fit

    @cached_property
    def _env(self) -> Any:
        return self.config.comms.over(make(self.config.env))

    @cached_property
    def algorithm(self) -> Algorithm:
        """The method within its architecture and learner. Raises ValueError where they do not fit."""
        return Algorithm(self._env.spec, self.config.architecture, self.config.credit, self.config.learner, channel=self.config.comms)

    @property
    def credit(self) -> Credit:
        """The method under test."""
        return self.algorithm.credit

    @property
    def team(self) -> Spec:
        """The agents that it speaks for: everyone but managers."""
        return self.algorithm.spec.team

    @cached_property
    def length(self) -> int:
        """Steps: two episodes and the beginning of a third, where they are short."""
        return min(64, 2 * ((self._env.spec.horizon or 14) + 1) + 2)

    @cached_property
    def trajectories(self) -> Trajectory:
        """As an actor sends them."""
        b = ENVS * self.algorithm.learner.minibatches // np.gcd(ENVS, self.algorithm.learner.minibatches)
        return trajectories_of(self.algorithm, _played(self.config.env, int(b), self.length))

    @cached_property
    def begun(self) -> Train:
        """What training begins with, every array drawn at random: laws hold for any parameters, not only for fresh ones."""
        return drawn(self.algorithm, self.trajectories)

    @property
    def p(self) -> Any:
        """The method's own parameters."""
        return self.begun.nets.credit

    @cached_property
    def given(self) -> Given:
        """What the method is told of the batch, drawn at random within what is possible: log-probs below 0, entropies above."""
        rng, it, trajectories, train = np.random.default_rng(1), self.algorithm, self.trajectories, self.begun
        wanted = it.wanted | (self.credit.audits if it.claims else frozenset())
        shapes = jax.eval_shape(lambda t, c: it.views(t.nets, t.seen, t.targets, c, wanted), train, trajectories)
        views = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(x.dtype), shapes)
        signs: dict[str, Any] = {"logp": lambda x: -np.abs(x), "entropy": np.abs, "scale": lambda x: np.abs(x) + 0.5}
        views = replace(views, **{k: f(x) for k, f in signs.items() if (x := getattr(views, k)) is not None})
        action = tuple(g.space.encode(a) for g, a in zip(it.spec.groups, trajectories.action, strict=True))
        b, t, n = trajectories.logp.shape
        draw = lambda rows: rng.normal(size=(b, rows, n)).astype(np.float32)
        return Given(replace(trajectories, action=action), views, draw(t), draw(t + 1), draw(t + 1))

    # ---- asking
    def answers(self, p: Any, it: Given) -> dict[str, Array]:
        """Every answer the method gives here, `[b t n]`; its loss `[b t]`, and what predicts `[b t+1 n]`."""
        asked = Asked(self.credit, p, self.team)
        pay, discount = asked.reward(it.views, it.trajectory)
        answers = {"pay": pay, "discount": discount, "advantage": asked.advantage(it.views, it.trajectory, it.td)}
        answers["prediction"] = asked.predict(it.chosen, it.best, it.trajectory.step)
        if (loss := asked.loss(it.views, it.trajectory)) is not None:
            answers["loss"] = loss
        if self.algorithm.claims:
            answers["contribution"] = asked.contribution(it.views, it.trajectory)
        return answers

    def mixed(self, p: Any, it: Given) -> Array:
        """What `mix` says, `[b t+1]`."""
        return jax.vmap(lambda c, b, s: self.credit.mix(p, c, b, s))(it.chosen, it.best, it.trajectory.step.state)

    @cached_property
    def _ask(self) -> Any:
        return quick(self.answers, SURE)

    def ask(self, p: Any, it: Given) -> dict[str, np.ndarray]:
        """All answers of the method, as NumPy arrays, with parameters `p`, told `it`."""
        return {k: np.asarray(x) for k, x in self._ask(p, it).items()}

    @cached_property
    def _update(self) -> Any:
        return quick(lambda train, trajectories: self.algorithm.update(train, trajectories, 0.25, jax.random.key(7))[0], SURE)

    def update(self, train: Train, trajectories: Trajectory) -> Train:
        """What training carries after one update on `trajectories`."""
        return jax.device_get(self._update(train, trajectories))

    @cached_property
    def trained(self) -> tuple[Train, Train, Train]:
        """Before any update, after one, and after two."""
        once = self.update(self.begun, self.trajectories)
        return jax.device_get(self.begun), once, self.update(once, self.trajectories)

    # ---- who may swap
    @cached_property
    def _swapping(self) -> tuple[int, np.ndarray] | None:
        """A group, and its agents with those of its largest type in reverse order."""
        kinds = [(i, t) for i, g in enumerate(self.team.groups) for t in dict.fromkeys(g.types)]
        i, kind = max(kinds, key=lambda k: self.team.groups[k[0]].types.count(k[1]))
        who = np.flatnonzero([t == kind for t in self.team.groups[i].types])
        order = np.arange(self.team.groups[i].count)
        order[who] = who[::-1]
        return (i, order) if len(who) > 1 else None

    @cached_property
    def swap(self) -> np.ndarray | None:
        """The order of all agents, `[n]`, in which some of one type have swapped places; None where there are no two of one type."""
        if self._swapping is None:
            return None
        i, order = self._swapping
        counts = [g.count for g in self.team.groups]
        start, all_ = sum(counts[:i]), np.arange(sum(counts))
        all_[start : start + counts[i]] = start + order
        return all_

    def swapped_parameters(self) -> tuple[Any, str]:
        """Parameters with the agents' entries swapped, and the first that knows agents apart in another way ("": none). An entry per
        agent is an axis as long as there are agents, in the group or in all, which grows with one more of them."""
        assert self._swapping is not None and self.swap is not None
        i, order = self._swapping
        groups = list(self.team.groups)
        g = groups[i]
        more = {k: (*v, v[-1]) for k, v in g.features.items()}
        groups[i] = replace(g, agents=(*g.agents, "another"), types=(*g.types, g.types[-1]), features=more)
        key = jax.random.key(0)
        shapes = lambda spec: jax.eval_shape(lambda k: self.credit.init(spec, k), key)
        larger, moved = named(shapes(replace(self.team, groups=tuple(groups)))), []
        for (name, x), (_, y) in zip(named(self.p), larger, strict=True):
            for axis, (old, new) in enumerate(zip(x.shape, y.shape, strict=True)):
                if old == new:
                    continue
                perm = order if old == len(order) else self.swap
                if (old, new) not in ((len(order), len(order) + 1), (len(self.swap), len(self.swap) + 1)):
                    return None, f"{name} is {list(x.shape)} for {self.team.n} agents and {list(y.shape)} for one more"
                x = np.take(np.asarray(x), perm, axis)
            moved.append(x)
        return jax.tree.unflatten(jax.tree.structure(self.p), moved), ""

    @cached_property
    def resets(self) -> np.ndarray | None:
        """The first step `[b]` on which an episode begins anew; None where one has none."""
        first = np.array(self.trajectories.step.first)
        first[:, :2] = False
        return first.argmax(1) if first.any(1).all() else None


@functools.cache
def _played(env: str, b: int, t: int) -> Rows:
    return rollout(cast(Env, make(env)), b, t)


# ---- the same batch, changed
def swapped(s: Specimen, it: Given) -> Given:
    """Agents in the order `s.swap`."""
    assert s._swapping is not None
    i, order = s._swapping
    last = lambda tree: jax.tree.map(lambda x: x[..., s.swap], tree)
    at = lambda groups: tuple(jax.tree.map(lambda x: x[:, :, order], x) if g == i else x for g, x in enumerate(groups))
    step = it.trajectory.step
    flags = {k: last(getattr(step, k)) for k in ("reward", "discount", "present", "deciding")}
    step = replace(step, obs=at(step.obs), legal=at(step.legal), **flags)
    trajectory = replace(it.trajectory, step=step, action=at(it.trajectory.action), logp=last(it.trajectory.logp))
    return replace(it, trajectory=trajectory, **{k: last(getattr(it, k)) for k in ("views", "td", "chosen", "best")})


def _noisy(tree: Any, where: Any, size: float = 1.0) -> Any:
    """Noise on the arrays of `tree`; `where(array)`: a mask that broadcasts against it."""
    rng = np.random.default_rng(9)

    def one(x: Array) -> Array:
        noise = rng.normal(size=x.shape) * 3 * size
        return np.where(where(x), (x + noise if x.dtype.kind == "f" else noise).astype(x.dtype), x)

    return jax.tree.map(one, tree)


def absent(s: Specimen, agent: int, padding: float) -> Given:
    """The agent is never there; in its steps stand zeros, with noise of size `padding`."""
    it, one, start = s.given, np.arange(s.team.n) == agent, 0
    gone = lambda tree: _noisy(jax.tree.map(lambda x: np.where(one, np.zeros_like(x), x), tree), lambda x: one, padding)
    step, obs, action = it.trajectory.step, [], []
    for g, leaves, a in zip(s.team.groups, it.trajectory.step.obs, it.trajectory.action, strict=True):
        mine = one[start : start + g.count]
        start += g.count
        mask = lambda x, mine=mine: mine.reshape(1, 1, -1, *(1,) * (x.ndim - 3))
        zeros = jax.tree.map(lambda x, mask=mask: np.where(mask(x), np.zeros_like(x), x), (leaves, a))
        leaves, a = _noisy(zeros, mask, padding)
        obs.append(leaves)
        action.append(a)
    kept = {k: np.where(one, np.zeros_like(x), x) for k in ("reward", "discount", "present", "deciding") for x in [getattr(step, k)]}
    trajectory = replace(it.trajectory, step=replace(step, obs=tuple(obs), **kept), action=tuple(action), logp=gone(it.trajectory.logp))
    views = replace(gone(replace(it.views, scale=None)), scale=it.views.scale)
    return Given(trajectory, views, gone(it.td), gone(it.chosen), gone(it.best))


def apart(s: Specimen, rows: np.ndarray) -> Given:
    """Everything on these `rows [b t+1]` is different, but for when episodes begin and end and who is there; what was earned there is
    rewarded on the steps after them."""
    it, resets = s.given, np.asarray(s.trajectories.step.first)
    mask = lambda x: rows[:, : x.shape[1]].reshape(*x.shape[:2], *(1,) * (x.ndim - 2))
    earned = np.concatenate([np.zeros_like(rows[:, :1]), rows[:, :-1]], 1) & ~resets
    paid = lambda x: earned.reshape(*x.shape[:2], *(1,) * (x.ndim - 2))
    step = it.trajectory.step
    reward, team_reward = _noisy((step.reward, step.team_reward), paid)
    obs, state = _noisy((step.obs, step.state), mask)
    step = replace(step, reward=reward, team_reward=team_reward, obs=obs, state=state)
    action, logp = _noisy((it.trajectory.action, it.trajectory.logp), mask)
    views = replace(_noisy(replace(it.views, scale=None), mask), scale=it.views.scale)
    td, chosen, best = _noisy((it.td, it.chosen, it.best), mask)
    return Given(replace(it.trajectory, step=step, action=action, logp=logp), views, td, chosen, best)


def specimen(credit: str, given: dict[str, str]) -> Specimen:
    """Where the method `credit` is checked: as `given` (dotted fields of a configuration), and else the first usual place that has no
    objection. Raises ValueError, the first place's, where none would do."""
    first: ValueError | None = None
    usual = {k: (given[k],) if k in given else v for k, v in USUAL.items()}
    for learner in usual["learner"]:
        for env in usual["env"]:
            for architecture in usual["architecture"]:
                try:
                    return Specimen(
                        configured(None, {"credit": credit, "env": env, "architecture": architecture, "learner": learner, **given})
                    )
                except ValueError as error:
                    first = first or error
    assert first is not None
    raise first
