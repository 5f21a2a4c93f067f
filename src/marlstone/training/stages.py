"""A run in stages: where each begins and ends, by which configuration it trains, and whether what was learned fits it.

Every stage is a backend of its own that goes on with the same training state: networks, optimizer, moments, replay and keys. Progress, by
which learning rates fall, is of the whole run. Where environment, faults or guards change, fresh episodes begin; else they go on.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from marlstone.algorithm import Algorithm
from marlstone.config import RunConfig
from marlstone.config.sources import staged
from marlstone.core.carrying import spec_misfit
from marlstone.core.errors import UserError
from marlstone.core.types import Spec, spec_difference
from marlstone.envs.make import is_jax
from marlstone.rollout.state import State
from marlstone.runs.leaves import named
from marlstone.training.backend import Backend

FIXED = ("architecture", "credit", "learner")


@dataclass(frozen=True)
class Span:
    """One stage: up to update `until`, by `config`; `set`: what that changes in the run's own."""

    config: RunConfig
    until: int
    set: dict[str, Any]


def spans(config: RunConfig) -> tuple[Span, ...]:
    """The stages of a run in order, the last by its own configuration. Raises `UserError` naming stage and field."""
    per_update = config.steps_per_update
    total, found, before = config.updates, list[Span](), 0
    for i, stage in enumerate(config.stages):
        steps = stage.until * config.steps if stage.until < 1 else stage.until
        until = -(-int(steps) // per_update)
        if not before < until < total:
            raise UserError(
                f"stages[{i}].until is {stage.until:g}, update {until} of {total}: a stage ends at least one update (rollout.envs x "
                f"rollout.length = {per_update} steps) after the one before, update {before}, and before the run does"
            )
        where = f"stages[{i}].set"
        one = staged(config, i)
        for part in FIXED:
            _same_kind(getattr(config, part), getattr(one, part), f"{where}: {part}")
        if one.comms != config.comms:
            raise UserError(f"{where}: comms would change: what agents say and hear is part of their networks; leave it out")
        if one.toolbox.names != config.toolbox.names:
            raise UserError(f"{where}: tools or memory would be others: what agents may call is part of their networks; leave them out")
        _same_kind(config.learner.optimizer, one.learner.optimizer, f"{where}: learner.optimizer")
        if config.rollout.envs % one.learner.minibatches:
            raise UserError(
                f"{where}: learner.minibatches is {one.learner.minibatches}, and rollout.envs {config.rollout.envs} no multiple of it"
            )
        if is_jax(one.env) != is_jax(config.env):
            raise UserError(f"{where}: env {one.env} and the run's {config.env} are not both written in JAX: use environments of one kind")
        found.append(Span(one, until, stage.set))
        before = until
    return (*found, Span(config, total, {}))


def _same_kind(was: Any, is_: Any, where: str) -> None:
    name = lambda part: getattr(type(part), "kind", type(part).__name__)
    if type(was) is not type(is_):
        raise UserError(
            f"{where} would be {name(is_)} instead of {name(was)}: a stage keeps what learns; train two runs, the second --from"
        )


def same_world(a: RunConfig, b: RunConfig) -> bool:
    """Whether episodes go on from one stage to another."""
    world = lambda c: (c.env, c.faults, c.guards, c.architecture.managers(), c.team, c.opponents, c.comms, c.toolbox)
    return world(a) == world(b)


def refuse(algorithm: Algorithm, own: Algorithm, span: Span, number: int) -> None:
    """Raises `UserError` where a stage's networks or optimizer are not the run's own, naming stage, fields and leaf."""
    where = f"stages[{number}] ({', '.join(span.set) or 'no settings'})"
    if reason := spec_misfit(own.spec, algorithm.spec):
        raise UserError(f"{where}: {reason}; what was learned does not fit there")
    if own.learner.replay is not None and (reason := spec_difference(_comparable(own.spec), _comparable(algorithm.spec))):
        raise UserError(f"{where}: {reason}, and {type(own.learner).__name__} remembers steps of both: use an on-policy learner")
    shapes = lambda a: jax.eval_shape(lambda key: dataclasses.replace(a.init(key), replay=None), jax.random.key(0))
    mine, there = (dict(named(shapes(a))) for a in (own, algorithm))
    for leaf in dict.fromkeys((*mine, *there)):
        was, is_ = mine.get(leaf), there.get(leaf)
        if was is None or is_ is None or (was.shape, was.dtype) != (is_.shape, is_.dtype):
            told = lambda x: "nothing" if x is None else f"{x.dtype}{list(x.shape)}"
            raise UserError(f"{where}: {leaf} would be {told(is_)} instead of {told(was)}: a stage keeps the shapes of what learns")


def _comparable(spec: Spec) -> Spec:
    return dataclasses.replace(spec, horizon=None, return_bounds=None)


def judging(config: RunConfig, make: Callable[[RunConfig], Backend]) -> Backend:
    """What judges a run's policies, by its own configuration; without stages it also trains them. `make`: of a configuration."""
    if not config.stages or is_jax(config.env):
        return make(config)
    return dataclasses.replace(_unpeopled(config), total=spans(config)[-1].until)


def _unpeopled(config: RunConfig) -> Any:
    """A backend of Python's environments that keeps none to train in."""
    from marlstone.training.host import Hosted

    return Hosted.judging(config, config.all_seeds, config.rollout.envs)


class Stages:
    """The stages of a run while it trains, one after another.

    Args: `config`: the run's own; `judge`: its backend, which trains the last stage too where environments are written in JAX; `make`: the
    backend of another configuration. Raises `UserError` for stages that cannot be.
    """

    def __init__(self, config: RunConfig, judge: Backend, make: Callable[[RunConfig], Backend]) -> None:
        self.spans, self.jax = spans(config), bool(config.stages) and is_jax(config.env)
        self.config, self.judge, self.make = config, judge, make
        self.number, self.backend = len(self.spans) - 1, judge

    @property
    def span(self) -> Span:
        """The stage that trains now."""
        return self.spans[self.number]

    def at(self, done: int) -> int:
        """Which stage makes the update after `done` of them; the last, once all are made."""
        return next((i for i, span in enumerate(self.spans) if done < span.until), len(self.spans) - 1)

    def begin(self, number: int | None) -> None:
        """Open the first stage, or the one of that number, which a checkpoint is of. Raises `UserError` where what one of them learns does
        not fit the others."""
        if not self.config.stages:
            return
        for i, span in enumerate(self.spans[:-1]):
            if same_world(span.config, self.config):
                refuse(self._algorithm(span, self.judge), self.judge.algorithm, span, i)
            else:
                there = self.make(span.config) if self.jax else _unpeopled(span.config)
                refuse(there.algorithm, self.judge.algorithm, span, i)
                there.close()
        self.number = min(number or 0, len(self.spans) - 1)
        self.backend = self._opened(self.number)

    def enter(self, number: int, state: State) -> tuple[State, bool]:
        """Go on in another stage. Returns the state there, and whether its episodes are fresh, since its environment is another."""
        same = same_world(self.spans[number].config, self.span.config)
        if same and not self.jax:  # worker processes go on
            self.backend = dataclasses.replace(self.backend, algorithm=self._algorithm(self.spans[number], self.backend))  # type: ignore[type-var]
        else:
            if self.backend is not self.judge:
                self.backend.close()
            self.backend = self._opened(number)
        self.number = number
        return (state, False) if same else (self.backend.entered(state), True)

    def _opened(self, number: int) -> Backend:
        last = number == len(self.spans) - 1
        return self.judge if last and self.jax else self.make(self.spans[number].config)

    def _algorithm(self, span: Span, here: Backend) -> Algorithm:
        """A stage's combination in an environment that is there already."""
        c = span.config
        return Algorithm(here.algorithm.spec, c.architecture, c.credit, c.learner, c.rollout.shards, c.ramped, c.channel, c.cost)

    def close(self) -> None:
        """End the processes of all backends."""
        if self.backend is not self.judge:
            self.backend.close()
        self.judge.close()

    def record(self, done: int) -> list[dict[str, Any]]:
        """The stages that `done` updates reached, with their joint steps per seed and what they changed."""
        out, begin, per_update = list[dict[str, Any]](), 0, self.config.steps_per_update
        for span in self.spans:
            if begin < done:
                out.append({"from": begin * per_update, "until": min(span.until, done) * per_update, "set": span.set})
            begin = span.until
        return out
