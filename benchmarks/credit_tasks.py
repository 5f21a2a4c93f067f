"""Credit on the field's tasks: train a method with its defaults, audit it as it is deployed, and keep what it said beside what was true.

    python benchmarks/credit_tasks.py lbf-8x8-2p-2f-coop --methods counterfactual measured
    python benchmarks/credit_tasks.py lbf-lazy smax-saboteur --methods difference --seeds 3 --steps 100000 --out /tmp/tried

Each result, `results/credit_tasks/TASK-METHOD.json`, holds the configuration, the audit's record, the final policy's returns, all
environment steps used (those that were played to measure credit too), steps/s, machine, date and commit. `lazy` and `saboteur` tasks have
an agent planted (`planted.py`); there the result says in how many seeds the claims name it, and in how many the truth does: of all agents
it is worth the least, per episode and discounted as claims are. In `signal-talk` a scout speaks and a worker acts (`proving:signal`);
there the result holds what both are worth to the best team in closed form, too. `benchmarks/render.py` makes the tables of docs/credit.md
from them.
"""

import argparse
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import messages_config
from record import HERE, RESULTS, stamp, write

from marlstone.api.display import Display
from marlstone.config import RunConfig, dump, load
from marlstone.envs.proving.signal import Signal
from marlstone.rollout.placement import prepare
from marlstone.runs.checkpoint import newest
from marlstone.runs.directory import RunDirectory

LBF = "jumanji:LevelBasedForaging?task="
SMAX: dict[str, Any] = {
    "env": "jaxmarl:HeuristicEnemySMAX?scenario=3m",
    "steps": "1000000",
    "rollout.envs": "64",
    "audit": {"decisions": 256, "continuations": 8},  # a battle steps slowly
}
SEEDS = "10"


def planted(kind: str, agent: str) -> dict[str, Any]:
    """The fields of a task in which `agent` is lazy or a saboteur."""
    what = {"lazy": "Asleep", "saboteur": "Blocking"}[kind]
    return {"faults": f'[{{kind = "{HERE / "planted.py"}:{what}", agent = "{agent}"}}]', "planted": {"kind": kind, "agent": agent}}


# `audit`: arguments of `audit_run`; `planted`: who; `talk`: ground and method of `messages_config`, whose settings the task has; `methods`:
# those that can serve it, where not all of the field's; all else are fields of the configuration. Steps are for two cores.
TASKS: dict[str, dict[str, Any]] = {
    "lbf-8x8-2p-2f-coop": {"env": f"{LBF}8x8-2p-2f-coop", "steps": "1000000"},
    "lbf-15x15-3p-5f": {"env": f"{LBF}15x15-3p-5f", "steps": "2000000"},
    "rware-tiny-2ag": {
        "env": "jumanji:RobotWarehouse?task=tiny-2ag",
        "steps": "2000000",
        "rollout.envs": "64",
        "audit": {"decisions": 256, "window": 128, "continuations": 8},  # of 500 steps; what that changes is told
    },
    "mpe-spread": {"env": "jaxmarl:MPE_simple_spread_v3", "steps": "1000000"},
    "mpe-tag": {"env": "jaxmarl:MPE_simple_tag_v3", "opponents.agent_0": "random", "steps": "1000000"},
    "smax-3m": SMAX,
    "overcooked-cramped-room": {
        "env": "jaxmarl:overcooked?layout=cramped_room&shaping=1",
        "steps": "1000000",
        "rollout.envs": "64",
        "audit": {"decisions": 256, "continuations": 8},
    },
    "lbf-lazy": {"env": f"{LBF}8x8-3p-3f", "steps": "1000000", **planted("lazy", "agent_1")},
    "lbf-saboteur": {"env": f"{LBF}8x8-3p-3f", "steps": "1000000", **planted("saboteur", "agent_1")},
    "smax-lazy": {**SMAX, **planted("lazy", "ally_1")},
    "smax-saboteur": {**SMAX, **planted("saboteur", "ally_1")},
    "signal-talk": {"talk": ("signal", "ours"), "methods": ("individual", "team", "counterfactual", "difference", "shaping")},
}
METHODS: dict[str, dict[str, str]] = {
    "team": {},
    "counterfactual": {},
    "coma": {"credit.trust": "1.0"},
    "difference": {},
    "measured": {},
    "attention": {},
    "vdn": {"learner": "pqn"},
    "qmix": {"learner": "pqn"},
    "qplex": {"learner": "pqn"},
    "individual": {},
    "shaping": {},
}
FIELD = tuple(METHODS)[:9]  # run on every task that does not name its own
DECISIONS = 512


def least(of: dict[str, float], agent: str) -> bool:
    """Whether `agent` has less than anybody else."""
    return all(of[agent] < x for a, x in of.items() if a != agent)


