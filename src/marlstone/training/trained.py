"""What a run left, loaded to be judged: its policies in their own environment, or in another."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from marlstone.algorithm.costs import flops_by_agent
from marlstone.config import RunConfig
from marlstone.config.paths import trained_env
from marlstone.core.acting import Act
from marlstone.core.errors import UserError
from marlstone.core.ledger import Costs
from marlstone.core.records import replace
from marlstone.envs.guards import return_bounds
from marlstone.envs.make import same_name
from marlstone.play.evaluator import longest
from marlstone.play.judging import judge, resolve, returns_record
from marlstone.rollout.sides import Sides, opponents_record
from marlstone.rollout.unroll import trajectory_shapes
from marlstone.runs.checkpoint import Checkpoint, load, read
from marlstone.runs.directory import RunDirectory
from marlstone.runs.leaves import mismatch, rebuild
from marlstone.runs.policies import carry_policies, read_policies
from marlstone.training.backend import Backend
from marlstone.training.budgeting import Budgeting, steps_to_judge
from marlstone.training.loop import runtime_of

State = Any


@contextmanager
def trained(config: RunConfig, checkpoint: Checkpoint) -> Iterator[tuple[Backend, State]]:
    """A run's backend and the state it was left in. Closed on leaving.

    Of a folder of policies, and in another environment than the run's own, what acts alone is as it was; where metrics have been added
    since, others play the opponents, or it is of an earlier stage, what learns and acts, in fresh episodes.
    """
    runtime = runtime_of(config)
    try:
        fresh = runtime.placement.trim(runtime.start())
        acts_alone, elsewhere = checkpoint.path.parent.name in ("policies", "best"), _elsewhere(config, checkpoint)
        if acts_alone or elsewhere:
            like, count, groups = fresh.train.policy, len(runtime.seeds), [g.name for g in runtime.algorithm.spec.groups]
            policies = carry_policies(checkpoint.path, like, count, groups) if elsewhere else read_policies(checkpoint.path, like, count)
            version = checkpoint.step // config.steps_per_update
            state = replace(fresh, train=fresh.train.acting_by(policies, version))
        elif _own(config, checkpoint) and _same(config, fresh, read(checkpoint.path)):
            state, _ = load(checkpoint.path, fresh)
        else:
            mine = {n.removeprefix("train."): leaf for n, leaf in read(checkpoint.path).items() if n.startswith("train.")}
            if (why := mismatch(mine, fresh.train)) is not None:
                raise UserError(f"checkpoint {checkpoint.path} is of another configuration: {why}; use the run's own config.toml")
            state = replace(fresh, train=rebuild(mine, fresh.train))
        with _budgeted(config, checkpoint, runtime, state):
            yield runtime, runtime.placement.pad(state)
    finally:
        runtime.close()


@contextmanager
def _budgeted(config: RunConfig, checkpoint: Checkpoint, runtime: Backend, state: State) -> Iterator[None]:
    """What is played within is spent from the run's account, where it has one. Raises `BudgetUsedUp` before anything is played that a
    budget does not grant."""
    algorithm, acting = runtime.algorithm, dict[str, int]()

    def now() -> Costs:
        costs = Costs()
        for played in runtime.meter.seeds:
            played.into(costs, "evaluate", algorithm)
            for agent, flops in acting.items():
                costs.add("evaluate", agent, "flops", flops * played.rows)
        return costs

    budget = Budgeting.of(config, RunDirectory(checkpoint.path.parent.parent), now, Costs(), False)
    if budget is None:
        yield
        return
    try:
        trajectory = trajectory_shapes(algorithm, runtime.placement.first(runtime.placement.pad(state).acting), config.rollout.length)
        acting |= flops_by_agent(algorithm, algorithm.flops(trajectory).acting_by)  # traces a whole update: only where it is asked for
        rows, ended = (sum(x[k] for x in checkpoint.meta.get("ledgers", ()) if x["episodes"]) for k in ("rows", "episodes"))
        most, seeds = longest(algorithm.spec, config.evaluate.max_steps), len(runtime.seeds)
        runtime.meter.admit = lambda episodes: budget.judging(acting, steps_to_judge(episodes, seeds, rows, ended, most))
        yield
    finally:
        budget.spent()
        budget.close()


def _same(config: RunConfig, fresh: State, stored: dict[str, Any]) -> bool:
    """Whether what a checkpoint holds is to be the state of this configuration as a whole."""
    if not {f"tally.metrics.{k}" for k in fresh.tally.metrics} <= stored.keys() and config.metrics:
        return False
    return not Sides.of(config) or mismatch(stored, fresh) is None


def _elsewhere(config: RunConfig, checkpoint: Checkpoint) -> bool:
    """Whether `config` names another environment than the run was trained in; one that lies in another place is the same."""
    name = trained_env(RunDirectory(checkpoint.path.parent.parent))
    return name is not None and not same_name(name, config.env)


def _own(config: RunConfig, checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint is of the run's own environment, not of an earlier stage's."""
    last = len(config.stages)
    return bool(checkpoint.meta.get("stage", last) == last)


def evaluate(config: RunConfig, checkpoint: Checkpoint, episodes: int) -> dict[str, Any]:
    """The return fields of a run's policies over fresh episodes, acting as they are deployed, by mode, and sampled."""
    with trained(config, checkpoint) as (runtime, state):
        return judged_record(runtime, state, config, checkpoint, episodes)[0]


def judged_record(runtime: Backend, state: State, config: RunConfig, checkpoint: Checkpoint, episodes: int) -> tuple[dict[str, Any], Act]:
    """`evaluate`, of policies that are loaded already; and how they act as deployed."""
    run, best = checkpoint.path.parent.parent, checkpoint.path.parent.name == "best"
    judged = judge(runtime, state, episodes, resolve(runtime, state, config, run, best=best))
    bounds = return_bounds(runtime.algorithm.spec, config.guards)
    record = {
        "run": str(run),
        "env": config.env,
        "trained_env": trained_env(RunDirectory(run)),
        **opponents_record(config),
        "step": checkpoint.step,
        "checkpoint": "best" if best else checkpoint.path.name,
        **({"steps": checkpoint.meta["steps"]} if best else {}),
        "episodes": episodes,
        "seeds": list(runtime.seeds),
        **returns_record(judged, runtime.algorithm.spec, bounds),
        "evaluation_faults": dict(runtime.judged.counts),
    }
    return record, judged.act
