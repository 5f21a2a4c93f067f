"""What a finished run says of itself: the record of `marlstone train --json`, and its policies as they are deployed."""

import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from functools import reduce
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from marlstone.algorithm.costs import flops_by_component
from marlstone.comms import Channel
from marlstone.config import RunConfig
from marlstone.core.acting import Act
from marlstone.core.flops import Flops
from marlstone.core.ledger import Costs
from marlstone.core.seeds import purpose_of
from marlstone.core.spec_json import spec_to_json
from marlstone.envs.faults import Fault, Withheld
from marlstone.envs.guards import return_bounds
from marlstone.play.judging import Judged, cost_record, returns_record
from marlstone.policy.numpy_actor import describe
from marlstone.policy.policy import Policy
from marlstone.rollout.sides import opponents_record
from marlstone.rollout.state import State
from marlstone.runs.directory import RunDirectory
from marlstone.runs.leaves import parameters_sha256
from marlstone.stats.intervals import interval
from marlstone.tools import Toolbox
from marlstone.training.backend import Backend
from marlstone.training.callbacks import Counting, Sent
from marlstone.training.clock import Clock
from marlstone.training.limit import NOT_MEASURED, Limit
from marlstone.training.spending import inference

if TYPE_CHECKING:
    from marlstone.training.validation import BestPolicies


def name_of(part: Any) -> str:
    """What a part is called in records: a user's own, also one derived from a part of this package, by its class unless it has a `kind`."""
    return vars(type(part)).get("kind", type(part).__name__)


def write_spec(run: RunDirectory, backend: Backend) -> None:
    """Keep who observes and does what, by which the environment is recognized when it lies in another place."""
    with suppress(ValueError):  # an action space of another package
        run.write(run.spec.name, json.dumps(spec_to_json(backend.algorithm.spec)) + "\n")


def freeze(
    run: RunDirectory, backend: Backend, state: State, act: Act, name: str = "seed", channel: Channel | None = None,
    tools: Toolbox | None = None, faults: Sequence[Fault] = (),
) -> list[str] | None:  # fmt: skip
    """Write every seed's policy as it is deployed to `RUN/policy/NAME-K`, with its `channel` as configured, its `tools`, and of `faults`
    what withholds something; their folders.
    Where NumPy cannot run a user's own part: None, and a note why."""
    policies, out, network = jax.device_get(backend.placement.trim(state.train.policy)), [], None
    if name == "seed":  # the first: the others of an earlier life of this run go too
        shutil.rmtree(run.artifacts, ignore_errors=True)
    for i, seed in enumerate(backend.seeds):
        source = {"run": run.path.name, "seed": seed, "updates": int(np.asarray(state.train.version)[i])}
        try:
            network = network or describe(backend.algorithm)
            mine = jax.tree.map(lambda x: x[i], policies)  # noqa: B023
            withheld = [f for f in faults if isinstance(f, Withheld)]
            frozen = Policy.of(backend.algorithm, mine, act, backend.wiring, source, network, channel, tools, withheld)
        except ValueError as error:
            backend.log.notice(f"no policy artifact: {error}")
            return None
        out.append(str(frozen.save(run.artifacts / f"{name}-{seed}")))
    return out


def best_record(
    config: RunConfig, backend: Backend, kept: "BestPolicies", judged: Judged, final: Judged, policy: list[str] | None
) -> dict[str, Any]:
    """The record's `best`: the steps of each seed's best policy, what it was chosen on, and its return on fresh episodes, the final
    policies' own: `over_final` is best less final, episode by episode."""
    returns = returns_record(judged, backend.algorithm.spec, return_bounds(backend.algorithm.spec, config.guards))
    names = ("acting", "returns", "return_iqm", "return_ci95", "return_worst_seed", "true_metrics")
    gaps = judged.episodes.ended_only() - final.episodes.ended_only()
    paired = [row[np.isfinite(row)] for row in gaps]
    gap, ends = interval(paired) if all(row.size for row in paired) else (None, (None, None))
    return {
        "steps": kept.steps.tolist(),
        "chosen_on": {"episodes": kept.validation.episodes, "returns": [float(x) if np.isfinite(x) else None for x in kept.returns]},
        **{name: returns[name] for name in names},
        "over_final": gap,
        "over_final_ci95": [None if x is None or np.isnan(x) else float(x) for x in ends],
        "policy": policy,
        "deployed": "final",
    }


