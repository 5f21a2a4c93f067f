"""A sweep from its question to the record, in a folder, with the report."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from marlstone.evaluation.tune.question import Question


def lanes(question: Question) -> int:
    """How many jobs at once on this machine: one a core where environments and networks share one, else one."""
    import jax

    from marlstone.envs.make import is_jax

    config = question.config({}, 0, 1)
    alone = not is_jax(config.env) or jax.default_backend() != "cpu" or config.rollout.shards > 1 or "rollout.shards" in question.space
    return 1 if alone else jax.local_device_count()


def tuned(question: Question, folder: Path, do: Callable[..., None], say: Callable[[str], None]) -> dict[str, Any]:
    """Sweep, and write the report."""
    from marlstone.evaluation.tune.report import write_report
    from marlstone.evaluation.tune.sweep import Sweep

    record = Sweep(question, folder, do, say).run()
    return {**record, "report": str(write_report(folder / "report.html", record))}
