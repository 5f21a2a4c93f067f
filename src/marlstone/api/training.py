"""One way to train, for the command line and for Python: a new run's directory, what is said while it trains, its checks, its record."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marlstone.runs.progress import Progress

if TYPE_CHECKING:
    from marlstone.config import RunConfig
    from marlstone.runs.checkpoint import Checkpoint
    from marlstone.runs.directory import RunDirectory


def backend(config: "RunConfig") -> Callable[..., dict[str, Any]]:
    """The training loop, or the supervisor of the processes that run it; imported late: it brings JAX."""
    if config.fleet.kind != "none":
        from marlstone.fleet.supervisor import supervise

        return supervise
    from marlstone.training.loop import train as loop

    return loop


def new_run(config: "RunConfig", out: str | Path | None = None) -> "RunDirectory":
    """A new run's directory: `out`, else the configured one, else one under runs/, with copies of the policies it is trained against.

    Raises `UserError` where something is there already, and for an opponent that is nowhere."""
    from marlstone.api.finding import new_path
    from marlstone.config.paths import files_of, recorded
    from marlstone.rollout.opponents import WORDS
    from marlstone.rollout.sides import keep_opponents, load_opponent
    from marlstone.runs.directory import RunDirectory

    where = Path(out or config.out or new_path("runs", config.env))
    for pattern, who in config.opponents.items():
        if who not in WORDS:
            load_opponent(who, f"opponents.{pattern} = {who!r}")  # refused before there is a run
    run = RunDirectory.create(where, recorded(config, where), files_of(config, where))
    run.write(run.config.name, recorded(keep_opponents(config, run.path), run.path))
    return run


def trained(
    config: "RunConfig",
    run: "RunDirectory",
    *,
    resume: "Checkpoint | None" = None,
    initial: "Checkpoint | None" = None,
    changed: Sequence[str] = (),
    progress: Callable[[Progress], None] = lambda progress: None,
    stop: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
    train: Callable[..., dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Train as configured, into `run`; its record, which is kept there.

    Args: `resume`: a checkpoint of this run to go on from; `initial`: another run's, whose parameters a new one begins with; `changed`: the
    user's files that differ since; `stop`: asked all the while; `say`: told notes, warnings and alerts; `train`: what trains (None:
    `backend(config)`). Where suites run while it trains (`evaluate.every`), the record has their `alerts`.
    """
    from marlstone.runs.sinks.contract import check_all
    from marlstone.training.session import concluded, never_ended, notes

    def begin() -> dict[str, Any]:
        check_all(config.sinks)
        checks = None if config.evaluate.every is None else _checks(config, run, 0 if resume is None else resume.step, say)
        waiting = notes(config)

        def report(now: Progress) -> None:
            while waiting and now.phase != "starting":  # it was not refused
                say(f"note: {waiting.pop(0)}")
            progress(now)

        more = {} if checks is None else {"watch": checks.watch}
        record = (train or backend(config))(config, run, resume=resume, initial=initial, progress=report, stop=stop, **more)
        if not record.get("stopped") and (text := never_ended(record)):
            say(f"warning: {text}")
        return record if checks is None else {**record, "alerts": checks.alerts}

    return concluded(config, run, begin, resume, changed)


def _checks(config: "RunConfig", run: "RunDirectory", since: int, say: Callable[[str], None]) -> Any:
    from marlstone.evaluation.checks import Checks

    return Checks(config, run, since, say)