def phases(clock: Clock, steps: int, limit: Limit | None) -> dict[str, float]:
    """Where the time went, in seconds; training is split by what its parts would cost alone, if that was measured."""
    out = dict(clock.seconds)
    if limit is None:
        return out
    training = out.pop("training", 0.0)
    env = min(steps / limit.random_rate, training)
    products = min(steps * limit.flops_per_step / limit.matrix_rate, training - env)
    return {**out, "training: environment": env, "training: products": products, "training: everything else": training - env - products}


def _sent(sent: Sent, backend: Backend) -> dict[str, Any]:
    """Messages and bits of training, all seeds together, by sender and recipient; `agents`: along both axes."""
    return {"agents": list(backend.algorithm.spec.team.agents), **{k: x.sum(0).tolist() for k, x in sent.counts.items()}}


def training_record(
    config: RunConfig, run: RunDirectory, backend: Backend, state: State, clock: Clock, *, steps: int, resumed_from: int, judged: Judged,
    limit: Limit | None, flops: Flops, counting: Counting,
    trained_steps: int, faults: list[dict[str, int]], wall_seconds: float,
    curve: str | None, policy: list[str] | None, taken_from: dict[str, Any] | None,
    stopped_by: str | None = None, best: dict[str, Any] | None = None, stages: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The record. `steps`: joint steps per seed in all; `trained_steps`: of all seeds, in this life of the run, by which its speed is
    measured; `counting`: what it consumed; `limit`: how fast the machine could be, None where that was not measured;
    `taken_from`: what another run gave; `stopped_by`: the rule that ended it early; `best`: of policies kept beside the final ones;
    `stages`: of a curriculum."""
    spec, costs = backend.algorithm.spec, reduce(Costs.plus, counting.costs, Costs())
    training, bounds = clock.seconds.get("training", 0.0), return_bounds(backend.algorithm.spec, config.guards)
    speed = trained_steps / max(training, 1e-9) if trained_steps else None
    record = {
        "run": str(run.path),
        "env": config.env,
        **opponents_record(config),
        "architecture": name_of(config.architecture),
        "credit": name_of(config.credit),
        "learner": name_of(config.learner),
        "steps": steps,
        "steps_asked": config.steps,
        "stopped_by": stopped_by or "steps",
        "seeds": list(backend.seeds),
        "purpose": purpose_of(config.seed),
        **returns_record(judged, backend.algorithm.spec, bounds),
        "steps_per_second": speed,
        **(NOT_MEASURED if limit is None or speed is None else limit.record(speed)),
        "wall_seconds": wall_seconds,
        "compile_seconds": clock.seconds.get("compiling", 0.0),
        "phases": phases(clock, trained_steps, limit),
        "flops_per_step": {"acting": flops.acting, "learning": flops.learning},
        "parameters_sha256": parameters_sha256(jax.device_get(backend.placement.trim(state.train.nets))),
        "resumed_from_step": resumed_from,
        "faults": faults,
        "evaluation_faults": dict(backend.judged.counts),
        "ledger": [vars(ledger) for ledger in counting.ledgers],
        "costs": costs.plain(),
        "flops_by_component": {k: flops_by_component(spec, x) for k, x in (("acting", flops.acting_by), ("learning", flops.learning_by))},
        "inference": inference(backend.algorithm, counting.spending.rates.acting, judged.episodes),
        **({} if counting.sent is None else {"comms": name_of(config.comms), "sent": _sent(counting.sent, backend)}),
        "curve": curve,
        "policy": policy,
    }
    if config.keep_best:
        record["best"] = best
    if stages is not None:
        record["stages"] = stages
    if backend.algorithm.costs is not None:
        record["cost"] = cost_record(judged, backend.algorithm.costs)
    return record if taken_from is None else record | {"taken_from": taken_from}