def found(audit: dict[str, Any], kind: str, agent: str) -> dict[str, Any]:
    """In which seeds the claims name the planted agent, and in which the truth does."""
    said, true = (audit["by_seed"][k] for k in ("contributions", "truth_discounted"))
    names = {"named": [least(x, agent) for x in said], "true": [least(x, agent) for x in true]}
    harmful = {"said_harmful": [x[agent] < 0 for x in said], "truly_harmful": [x[agent] < 0 for x in true]}
    counted = {k: sum(v) for k, v in (names | harmful).items()}
    return {"kind": kind, "agent": agent, "of": len(said), **counted, "by_seed": names | harmful}


def without_paths(value: Any) -> Any:
    """A configuration without this machine's paths."""
    if isinstance(value, dict):
        return {k: without_paths(v) for k, v in value.items()}
    if isinstance(value, list):
        return [without_paths(v) for v in value]
    return value.replace(f"{HERE}/", "benchmarks/") if isinstance(value, str) else value


def configured(task: str, method: str, fields: dict[str, str]) -> RunConfig:
    """A method in a task, with its defaults but for `fields`."""
    own = {k: v for k, v in TASKS[task].items() if k not in ("audit", "planted", "talk", "methods")}
    if talk := TASKS[task].get("talk"):
        ground, how = talk
        return messages_config.configured(ground, how, settings={"credit": method, "seeds": SEEDS, **own, **METHODS[method], **fields})
    return load(None, {"architecture": "ctde", "credit": method, "seeds": SEEDS, **own, **METHODS[method], **fields})


def methods_of(task: str) -> tuple[str, ...]:
    """The methods that are run on a task."""
    return TASKS[task].get("methods", FIELD)


def closed_form() -> dict[str, float]:
    """What speaker and worker of `proving:signal` are worth to the best team in an episode, not discounted: each over doing and saying
    nothing, the other one doing its best."""
    ground = Signal()
    return {"scout": ground.message_worth * (ground.rows - 1), "worker": ground.action_worth * (ground.rows - 1)}


def measure(task: str, method: str, fields: dict[str, str]) -> dict[str, Any]:
    from marlstone.evaluation.credit.audit import audit_run
    from marlstone.training.loop import train

    config = configured(task, method, fields)
    with tempfile.TemporaryDirectory() as folder:
        run = RunDirectory.create(Path(folder) / "run", dump(config))
        with Display() as show:
            trained = train(config, run, progress=show)
        how = {"decisions": DECISIONS, **TASKS[task].get("audit", {})}
        audit = audit_run(config, newest(run.checkpoints), path=run.path / "audit.png", **how)
    for path in ("run", "picture"):
        audit.pop(path)
    used = [ledger["rows"] + ledger.get("measured", 0) for ledger in trained["ledger"]]
    kept = ("steps", "returns", "return_iqm", "return_ci95", "return_worst_seed", "acting", "true_metrics", "steps_per_second")
    result = {"config": without_paths(tomllib.loads(dump(config))), "audit": audit, "env_steps": used, **{k: trained[k] for k in kept}}
    if who := TASKS[task].get("planted"):
        result["planted"] = found(audit, **who)
    if "talk" in TASKS[task]:
        result["closed_form"] = closed_form()
    return result | stamp()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="+", choices=tuple(TASKS), metavar="TASK", help=f"of {', '.join(TASKS)}")
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), help="default: the task's own, or the field's")
    parser.add_argument("--seeds", metavar="K", help=f"training seeds; default: {SEEDS}")
    parser.add_argument("--steps", metavar="N", help="steps per seed; default: the task's")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="any other field of the training")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="where credit_tasks/ is written; default: results/")
    flags = parser.parse_args()
    given = {k: v for k in ("seeds", "steps") if (v := getattr(flags, k)) is not None}
    prepare()
    for task in flags.tasks:
        for method in flags.methods or methods_of(task):
            result = measure(task, method, given | dict(x.split("=", 1) for x in flags.set))
            path = write(f"credit_tasks/{task}-{method}", result, flags.out)
            a = result["audit"]
            named = "" if "planted" not in result else f"named {result['planted']['named']} of {result['planted']['of']}, "
            figures = ("decision_rank_correlation", "noise_ceiling", "share_of_ceiling")
            print(
                f"{task} {method}: {', '.join(f'{k} {a[k]}' for k in figures)}, "
                f"slopes {a['slopes']}, {named}return {result['return_iqm']:.3f} after {max(result['env_steps']):,} steps, "
                f"{result['steps_per_second']:.0f} steps/s; {a['judgement']} -> {path.name}",
                file=sys.stderr,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
