"""A run from its first moment to its record: claimed by this process, left behind whole or not at all."""

from collections.abc import Callable, Sequence
from typing import Any

from marlstone.config import RunConfig
from marlstone.runs.checkpoint import Checkpoint
from marlstone.runs.directory import RunDirectory


def concluded(
    config: RunConfig, run: RunDirectory, train: Callable[[], dict[str, Any]], resume: Checkpoint | None = None, changed: Sequence[str] = ()
) -> dict[str, Any]:
    """`train()`'s record, finished and written into `run`.

    Args: `resume`: the checkpoint that `train` goes on from; `changed`: the user's files that differ since. A run that never began leaves
    nothing behind; one that was stopped keeps its checkpoints, and has no result.
    """
    with run.claimed():
        if resume is not None and changed:
            with run.store() as store:
                store.event(resume.step, config.seed, "changed_files", ", ".join(changed), len(changed))
        try:
            record = train()
        except BaseException as error:
            if resume is None and (isinstance(error, ValueError | ModuleNotFoundError) or not run.metrics.is_file()):
                run.abandon()  # it never began: what was asked leaves nothing behind
            raise
        if not record.get("stopped"):
            record |= {"steps_asked": config.steps, "changed_files": _changed(run)}
            run.finish(record)
        elif not record["steps"]:
            run.abandon()
    return record


def notes(config: RunConfig) -> list[str]:
    """What a person should know of how a configuration was read: steps that are rounded up, options that stay text."""
    from marlstone.envs.names import ambiguous_options

    found, rollout = ambiguous_options(config.env), config.rollout
    if config.whole_steps != config.steps:
        measured = f" and {config.measured_steps:,} measured" if config.measured_steps else ""
        whole = f"whole updates of {rollout.envs} envs x {rollout.length} steps{measured}"
        found.append(f"{config.steps:,} steps asked: rounded up to {config.whole_steps:,} ({whole})")
    return found


def never_ended(record: dict[str, Any]) -> str | None:
    """A warning where no episode of some seed ended while it trained: then nothing shows whether it learned."""
    seeds = [seed for seed, ledger in zip(record["seeds"], record.get("ledger") or [], strict=False) if not ledger["episodes"]]
    if not seeds:
        return None
    return (
        f"no training episode ended in {record['steps']:,} steps of {len(seeds)} of {len(record['seeds'])} seeds: "
        "there is no learning curve; give more --steps, or shorter episodes"
    )


def _changed(run: RunDirectory) -> list[str]:
    """The user's files that had changed when the run was resumed, over all its lives."""
    with run.store() as store:
        return sorted({file for name, detail in store.counts() if name == "changed_files" for file in detail.split(", ")})
